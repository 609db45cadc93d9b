"""Control: what people ask of a run while it goes on: to pause, to go on, to end, and to let a step run or not.

Only a run with a journal can be asked: what is asked is recorded before it is answered for. Which request a run's state
allows stands in `agentflow.core.orders`. A run that waits has no task: its calls stay here, by position.
"""

from __future__ import annotations

import hashlib
from math import inf
from typing import TYPE_CHECKING

from agentflow.core import orders
from agentflow.core.codec import canonical
from agentflow.core.failure import Failure, failure_of
from agentflow.core.frame import Frame
from agentflow.core.plan import Call, Position
from agentflow.core.records import ApprovalRejected, ApprovalRequested, Fact, StepFailed, WorkflowPaused, WorkflowResumed
from agentflow.core.state import State
from agentflow.core.values import Json
from agentflow.engine.journal import Journal
from agentflow.engine.limits import Growth
from agentflow.engine.repeating import begin_again
from agentflow.engine.run import Run
from agentflow.errors import ApprovalRejectedError, RunnerStateError

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine

APPROVAL = "approval"


class Wait:
    """A call that waits for a person; its deadline is one of the engine's."""

    __slots__ = ("due", "frame", "place", "run")

    def __init__(self, run: Run, frame: Frame) -> None:
        self.run = run
        self.frame = frame
        self.due = inf
        self.place: float | None = None


