"""`agentflow emit` and its options, as typer reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentflow.cli.options import CONFIG_HELP, Debug, end


def emit(  # noqa: PLR0913 - one parameter an option
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help=CONFIG_HELP, show_default=False)] = None,
    *,
    target: Annotated[str | None, typer.Option(help="The agent or flow the event is for.")] = None,
    data: Annotated[str | None, typer.Option(metavar="JSON|@FILE", help="The event's data, a JSON object; at most 1 MiB.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the data, a.b inside a; JSON, else text. Repeatable."),
    ] = None,
    meta: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Set a key of the event's metadata. Repeatable.")] = None,
    session: Annotated[str | None, typer.Option(metavar="ID", help="The event's session.")] = None,
    event_id: Annotated[str | None, typer.Option("--id", metavar="ID", help="The event's id: sent again, it does not run again.")] = None,
    wait: Annotated[float | None, typer.Option(metavar="SECONDS", help="Wait for the result, at most 600, and print it.")] = None,
    url: Annotated[str | None, typer.Option(metavar="URL", help="The service, in the place of what [serve] says.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file with its token, in the place of what [serve] says.")
    ] = None,
    ca: Annotated[Path | None, typer.Option(metavar="FILE", help="The certificates that the service's is checked against.")] = None,
    topic: Annotated[str | None, typer.Option(metavar="TOPIC", help="Publish it there by MQTT, at the broker of [mqtt].")] = None,
    debug: Debug = False,
) -> None:
    """Send one event to a service that runs, over HTTP or, with --topic, by MQTT; print what it answers as JSON.

    Over HTTP exit 0 means that the event is recorded; by MQTT without --wait, that the broker has it.
    With --wait the exit code is the result's, as of `agentflow run`. Exit 2: it was not accepted, or nobody knows.
    """
    from agentflow.cli.emit import Wanted
    from agentflow.cli.emit import emit as emit_event
    from agentflow.cli.events import Wish

    wish = Wish(target, data, tuple(changes or ()), tuple(meta or ()), session)
    end(emit_event(Wanted(config, wish, event_id, url, token_file, ca, topic, wait)))
