"""Virtual time: an event loop whose clock jumps to the next timer instead of waiting for it.

Sleeps, timeouts, retry waits and graces take no real time, and always end in the order of their due times. Threads,
subprocesses and sockets still take real time: `patience_s` says how long to wait for them before the clock jumps.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Returned = TypeVar("Returned")

STALL_S = 5.0


class StalledError(RuntimeError):
    """Every task waits, no timer is set, and nothing came from outside for five real seconds: the program hangs."""


class _JumpingSelector(selectors.DefaultSelector):
    """Adds the time it is asked to wait to `now`, and returns at once."""

    def __init__(self, patience_s: float) -> None:
        super().__init__()
        self.now = 0.0
        self._patience_s = patience_s

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            events = super().select(STALL_S)
            if not events:
                raise StalledError("every task waits, and no timer is set that could wake one")
            return events
        if timeout <= 0:
            return super().select(0)
        events = super().select(self._patience_s)
        if not events:
            self.now += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time, which begins at 0.

    A task that spins on `sleep(0)` holds the clock still: nothing is due while something is ready.

    Args:
        patience_s: real seconds to wait for threads, subprocesses and sockets before the clock jumps.
    """

    def __init__(self, *, patience_s: float = 0.0) -> None:
        self._virtual = _JumpingSelector(patience_s)
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self._virtual.now

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Wait for the executor's threads, without a limit: a virtual one would be over before any thread has ended."""
        await super().shutdown_default_executor()


def virtual_loop() -> VirtualLoop:
    """Return a new loop on virtual time: a loop factory for `asyncio.Runner` and for test runners."""
    return VirtualLoop()


def run_virtual(main: Coroutine[Any, Any, Returned], *, patience_s: float = 0.0) -> Returned:
    """Run a coroutine to its end on virtual time, as `asyncio.run` does on real time.

    Args:
        main: the coroutine.
        patience_s: as for `VirtualLoop`; give some when sync handlers are to end within a virtual timeout.

    Raises:
        StalledError: it waits for something that cannot happen any more.
        BaseException: whatever the coroutine raises.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(patience_s=patience_s)) as runner:
        return runner.run(main)
