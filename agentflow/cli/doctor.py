"""`agentflow doctor`: what is wrong, and what to do about it. It changes nothing, and asks nothing for long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from agentflow import app
from agentflow.cli import terminal
from agentflow.cli.check import diagnose
from agentflow.cli.checks import journal, machine, runs, service
from agentflow.cli.checks.finding import Finding, Level
from agentflow.cli.exits import Exit
from agentflow.cli.hints import Hint
from agentflow.cli.journals import Found, Place
from agentflow.config.diagnostics import ConfigError
from agentflow.config.source import reason_of
from agentflow.engine.health import STATUS
from agentflow.engine.intake import PARALLEL
from agentflow.errors import AgentflowError
from agentflow.stores.checkup import Checkup, checkup
from agentflow.system import SystemClock

ANSWER_S = 10.0  # for the process that has the journal


def examine(place: Place, *, has_handlers: bool, is_json: bool) -> Exit:
    """Print what was found, and return the exit code: 1 where there is a problem.

    Raises:
        ConfigError, ConfigNotFoundError: there is no configuration.
    """
    findings = [*_findings(place, has_handlers=has_handlers)]
    if is_json:
        terminal.out(terminal.as_json([finding.to_dict() for finding in findings], is_indented=True))
    else:
        for line in _lines(findings):
            terminal.out(line)
    return Exit.FAILED if any(finding.level == "problem" for finding in findings) else Exit.DONE


def _lines(findings: Sequence[Finding]) -> Iterator[str]:
    checks = max(len(finding.check) for finding in findings)
    for finding in findings:
        yield _on_one_line(f"{finding.level:<7}  {finding.check:<{checks}}  {finding.message}")
        if finding.help:
            yield _on_one_line(f"{'':<7}  {'':<{checks}}  help: {finding.help}")
    problems = sum(finding.level == "problem" for finding in findings)
    advice = sum(finding.level == "advice" for finding in findings)
    yield ""
    yield f"{problems} problem{'s' * (problems != 1)}, {advice} thing{'s' * (advice != 1)} to look at"


def _on_one_line(text: str) -> str:
    return terminal.safe(" ".join(text.splitlines())).rstrip()


def _findings(place: Place, *, has_handlers: bool) -> Iterator[Finding]:
    yield from machine.versions()
    try:
        found = place.found()
    except ConfigError as error:
        if place.config is not None and not place.config.exists():
            raise  # there is nothing to look at
        yield from _configuration(error.diagnostics)
        yield Finding("journal", "advice", "the journal was not looked at: nothing says where it is", "--journal PATH")
        return
    project = found.project
    if project is not None:
        yield from _configuration(diagnose(place.config, {}, has_handlers=has_handlers))
        yield from machine.extras(project.config)
        yield from service.token(project)
        yield from service.protection(project)
        yield from service.secrets(project)
        if project.config.mqtt is not None:
            yield asyncio.run(service.broker(project.config.mqtt))
    if found.choice.path is None:
        yield Finding("journal", "ok", "runs are kept in memory, and end with their process")
        return
    yield from _journal(place, found)


def _configuration(diagnostics: Sequence[Any]) -> Iterator[Finding]:
    told = [one for one in diagnostics if one.code != terminal.UNUSED_KEY]
    for one in told:
        where = f"{one.place}: " if one.place else ""
        level: Level = "problem" if one.severity == "error" else "advice"
        yield Finding("configuration", level, f"{where}{one.message} [{one.code}]", one.help or f"agentflow explain {one.code}")
    if not told:
        yield Finding("configuration", "ok", "no mistakes")


def _journal(place: Place, found: Found) -> Iterator[Finding]:
    clock, path = SystemClock(), found.choice.path
    assert path is not None  # noqa: S101 - asked before
    try:
        seen = checkup(path)
    except OSError as error:
        yield Finding("journal", "problem", f"{path} cannot be looked at: {reason_of(error)}", "look at the rights of its folders")
        return
    live = asyncio.run(_asked(found)) if seen.is_held else None
    yield from journal.file(seen)
    yield from journal.owner(seen, live)
    if seen.fault is not None or not seen.is_there:
        yield machine.clock(clock.time(), None)
        return
    yield journal.integrity(seen, clock.monotonic)
    yield from _runs(place, found, seen, live, clock.time())


def _runs(place: Place, found: Found, seen: Checkup, live: dict[str, Any] | None, now: float) -> Iterator[Finding]:
    has_lines = found.project is None or found.project.config.orchestration.on_busy != PARALLEL
    try:
        read = asyncio.run(_read(found, has_lines=has_lines))
    except AgentflowError as error:
        yield Finding("runs", "problem", f"the runs cannot be read: {error.message}", error.hint or "agentflow journal verify")
        return
    yield machine.clock(now, read.recorded_at)
    owner = None if not seen.is_held else str((live or {}).get("owner") or runs.UNKNOWN)
    yield from runs.stuck(read, owner, now, Hint(place.config, place.journal))


async def _read(found: Found, *, has_lines: bool) -> runs.Seen:
    async with found.opened() as (_, history):
        return await runs.seen(history, has_lines=has_lines)


async def _asked(found: Found) -> dict[str, Any] | None:
    try:
        async with asyncio.timeout(ANSWER_S):
            return await app.ask_live(found.choice, {"verb": STATUS})
    except TimeoutError:
        return None
