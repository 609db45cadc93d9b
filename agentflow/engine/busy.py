"""Busy: what becomes of an event whose session has an open run, where it does not wait for it: rejected, or the run interrupted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from agentflow.engine.run import Run
from agentflow.errors import AgentflowError, IllegalTransitionError, RunnerStateError, SessionBusyError

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine

INTERRUPTED = "interrupted"
Cancel: TypeAlias = Callable[[str, str], Awaitable[object]]  # ends a recorded run that nobody goes on with, by id, for a reason


class Busy:
    """Decides about the events of busy sessions.

    Args:
        engine: what runs them.
        is_rejecting: whether they are refused; else they interrupt.

    Attributes:
        cancel: ends runs that are recorded and that nobody goes on with; None where there are none.
    """

    def __init__(self, engine: Engine, *, is_rejecting: bool) -> None:
        self._engine = engine
        self._is_rejecting = is_rejecting
        self.cancel: Cancel | None = None

    async def decide(self, run: Run) -> None:
        """Refuse a run, or clear the way for it; when this returns it is tried again, and then stands behind those that still end.

        The same event may have been accepted before: it changes nothing, and its emitter gets the run that it had.

        Raises:
            SessionBusyError: it is refused.
            RunnerStateError: the runner was stopped meanwhile.
            QueueFullError: there was no place for it, so nothing was interrupted.
            StoreError, JournalDamagedError, JournalVersionError: what an earlier process left cannot be ended.
        """
        is_known = await self._is_known(run)
        self._require_open()
        if is_known:
            run.is_decided = True
        elif self._is_rejecting:
            self._refuse(run)
        else:
            await self._interrupt(run)

    def _require_open(self) -> None:
        """Refuse what is asked of a runner that has stopped meanwhile."""
        if self._engine.intake.is_closed:
            raise RunnerStateError("the runner is stopped", hint="make a new one")

    async def _is_known(self, run: Run) -> bool:
        journals, event_id = self._engine.journals, run.event.id or ""
        if journals is None:
            return False
        # One that was accepted a moment ago is perhaps not in the store yet.
        ahead = self._engine.intake.ahead(run.session_id).values()
        if any(other is not None and other.event.id == event_id for other in ahead):
            return True
        return await journals.store.row_of_event(event_id) is not None

    def _refuse(self, run: Run) -> None:
        ahead = self._engine.intake.ahead(run.session_id)
        if not ahead:
            return  # its session has become free meanwhile
        run_id, other = next(iter(ahead.items()))
        told = f"session {run.session_id!r} is busy: run {run_id} is open"
        if other is None:
            hint = f"nobody goes on with it here: `agentflow resume {run_id}` does, `agentflow runs cancel {run_id}` ends it"
            raise SessionBusyError(f"{told}, left by an earlier process", hint=hint)
        raise SessionBusyError(told, hint='emit again when it has ended, or set on_busy to "queue" in [orchestration]')

    async def _interrupt(self, run: Run) -> None:
        intake, ending = self._engine.intake, self._engine.ending
        others = [other for other in intake.ahead(run.session_id).values() if other is not None]
        if not intake.has_room_without(others):
            await intake.room(run.session_id)  # and then it is asked again
            return
        for run_id, carried in intake.ahead(run.session_id).items():
            if carried is None and self.cancel is not None:
                with suppress(IllegalTransitionError):  # it has ended meanwhile, or has nothing but its end before it
                    await self.cancel(run_id, INTERRUPTED)
            elif carried is not None and carried.is_recovered and carried.journal is None:
                with suppress(AgentflowError):  # one that cannot be read is nobody's any more
                    await self._engine.recovery.until_read(carried)
        self._require_open()
        for other in intake.ahead(run.session_id).values():
            if other is not None:
                ending.cancel(other, INTERRUPTED)
        run.is_decided = True