class Control:
    """Holds the calls of one engine's runs that wait for a person, or for the end of a pause."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.growth = Growth(engine)

    # --- what may begin ---

    def screen(self, run: Run, ready: list[Frame]) -> list[Frame]:
        """Return which of these calls may begin now; the others are kept until somebody says so."""
        if run.is_paused:
            run.held = (*run.held, *ready)
            return []
        if self.growth.is_over(run):
            return []
        ready = self._engine.suspects.screen(run, ready)
        for frame in ready:
            if frame.node.approval_timeout_s is not None:  # type: ignore[union-attr] # only calls become ready
                return [frame for frame in ready if not self._asks(run, frame)]
        return ready

    def _asks(self, run: Run, frame: Frame) -> bool:
        node = frame.node
        if type(node) is not Call or node.approval_timeout_s is None:
            return False
        step, now = _journal_of(run).standing.steps.get(frame.position), self._engine.clock.time()
        if step is not None and step.approval is not None:  # it was asked for before
            if not step.approval.answer:
                self._wait(run, frame, max((step.approval.deadline_at or inf) - now, 0.0))
            return not step.approval.answer
        deadline_at = now + node.approval_timeout_s
        self._engine.teller.tell(run, ApprovalRequested(frame.position, node.agent, _digest(run, frame), deadline_at))
        self._wait(run, frame, node.approval_timeout_s)
        return True

    def _wait(self, run: Run, frame: Frame, limit_s: float) -> None:
        wait = Wait(run, frame)
        run.waiting = {**run.waiting, frame.position: wait}
        self._engine.deadlines.add(wait, limit_s)

    def rest(self, run: Run) -> None:
        """Pause a run of which nothing goes on but what waits for people."""
        journal = run.journal
        if run.steps or run.walk.is_done or run.parked is not None or self._engine.suspects.keeps(run):
            return
        if run.is_paused:
            self._rested(run)
        if journal is None or not run.waiting or run.is_paused or journal.standing.paused is not None or self.growth.is_over(run):
            return
        positions = tuple(run.waiting)
        self._engine.teller.tell(run, WorkflowPaused(APPROVAL, positions))
        due_at = min(step.approval.deadline_at or inf for step in map(journal.standing.step, positions) if step.approval is not None)
        journal.change(state="paused", reason=APPROVAL, waiting=positions, due_at=None if due_at == inf else due_at)
        journal.commit()
        self._rested(run)

    def _rested(self, run: Run) -> None:
        """Stop the clocks of a run of which nothing goes on; a runner that stops does not wait for it."""
        self._engine.supervision.stop_clocks(run)
        run.tell_rest()
        if self._engine.idle.is_awaited:
            self._engine.ending.end_all([run])

    def recall(self, run: Run) -> None:
        """Take up a run that another owner has left paused: it goes on waiting, with what is left of its deadlines."""
        journal = _journal_of(run)
        standing, now = journal.standing, self._engine.clock.time()
        run.is_paused = not standing.waiting
        for position, frame in standing.ready.items():
            step = standing.steps.get(position)
            if step is not None and step.approval is not None and not step.approval.answer:
                self._wait(run, frame, max((step.approval.deadline_at or inf) - now, 0.0))
            else:
                run.held = (*run.held, frame)
        run.tell_rest()

    def forget(self, run: Run, above: Frame | None = None) -> None:
        """Let go of the calls below a frame that ends, of all (None) of a run that ends or is left."""
        if not run.waiting and not run.held:
            return
        gone = [position for position, wait in run.waiting.items() if above is None or wait.frame.is_below(above)]
        for position in gone:
            self._engine.deadlines.drop(run.waiting[position])
        run.waiting = {position: wait for position, wait in run.waiting.items() if position not in gone}
        run.held = tuple(frame for frame in run.held if above is not None and not frame.is_below(above))

    # --- what is asked ---

    async def pause(self, run: Run, reason: str) -> None:
        """Start no further step; those in flight finish.

        Raises:
            IllegalTransitionError: it is not running.
            RunnerStateError: the run has no journal.
        """
        await self._engine.recovery.until_read(run)
        journal = _journal_of(run)
        self._tell(run, orders.pause(journal.standing, reason))
        run.is_paused = True
        journal.change(state="paused", reason=reason)
        if not run.steps:
            self._engine.supervision.stop_clocks(run)
        run.tell_rest()
        await journal.durable(journal.commit())

    async def resume(self, run: Run, by: str) -> None:
        """Go on with a run that somebody has paused.

        Raises:
            IllegalTransitionError: it is not paused, or waits for people only.
            RunnerStateError: the run has no journal.
        """
        await self._engine.recovery.until_read(run)
        journal = _journal_of(run)
        self._tell(run, orders.resume(journal.standing, by))
        self._lift(run)
        held, run.held = list(run.held), ()
        if run.is_hooked and not run.steps:  # they were under way in a process that died
            self._engine.suspects.begin_hooks(run)
        elif run.walk.is_done or not held:
            self._engine.go_on(run, held)
        else:  # steps of them may have been in flight in a process that died
            begin_again(self._engine, run, held)
        await journal.durable(journal.commit())

    async def approve(self, run: Run, place: str, by: str, note: str, digest: str | None) -> bool:
        """Let a step run; False when it does not wait, or was answered before.

        Raises:
            IllegalTransitionError: several steps are meant, or another thing waits there now.
            RunnerStateError: the run has no journal.
        """
        await self._engine.recovery.until_read(run)
        journal = _journal_of(run)
        facts = orders.approve(journal.standing, place, by, note, digest=digest, at=self._engine.clock.time())
        if not facts:
            return False
        position = self._tell(run, facts)
        frame = self._answered(run, position)
        self._lift_wait(run, by)
        if run.is_paused:
            run.held = (*run.held, frame)
        else:
            self._engine.go_on(run, [frame])
        await journal.durable(journal.commit())
        return True

    async def reject(self, run: Run, place: str, by: str, reason: str) -> bool:
        """Fail a step that waits; False when it does not wait, or was answered before.

        Raises:
            IllegalTransitionError: several steps are meant.
            RunnerStateError: the run has no journal.
        """
        await self._engine.recovery.until_read(run)
        journal = _journal_of(run)
        facts = orders.reject(journal.standing, place, by, reason)
        if not facts:
            return False
        self._fail(run, self._tell(run, facts), by, reason)
        await journal.durable(journal.commit())
        return True

    def is_due(self, wait: Wait) -> None:
        """Reject a step whose deadline has passed."""
        run = wait.run
        if run.result is not None or run.parked is not None or run.walk.is_done:
            return
        position = wait.frame.position
        self._tell(run, (ApprovalRejected(position, "deadline", "nobody answered in time"),))
        self._fail(run, position, "deadline", "nobody answered in time")

    async def checkpoint(self, run: Run) -> dict[str, Json]:
        """Make all that was recorded durable and return `{id, run_id, seq, state, schema_version}`.

        Raises:
            RunnerStateError: the run has no journal.
        """
        await self._engine.recovery.until_read(run)
        journal = _journal_of(run)
        if not journal.is_durable:
            await journal.durable(journal.commit())
        standing = journal.standing
        state: dict[str, Json] = {**State.over(run.walk.scope).to_dict()}
        return {"id": f"{run.run_id}@{standing.seq}", "run_id": run.run_id, "seq": standing.seq, "state": state, "schema_version": 1}

    # --- in common ---

    def _tell(self, run: Run, facts: tuple[Fact, ...]) -> Position:
        for fact in facts:
            self._engine.teller.tell(run, fact)
        return getattr(facts[0], "position", "") if facts else ""

    def _answered(self, run: Run, position: Position) -> Frame:
        wait = run.waiting[position]
        run.waiting = {place: other for place, other in run.waiting.items() if place != position}
        self._engine.deadlines.drop(wait)
        return wait.frame

    def _fail(self, run: Run, position: Position, by: str, reason: str) -> None:
        frame = self._answered(run, position)
        self._lift_wait(run, by)
        failure = refusal(position, by, reason)
        self._engine.teller.tell(run, StepFailed(position, frame.node.agent, 0, 0.0, failure))  # type: ignore[union-attr] # only calls wait
        self._engine.go_on(run, run.walk.complete(frame, failure))

    def _lift_wait(self, run: Run, by: str) -> None:
        """Let a run that was paused for lack of anything to do go on."""
        standing = _journal_of(run).standing
        if standing.paused is not None and not run.is_paused:
            self._engine.teller.tell(run, WorkflowResumed(by))
            self._lift(run)

    def _lift(self, run: Run) -> None:
        run.is_paused = False
        _journal_of(run).change(state="running", reason="", waiting=(), due_at=None)
        self._engine.beginning.time_root(run)


def refusal(position: Position, by: str, reason: str) -> Failure:
    """Return the failure of a step that was rejected."""
    why = f" by {by}" if by else ""
    told = f"step {position} was rejected{why}" + (f": {reason}" if reason else "")
    return failure_of(ApprovalRejectedError(told), attempts=0)


def _journal_of(run: Run) -> Journal:
    if run.journal is None:
        raise RunnerStateError(
            "nothing of this run is recorded", hint='add [journal] url = "memory:" or "sqlite:PATH" to the configuration'
        )
    return run.journal


def _digest(run: Run, frame: Frame) -> str:
    """Return what stands for a step and its input: who approves one thing does not approve another."""
    plan_hash = _journal_of(run).row.plan_hash
    told = [frame.node.agent, frame.position, plan_hash, State.over(frame.scope).to_dict()]  # type: ignore[union-attr] # only calls wait
    if frame.given is not None:
        told.append(dict(frame.given))
    return hashlib.blake2b(canonical(told).encode("utf-8", "replace"), digest_size=16).hexdigest()
