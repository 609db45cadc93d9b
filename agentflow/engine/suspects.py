"""Suspects: steps that were in flight in two processes that died. Each is tried alone, so that it takes no other step along."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

from agentflow.core.frame import Frame
from agentflow.core.plan import Position
from agentflow.core.records import Fact, StepCompleted, StepFailed
from agentflow.core.standing import StepStanding
from agentflow.engine.run import Run

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine

DEATHS = 2  # so many, and a step is tried alone

Calls: TypeAlias = list[tuple[Frame, StepStanding | None]]


class Suspects:
    """Tries the suspects of one engine: while one is in flight nothing else begins."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._later: dict[Run, Calls] = {}  # what begins once the run's suspect has ended
        self._suspect: tuple[Run, Position, asyncio.Future[None]] | None = None

    def first_of(self, run: Run, calls: Calls) -> Calls:
        """Return which of a run's calls begin now: all, or its first suspect alone."""
        suspects = [call for call in calls if call[1] is not None and call[1].deaths >= DEATHS]
        if not suspects:
            return calls
        self._later[run] = [call for call in calls if call is not suspects[0]]
        ended = self._engine.loop.create_future()
        self._suspect = run, suspects[0][0].position, ended
        self._engine.teller.watch = self._see
        self._engine.intake.hold()
        return suspects[:1]

    async def until_tried(self, run: Run) -> Calls:
        """Wait until a run's suspect has ended, if it has one, and return the calls that are still to begin."""
        if self._suspect is None or self._suspect[0] is not run:
            return []
        rested = run.rested()
        await asyncio.wait({self._suspect[2], rested}, return_when=asyncio.FIRST_COMPLETED)
        rested.cancel()
        self._suspect = self._engine.teller.watch = None
        for following in self._engine.intake.go_on():
            self._engine.beginning.take_turn(following)
        later = self._later.pop(run)
        return [] if run.walk.is_done or run.parked is not None else later

    def _see(self, run: Run, fact: Fact) -> None:
        if self._suspect is None or run is not self._suspect[0] or self._suspect[2].done():
            return
        if isinstance(fact, StepCompleted | StepFailed) and fact.position == self._suspect[1]:
            self._suspect[2].set_result(None)
