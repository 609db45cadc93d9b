"""Options that several groups of commands share, as typer reads them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

CONFIG_HELP = "The file, or a folder with an agentflow.toml or a $ENVIRONMENT.toml (default development.toml). Default: ./agentflow.toml"

ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help=CONFIG_HELP, show_default=False)]
JournalPath = Annotated[
    Path | None,
    typer.Option("--journal", metavar="PATH", help="The journal, in the place of the configuration's.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or a beginning that no other id has.")]


def end(code: int) -> None:
    """End the command with an exit code."""
    sys.exit(code)
