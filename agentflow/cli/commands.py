"""The commands and their options, as typer reads them. What a command does stands in its own module, imported when it runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentflow.cli.emit_command import emit
from agentflow.cli.history_commands import dead_letters_app, events, runs_app, stats, trace
from agentflow.cli.journal_commands import journal_app
from agentflow.cli.options import CONFIG_HELP, ConfigFile, Debug, JournalPath, Json, end
from agentflow.cli.order_commands import resume
from agentflow.cli.service_commands import doctor, drain, reload, schedules, serve, status

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(
    name="agentflow",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # rich costs more than the rest of --help together
    pretty_exceptions_enable=False,
    help="Run agents as one TOML file says.",
)
config_app = typer.Typer(no_args_is_help=True, help="Look into a configuration.")
app.add_typer(config_app, name="config")

Config = Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help=CONFIG_HELP, show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--config-set", metavar="KEY=VALUE", help="Set a key of the configuration, e.g. orchestration.mode=loop. Repeatable."),
]
Import = Annotated[bool, typer.Option("--handlers", help="Import the handlers too, which runs user code; finds registered modes.")]


class Format(StrEnum):
    """How `validate` prints."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


class Mode(StrEnum):
    """The modes `create` knows."""

    ROUTE = "route"
    COLLABORATIVE = "collaborative"
    COLLABORATE = "collaborate"
    SEQUENTIAL = "sequential"
    LOOP = "loop"
    MIXED = "mixed"


def show_version(is_wanted: bool) -> None:
    """Print the version and end the command, when that is wanted."""
    if is_wanted:
        from agentflow.cli import print_version

        print_version()
        end(0)


@app.callback()
def agentflow(
    *,
    is_version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=show_version, is_eager=True)] = False,
    debug: Debug = False,
) -> None:
    """Take the options that stand before the command; `--debug` is acted on in `main`."""


@app.command()
def run(  # noqa: PLR0913 - one parameter an option
    config: Config = None,
    *,
    target: Annotated[str | None, typer.Option(help="The agent or flow the event is for.")] = None,
    data: Annotated[
        str | None, typer.Option(metavar="JSON|@FILE", help="The event's data, a JSON object; of a file at most 16 MiB.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the data, a.b inside a; JSON, else text. Repeatable."),
    ] = None,
    meta: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Set a key of the event's metadata. Repeatable.")] = None,
    session: Annotated[str | None, typer.Option(metavar="ID", help="The event's session.")] = None,
    event: Annotated[
        str | None,
        typer.Option(metavar="FILE|-", help="Read events instead: a JSON object, or one on each line, each at most 16 MiB; - is stdin."),
    ] = None,
    is_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON; an array for several events.")] = False,
    is_jsonl: Annotated[bool, typer.Option("--jsonl", help="Print each result as JSON on one line, as soon as its turn comes.")] = False,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="Cancel what still runs after this time, and exit 5.")] = None,
    overrides: Overrides = None,
    handlers: Annotated[str | None, typer.Option(metavar="MODULE:FUNCTION", help="The entrypoint, in place of the file's.")] = None,
    journal: JournalPath = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 when a run completes only in part.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no warnings on stderr.")] = False,
    debug: Debug = False,
) -> None:
    """Run an event, or many, and print what they came to.

    The result goes to stdout, everything else to stderr. Ctrl-C once waits for open runs, twice cancels them.
    Runs are recorded in .agentflow/journal.db beside the file; `agentflow resume` goes on with what is unfinished.
    Exit codes: 0 done, 1 failed, 2 bad configuration or usage, 3 waits for approval, 4 budget used up, 5 timed out,
    130 and 143 interrupted.
    """
    from agentflow.cli.conduct import Terms
    from agentflow.cli.events import Wish
    from agentflow.cli.results import Form
    from agentflow.cli.run import Order
    from agentflow.cli.run import run as run_order

    wish = Wish(target, data, tuple(changes or ()), tuple(meta or ()), session)
    entrypoint = {} if handlers is None else {"agent_flow.entrypoint": handlers}
    terms = Terms(timeout, strict, quiet)
    form: Form = "jsonl" if is_jsonl else "json" if is_json else "text"
    end(run_order(Order(config, wish, event, {**set_keys(overrides), **entrypoint}, terms, form, debug, journal)))


@app.command()
def validate(
    configs: Annotated[list[Path] | None, typer.Argument(metavar="[CONFIG]...", help=CONFIG_HELP, show_default=False)] = None,
    *,
    form: Annotated[Format, typer.Option("--format", help="How mistakes are printed.")] = Format.TEXT,
    overrides: Overrides = None,
    handlers: Import = False,
    debug: Debug = False,
) -> None:
    """Report every mistake of a configuration at once; exit 2 when there is one."""
    from agentflow.cli.check import validate as validate_files

    end(validate_files(configs or [None], form.value, set_keys(overrides), has_handlers=handlers))


