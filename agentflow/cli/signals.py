"""SIGINT and SIGTERM while events run: the first drains, the second stops, the third leaves at once."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from agentflow.cli import terminal
from agentflow.cli.exits import Exit

WATCH_S = 1.8  # from the second signal to the end of the process, whatever holds the loop
CODES = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED}


@contextmanager
def handled(on_signal: Callable[[Exit, int], None]) -> Iterator[None]:
    """Call `on_signal(code, how often by now)` on the running loop for each signal, within the block.

    After the second one a watchdog ends the process in time, and the third one ends it from within the signal's handler:
    both work also while a handler holds the loop.
    """
    if threading.current_thread() is not threading.main_thread():  # Python has signals in the main thread only
        yield
        return
    loop = asyncio.get_running_loop()
    count = 0
    watchdog = Watchdog()

    def catch(number: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        code = CODES[signal.Signals(number)]
        if count > 2:
            terminal.leave(code)
        if count == 2:
            watchdog.wake(code)
        loop.call_soon_threadsafe(on_signal, code, count)

    before: dict[signal.Signals, Any] = {number: signal.signal(number, catch) for number in CODES}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        watchdog.dismiss()


class Watchdog:
    """A thread that ends the process some time after it was woken.

    It stands ready from the start, and bare locks are all it is told by: starting a thread takes locks which the code that a
    signal interrupts may hold.
    """

    def __init__(self) -> None:
        self._code: Exit | None = None
        self._gate, self._end = threading.Lock(), threading.Lock()
        self._gate.acquire()
        self._end.acquire()
        threading.Thread(target=self._watch, name="agentflow-watchdog", daemon=True).start()

    def wake(self, code: Exit) -> None:
        """End the process in `WATCH_S` seconds with this exit code, unless dismissed by then."""
        self._code = code
        self._gate.release()

    def dismiss(self) -> None:
        """Let the process live."""
        self._end.release()
        if self._code is None:
            self._gate.release()

    def _watch(self) -> None:
        self._gate.acquire()
        if self._code is None:
            return
        if not self._end.acquire(timeout=WATCH_S):
            os._exit(self._code)  # nothing is flushed: who holds the loop may hold the stream too
