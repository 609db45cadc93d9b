"""`agentflow journal`: upkeep of the journal as a whole, as typer reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentflow.cli.options import ConfigFile, Debug, JournalPath, Json, end

journal_app = typer.Typer(no_args_is_help=True, help="Check, copy and migrate the journal.")


@journal_app.command("verify")
def verify_journal(*, config: ConfigFile = None, journal: JournalPath = None, is_json: Json = False, debug: Debug = False) -> None:
    """Check every run, and that every accepted run is accounted for; exit 1 when something is damaged."""
    from agentflow.cli.journals import Place
    from agentflow.cli.upkeep import verify

    end(verify(Place(config, journal), None, is_json=is_json))


@journal_app.command("backup")
def back_up_journal(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The copy; there must be no such file.")],
    *,
    config: ConfigFile = None,
    journal: JournalPath = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Copy the journal as of one moment, also while it is written."""
    from agentflow.cli.journals import Place
    from agentflow.cli.upkeep import back_up

    back_up(Place(config, journal), path, is_json=is_json)


@journal_app.command("migrate")
def migrate_journal(*, config: ConfigFile = None, journal: JournalPath = None, is_json: Json = False, debug: Debug = False) -> None:
    """Bring the journal up to this release, after a backup beside it."""
    from agentflow.cli.journals import Place
    from agentflow.cli.upkeep import migrate

    migrate(Place(config, journal), is_json=is_json)


@journal_app.command("stats")
def count_journal(*, config: ConfigFile = None, journal: JournalPath = None, is_json: Json = False, debug: Debug = False) -> None:
    """Say how many runs there are in each state, and how large the journal is."""
    from agentflow.cli.journals import Place
    from agentflow.cli.upkeep import show_counts

    show_counts(Place(config, journal), is_json=is_json)
