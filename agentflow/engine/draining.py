"""Draining: waiting until no run is open."""

from __future__ import annotations

import asyncio
from collections.abc import Sized


class Drain:
    """Waits for a collection of open runs to become empty.

    Args:
        runs: the open runs; somebody else adds and removes them, and calls `look` after a removal while it `is_awaited`.
    """

    def __init__(self, runs: Sized) -> None:
        self._runs = runs
        self._idle: asyncio.Event | None = None
        self.is_awaited = False  # somebody waits, and wants `look` called after each removal

    def look(self) -> None:
        """Wake who waits, when nothing is open any more."""
        if self._idle is not None and not self._runs:
            self._idle.set()

    async def until_idle(self, timeout_s: float | None) -> None:
        """Return when nothing is open, or after `timeout_s` seconds."""
        if not self._runs:
            return
        self._idle = asyncio.Event()
        self.is_awaited = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return
