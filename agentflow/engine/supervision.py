"""Supervision: wait, cancel, grace, cancel, abandon. A handler that swallows its cancellation cannot hang a run.

`asyncio.wait_for` does not return while the task it cancelled goes on, so nothing here waits for a handler: a deadline
that passes moves the step on by itself. A task that was ever cancelled is not used again; a fresh one goes on.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, NamedTuple

from agentflow.core.failure import Failure, failure_of
from agentflow.core.frame import Frame
from agentflow.core.plan import Call, Par, name_of
from agentflow.core.policy_walk import DEADLINE, LOST
from agentflow.core.records import StepAbandoned
from agentflow.engine.admission import dismiss
from agentflow.engine.control import Wait
from agentflow.engine.deadlines import Deadlines
from agentflow.engine.run import TIMED_OUT, Closing, FlowTimer, Run
from agentflow.engine.step import Phase, Step
from agentflow.errors import EventTimeoutError, StepTimeoutError

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine

LAST_WAIT_S = 5.0  # for a handler that was cancelled twice, before it is left behind


class LeftBehind(NamedTuple):
    """A handler that did not end although it was cancelled twice; `agent` is "" for the callbacks of an event."""

    run_id: str
    position: str
    agent: str

    def __str__(self) -> str:
        return f"{self.agent or 'hook'} in {self.run_id}"


class Supervision:
    """Ends steps and flows whose time is up or which nobody wants any more.

    `grace_s` is how long a cancelled handler may take; `abandoned` holds the tasks that did not end although they were cancelled twice.
    """

    def __init__(self, engine: Engine, deadlines: Deadlines[Step | FlowTimer | Wait], grace_s: float) -> None:
        self._engine = engine
        self._deadlines = deadlines
        self.grace_s = grace_s
        self.abandoned: dict[asyncio.Task[None], LeftBehind] = {}

    def on_due(self, item: Step | FlowTimer | Wait) -> None:
        """Act on a deadline that has passed."""
        try:
            self._act_on(item)
        except Exception as error:  # noqa: BLE001 - a fault in one run must not stop the clock of all
            self.crash(item.run, error)

    def crash(self, run: Run, error: BaseException) -> None:
        """End a run on a fault of agentflow itself."""
        engine = self._engine
        engine.teller.say("engine_fault", {"run_id": run.run_id, "error": str(failure_of(error))}, error)
        if run.result is not None:
            return
        if run.walk.is_done:
            engine.ending.seal(run)
            return
        try:
            self.close(run, None, failure_of(error))
        except Exception as second:  # noqa: BLE001 - the last resort: whatever is wrong with it, the run ends
            engine.teller.say("engine_fault", {"run_id": run.run_id, "error": str(failure_of(second))}, second)
            run.walk.end(failure_of(error))
            engine.ending.seal(run)

    def _act_on(self, item: Step | FlowTimer | Wait) -> None:
        if isinstance(item, FlowTimer):
            self._flow_is_due(item)
        elif isinstance(item, Wait):
            self._engine.control.is_due(item)
        elif item.is_gated:  # its handler has not begun: the step ends by itself once its commit is decided
            self._deadlines.add(item, self.grace_s)
        elif item.cause is None:
            self._interrupt(item, TIMED_OUT)
        elif item.stage == 1:
            item.stage = 2
            if item.task is not None:
                item.task.cancel()
            self._deadlines.add(item, LAST_WAIT_S)
        else:
            self._abandon(item)

    def close(self, run: Run, frame: Frame | None, failure: Failure) -> None:
        """End a frame (None: the whole run) from outside, once the calls below it have ended or were abandoned."""
        self._close(run, frame, failure)

    def close_joins(self, run: Run, ready: list[Frame]) -> list[Frame]:
        """Close the joins that have lost too many branches, and return what may begin of the calls that are ready."""
        joins = list(run.walk.closing)
        left = [frame for frame in ready if not any(frame.is_below(join) for join in joins)]
        for join in joins:
            self._close(run, join, LOST)
        if run.journal is not None and run.journal.has_news and run.parked is None:
            run.journal.commit()  # what lost the join is durable before those that are cancelled have ended
        return left

    def _close(self, run: Run, frame: Frame | None, why: Failure | str) -> None:
        pending = {step for step in run.steps if frame is None or (step.frame is not None and step.frame.is_below(frame))}
        closing = Closing(frame, why, pending)
        if not pending:
            self._engine.ending.closed(run, closing)
            return
        for step in tuple(pending):
            if step.cause is None:
                self._interrupt(step, closing)
            elif not _covers(step.cause, frame):
                step.cause = closing

    def is_closing(self, run: Run) -> bool:
        """Say whether the whole run is being ended already."""
        return any(isinstance(step.cause, Closing) and step.cause.frame is None for step in run.steps)

    def hurry(self, run: Run) -> None:
        """Interrupt what callbacks still do after the end of a run; its outcome stands."""
        for step in tuple(run.steps):
            if step.phase is Phase.AFTER_EVENT and step.cause is None:
                self._interrupt(step, TIMED_OUT)

    def hand_over(self, step: Step) -> None:
        """Go on after an interrupted step has ended or was abandoned; never in the task that was cancelled."""
        self._deadlines.drop(step)
        step.turn += 1
        cause = step.cause
        if step.is_policed:
            dismiss(self._engine, step, is_ok=None if isinstance(cause, Closing) else False)
        if isinstance(cause, Closing):
            step.run.close(step)
            cause.pending.discard(step)
            if not cause.pending:
                self._engine.ending.closed(step.run, cause)
            return
        phase = step.phase
        if phase not in (Phase.ERROR, Phase.AFTER, Phase.AFTER_EVENT):
            limit = f"{step.limit_s:g} s"
            what = f"agent `{step.agent.name}` did not answer within {limit}" if step.frame is not None else f"hooks took over {limit}"
            step.failure = failure_of(StepTimeoutError(what, hint="raise timeout_seconds, or make it faster"), attempts=step.attempt)
            step.answered = None
        else:
            self._engine.teller.warn("hook_timed_out", step, limit_s=step.limit_s)  # the step's own outcome stands
        step.cause = None
        step.stage = 0
        step.event = step.run.event.view()  # the task that is left behind may still hold the old one
        self._engine.spawn(step, {Phase.BEFORE: Phase.ERROR, Phase.ATTEMPT: Phase.JUDGE}.get(phase, Phase.DONE))

    def _interrupt(self, step: Step, cause: object) -> None:
        self._deadlines.drop(step)
        step.cause = cause
        step.stage = 1
        if (
            step.phase not in (Phase.NEW, Phase.START)
            and step.task is not None
            and not (step.is_gated or step.is_current)
            and _has_begun(step.task)
        ):
            step.task.cancel()  # a task that has not begun sees the cause by itself
        self._deadlines.add(step, self.grace_s)

    def _abandon(self, step: Step) -> None:
        task = step.task
        if task is not None and not task.done():
            self.abandoned[task] = LeftBehind(step.run.run_id, step.position, step.agent.name if step.frame is not None else "")
            task.add_done_callback(self._forget)
        run = step.run
        step.leave_behind()
        self._engine.teller.warn("step_abandoned", step)
        if step.frame is not None:
            self._engine.teller.tell(run, StepAbandoned(step.position, step.agent.name))
        self.hand_over(step)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self.abandoned.pop(task, None)

    def tell_late(self, run: Run) -> None:
        """Log that the calling task's answer came too late: what it had been at is another call's by now."""
        task = asyncio.current_task()
        left = None if task is None else self.abandoned.get(task)
        self._engine.teller.say("late_result", {"run_id": run.run_id} if left is None else left._asdict())

    # --- time limits of flows ---

    def time_flow(self, run: Run, frame: Frame, limit_s: float, *, is_join: bool = False) -> None:
        """Start the clock of a flow, or of a join."""
        if run.timers is None:
            run.timers = {}
        timer = run.timers[frame, is_join] = FlowTimer(run, frame, is_join=is_join)
        self._deadlines.add(timer, limit_s)

    def time_flows_above(self, run: Run, frame: Frame) -> None:
        """Start the clocks of nested flows and joins that this step is the first of; stop those of such as have ended."""
        for timed in [timed for timed in run.timers or () if not timed[0].is_live]:
            self._deadlines.drop(run.timers.pop(timed))  # type: ignore[union-attr]
        above = frame.parent
        while above is not None:
            node = above.node
            flow = node.flow  # type: ignore[union-attr] # what has children is no call
            if flow is not None and flow.timeout_s is not None and above.parent is not None and (above, False) not in (run.timers or ()):
                self.time_flow(run, above, self._left_of(run, above, flow.timeout_s))
            if isinstance(node, Par) and node.join_timeout_s is not None and (above, True) not in (run.timers or ()):
                self.time_flow(run, above, self._left_of(run, above, node.join_timeout_s), is_join=True)
            above = above.parent

    def _left_of(self, run: Run, frame: Frame, limit_s: float) -> float:
        """Return what is left of a nested flow's time: a restart or a pause does not give it back."""
        standing = run.journal.standing if run.journal is not None else None
        begun_at = standing.flows.get(frame.position) if standing is not None else None
        if standing is None or begun_at is None:
            return limit_s
        return max(limit_s - (self._engine.clock.time() - standing.paused_s - begun_at), 0.0)

    def stop_clocks(self, run: Run) -> None:
        """Stop the clocks of a run that has ended, or is paused: what goes on after that starts them again."""
        for timer in (run.timers or {}).values():
            self._deadlines.drop(timer)
        run.timers = None

    def _flow_is_due(self, timer: FlowTimer) -> None:
        run, frame = timer.run, timer.frame
        if run.result is not None or not frame.is_live:
            return
        if timer.is_join:
            self._close(run, frame, DEADLINE)
            return
        node = frame.node
        flow = None if isinstance(node, Call) else node.flow
        limit = flow.timeout_s if flow is not None else None
        is_root = frame.parent is None
        told = "the event" if is_root else f"flow `{name_of(node)}`"
        error = EventTimeoutError(f"{told} did not end within {limit:g} s", hint="raise timeout_seconds, or make its agents faster")
        if is_root:
            self.close(run, None, failure_of(error))
        else:
            self.close(run, frame, failure_of(error).at(agent=name_of(node), position=frame.position, stage=frame.stage))


def _covers(cause: object, frame: Frame | None) -> bool:
    """Say whether a step is ending already because of `frame` or something around it."""
    if not isinstance(cause, Closing):
        return False
    return cause.frame is None or (frame is not None and frame.is_below(cause.frame))


def _has_begun(task: asyncio.Task[None]) -> bool:
    coroutine = task.get_coro()
    return not inspect.iscoroutine(coroutine) or inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED
