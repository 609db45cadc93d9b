"""`agentflow serve`: take events from outside until a signal says to stop."""

from __future__ import annotations

import asyncio
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

from agentflow.cli import terminal
from agentflow.cli.brokers import brokers_of
from agentflow.cli.exits import Exit
from agentflow.cli.run import journal_key, runner_of
from agentflow.cli.signals import handled
from agentflow.cli.sources import config_file
from agentflow.config.journal import BESIDE_THE_FILE
from agentflow.ingress.http import Http, Setup
from agentflow.ingress.operator import Operator
from agentflow.ingress.schedules import Schedules
from agentflow.ingress.service import Service
from agentflow.system import SystemClock


@dataclass(frozen=True)
class Wanted:
    """What `agentflow serve` was asked to do."""

    config: Path | None = None
    journal: Path | None = None
    overrides: dict[str, str] = field(default_factory=dict)
    is_quiet: bool = False


def serve(wanted: Wanted) -> int:
    """Serve until a signal; return the exit code.

    Raises:
        AgentflowError: the configuration, its handlers, the journal or the address cannot be used.
    """
    with redirect_stdout(sys.stderr):
        overrides = {**wanted.overrides, **journal_key(wanted.journal)}
        file = config_file(wanted.config)
        runner = runner_of(file, overrides, is_quiet=wanted.is_quiet, default_journal=BESIDE_THE_FILE, is_strict=True)
        return asyncio.run(_served(Service(runner, SystemClock()), wanted))


async def _served(service: Service, wanted: Wanted) -> int:
    setup = Setup(service.runner.project)
    http = Http(service, setup)
    http.bind()
    stopping = asyncio.Event()
    tell = (lambda text: None) if wanted.is_quiet else lambda text: terminal.note(terminal.safe(text))
    schedules = Schedules(service.runner, service.ready, service.clock.time, lambda: service.readiness.has_room)
    service.ingresses += [http, schedules, Operator(service, stopping.set, tell), *brokers_of(service)]

    def on_signal(code: Exit, count: int) -> None:
        if count > 1:
            terminal.leave(code)  # what was acknowledged is recorded
        terminal.note("stopping: no more events; waiting for what is under way; once more ends at once")
        service.close()
        stopping.set()

    with handled(on_signal):
        taken = await service.start()
        if not wanted.is_quiet:
            _tell(http, setup, taken)
        await stopping.wait()
        report = await service.stop()
    if report.resumable and not wanted.is_quiet:
        terminal.note(f"not done, and recorded: {len(report.resumable)}; the next start goes on with them")
    if report.abandoned:
        terminal.leave(Exit.DONE)
    return Exit.DONE


def _tell(http: Http, setup: Setup, taken: int) -> None:
    """Say where the service is, and what one needs to ask it."""
    made = ", made just now" if setup.is_token_made else ""
    terminal.note(terminal.safe(f"serving at {http.url}; the token is in {setup.token_file}{made}"))
    if taken:
        terminal.note(f"going on with {taken} unfinished run{'s' * (taken != 1)}")
