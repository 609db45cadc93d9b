"""Intake: which accepted runs may run now, and which wait for their session or for a free place. Every queue is bounded."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from agentflow.errors import QueueFullError, RunnerStateError

if TYPE_CHECKING:
    from agentflow.engine.run import Run

    # The open runs of one session by id, in order of acceptance; None keeps the place of one that nobody goes on with here.
    Line: TypeAlias = OrderedDict[str, Run | None]

PARALLEL = "parallel"  # the `on_busy` of a runner in which no session holds up another event


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a runner takes on.

    Attributes:
        queue_size: how many accepted events may wait.
        queue_wait_s: how long `emit` waits for a place in a full queue before it raises.
        max_running: how many runs go on at once.
        on_busy: what an event does whose session has an open run: "queue", "reject", "interrupt" or "parallel".
    """

    queue_size: int = 1000
    queue_wait_s: float = 1.0
    max_running: int = 10_000
    on_busy: str = "queue"


class Intake:
    """Orders runs: one at a time in a session, in order of acceptance; sessions beside each other up to `max_running`.

    The first run of a session's line has its turn: it runs, or waits for nothing but a free place. A recorded run that nobody
    goes on with here has its place in the line all the same, and holds up those behind it until it is taken over or has ended.
    What a callback emits for the session of its own run is part of that run's turn: it stands before it, and waits for no turn.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._most = bounds.max_running  # 0 while nothing may begin
        self.is_parallel = bounds.on_busy == PARALLEL  # no session has a line
        self._is_contested = bounds.on_busy in ("reject", "interrupt")
        self._running = 0
        self._sessions: dict[str, Line] = {}  # a session is here while one of its runs is open
        self._kept = 0  # places of runs that nobody goes on with here
        self._ready: deque[Run] = deque()  # runs that wait for nothing but a free place
        self._waiting = 0
        self._blocked: dict[asyncio.Future[None], str | None] = {}  # callers of `room`, in order, with their session
        self._promised = 0  # places that were given to blocked callers which have not gone on yet
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """How many accepted runs have not begun."""
        return self._waiting

    @property
    def sessions(self) -> int:
        """How many sessions have an open run."""
        return len(self._sessions)

    @property
    def is_closed(self) -> bool:
        """Whether nothing more is taken in."""
        return self._is_closed

    def _begins_at_once(self, session_id: str | None) -> bool:
        """Say whether a run of this session would begin now if it were admitted."""
        return self._running < self._most and not self._ready and session_id not in self._sessions

    async def room(self, session_id: str | None) -> None:
        """Return when one more run of this session can wait or begin.

        Raises:
            QueueFullError: there was no place within `queue_wait_s`.
            RunnerStateError: the intake was closed meanwhile.
        """
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._blocked[place] = session_id
        is_taken = False
        try:
            async with asyncio.timeout(self._bounds.queue_wait_s):
                await place
            is_taken = not self._is_closed
        except TimeoutError:
            raise self.fullness() from None
        finally:
            if place in self._blocked:
                del self._blocked[place]
            elif not place.cancelled():
                self._promised -= 1
                if not is_taken:
                    self._wake()
        if not is_taken:
            raise RunnerStateError("the runner is stopped", hint="make a new one")

    def fullness(self) -> QueueFullError:
        """Return the error that says how full it is."""
        told = f"queue full: {self._waiting} waiting, {self._running} running"
        return QueueFullError(told, hint="emit slower, or raise runner.queue_size")

    def close(self) -> None:
        """Take nothing more: who waits for room is refused."""
        self._is_closed = True
        self._wake()

    def admit(self, run: Run, *, is_accepted: bool = False) -> bool | None:
        """Take a run in: True when it begins now, False when `release` hands it out later, None when it cannot be taken in now.

        That is when the queue is full, or while a run `is_contested`. One that `is_accepted` already is taken in all the same.
        """
        session_id = run.session_id
        if session_id is None and self._running < self._most:
            self._running += 1
            return True
        if session_id is not None:
            if self.is_parallel:
                run.session_id = session_id = None
            elif not is_accepted and self.is_contested(run):
                return None
        if not is_accepted and not self._begins_at_once(None if run.is_nested else session_id) and not self._has_room():
            return None
        if session_id is not None and not self._has_turn(run, session_id):
            self._waiting += 1
            return False
        if self._running < self._most:
            self._running += 1
            return True
        self._ready.append(run)
        self._waiting += 1
        return False

    def release(self, run: Run) -> Run | None:
        """Note that a run which had begun has ended or was left, and return the one that begins in its place, if any."""
        self._running -= 1
        if run.session_id is not None:
            self._leave_session(run, run.session_id)
        if not self._ready or not self._most:
            if self._blocked:
                self._wake_beginner()
            return None
        following = self._ready.popleft()
        self._waiting -= 1
        self._running += 1
        self._wake()
        return following

    def hold(self) -> None:
        """Let nothing begin until `go_on`."""
        self._most = 0

    def go_on(self) -> list[Run]:
        """End a hold, and return the runs that begin now."""
        self._most = self._bounds.max_running
        return self._fill()

    def keep_place(self, session_id: str, run_id: str) -> None:
        """Give a recorded run that nobody goes on with here the next place in its session."""
        if self.is_parallel:
            return
        self._sessions.setdefault(session_id, OrderedDict())[run_id] = None
        self._kept += 1

    def drop_place(self, session_id: str, run_id: str) -> list[Run]:
        """Note that a run whose place was kept has ended all the same, and return the runs that begin now."""
        line = self._sessions.get(session_id)
        if line is None or run_id not in line or line[run_id] is not None:
            return []
        self._kept -= 1
        self._drop(session_id, run_id)
        return self._fill()

    def blocker_of(self, run: Run) -> str | None:
        """Return the first run ahead of this one that nobody goes on with here, None when there is none."""
        if self._kept and run.session_id is not None and not _had_turn(run):
            for run_id, carried in self._sessions.get(run.session_id, {}).items():
                if run_id == run.run_id:
                    return None
                if carried is None:
                    return run_id
        return None

    def behind(self, run: Run) -> list[Run]:
        """Return the runs that wait behind one that was left."""
        return [other for other in self._sessions.get(run.session_id or "", {}).values() if other is not None and not _had_turn(other)]

    def ahead(self, session_id: str | None) -> Line:
        """Return the open runs of a session, in order of their turns; None stands for one that nobody goes on with here."""
        return self._sessions.get(session_id or "", OrderedDict()).copy()

    def is_contested(self, run: Run) -> bool:
        """Say whether an event whose session has an open run neither waits nor begins before somebody has decided about it."""
        return self._is_contested and run.session_id in self._sessions and not (run.is_decided or run.is_nested)

    def has_room_without(self, others: Iterable[Run]) -> bool:
        """Say whether one more run may wait once these have left."""
        return self._has_room(sum(other.begun is None for other in others))

    def nest(self, run: Run) -> None:
        """Let a run be part of the turn of the one for which it was emitted, or of one further up, that has it in the same session."""
        line, above = self._sessions.get(run.session_id or ""), run.parent
        while above is not None and (line is None or line.get(above.run_id) is not above):
            above = above.parent
        if above is not None and line is not None and _is_served(line, above):
            run.is_nested = True

    def lift(self, run: Run) -> list[Run]:
        """Let a run that waits for its session have its turn now, if it is nested in one ahead; return the runs that begin now."""
        line = self._sessions.get(run.session_id or "")
        if line is None or line.get(run.run_id) is not run or _had_turn(run) or next(iter(line)) == run.run_id:
            return []
        self.nest(run)
        if not run.is_nested:
            return []
        line.move_to_end(run.run_id, last=False)
        self._ready.append(run)
        return self._fill()

    def _fill(self) -> list[Run]:
        begun: list[Run] = []
        while self._ready and self._running < self._most:
            begun.append(self._ready.popleft())
            self._waiting -= 1
            self._running += 1
        self._wake()
        return begun

    def withdraw(self, run: Run) -> None:
        """Take out a run that waits."""
        self._waiting -= 1
        if run in self._ready:
            self._ready.remove(run)
        if run.session_id is not None:
            self._leave_session(run, run.session_id)
        self._wake()

    def _has_turn(self, run: Run, session_id: str) -> bool:
        """Give a run the place in its session that was kept for it, else the last one; say whether its turn has come."""
        line = self._sessions.get(session_id)
        if line is None:
            line = self._sessions[session_id] = OrderedDict()
            line[run.run_id] = run
            return True
        if self._kept and run.run_id in line:
            self._kept -= 1
        line[run.run_id] = run
        if run.is_nested:
            line.move_to_end(run.run_id, last=False)
        return next(iter(line)) == run.run_id

    def _leave_session(self, run: Run, session_id: str) -> None:
        if run.parked is not None and run.is_left:
            self._sessions[session_id][run.run_id] = None
            self._kept += 1
        else:
            self._drop(session_id, run.run_id)

    def _drop(self, session_id: str, run_id: str) -> None:
        """Take a run out of its session; if it had its turn, the next one has it now."""
        line = self._sessions[session_id]
        if len(line) == 1:
            del self._sessions[session_id]
            return
        had_turn = next(iter(line)) == run_id
        del line[run_id]
        if had_turn and (following := next(iter(line.values()))) is not None and not _had_turn(following):
            self._ready.append(following)

    def _wake(self) -> None:
        for place in list(self._blocked):
            if not self._is_closed and not self._has_room():
                return
            self._promise(place)

    def _wake_beginner(self) -> None:
        """Let the first caller go on whose run would begin at once, now that a run has ended and none waits for its place."""
        for place, session_id in self._blocked.items():
            if self._begins_at_once(session_id):
                self._promise(place)
                return

    def _promise(self, place: asyncio.Future[None]) -> None:
        del self._blocked[place]
        if not place.done():
            place.set_result(None)
            self._promised += 1

    def _has_room(self, leaving: int = 0) -> bool:
        """Say whether one more run may wait, counting the places that are promised."""
        return self._waiting + self._promised - leaving < self._bounds.queue_size


def _had_turn(run: Run) -> bool:
    """Say whether a run of a session does not wait for its turn any more."""
    return run.begun is not None or run.is_nested


def _is_served(line: Line, run: Run) -> bool:
    """Say whether it is a run's turn: it had it, or nobody is ahead of it but parts of its own."""
    if _had_turn(run):
        return True
    for other in line.values():
        if other is run:
            return True
        above = other
        while above is not None and above is not run:
            above = above.parent
        if above is None:
            return False
    return False
