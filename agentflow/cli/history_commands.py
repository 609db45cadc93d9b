"""The commands that look at recorded runs, and their options, as typer reads them. They need no lock and change nothing but by `gc`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from agentflow.cli.options import ConfigFile, Debug, JournalPath, Json, RunId, end

runs_app = typer.Typer(no_args_is_help=True, help="Look at recorded runs, and change them.")
dead_letters_app = typer.Typer(no_args_is_help=True, help="Look at recorded runs that failed, and whose failure nobody has handled.")

Limit = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many, the newest first.", show_default=False)]


class State(StrEnum):
    """Where a run stands."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    RECOVERING = "recovering"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Status(StrEnum):
    """What a run that has ended came to."""

    COMPLETED = "completed"
    PARTIAL = "partial"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


@runs_app.command("list")
def list_runs(  # noqa: PLR0913 - one parameter an option
    *,
    state: Annotated[State | None, typer.Option(help="Those in this state.", show_default=False)] = None,
    status: Annotated[Status | None, typer.Option(help="Those that came to this.", show_default=False)] = None,
    pattern: Annotated[str | None, typer.Option(metavar="MODE", help="Those of this mode.")] = None,
    session: Annotated[str | None, typer.Option(metavar="ID", help="Those of this session.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Those started since: 2026-07-30, 2026-07-30T09:00 (UTC), or 90s, 30m, 2h, 7d ago.")
    ] = None,
    flag: Annotated[str | None, typer.Option(metavar="FLAG", help="Those with this flag, e.g. dead_lettered.")] = None,
    is_blocked: Annotated[bool, typer.Option("--blocked", help="Those that wait behind another run of their session.")] = False,
    root: Annotated[
        str | None, typer.Option("--root", metavar="RUN", help="Those that belong to this run: a workflow's steps.", show_default=False)
    ] = None,
    is_all: Annotated[bool, typer.Option("--all", help="Also those that belong to another run.")] = False,
    limit: Limit = None,
    config: ConfigFile = None,
    journal: JournalPath = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """List runs, the newest first; those that belong to another one, as the steps of a workflow do, only when asked for."""
    from agentflow.cli.histories import show_runs, wanted
    from agentflow.cli.journals import Place

    is_top = None if is_all or root is not None else True
    told = {"state": state, "status": status, "pattern": pattern, "session_id": session, "flag": flag, "root_id": root}
    rows = wanted(**told, since=since, is_top=is_top, limit=limit)
    show_runs(Place(config, journal), rows, is_blocked=is_blocked, is_json=is_json)


@runs_app.command("show")
def show_run(
    run: RunId,
    *,
    at: Annotated[int | None, typer.Option(metavar="SEQ", min=0, help="As it stood after this record. Default: the last.")] = None,
    config: ConfigFile = None,
    journal: JournalPath = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show a run: its state, outputs and steps, and what waits for a person."""
    from agentflow.cli.histories import show_run as show
    from agentflow.cli.journals import Place

    show(Place(config, journal), run, at, is_json=is_json)


@runs_app.command("watch")
def watch_runs(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="The run. None: all, until Ctrl-C.", show_default=False)] = None,
    *,
    config: ConfigFile = None,
    journal: JournalPath = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Follow a run until it ends, and exit as `run` would have; without one, tell of each run that changes."""
    from agentflow.cli.journals import Place
    from agentflow.cli.watching import watch

    end(watch(Place(config, journal), run, is_json=is_json))


@runs_app.command("verify")
def verify_runs(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="The run. None: all.", show_default=False)] = None,
    *,
    config: ConfigFile = None,
    journal: JournalPath = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check that records are what was written and fit together; exit 1 when something is damaged."""
    from agentflow.cli.journals import Place
    from agentflow.cli.upkeep import verify

    end(verify(Place(config, journal), run, is_json=is_json))


@runs_app.command("gc")
def collect_runs(
    *,
    is_dry: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    config: ConfigFile = None,
    journal: JournalPath = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Delete runs that ended more than retention_days ago. Dead letters stay."""
    from agentflow.cli.journals import Place
    from agentflow.cli.upkeep import collect

    collect(Place(config, journal), is_dry=is_dry, is_json=is_json)


def events(
    run: RunId,
    *,
    is_following: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends; with --json one object a line.")] = False,
    config: ConfigFile = None,
    journal: JournalPath = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Print a run's records."""
    from agentflow.cli.journals import Place
    from agentflow.cli.watching import show_events

    show_events(Place(config, journal), run, is_following=is_following, is_json=is_json)


def trace(  # noqa: PLR0913 - one parameter an option
    run: RunId,
    *,
    is_flow: Annotated[bool, typer.Option("--flow-only", help="Only which way it went: steps and choices, no times.")] = False,
    is_diagram: Annotated[bool, typer.Option("--sequence", help="Print a Mermaid sequence diagram.")] = False,
    agent: Annotated[str | None, typer.Option(metavar="NAME", help="Only this agent's steps.")] = None,
    config: ConfigFile = None,
    journal: JournalPath = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Print each attempt of each step with its time."""
    from agentflow.cli.journals import Place
    from agentflow.cli.timelines import Form, show_trace

    form: Form = "diagram" if is_diagram else "flow" if is_flow else "table"
    show_trace(Place(config, journal), run, form, agent, is_json=is_json)


def stats(
    *,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only runs started since: 2026-07-30, 2026-07-30T09:00 (UTC), or 2h, 7d ago.")
    ] = None,
    config: ConfigFile = None,
    journal: JournalPath = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Count recorded events and calls, with how long they took, and say how the process that runs the project stands."""
    from agentflow.cli.journals import Place
    from agentflow.cli.stats import show_stats

    show_stats(Place(config, journal), since, is_json=is_json)


@dead_letters_app.command("list")
def list_dead_letters(
    *, limit: Limit = None, config: ConfigFile = None, journal: JournalPath = None, is_json: Json = False, debug: Debug = False
) -> None:
    """List dead letters, the newest first."""
    from agentflow.cli.histories import show_runs, wanted
    from agentflow.cli.journals import Place
    from agentflow.engine.history import DEAD

    show_runs(Place(config, journal), wanted(flag=DEAD, limit=limit), is_json=is_json)


@dead_letters_app.command("show")
def show_dead_letter(
    run: RunId, *, config: ConfigFile = None, journal: JournalPath = None, is_json: Json = False, debug: Debug = False
) -> None:
    """Show a dead letter with its event and its records."""
    from agentflow.cli.histories import show_dead_letter as show
    from agentflow.cli.journals import Place

    show(Place(config, journal), run, is_json=is_json)
