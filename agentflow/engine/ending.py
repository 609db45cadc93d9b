"""Ending: how runs end, by themselves or from outside, and how they are left for another owner."""

from __future__ import annotations

import asyncio
from asyncio import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from agentflow.core.failure import Failure, failure_of
from agentflow.core.frame import Frame
from agentflow.core.policy_walk import PolicyWalk
from agentflow.core.records import FlowCut, JoinClosed
from agentflow.core.result import RunResult
from agentflow.core.tally import DEAD
from agentflow.engine.run import Closing, Run
from agentflow.engine.step import Phase, Step
from agentflow.errors import AgentflowError, CancelledRunError, EventTimeoutError, RunnerStateError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentflow.engine.engine import Engine

_STATES = {"completed": "completed", "partial": "completed", "cancelled": "cancelled"}  # of a status; every other one failed
DEGRADED = "degraded"  # the flag of a run in which a `default_output` has answered
_HANDLED = ("handled", "recovered")


@dataclass(frozen=True, slots=True)
class Left:
    """What an engine left behind: runs that were cancelled, runs that can be resumed, handlers that did not end."""

    cancelled: tuple[str, ...] = ()
    resumable: tuple[str, ...] = ()
    abandoned: tuple[str, ...] = ()


class Ending:
    """Ends the runs of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.cancelled: list[str] = []  # the runs that were ended because the engine stops
        self.resumable: list[str] = []  # and those that were left as they stand
        self._closing: set[asyncio.Task[None]] = set()  # runs whose last commit is on its way

    def cut(self, run: Run, frame: Frame | None, failure: Failure) -> None:
        """End a frame (None: the whole run) below which nothing runs any more."""
        if run.parked is not None:
            self._leave(run)  # its last step has ended
            return
        if not run.is_cut:
            self._engine.teller.tell(run, FlowCut("" if frame is None else frame.position, failure))
        self._engine.control.forget(run, frame)
        self._engine.go_on(run, run.walk.cut(frame, failure))

    def closed(self, run: Run, closing: Closing) -> None:
        """End what was to be closed, now that nothing runs below it any more."""
        frame, why = closing.frame, closing.why
        if isinstance(why, Failure):
            self.cut(run, frame, why)
            return
        walk = run.walk
        assert isinstance(walk, PolicyWalk) and frame is not None  # noqa: S101, PT018 - other walks have no such joins
        if run.parked is not None or not frame.is_live:
            return
        self._engine.teller.tell(run, JoinClosed(frame.position, walk.counted(frame), why))
        self._engine.control.forget(run, frame)
        ready = walk.close_join(frame, why)
        if not walk.is_plain and walk.outcome.is_degraded and DEGRADED not in run.flags:
            run.flags = (*run.flags, DEGRADED)
        self._engine.go_on(run, ready)

    def cancel(self, run: Run, reason: str) -> Future[None] | None:
        """Ask a run to end; its running handlers are cancelled, and left behind after the grace if need be.

        Returns the commit after which the request is durable; None when there is nothing to record.
        """
        engine = self._engine
        if run.cancelled and run.journal is not None and run.result is None and run.parked is None:
            return run.journal.commit()  # asked for before, and perhaps not durable yet
        if run.result is not None or run.cancelled or run.walk.is_done or engine.supervision.is_closing(run):
            return None
        if run.is_recovered and run.journal is None:
            run.is_asked_to_end = reason or "cancelled"  # once it is read
            return None
        error: Exception
        if reason == "timeout":  # whoever waits for it has no more time: it ends as one that ran out of its own
            error = EventTimeoutError("the run did not end within the time it was given", hint="give it more, or make its agents faster")
        else:
            run.cancelled = reason or "cancelled"
            error = CancelledRunError(f"the run was cancelled: {run.cancelled}")
        failure = failure_of(error)
        written = None
        if run.journal is not None and run.parked is None:
            engine.teller.tell(run, FlowCut("", failure, run.cancelled))
            run.is_cut = True
            written = run.journal.commit()
        engine.control.forget(run)
        if run.begun is None:
            engine.intake.withdraw(run)
            run.walk.cut(None, failure)
            self.seal(run)
        else:
            engine.supervision.close(run, None, failure)
        return written

    def park(self, run: Run, error: BaseException) -> None:
        """Go on with a run no more, although it has not ended: its journal says how far it is, and another owner may take it."""
        if run.result is not None or run.parked is not None:
            return
        run.parked = error
        self._engine.suspects.look()
        self._engine.control.forget(run)
        if run.begun is None:
            self._engine.intake.withdraw(run)
        self._engine.supervision.stop_clocks(run)
        for waiter in run.waiters:
            if not waiter.done():
                waiter.set_exception(error)
        run.tell_rest()
        self._engine.supervision.close(run, None, failure_of(error))

    def end_all(self, runs: Iterable[Run]) -> None:
        """Cancel all runs, or leave them as they stand where they have a journal and can be resumed."""
        for run in runs:
            self._engine.supervision.hurry(run)
            if run.journal is not None:
                run.journal.give_up()
            if run.journal is None and not run.is_recovered:
                self.cancelled.append(run.run_id)
                self.cancel(run, "stopped")
            elif not run.walk.is_done:
                self.resumable.append(run.run_id)
                self.park(run, RunnerStateError(f"the runner stopped before run {run.run_id} ended", hint=f"agentflow resume {run.run_id}"))

    async def drain(self, timeout_s: float) -> Left:
        """Take nothing more, wait for all runs to end or pause, then end or leave the rest."""
        engine, until = self._engine, self._engine.monotonic() + timeout_s
        engine.intake.close()
        engine.background.close()
        self.end_all([run for run in engine.runs if run.state == "paused"])
        self.end_all([run for run in engine.runs if engine.intake.blocker_of(run) is not None])
        await engine.idle.until_idle(timeout_s)
        engine.hook_limit_s = min(engine.hook_limit_s, engine.supervision.grace_s)
        self.end_all(sorted(engine.runs, key=lambda run: run.begun is not None))  # those that wait first
        await engine.idle.until_idle(None)
        left = await engine.background.finish(until - engine.monotonic(), engine.supervision.grace_s)
        engine.deadlines.close()
        abandoned = sorted([*map(str, engine.supervision.abandoned.values()), *left])
        return Left(tuple(sorted(self.cancelled)), tuple(sorted(self.resumable)), tuple(abandoned))

    def finish(self, run: Run) -> None:
        """Run the last callbacks of a run whose walk is done, and end it."""
        engine = self._engine
        if run.timers is not None:
            engine.supervision.stop_clocks(run)
        if engine.hooks.has_event_hooks and run.begun is not None:
            if run.journal is not None and run.journal.is_carrying:
                run.journal.commit()  # what the last step has brought forth does not wait for them
            engine.spawn(Step(engine, run, None, engine.beginning.hook_limit_of(run)), Phase.AFTER_EVENT)
        else:
            self.seal(run)

    def seal(self, run: Run) -> None:
        """Make the result; it counts once it is durable."""
        journal = run.journal
        if journal is not None and run.parked is None:
            self._flag_dead_letter(run)
        result = self.result_of(run)
        if journal is None:
            run.result = result
            if self._engine.teller.observers:
                self._engine.teller.closed(run, result)
            for waiter in run.waiters:  # as in `_tell`: a call less for each event
                if not waiter.done():
                    waiter.set_result(result)
            if run.watchers:
                run.tell_rest()
            self._leave(run)
            return
        if run.parked is not None or journal.standing.ended is not None:
            return
        self._engine.teller.closed(run, result)
        state, status = _STATES.get(result.status, "failed"), result.status
        ended_at = self._engine.clock.time()
        journal.change(state=state, status=status, reason=result.reason, flags=result.flags, ended_at=ended_at, waiting=(), due_at=None)
        journal.commit(is_awaited=True).add_done_callback(partial(self._closed, run, result))

    def _closed(self, run: Run, result: RunResult, written: Future[None]) -> None:
        if not written.cancelled() and written.exception() is None:
            run.result = result
            self._tell(run, result)
            return
        closing = self._engine.loop.create_task(self._close(run, result, written))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _flag_dead_letter(self, run: Run) -> None:
        """Flag a run that failed, and whose failure nobody has handled."""
        walk = run.walk
        if walk.is_plain or run.cancelled or not run.program.keeps_dead_letters:
            return
        if walk.outcome.failure is not None and walk.outcome.handling not in _HANDLED and DEAD not in run.flags:
            run.flags = (*run.flags, DEAD)

    async def _close(self, run: Run, result: RunResult, written: Future[None]) -> None:
        try:
            await run.journal.durable(written)  # type: ignore[union-attr] # who has something written has a journal
        except AgentflowError as error:
            if self._engine.intake.is_closed:
                self.resumable.append(run.run_id)  # the engine stops: its end could not be written
            self.park(run, error)
        else:
            run.result = result
            self._tell(run, result)

    def _tell(self, run: Run, result: RunResult) -> None:
        for waiter in run.waiters:
            if not waiter.done():
                waiter.set_result(result)
        if run.watchers:
            run.tell_rest()
        self._leave(run)

    def _leave(self, run: Run) -> None:
        """Give up a run's place, and begin the run whose turn it is."""
        engine = self._engine
        try:
            engine.runs.remove(run)
        except KeyError:
            return  # it has left before
        if run.begun is not None:
            following = engine.intake.release(run)
            while following is not None and (following.result is not None or following.parked is not None):
                following = engine.intake.release(following)
            if following is not None:
                engine.beginning.take_turn(following)
            if run.parked is not None and run.is_left:
                self._hold_up(engine.intake.behind(run))
        if engine.idle.is_awaited:
            engine.idle.look()

    def _hold_up(self, runs: list[Run]) -> None:
        """Tell runs that wait behind one that was left; a runner that stops does not wait for them."""
        for run in runs:
            run.tell_rest(is_blocked=True)
        if self._engine.idle.is_awaited:
            self.end_all(runs)

    def result_of(self, run: Run) -> RunResult:
        """Return what a run has come to so far."""
        duration_s = None if run.begun is None else self._engine.monotonic() - run.begun
        # Most runs use nothing but calls. A copy, since a handler that was left behind may go on adding.
        used = run.calls if run._usage is None else replace(run.usage)  # noqa: SLF001
        return RunResult(run.run_id, run.walk, run.program.names, used, run.cancelled, run.flags, duration_s)
