"""The commands of the service, and their options, as typer reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentflow.cli.options import CONFIG_HELP, ConfigFile, Debug, JournalPath, Json, end


def serve(  # noqa: PLR0913 - one parameter an option
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help=CONFIG_HELP, show_default=False)] = None,
    *,
    host: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Where to listen, in the place of [serve] host.")] = None,
    port: Annotated[
        int | None, typer.Option(metavar="PORT", help="Where to listen, in the place of [serve] port; 0 takes a free one.")
    ] = None,
    journal: JournalPath = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--config-set", metavar="KEY=VALUE", help="Set a key of the configuration. Repeatable.")
    ] = None,
    handlers: Annotated[str | None, typer.Option(metavar="MODULE:FUNCTION", help="The entrypoint, in place of the file's.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on stderr but what is wrong.")] = False,
    debug: Debug = False,
) -> None:
    """Take events over HTTP until SIGTERM, and go on with what is unfinished.

    Listens at 127.0.0.1:8080, and answers nobody without the token; where that is kept is said on stderr.
    The first signal lets open runs end and exits 0, the second ends at once. Needs the extra [server].
    """
    from agentflow.cli.sources import pairs
    from agentflow.cli.usage import UsageError

    try:
        from agentflow.cli.serve import Wanted
        from agentflow.cli.serve import serve as serve_project
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed, which the service needs", hint="pip install 'agentflow[server]'") from None

    keys = pairs("--config-set", overrides)
    for key, value in (("serve.host", host), ("serve.port", port), ("agent_flow.entrypoint", handlers)):
        if value is not None:
            keys[key] = str(value)
    end(serve_project(Wanted(config, journal, keys, quiet)))


def schedules(
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help=CONFIG_HELP, show_default=False)] = None,
    *,
    overrides: Annotated[
        list[str] | None, typer.Option("--config-set", metavar="KEY=VALUE", help="Set a key of the configuration. Repeatable.")
    ] = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the schedules, each with its next due time."""
    from agentflow.cli.service_orders import show_schedules
    from agentflow.cli.sources import pairs

    show_schedules(config, pairs("--config-set", overrides), is_json=is_json)


def reload(*, config: ConfigFile = None, journal: JournalPath = None, is_json: Json = False, debug: Debug = False) -> None:
    """Let the process that serves read its configuration again; exit 2 when that is refused, and the one from before goes on.

    New events follow the new plan. Runs that are open, and those that wait, end under the plan they were accepted with.
    """
    from agentflow.cli.journals import Place
    from agentflow.cli.service_orders import reload as reload_service

    end(reload_service(Place(config, journal), is_json=is_json))


def drain(
    *,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until the process has let go of the journal.")] = False,
    config: ConfigFile = None,
    journal: JournalPath = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Let the process that serves take no more events, finish what is open, and end; exit 1 when it still goes on.

    Open runs get drain_timeout_seconds; what has not ended by then is recorded, and the next start goes on with it.
    """
    from agentflow.cli.journals import Place
    from agentflow.cli.service_orders import drain as drain_service

    end(drain_service(Place(config, journal), is_waiting=not no_wait, is_json=is_json))


def status(*, config: ConfigFile = None, journal: JournalPath = None, is_json: Json = False, debug: Debug = False) -> None:
    """Say how the process that has the journal stands: since when, whether it is ready, what is open; without one what is recorded."""
    from agentflow.cli.journals import Place
    from agentflow.cli.status import show_status

    show_status(Place(config, journal), is_json=is_json)


def doctor(
    *,
    handlers: Annotated[bool, typer.Option("--handlers", help="Import the handlers too, which runs user code.")] = False,
    config: ConfigFile = None,
    journal: JournalPath = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what is wrong and what to do: configuration, journal, service, broker, clock, runs that do not get on; exit 1 for problems.

    It changes nothing, needs no lock, and may be called while a process has the journal.
    """
    from agentflow.cli.doctor import examine
    from agentflow.cli.journals import Place

    end(examine(Place(config, journal), has_handlers=handlers, is_json=is_json))
