"""Readiness: whether the service takes events now, and if not, why."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from agentflow.errors import StorageFullError
from agentflow.ingress.problems import RETRY_S, refused

LOW_WATER_BYTES = 64 * 1024 * 1024  # kept free, so that what is under way can still be recorded
MOST_ABANDONED = 8  # handlers and threads that do not end
LOOK_S = 0.5  # how old an answer may be

Phase: TypeAlias = Literal["recovering", "ready", "draining"]


class Readiness:
    """Says whether events are taken.

    Args:
        journal: the journal's file; None where it is in memory.
        figures: tells how the runner stands, as `Runner.metrics` does.
        monotonic: tells seconds.
        low_water_bytes: how much room the journal's disk has to have.

    Attributes:
        phase: "recovering" until the runs of earlier processes are taken over, "draining" once the service is to stop.
    """

    def __init__(
        self,
        journal: Path | None,
        figures: Callable[[], Mapping[str, Any]],
        monotonic: Callable[[], float],
        *,
        low_water_bytes: int = LOW_WATER_BYTES,
    ) -> None:
        self._folder = None if journal is None else journal.parent
        self._figures = figures
        self._monotonic = monotonic
        self._low_water_bytes = low_water_bytes
        self._room: tuple[float, bool] = (-LOOK_S, True)
        self._health: tuple[float, str] = (-LOOK_S, "")
        self.phase: Phase = "recovering"

    @property
    def fault(self) -> str:
        """Why the service is not ready, "" when it is."""
        if self.phase != "ready":
            return self.phase
        if not self.has_room:
            return "storage_full"
        now = self._monotonic()
        if now - self._health[0] >= LOOK_S:
            self._health = now, self._looked_at()
        return self._health[1]

    def _looked_at(self) -> str:
        told = self._figures()
        if len(told["abandoned_handlers"]) + len(told["abandoned_threads"]) > MOST_ABANDONED:
            return "abandoned"
        return "" if told["loop"]["is_ready"] else "blocked"

    @property
    def has_room(self) -> bool:
        """Whether the journal's disk has room for new events."""
        now = self._monotonic()
        if now - self._room[0] >= LOOK_S:
            self._room = now, self._free_bytes() >= self._low_water_bytes
        return self._room[1]

    def _free_bytes(self) -> int:
        if self._folder is None:
            return self._low_water_bytes
        try:
            told = os.statvfs(self._folder)
        except OSError:
            return 0
        return told.f_bavail * told.f_frsize

    def require_taking(self) -> None:
        """Refuse an event while none are taken.

        Raises:
            RefusedError: the service is recovering, or about to stop.
            StorageFullError: there is no room for it.
        """
        if self.phase != "ready":
            raise refused(503, "AF0819", f"the service is {self.phase}, and takes no events now", "try again", retry_s=RETRY_S)
        if not self.has_room:
            raise StorageFullError("the disk of the journal is nearly full", hint="make room")
