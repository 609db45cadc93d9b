"""Operator: what whoever runs the service asks of the whole of it: another configuration, and an orderly end.

A configuration takes over at SIGHUP, at `agentflow reload`, and with `[serve] watch = true` when one of its files changes.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from agentflow.config.diagnostics import ConfigError
from agentflow.core.values import Json
from agentflow.errors import AgentflowError
from agentflow.ingress.service import Service
from agentflow.served import DRAIN, RELOAD, ReloadReport

LOOK_S = 1.0
MOST_TOLD = 10  # mistakes of a file that the log is told of

Look: TypeAlias = tuple[int, int, int] | None


class Operator:
    """Takes the operator's wishes.

    Args:
        service: what is served.
        end: is called when the service is to end.
        tell: is called with a line for the person at the terminal.
    """

    def __init__(self, service: Service, end: Callable[[], None], tell: Callable[[str], None]) -> None:
        self._service = service
        self._runner = service.runner
        self._end = end
        self._tell = tell
        self._tasks: set[asyncio.Task[None]] = set()
        self._has_signal = False
        self._hangup: Any = None  # what a hangup did before

    async def start(self) -> None:
        """Begin to listen."""
        self._runner.answers |= {RELOAD: self._on_reload, DRAIN: self._on_drain}
        with suppress(ValueError, RuntimeError, NotImplementedError):  # only the main thread has signals
            self._hangup = signal.getsignal(signal.SIGHUP)
            if self._hangup is not signal.SIG_IGN:  # `nohup` wants none
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._on_hangup)
                self._has_signal = True
        if self._runner.project.config.serve.watch:
            self._keep(self._watch())

    def close(self) -> None:
        """Take no more wishes; returns at once."""
        if self._has_signal:
            self._has_signal = False
            asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it must not end what is about to end in order
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        """Let go of everything."""
        self.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._hangup is not None:
            with suppress(ValueError):
                signal.signal(signal.SIGHUP, self._hangup)

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- another configuration ---

    def _on_hangup(self) -> None:
        self._keep(self._reload_anyhow())

    async def _reload_anyhow(self) -> None:
        try:
            await self._reload()
        except AgentflowError:
            pass  # it was told
        except Exception as error:  # noqa: BLE001 - importing a merge function runs user code; the service goes on as it was
            self._runner.log.warn("reload_failed", {"detail": f"{type(error).__name__}: {error}"}, error)

    async def _on_reload(self) -> Mapping[str, Json]:
        return (await self._reload()).to_dict()

    async def _reload(self) -> ReloadReport:
        try:
            report = await self._runner.reload()
        except AgentflowError as error:
            told = (
                [f"{one.place or '-'}: {one.message}" for one in error.diagnostics] if isinstance(error, ConfigError) else [error.message]
            )
            self._runner.log.warn("reload_refused", {"code": error.code, "detail": "; ".join(told[:MOST_TOLD]), "help": error.hint})
            raise
        self._tell(told_of(report))
        return report

    async def _watch(self) -> None:
        """Reload when a file has changed, and has stayed as it is for a moment: it may have been written in several goes."""
        seen = _look(self._runner.project.draft.files)
        is_changed = False
        while True:
            await asyncio.sleep(LOOK_S)
            files = self._runner.project.draft.files
            now = _look(files)
            if now != {file: seen.get(file, now[file]) for file in files}:
                seen, is_changed = now, True
            elif is_changed:
                is_changed = False
                await self._reload_anyhow()

    # --- the end ---

    async def _on_drain(self) -> Mapping[str, Json]:
        self._service.close()
        self._end()
        return {"open_runs": self._runner.open_runs, "drain_timeout_seconds": self._runner.project.config.runner.drain_timeout_seconds}


def told_of(report: ReloadReport) -> str:
    """Return a report in a line for a person."""
    if not report.changed:
        return "reloaded: nothing has changed"
    plan = "the plan is the same" if report.plan == report.plan_before else f"new events follow plan {report.plan[:12]}"
    return f"reloaded {', '.join(report.changed)}: {plan}; {report.open_runs} open under the plan they were accepted with"


def _look(files: Iterable[Path]) -> dict[Path, Look]:
    return {file: _state_of(file) for file in files}


def _state_of(file: Path) -> Look:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
