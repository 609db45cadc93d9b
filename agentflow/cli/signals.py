"""SIGINT and SIGTERM while events run: the first drains, the second stops, the third leaves at once."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from agentflow.cli import terminal
from agentflow.cli.exits import Exit

CODES = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED}


@contextmanager
def handled(on_signal: Callable[[Exit, int], None]) -> Iterator[None]:
    """Call `on_signal(code, how often by now)` on the running loop for each signal, within the block.

    The third one ends the process from within the signal's handler: that works also while a handler holds the loop.
    """
    if threading.current_thread() is not threading.main_thread():  # Python has signals in the main thread only
        yield
        return
    loop = asyncio.get_running_loop()
    count = 0

    def catch(number: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        code = CODES[signal.Signals(number)]
        if count > 2:
            terminal.leave(code)
        loop.call_soon_threadsafe(on_signal, code, count)

    before: dict[signal.Signals, Any] = {number: signal.signal(number, catch) for number in CODES}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
