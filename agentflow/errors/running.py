"""What goes wrong with values, registrations, plans and runs."""

from __future__ import annotations

from collections.abc import Sequence

from agentflow.errors.base import AgentflowError

_MANY_AGENTS = 20
_MANY_DIFFERENCES = 10


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


class ControlError(AgentflowError):
    """What a planner or supervisor said (`plan`, `tasks`, `next`), or a list that items are made of, cannot be followed."""

    code = "AF0520"
