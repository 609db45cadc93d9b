"""Suspects: steps that were in flight in two processes that died. Each is tried alone, so that it takes no other step along."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from agentflow.core.frame import OPEN, Frame
from agentflow.core.records import Fact
from agentflow.engine.journal import Journal
from agentflow.engine.repeating import begin_again
from agentflow.engine.run import Run

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine

DEATHS = 2  # so many, and a step is tried alone
PATIENCE_S = 10.0  # for what is in flight; it may wait for something that is kept from beginning


class Suspects:
    """Tries the suspects of one engine, one after another, each with nothing else in flight.

    While there are any nothing begins: what becomes ready is kept until all were tried, and what is in flight is waited for.
    A step in flight may itself wait for a run that it has emitted. So from time to time all that is kept may begin, and the
    wait begins anew, each time for longer.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._trials: deque[tuple[Run, Frame | None]] = deque()  # None: the run's event hooks, and what comes of them
        self._kept: dict[Run, list[Frame]] = {}  # what begins once there is no suspect any more
        self._alone: Frame | None = None  # the suspect that begins at this moment
        self._trying: asyncio.Task[None] | None = None
        self._is_holding = False
        self._news = asyncio.Event()

    def screen(self, run: Run, ready: list[Frame]) -> list[Frame]:
        """Return which of a run's calls may begin now; the others begin when it is their turn."""
        if not self._is_holding and not run.is_recovered:
            return ready
        if run.is_hooked or (self._alone is not None and ready == [self._alone]):
            return ready  # it was begun before
        steps = _journal_of(run).standing.steps
        suspects = [frame for frame in ready if (known := steps.get(frame.position)) is not None and known.deaths >= DEATHS]
        if not self._is_holding and not suspects:
            return ready
        self._trials.extend((run, frame) for frame in suspects)
        self._kept.setdefault(run, []).extend(frame for frame in ready if frame not in suspects)
        self._try()
        return []

    def begin_hooks(self, run: Run) -> None:
        """Begin the event hooks of a run that was begun before, alone if its first step is a suspect."""
        deaths = max((step.deaths for step in _journal_of(run).standing.steps.values()), default=0)
        if not self._is_holding and deaths < DEATHS:
            self._engine.beginning.begin_hooks(run)
            return
        self._trials.append((run, None))
        self._kept.setdefault(run, [])
        self._try()

    def keeps(self, run: Run) -> bool:
        """Say whether something of a run is kept from beginning."""
        return run in self._kept

    def look(self) -> None:
        """Note that something may have ended."""
        self._news.set()

    async def until_tried(self) -> None:
        """Wait until there is no suspect."""
        while self._trying is not None:
            await asyncio.wait({self._trying})

    def _try(self) -> None:
        if self._trying is None:
            self._hold()
            self._trying = self._engine.loop.create_task(self._try_all())

    async def _try_all(self) -> None:
        while self._trials:
            await self._until_nothing_is_in_flight()
            run, frame = self._trials.popleft()
            if _may_begin(run, frame) and not (frame is None and run.is_paused):  # who resumes it asks again for its event hooks
                self._alone = frame
                self._begin(run, None if frame is None else [frame])
                self._alone = None
                await self._until_quiet()
        self._trying = None
        self._let_go()

    def _begin(self, run: Run, frames: list[Frame] | None) -> None:
        try:
            if frames is None:
                self._engine.beginning.begin_hooks(run)
            else:
                begin_again(self._engine, run, frames)
        except Exception as error:  # noqa: BLE001 - a fault of ours ends the run, the others are not to hang on it
            self._engine.supervision.crash(run, error)

    async def _until_nothing_is_in_flight(self) -> None:
        patience_s = PATIENCE_S
        while True:
            try:
                async with asyncio.timeout(patience_s):
                    await self._until_quiet()
            except TimeoutError:
                self._let_go()
                self._hold()
                patience_s *= 2
            else:
                return

    async def _until_quiet(self) -> None:
        while busy := [run for run in self._engine.runs if _is_busy(run)]:
            for run in busy:  # nothing begins meanwhile: once one is quiet it stays so
                while _is_busy(run):
                    self._news.clear()
                    await self._news.wait()

    def _hold(self) -> None:
        self._is_holding = True
        self._engine.teller.watch = self._see
        self._engine.intake.hold()

    def _let_go(self) -> None:
        """Let all that is kept begin, but for the suspects."""
        self._is_holding = False
        self._engine.teller.watch = None
        kept, self._kept = self._kept, {run: [] for run, _ in self._trials}
        for following in self._engine.intake.go_on():
            self._engine.beginning.take_turn(following)
        for run, frames in kept.items():
            if ready := [frame for frame in frames if _may_begin(run, frame)]:
                self._begin(run, ready)
            else:
                self._engine.control.rest(run)

    def _see(self, run: Run, fact: Fact) -> None:
        self._news.set()


def _is_busy(run: Run) -> bool:
    return run.parked is None and bool(run.steps)


def _may_begin(run: Run, frame: Frame | None) -> bool:
    """Say whether a call still waits to begin: its run goes on, and nothing around it was ended meanwhile."""
    if run.parked is not None or run.walk.is_done:
        return False
    while frame is not None:
        if frame.status != OPEN:
            return False
        frame = frame.parent
    return True


def _journal_of(run: Run) -> Journal:
    assert run.journal is not None  # noqa: S101 - what is not recorded was in no process that died
    return run.journal
