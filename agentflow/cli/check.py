"""`agentflow validate`: every mistake of the files, as text, JSON rows or annotations for GitHub."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Literal

from agentflow import app
from agentflow.cli import terminal
from agentflow.cli.exits import Exit
from agentflow.cli.run import with_handlers
from agentflow.cli.sources import config_file
from agentflow.config.diagnostics import ConfigError, Diagnostic, Place, report
from agentflow.config.journal import IN_MEMORY
from agentflow.config.model import JournalConfig
from agentflow.errors import AgentflowError

Format = Literal["text", "json", "github"]


def validate(configs: Sequence[Path | None], form: Format, overrides: dict[str, str], *, has_handlers: bool) -> Exit:
    """Check the files and print what is wrong with them; the code is 2 when there is an error."""
    found: list[Diagnostic] = []
    for config in configs:
        found += diagnose(config, overrides, has_handlers=has_handlers)
    show(found, form)
    return Exit.USAGE if any(one.severity == "error" for one in found) else Exit.DONE


def diagnose(config: Path | None, overrides: dict[str, str], *, has_handlers: bool) -> list[Diagnostic]:
    """Return all that is wrong with one file, and with its handlers when asked."""
    try:
        file = config_file(config)
    except AgentflowError as error:
        return [_as_diagnostic(error, str(config or "."))]
    try:
        project = app.load(file, overrides=overrides)
    except ConfigError as error:
        return list(error.diagnostics)
    found = project.check()[1]
    errors = [one for one in found if one.severity == "error" and one.code not in app.REGISTERED_LATER]
    if errors or not has_handlers:
        return found
    try:
        with redirect_stdout(sys.stderr):
            asyncio.run(_start(project))
    except ConfigError as error:
        return list(error.diagnostics)
    except AgentflowError as error:
        return [*project.check()[1], _as_diagnostic(error, str(file))]
    return project.check()[1]


async def _start(project: app.Project) -> None:
    """Start a runner and stop it; it leaves the journal alone, which another process may have."""
    unrecorded = replace(project, config=project.config.model_copy(update={"journal": JournalConfig(url=IN_MEMORY)}))
    runner = with_handlers(unrecorded)  # registers modes in the table that both have
    project.extra_agents = runner.agents
    await runner.start()
    await runner.stop()


def show(found: Iterable[Diagnostic], form: Format) -> None:
    """Print diagnostics."""
    listed = list(found)
    if form == "json":
        terminal.out(terminal.as_json([_on_one_line(one).to_dict() for one in listed], is_indented=True))
    elif form == "github":
        for one in map(_on_one_line, listed):
            terminal.out(one.annotation())
    else:
        total = report(listed).rpartition("\n")[2]
        terminal.out("\n\n".join([*(_block(one) for one in listed), total]))


def _on_one_line(one: Diagnostic) -> Diagnostic:
    return replace(one, help=" ".join(one.help.split("\n")))


def _block(one: Diagnostic) -> str:
    """Return the text block of a diagnostic, a help of several lines on as many."""
    first, *rest = one.help.split("\n")
    return "\n".join([replace(one, help=first).render(), *(f"           {terminal.safe(line)}" for line in rest)])


def _as_diagnostic(error: AgentflowError, file: str) -> Diagnostic:
    return Diagnostic(error.code, error.message.replace("\n", " "), help=error.hint, place=Place(file=file))
