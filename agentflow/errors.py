"""The errors agentflow raises: each has a stable code, of which `agentflow explain CODE` prints the long form, and a cure."""

from __future__ import annotations

from collections.abc import Sequence

from agentflow.hints import did_you_mean as did_you_mean

_MANY_AGENTS = 20
_MANY_DIFFERENCES = 10


class AgentflowError(Exception):
    """The root of all errors that agentflow raises on purpose.

    `message` says what is wrong and where, `hint` the likely cure ("" when there is none).
    """

    code = "AF0500"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.message = message
        self.hint = hint


class InvalidValueError(AgentflowError):
    """A value is not JSON, or is larger than the limits allow; the message names its path and type."""

    code = "AF0301"


class InvalidEventError(AgentflowError):
    """An event cannot be accepted: its data, metadata, target, id or session is not valid."""

    code = "AF0302"


class AgentAnswerError(AgentflowError):
    """A handler returned something that is not a State, a mapping, an AgentResult or None."""

    code = "AF0303"


class MergeError(AgentflowError):
    """Patches of parallel branches cannot be merged under the flow's merge policy."""

    code = "AF0304"


class RuleError(AgentflowError):
    """A condition cannot be read, or has no answer for the state at hand."""

    code = "AF0210"


class UnknownNameError(RuleError):
    """A condition names something that no condition can ask about."""

    code = "AF0211"


class RegistrationError(AgentflowError):
    """A handler, hook or mode is refused when it is registered."""

    code = "AF0401"


class MissingHandlerError(AgentflowError):
    """Agents that the chosen flow reaches have no handler."""

    code = "AF0402"


class EntrypointError(AgentflowError):
    """The entrypoint or a `handler = "module:function"` cannot be loaded."""

    code = "AF0403"


class RunnerStateError(AgentflowError):
    """The runner is not in a state that allows the call: not started, already started, stopped."""

    code = "AF0501"


class QueueFullError(AgentflowError):
    """The queue is full: no place came free within `queue_wait_seconds`."""

    code = "AF0502"


class RoutingError(AgentflowError):
    """An event or a result names no target, or one that the flow does not have."""

    code = "AF0503"


class HopLimitError(AgentflowError):
    """A route flow handed on more often than `max_hops` allows."""

    code = "AF0504"


class JoinError(AgentflowError):
    """More branches of a parallel flow failed than `failure_threshold` allows."""

    code = "AF0505"


class JoinClosedError(AgentflowError):
    """A branch had no answer when its join was closed: its time was up, or too many other branches had failed."""

    code = "join_closed"


class StepTimeoutError(AgentflowError, TimeoutError):
    """A step did not answer within its time."""

    code = "timeout"


class EventTimeoutError(AgentflowError, TimeoutError):
    """A flow did not end within its `timeout_seconds`."""

    code = "timeout"


class ProcessDiedError(AgentflowError):
    """The process in which a handler ran ended before it had answered."""

    code = "process_died"


class BudgetExceededError(AgentflowError):
    """A budget does not suffice for one more attempt."""

    code = "budget"


class AttemptLimitError(AgentflowError):
    """A run has made its `max_total_attempts`, and a step of it fails that would be tried again."""

    code = "attempt_limit"


class CancelledRunError(AgentflowError):
    """The run was cancelled from outside."""

    code = "cancelled"


class CircuitOpenError(AgentflowError):
    """A call was rejected: its agent failed too often in a row. In `left_s` seconds one is let through to see how it is."""

    code = "circuit_open"
    left_s = 0.0


class QueueTimeoutError(AgentflowError, TimeoutError):
    """A call waited for its agent's rate limit longer than `queue_timeout_seconds`."""

    code = "queue_timeout"


