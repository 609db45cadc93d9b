"""The seam to the machine: time, chance and ids. Nothing else asks for them, so tests can hold them still."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import secrets
import time
from collections.abc import Callable

from agentflow.core.event import Event as Event  # with its stamp: this is what `agentflow.Event` is


def fresh_secret() -> str:
    """Return a text of 256 random bits that nobody can guess."""
    return secrets.token_urlsafe(32)


class SystemClock:
    """Time and chance of this machine.

    Args:
        seed: makes the chance repeatable (the jitter of retries); None takes a fresh one.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.time = time.time
        self.monotonic = time.monotonic
        self.random = random.Random(seed).random  # noqa: S311 - spreads retries, guards nothing
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def monotonic_of(self, loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
        """Return the clock of an event loop; for the standard one the function behind it, at half the cost of a call."""
        return time.monotonic if type(loop).time is asyncio.BaseEventLoop.time else loop.time

    def fresh_id(self) -> str:
        """Return `prefix-n`: a random prefix of 48 bits for this process, and a counter (a uuid4 costs ten times as much)."""
        return f"{self._prefix}-{next(self._counter)}"

    def _renew(self) -> None:
        self._prefix = secrets.token_hex(6)
        self._counter = itertools.count(1)


Event.stamp = SystemClock()  # a new event has its id and its time from here
