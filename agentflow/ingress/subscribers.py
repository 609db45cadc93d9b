"""Subscriber: one reader of a live stream: what waits for it, and why it is read to no more."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Literal, NamedTuple, TypeAlias

MOST_EVENTS = 256
MOST_BYTES = 1024 * 1024

Fault: TypeAlias = Literal["slow", "stalled", "token", "lost", "damaged"]


class Told(NamedTuple):
    """One event of a stream: the number of its record, what is written, and what follows the last record of its run."""

    seq: int
    frame: bytes
    ending: bytes = b""


class Subscriber:
    """What waits for one reader, bounded: one that falls behind is disconnected, and comes back with the id that it has seen.

    Args:
        client: who it is, for the limit of streams.
        generation: of the token that it was let in with.
        now: seconds, of the clock that `written_at` is told in.

    Attributes:
        fault: why it ends although there is more; None while it does not.
        ended: is set with it.
        is_finished: nothing comes after what waits now.
        written_at: when something was written to it for the last time.
        writing_since: since when a write has not come to its end; None when none is under way.
    """

    def __init__(self, client: str, generation: int, now: float) -> None:
        self.client = client
        self.generation = generation
        self.written_at = now
        self.writing_since: float | None = None
        self.fault: Fault | None = None
        self.ended = asyncio.Event()
        self.is_finished = False
        self.size = 0
        self._waiting: deque[Told] = deque()
        self._wake = asyncio.Event()

    @property
    def length(self) -> int:
        """How many events wait."""
        return len(self._waiting)

    def offer(self, told: Told) -> None:
        """Add an event to what waits; `wake` tells the reader."""
        if self.fault is not None:
            return
        self._waiting.append(told)
        self.size += len(told.frame)
        if len(self._waiting) > MOST_EVENTS or (self.size > MOST_BYTES and len(self._waiting) > 1):
            self.close("slow")

    def close(self, fault: Fault) -> None:
        """End it; what waits is forgotten."""
        if self.fault is None:
            self.fault = fault
            self._waiting.clear()
            self.size = 0
            self.ended.set()
            self._wake.set()

    def finish(self) -> None:
        """End it once it has taken what waits."""
        self.is_finished = True
        self._wake.set()

    def wake(self) -> None:
        """Let the reader go on, with nothing where nothing waits: then it writes a sign of life."""
        self._wake.set()

    async def take(self) -> list[Told]:
        """Wait until woken, and return what waits by then."""
        await self._wake.wait()
        self._wake.clear()
        taken = list(self._waiting)
        self._waiting.clear()
        self.size = 0
        return taken
