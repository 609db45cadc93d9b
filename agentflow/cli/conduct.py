"""Conducting events: take them in, wait for their runs, hand the results on in order, and end in time whatever happens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from agentflow.cli import terminal
from agentflow.cli.events import Entry, EventSource
from agentflow.cli.exits import Exit, code_of
from agentflow.cli.further import failed_of, further, outcome, told_of
from agentflow.cli.signals import handled
from agentflow.config.journal import IN_MEMORY
from agentflow.core.event import Event
from agentflow.core.result import RunResult
from agentflow.core.run_row import OPEN_STATES, RunRow
from agentflow.core.run_view import RunView
from agentflow.engine.intake import PARALLEL
from agentflow.engine.run import RunHandle
from agentflow.errors import AgentflowError, MissingAgentError, QueueFullError, SessionBusyError, StoreError
from agentflow.runner import Runner

OPEN_RUNS = 256  # at most, those included whose acceptance is being written; further events wait where they are
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


@dataclass(frozen=True)
class Resumption:
    """Recorded runs to go on with, in the place of events: one, or (None) all that are unfinished.

    `plan` and `is_accepted` are those of `Runner.resume`.
    """

    run_id: str | None = None
    plan: str | None = None
    is_accepted: bool = False


@dataclass(frozen=True)
class Fork:
    """A new run to begin with the records of another one; the fields are those of `Runner.fork`."""

    run_id: str
    at: int | None = None
    changes: Mapping[str, object] | None = None
    plan_from: Path | None = None


Taken: TypeAlias = RunHandle | asyncio.Task[RunHandle | None]  # a run, or an event that is being accepted; None when it was not
Work: TypeAlias = Event | str | Resumption | Fork  # one event, the name of where events are, or what is recorded


class Outlet(Protocol):
    """Where a conductor hands on what became of runs."""

    def show(self, result: RunResult, children: Sequence[RunResult] = ()) -> bool:
        """Take a result, with those of the further events that came of it, and say whether anybody can read it.

        If not, the rest is cancelled.
        """

    def rest(self, view: RunView, ahead: RunRow | None, *, is_kept: bool) -> None:
        """Take a run that is paused, or waits behind one that is `ahead`; one that is not kept is gone when the command ends."""

    def close(self) -> None:
        """Write what was kept: the process is left early."""


class Conductor:
    """Runs events through a runner, or goes on with recorded runs, and says how it went with an exit code.

    Runs that wait for people are not waited for.
    """

    def __init__(self, runner: Runner, terms: Terms, outlet: Outlet) -> None:
        self._runner = runner
        self._terms = terms
        self._outlet = outlet
        self._source: EventSource | None = None
        self._taken: asyncio.Queue[Taken | None] = asyncio.Queue(OPEN_RUNS)
        self._emitting = 0
        self._last: dict[str, asyncio.Task[RunHandle | None]] = {}  # by session: the newest of its events that are being accepted
        self._open: dict[str, RunHandle] = {}
        self._sessions: dict[str, str] = {}  # of open runs
        self._aside: list[RunHandle] = []  # runs that are paused, and those behind them or behind what does not go on here
        self._held: set[str] = set()  # the sessions of these
        self._is_kept = runner.journal_url != IN_MEMORY
        self._is_stopping = False
        self._cancelling = ""  # the reason, once open runs are being cancelled
        self._draining: asyncio.Task[object] | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._code = Exit.DONE
        self._ended_by: Exit | None = None  # a signal or the timeout

    async def conduct(self, work: Work) -> tuple[Exit, bool]:
        """Do the work; return the exit code, and whether anything is left that may never end."""
        loop, others = asyncio.get_running_loop(), set(threading.enumerate())
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="agentflow-loop")
        loop.set_default_executor(pool)
        with handled(self._on_signal):
            unfinished = await self._begun()
            limit = loop.call_later(self._terms.timeout_s, self._on_timeout) if self._terms.timeout_s is not None else None
            taking = loop.create_task(self._taking(work, unfinished))
            try:
                await self._hand_on()
                await taking
                if limit is not None:
                    limit.cancel()
                self._stop_taking()
                await self._tell_paused()
            except BaseException:
                await self._runner.stop(0)  # nobody else lets go of the journal
                raise
            report = await self._runner.stop(0 if self._cancelling or self._aside else None)
            self._tell_left(report.abandoned)
            pool.shutdown(wait=False)
            is_left = bool(report.abandoned) or await _is_anything_left(others) or self._is_reading()
        return self._ended_by or self._code, is_left

    async def _begun(self) -> list[RunRow]:
        """Start the runner and return the runs that earlier ones have left unfinished."""
        try:
            await self._runner.start()
        except StoreError as error:
            error.hint = error.hint or "name another place for the journal with --journal PATH"
            raise
        if not self._is_kept:
            return []
        return [row for state in sorted(OPEN_STATES) for row in await self._runner.runs(state=state, children=True)]

    # --- taking work in ---

    def _taking(self, work: Work, unfinished: list[RunRow]) -> Coroutine[None, None, None]:
        if isinstance(work, Resumption | Fork):
            return self._go_on(work, unfinished)
        if unfinished and not self._terms.is_quiet:
            many = "one unfinished run is" if len(unfinished) == 1 else f"{len(unfinished)} unfinished runs are"
            terminal.note(f"{many} recorded from before; `agentflow resume` goes on with {'it' if len(unfinished) == 1 else 'them'}")
        return self._take(self._items(work))

    async def _go_on(self, work: Resumption | Fork, unfinished: list[RunRow]) -> None:
        try:
            if self._runner.on_busy != PARALLEL:
                self._sessions = {row.run_id: row.session_id for row in unfinished if row.session_id is not None}
            for handle in await self._recorded(work):
                self._open[handle.run_id] = handle
                await self._taken.put(handle)
        finally:
            await self._taken.put(None)

    async def _recorded(self, work: Resumption | Fork) -> list[RunHandle]:
        if isinstance(work, Resumption):
            return await self._runner.resume(work.run_id, plan=work.plan, accept=work.is_accepted)
        handle = await self._runner.fork(work.run_id, at=work.at, set=work.changes, config=work.plan_from)
        if not self._terms.is_quiet:
            terminal.note(f"{handle.run_id}  forked from {work.run_id}")
        return [handle]

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
                await self._taken.put(self._begin(entry))
        finally:
            await self._taken.put(None)  # also when this fails: nobody may wait for ever

    def _begin(self, entry: Entry) -> asyncio.Task[RunHandle | None]:
        """Emit an event beside others, so that their acceptances share commits; those of one session follow each other."""
        session = _session_of(entry.event)
        task = asyncio.get_running_loop().create_task(self._accept(entry, self._last.get(session)))
        if session:
            self._last[session] = task
            task.add_done_callback(lambda done: self._last.pop(session) if self._last.get(session) is done else None)
        return task

    async def _accept(self, entry: Entry, before: asyncio.Task[RunHandle | None] | None) -> RunHandle | None:
        if before is not None:
            await asyncio.wait({before})
        try:
            handle = await self._emit(entry.event)
        except AgentflowError as error:
            if not self._is_stopping:
                shown = terminal.show_error(error, place=entry.place)
                self._count(Exit.FAILED if isinstance(error, SessionBusyError) else shown)
            return None
        if handle is not None:
            self._accepted(handle, entry.event)
            if self._cancelling:
                handle.cancel(self._cancelling)
        return handle

    def _accepted(self, handle: RunHandle, event: Event | AgentflowError) -> None:
        self._open[handle.run_id] = handle
        session = _session_of(event)
        if session and self._runner.on_busy != PARALLEL:
            self._sessions[handle.run_id] = session
        if self._is_kept and not self._terms.is_quiet:
            terminal.note(f"{handle.run_id}  accepted")

    async def _emit(self, event: Event | AgentflowError) -> RunHandle | None:
        """Emit an event as soon as there is room for it; None when nothing more is taken."""
        if isinstance(event, AgentflowError):
            raise event
        while not self._is_stopping:
            self._emitting += 1
            try:
                return await self._runner.emit(event)
            except QueueFullError:
                continue
            finally:
                self._emitting -= 1
        return None

    # --- handing results on ---

    async def _hand_on(self) -> None:
        while (taken := await self._taken.get()) is not None:
            handle = await taken if isinstance(taken, asyncio.Task) else taken
            if handle is not None:
                await self._see_to(handle)
        is_moving = bool(self._aside)
        while is_moving:  # what was paused may go on since, and what stands behind it too
            aside, self._aside = self._aside, []
            self._held.clear()
            for handle in aside:
                with suppress(AgentflowError):  # it has stopped since, as is seen below
                    await handle.checkpoint()  # a pause is told of once it is durable
                await self._see_to(handle)
            is_moving = len(self._aside) < len(aside)

    async def _see_to(self, handle: RunHandle) -> None:
        """Wait for a run and hand its result on; put it aside when it does not go on, or its session's run does not."""
        session = self._sessions.get(handle.run_id)
        found = None if session in self._held else await outcome(handle)
        if found is None:
            self._aside.append(handle)
            self._held |= {session} if session is not None else set()
            return
        children = await further(handle, self._open, self._aside) if isinstance(found, RunResult) else []
        self._open.pop(handle.run_id, None)
        if isinstance(found, RunResult):
            self._hand(found, children)
        elif self._is_stopping:
            terminal.note(terminal.safe(f"{handle.run_id} is not done, and recorded; `agentflow resume {handle.run_id}` goes on with it"))
        else:
            shown = terminal.show_error(found)
            self._count(shown if isinstance(found, MissingAgentError) else Exit.FAILED)

    def _hand(self, result: RunResult, children: Sequence[RunResult]) -> None:
        self._count(code_of(result.status, result.reason, is_strict=self._terms.is_strict))
        if self._terms.is_strict and failed_of(children):
            self._count(Exit.FAILED)
        if not self._outlet.show(result, children):
            self._cancel("interrupted")
        if children and not self._terms.is_quiet:
            terminal.note(terminal.safe(told_of(result, children)))
        if result.status == "partial" and not self._terms.is_quiet:
            failed = ", ".join(result.errors) or "a branch"
            terminal.note(terminal.safe(f"warning: {result.run_id} completed in part; failed: {failed}"))

    async def _tell_paused(self) -> None:
        ahead = await self._runner.blocked() if self._aside else {}
        for handle in self._aside:
            self._count(Exit.APPROVAL)
            self._outlet.rest(await self._runner.get(handle.run_id), ahead.get(handle.run_id), is_kept=self._is_kept)

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
            for one in (handle, *handle.children):
                one.cancel(reason)

    def _on_timeout(self) -> None:
        self._ended_by = self._ended_by or Exit.TIMED_OUT
        self._cancel("timeout")
        terminal.note(f"timeout: not done after {self._terms.timeout_s:g} s; cancelling what still runs")

    def _on_signal(self, code: Exit, count: int) -> None:
        self._ended_by = code
        self._stop_taking()
        running = len(self._open) + self._emitting
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
                self._outlet.show(await handle.result())
            self._tell_left(tuple(self._open))
            self._outlet.close()
        finally:
            terminal.leave(code)

    def _tell_left(self, names: tuple[str, ...]) -> None:
        if names:
            terminal.note(terminal.safe(f"warning: left behind, still running: {', '.join(names)}"))


def _session_of(event: Event | AgentflowError) -> str:
    told = event.session_id or event.metadata.get("session_id") if isinstance(event, Event) else None
    return told or ""


async def _is_anything_left(others: set[threading.Thread]) -> bool:
    """Cancel the tasks that handlers left, and say whether a task, or a thread of ours that is not among `others`, goes on all the same."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        _, pending = await asyncio.wait(tasks, timeout=TIDY_WAIT_S)
        if pending:
            return True
    begun = set(threading.enumerate()) - others
    threads = [thread for thread in begun if thread.name.startswith("agentflow") and not thread.daemon]
    await asyncio.sleep(0)
    for thread in threads:
        thread.join(TIDY_WAIT_S / len(threads))
    return any(thread.is_alive() for thread in threads)