@app.command()
def explain(
    code: Annotated[str | None, typer.Argument(help="The code, e.g. AF0102. None lists all.", show_default=False)] = None,
    *,
    debug: Debug = False,
) -> None:
    """Tell what a code means and what to do."""
    from agentflow.cli.explain import explain as explain_code

    explain_code(code)


@app.command()
def schema(*, debug: Debug = False) -> None:
    """Print the JSON Schema of the configuration, for editors."""
    from agentflow.cli.explain import schema as print_schema

    print_schema()


@app.command()
def plan(
    config: Config = None, *, is_json: Json = False, overrides: Overrides = None, handlers: Import = False, debug: Debug = False
) -> None:
    """Print the compiled tree and what is sure of it before it runs: worst case, loops, joins, errors, and a checklist."""
    from agentflow.cli.plans import show_plan

    show_plan(config, set_keys(overrides), is_json=is_json, has_handlers=handlers)


@app.command()
def visualize(
    config: Config = None,
    *,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write into this file; a .md file gets a Mermaid block.")] = None,
    overrides: Overrides = None,
    handlers: Import = False,
    debug: Debug = False,
) -> None:
    """Print the plan as a Mermaid flowchart."""
    from agentflow.cli.plans import visualize as draw

    draw(config, output, set_keys(overrides), has_handlers=handlers)


@app.command()
def agents(config: Config = None, *, is_json: Json = False, overrides: Overrides = None, debug: Debug = False) -> None:
    """List the agents: what each is for, and whether the main flow reaches it."""
    from agentflow.cli.plans import show_agents

    end(show_agents(config, set_keys(overrides), is_json=is_json))


@app.command()
def workers(*, config: ConfigFile = None, journal: JournalPath = None, is_json: Json = False, debug: Debug = False) -> None:
    """List the pools of workers, with live figures from the process that runs the project, where there is one."""
    from agentflow.cli.journals import Place
    from agentflow.cli.workers import show_workers

    show_workers(Place(config, journal), is_json=is_json)


@config_app.command("show")
def config_show(
    config: Config = None,
    *,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
    is_json: Json = False,
    overrides: Overrides = None,
    debug: Debug = False,
) -> None:
    """Print every effective value."""
    from agentflow.cli.plans import show_config

    end(show_config(config, set_keys(overrides), has_origin=origin, is_json=is_json))


@app.command()
def create(  # noqa: PLR0913 - one parameter an option
    name: Annotated[str, typer.Argument(help="The project's name, and that of its folder.")],
    *,
    mode: Annotated[
        Mode | None, typer.Option("--orchestration-mode", "--mode", help="Default: what fits the lists, else sequential.")
    ] = None,
    collaborative: Annotated[str | None, typer.Option("--collaborative-agents", metavar="A,B", help="Who works side by side.")] = None,
    sequential: Annotated[str | None, typer.Option("--sequential-agents", metavar="A,B", help="Who works one after another.")] = None,
    loop_agent: Annotated[str | None, typer.Option("--loop-agent", metavar="A", help="Who works again and again.")] = None,
    max_iterations: Annotated[int, typer.Option(help="The most rounds of a loop.")] = 10,
    timeout: Annotated[float, typer.Option("--orchestration-timeout", metavar="SECONDS", help="The time for one event.")] = 60,
    failure_threshold: Annotated[float, typer.Option(help="The share that may fail, 0 to 1.")] = 0.5,
    max_concurrency: Annotated[int, typer.Option(help="How many agents work at once.")] = 5,
    has_diagram: Annotated[bool, typer.Option("--visualize", help="Write a Mermaid diagram too.")] = False,
    diagrams: Annotated[Path | None, typer.Option("--visualize-output", metavar="FOLDER", help="Where to. Default: NAME/diagrams")] = None,
    debug: Debug = False,
) -> None:
    """Make a new project that runs at once, with tests that pass."""
    from dataclasses import replace

    from agentflow.cli.create import Wanted
    from agentflow.cli.create import create as create_project

    wanted = Wanted(name, mode.value if mode else None, collaborative, sequential, loop_agent)
    blueprint = replace(
        wanted.blueprint(),
        max_iterations=max_iterations,
        timeout_s=timeout,
        failure_threshold=failure_threshold,
        max_concurrency=max_concurrency,
    )
    create_project(blueprint, diagrams, has_diagram=has_diagram)


app.command()(resume)
app.command()(serve)
app.command()(emit)
app.command()(schedules)
app.command()(reload)
app.command()(drain)
app.command()(status)
app.command()(doctor)
app.add_typer(runs_app, name="runs")
app.command()(events)
app.command()(trace)
app.command()(stats)
app.add_typer(dead_letters_app, name="dead-letters")
app.add_typer(journal_app, name="journal")


@app.command()
def version(*, debug: Debug = False) -> None:
    """Print the version."""
    show_version(True)


def set_keys(words: list[str] | None) -> dict[str, str]:
    """Return the words of `--config-set` by key."""
    from agentflow.cli.sources import pairs

    return pairs("--config-set", words)


def command() -> Any:
    """Return all commands as one that can be called with the words of a command line."""
    build: Callable[[typer.Typer], Any] = typer.main.get_command
    return build(app)
