"""Conducting events: take them in, wait for their runs, hand the results on in order, and end in time whatever happens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from agentflow.cli import terminal
from agentflow.cli.events import Entry, EventSource
from agentflow.cli.exits import Exit, code_of
from agentflow.cli.signals import handled
from agentflow.core.event import Event
from agentflow.core.result import RunResult
from agentflow.engine.run import RunHandle
from agentflow.errors import AgentflowError, QueueFullError
from agentflow.runner import Runner

OPEN_RUNS = 256  # at most; further events wait where they are
LAST_WAIT_S = 1.5  # from the second signal to the end of the process; less than the watchdog of the signals has
TIDY_WAIT_S = 0.5  # for tasks and threads that handlers left
THREADS = 32


@dataclass(frozen=True)
class Terms:
    """On what terms events are run.

    Attributes:
        timeout_s: how long all of it may take; None is no limit.
        is_strict: whether a partial run counts as failed.
        is_quiet: whether warnings are kept back.
    """

    timeout_s: float | None = None
    is_strict: bool = False
    is_quiet: bool = False


class Conductor:
    """Runs events through a runner, and says how it went with an exit code.

    `show` is given each result, and answers whether anybody can read it; if not, the rest is cancelled.
    `close` is called when the process is left early, after the results of all runs that have ended.
    """

    def __init__(self, runner: Runner, terms: Terms, show: Callable[[RunResult], bool], close: Callable[[], None]) -> None:
        self._runner = runner
        self._terms = terms
        self._show = show
        self._close = close
        self._source: EventSource | None = None
        self._handles: asyncio.Queue[RunHandle | None] = asyncio.Queue(OPEN_RUNS)
        self._open: dict[str, RunHandle] = {}
        self._is_stopping = False
        self._cancelling = ""  # the reason, once open runs are being cancelled
        self._draining: asyncio.Task[object] | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._code = Exit.DONE
        self._ended_by: Exit | None = None  # a signal or the timeout

    async def conduct(self, events: Event | str) -> tuple[Exit, bool]:
        """Run one event, or those of a file or `-`; return the exit code, and whether anything is left that may never end."""
        loop = asyncio.get_running_loop()
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="agentflow-loop")
        loop.set_default_executor(pool)
        with handled(self._on_signal):
            await self._runner.start()
            limit = loop.call_later(self._terms.timeout_s, self._on_timeout) if self._terms.timeout_s is not None else None
            taking = loop.create_task(self._take(self._items(events)))
            await self._hand_on()
            await taking
            if limit is not None:
                limit.cancel()
            self._stop_taking()
            report = await self._runner.stop(0 if self._cancelling else None)
            self._tell_left(report.abandoned)
            pool.shutdown(wait=False)
            is_left = bool(report.abandoned) or await _is_anything_left() or self._is_reading()
        return self._ended_by or self._code, is_left

    # --- taking events in ---

    async def _items(self, events: Event | str) -> AsyncIterator[Entry]:
        if isinstance(events, Event):
            yield Entry("", events)
            return
        self._source = EventSource(events)
        async for entry in self._source:
            yield entry

    async def _take(self, entries: AsyncIterator[Entry]) -> None:
        try:
            async for entry in entries:
                if self._is_stopping:
                    break
                try:
                    handle = await self._emit(entry.event)
                except AgentflowError as error:
                    if not self._is_stopping:
                        self._count(terminal.show_error(error, place=entry.place))
                    continue
                if handle is not None:
                    self._open[handle.run_id] = handle
                    if self._cancelling:
                        handle.cancel(self._cancelling)
                    await self._handles.put(handle)
        finally:
            await self._handles.put(None)  # also when this fails: nobody may wait for ever

    async def _emit(self, event: Event | AgentflowError) -> RunHandle | None:
        """Emit an event as soon as there is room for it; None when nothing more is taken."""
        if isinstance(event, AgentflowError):
            raise event
        while not self._is_stopping:
            try:
                return await self._runner.emit(event)
            except QueueFullError:
                continue
        return None

    # --- handing results on ---

    async def _hand_on(self) -> None:
        while (handle := await self._handles.get()) is not None:
            result = await handle.result()
            self._open.pop(handle.run_id, None)
            self._count(code_of(result.status, is_strict=self._terms.is_strict))
            if not self._show(result):
                self._cancel("interrupted")
            if result.status == "partial" and not self._terms.is_quiet:
                failed = ", ".join(result.errors) or "a branch"
                terminal.note(terminal.safe(f"warning: {result.run_id} completed in part; failed: {failed}"))

    def _count(self, code: Exit) -> None:
        self._code = max(self._code, code)

    # --- ending before the end ---

    def _is_reading(self) -> bool:
        return self._source is not None and self._source.is_reading(TIDY_WAIT_S if self._ended_by is None else 0)

    def _stop_taking(self) -> None:
        self._is_stopping = True
        if self._source is not None:
            self._source.close()

    def _cancel(self, reason: str) -> None:
        self._stop_taking()
        self._cancelling = reason
        for handle in list(self._open.values()):
            handle.cancel(reason)

    def _on_timeout(self) -> None:
        self._ended_by = self._ended_by or Exit.TIMED_OUT
        self._cancel("timeout")
        terminal.note(f"timeout: not done after {self._terms.timeout_s:g} s; cancelling what still runs")

    def _on_signal(self, code: Exit, count: int) -> None:
        self._ended_by = code
        self._stop_taking()
        running = len(self._open)
        if count == 1:
            terminal.note(f"stopping: waiting for {running} open run{'s' * (running != 1)}; once more cancels")
            self._draining = asyncio.get_running_loop().create_task(self._runner.stop())
            return
        terminal.note(f"stopping: cancelling {running} open run{'s' * (running != 1)}")
        self._cancel("interrupted")
        asyncio.get_running_loop().call_later(LAST_WAIT_S, self._give_up, code)

    def _give_up(self, code: Exit) -> None:
        self._leaving = asyncio.get_running_loop().create_task(self._leave(code))

    async def _leave(self, code: Exit) -> None:
        """Show what has ended, also behind a run that does not end, and end the process."""
        try:
            for handle in [handle for handle in self._open.values() if handle.is_done]:
                self._open.pop(handle.run_id)
                self._show(await handle.result())
            self._tell_left(tuple(self._open))
            self._close()
        finally:
            terminal.leave(code)

    def _tell_left(self, names: tuple[str, ...]) -> None:
        if names:
            terminal.note(terminal.safe(f"warning: left behind, still running: {', '.join(names)}"))


async def _is_anything_left() -> bool:
    """Cancel the tasks that handlers left, and say whether a task or one of our threads goes on all the same."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        _, pending = await asyncio.wait(tasks, timeout=TIDY_WAIT_S)
        if pending:
            return True
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("agentflow") and not thread.daemon]
    await asyncio.sleep(0)
    for thread in threads:
        thread.join(TIDY_WAIT_S / len(threads))
    return any(thread.is_alive() for thread in threads)