class WorkerPoolError(AgentflowError):
    """There was no worker to lease: `required` were asked for, `available` were idle."""

    code = "worker_pool"

    def __init__(self, message: str, *, available: int, required: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.available, self.required = available, required


class EventLimitError(AgentflowError):
    """Callbacks emitted more events on behalf of one than are allowed."""

    code = "AF0507"


class IllegalTransitionError(AgentflowError):
    """A run is not in a state that allows what was asked of it; nothing was recorded.

    `run_id` is the run, `state` the one it is in, and `order` what was asked: pause, resume, cancel, approve, reject, fork.
    """

    code = "AF0508"

    def __init__(self, run_id: str, state: str, order: str, hint: str = "") -> None:
        super().__init__(f"cannot {order} run {run_id}: it is {state}", hint=hint)
        self.run_id, self.state, self.order = run_id, state, order


class MissingAgentError(AgentflowError):
    """A run was laid aside: its plan names `agents` that have no handler here. `reason` begins the reason of its pause."""

    code = "AF0510"
    reason = "missing_agent"

    def __init__(self, run_id: str, agents: Sequence[str]) -> None:
        more = len(agents) - _MANY_AGENTS
        listed = ", ".join(f"`{name}`" for name in agents[:_MANY_AGENTS]) + (f" and {more} more" if more > 0 else "")
        hint = "register them again and resume it, or move it to the present plan with --plan current"
        super().__init__(f"run {run_id} is paused: its plan names agents without a handler: {listed}", hint=hint)
        self.run_id = run_id
        self.agents = tuple(agents)


class ApprovalRejectedError(AgentflowError):
    """A person, or the deadline, refused to let a step run."""

    code = "AF0511"


class PoisonedStepError(AgentflowError):
    """A step was in flight in too many processes that died: its run is a dead letter."""

    code = "AF0512"


class HistoryLimitError(AgentflowError):
    """A run has recorded as much as `[limits]` allows."""

    code = "AF0513"


class WorkflowError(AgentflowError):
    """The functional API was asked for something it cannot do: a phase named twice, a bound below 1, what is not supported yet."""

    code = "AF0530"


class StepReportedError(AgentflowError):
    """An executor reported that its step failed."""

    code = "AF0531"


class MaxStepsError(AgentflowError):
    """A step made more tool rounds than its `max_steps` allows."""

    code = "AF0532"


class StaleIdentityError(AgentflowError):
    """A step's id is known with other work behind it: another agent, prompt, schema or bound than was recorded."""

    code = "AF0533"


class SessionBusyError(AgentflowError):
    """The session of an event has an open run, and `on_busy` is "reject". Nothing was recorded."""

    code = "AF0514"


class RunNotFoundError(AgentflowError, LookupError):
    """A journal has no run `run_id`; `where` is the journal's url."""

    code = "AF0509"

    def __init__(self, run_id: str, *, where: str = "", hint: str = "") -> None:
        told = f"no run {run_id!r}" + (f" in {where}" if where else "")
        super().__init__(told, hint=hint or "`agentflow runs list` shows those there are")
        self.run_id = run_id
        self.where = where


class PlanMismatchError(AgentflowError):
    """A run cannot go on under the present plan: `differences` says, step by step, what it has done that does not fit there."""

    code = "plan_mismatch"

    def __init__(self, run_id: str, differences: Sequence[str]) -> None:
        more = len(differences) - _MANY_DIFFERENCES
        told = "; ".join(differences[:_MANY_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")
        hint = "resume it under its own plan (without --plan), or discard these steps with --accept"
        super().__init__(f"run {run_id} does not fit the present plan: {told}", hint=hint)
        self.run_id = run_id
        self.differences = tuple(differences)


class RunFailedError(AgentflowError):
    """Raised by `RunResult.raise_for_status()` for a run that did not complete."""

    code = "AF0506"


class StoreError(AgentflowError):
    """A journal cannot be opened or used as it is: its folder, its permissions or its settings do not allow it."""

    code = "AF0701"


class StoreLockedError(StoreError):
    """Another process has the journal open for writing; `pid` names it and `control` is where it takes commands ("": nowhere)."""

    code = "AF0702"

    def __init__(self, path: str, *, pid: int | None, control: str = "") -> None:
        who = f"process {pid}" if pid else "another process"
        super().__init__(f"{path} is in use by {who}", hint="end it first, or take another journal with --journal PATH")
        self.pid, self.control = pid, control


class StoreVersionError(StoreError):
    """A journal was written by another release: `found` and `known` are the versions of its schema."""

    code = "AF0703"

    def __init__(self, path: str, *, found: int, known: int) -> None:
        hint = "install a newer agentflow" if found > known else "open it once for writing, e.g. with `agentflow journal migrate`"
        super().__init__(f"{path} has schema {found}, this release knows schema {known}", hint=hint)
        self.found, self.known = found, known


class StoreDamagedError(StoreError):
    """A part of a journal cannot be read; `run_id` is the run that is hit, "" when it is the journal as a whole."""

    code = "AF0704"

    def __init__(self, message: str, *, run_id: str = "", hint: str = "restore a backup; the other runs go on") -> None:
        super().__init__(message, hint=hint)
        self.run_id = run_id


class StoreMissingError(StoreError):
    """A journal is gone although its marker, its lock or its log is still there. It is never started empty."""

    code = "AF0705"


class StoreForeignError(StoreError):
    """A file at the journal's place is no journal of agentflow."""

    code = "AF0706"


class FencedError(StoreError):
    """An append was refused: the run was taken by another owner, or has moved on. Stop working on it."""

    code = "AF0707"

    def __init__(self, run_id: str, message: str) -> None:
        super().__init__(f"run {run_id}: {message}", hint="another owner goes on with it; start nothing more for it here")
        self.run_id = run_id


class DuplicateEventError(StoreError):
    """An event's id is known: `run_id` is its run, and `is_same` says whether it is the same event."""

    code = "AF0708"

    def __init__(self, event_id: str, *, run_id: str, is_same: bool) -> None:
        hint = "" if is_same else "give another event another id"
        what = "has a run" if is_same else "was another event's"
        super().__init__(f"event id {event_id!r} {what}: {run_id}", hint=hint)
        self.run_id, self.is_same = run_id, is_same


class StorageError(StoreError):
    """Writing or reading a journal failed; with `is_unknown` nobody knows yet whether the append is in it."""

    code = "AF0709"

    def __init__(self, message: str, *, is_unknown: bool = False, hint: str = "") -> None:
        super().__init__(message, hint=hint or ("emit again under the same event id" if is_unknown else ""))
        self.is_unknown = is_unknown


class StorageFullError(StorageError):
    """There is no room left for the journal. Nothing of the append was written, and later ones try again."""

    code = "AF0710"


class JournalDamagedError(AgentflowError):
    """A run's journal does not say what a journal can say: the record `seq` (None: the plan or the snapshot) of `run_id`."""

    code = "AF0720"

    def __init__(self, run_id: str, seq: int | None, message: str) -> None:
        place = f"run {run_id}, record {seq}" if seq is not None else f"run {run_id}" if run_id else "a plan"
        super().__init__(f"{place}: {message}", hint="restore a backup; the other runs go on")
        self.run_id = run_id
        self.seq = seq


class JournalVersionError(AgentflowError):
    """A record, snapshot or plan was written by a later release than this one."""

    code = "AF0721"

    def __init__(self, run_id: str, seq: int | None, found: str) -> None:
        place = f"run {run_id}, record {seq}" if seq is not None else f"run {run_id}" if run_id else "a plan"
        super().__init__(f"{place}: this release does not know {found}", hint="continue it with the release that wrote it, or a later one")
        self.run_id = run_id
        self.seq = seq
