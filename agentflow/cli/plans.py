"""`agentflow plan`, `visualize`, `agents` and `config show`: what a configuration comes to."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path

from agentflow import app
from agentflow.cli import terminal
from agentflow.cli.exits import Exit
from agentflow.cli.proofs import proof_lines, proofs_row, surroundings_of
from agentflow.cli.run import warn, with_handlers
from agentflow.cli.sources import config_file
from agentflow.cli.tables import toml_value, written
from agentflow.cli.trees import lines_of
from agentflow.cli.usage import PlanSizeError, UsageError
from agentflow.config.diagnostics import ConfigError, report
from agentflow.config.display import quoted
from agentflow.config.layers import Origin
from agentflow.config.roster import agent_rows
from agentflow.config.source import reason_of
from agentflow.core.bounds import nodes_in
from agentflow.core.diagram import mermaid
from agentflow.core.plan import Node
from agentflow.core.plan_rows import to_dict

MOST_NODES = 100_000


def compiled(config: Path | None, overrides: dict[str, str], *, has_handlers: bool) -> tuple[app.Project, Node]:
    """Return a configuration and its main plan; its warnings are said on stderr.

    Raises:
        ConfigError: it has mistakes.
        AgentflowError: its handlers were asked for and cannot be loaded.
    """
    project = app.load(config_file(config), overrides=overrides)
    if has_handlers:
        project.require(may_lack_modes=True)
        with redirect_stdout(sys.stderr):
            project.extra_agents = with_handlers(project).agents
    project.require(may_lack_modes=False)
    warn(project)
    plan, found = project.check()
    if plan is None:
        raise ConfigError(found)
    return project, plan


def show_plan(config: Path | None, overrides: dict[str, str], *, is_json: bool, has_handlers: bool) -> None:
    """Print the compiled tree, its worst case, and what else is sure of it before it runs.

    Raises:
        AgentflowError: there is no plan, or it is too large for JSON.
    """
    project, plan = compiled(config, overrides, has_handlers=has_handlers)
    surroundings = surroundings_of(project)
    if is_json:
        if nodes_in(plan) > MOST_NODES:
            raise PlanSizeError(f"the plan has more than {MOST_NODES:,} nodes", hint="print it as text: leave --json out")
        told = {"name": project.config.agent_flow.name, "mode": project.config.orchestration.mode}
        row = {**told, **proofs_row(plan, surroundings), "plan": to_dict(plan)}
        terminal.out(terminal.as_json(row, is_indented=True))
        return
    terminal.out(terminal.safe("\n".join([*lines_of(plan), "", *proof_lines(plan, surroundings)])))


def visualize(config: Path | None, output: Path | None, overrides: dict[str, str], *, has_handlers: bool) -> None:
    """Print the plan as a Mermaid flowchart, or write it into a file.

    Raises:
        AgentflowError: there is no plan, or the file cannot be written.
    """
    _, plan = compiled(config, overrides, has_handlers=has_handlers)
    text = mermaid(plan)
    if output is None:
        terminal.out(text.rstrip("\n"))
        return
    write(output, f"```mermaid\n{text}```\n" if output.suffix.lower() == ".md" else text)
    terminal.note(f"wrote {output}")


def write(file: Path, text: str) -> None:
    """Write a file, its folder made where it is missing.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"{quoted(file)} cannot be written: {reason_of(error)}", hint="name a file in a folder you may write") from None


def show_agents(config: Path | None, overrides: dict[str, str], *, is_json: bool) -> Exit:
    """Print the agents of a configuration: what each is for, who answers it, and whether the main flow reaches it."""
    project = app.load(config_file(config), overrides=overrides)
    plan, found = project.check()
    rows = agent_rows(project.config, plan)
    if is_json:
        terminal.out(terminal.as_json(rows, is_indented=True))
    else:
        terminal.out(terminal.safe(written(rows)))
    return _told(found)


def show_config(config: Path | None, overrides: dict[str, str], *, has_origin: bool, is_json: bool) -> Exit:
    """Print every effective value; secrets are masked."""
    project = app.load(config_file(config), overrides=overrides)
    settings = project.draft.settings
    if is_json:
        row = {one.key: {"value": one.value, "origin": _origin(one.origin)} if has_origin else one.value for one in settings}
        terminal.out(terminal.as_json(row, is_indented=True))
    else:
        lines = [(f"{one.key} = {toml_value(one.value)}", _origin(one.origin)) for one in settings if one.value is not None]
        width = min(60, max((len(text) for text, _ in lines), default=0))
        for text, origin in lines:
            terminal.out(terminal.safe(f"{text:{width}}  # {origin}" if has_origin else text))
    return _told(project.check()[1])


def _origin(origin: Origin) -> str:
    return origin.kind if origin.kind == "command line" else str(origin)


def _told(found: object) -> Exit:
    """Say the errors among diagnostics on stderr, and return the exit code."""
    errors = [one for one in found if one.severity == "error"]  # type: ignore[attr-defined]
    if errors:
        terminal.note(report(errors))
    return Exit.USAGE if errors else Exit.DONE
