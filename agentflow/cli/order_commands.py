"""The commands that change recorded runs, and their options, as typer reads them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentflow.cli.history_commands import dead_letters_app, runs_app
from agentflow.cli.options import ConfigFile, Debug, JournalPath, Json, RunId, end

if TYPE_CHECKING:
    from agentflow.engine.desk import Order

StepPlace = Annotated[
    str | None,
    typer.Argument(metavar="[PLACE]", help="The step's position, or its agent. None: the only one that waits.", show_default=False),
]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who says so.", show_default=False)]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="What for.", show_default=False)]
Continue = Annotated[bool, typer.Option("--continue", help="Go on with the run here and now, unless another process does.")]


class Plan(StrEnum):
    """Under which plan a run goes on, other than its own."""

    CURRENT = "current"


def resume(  # noqa: PLR0913 - one parameter an option
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="The run's id, or a beginning of it. None: all that are unfinished.", show_default=False),
    ] = None,
    *,
    config: ConfigFile = None,
    journal: JournalPath = None,
    plan: Annotated[Plan | None, typer.Option(help="Move the run to the present plan, where that fits what it has done.")] = None,
    is_accepted: Annotated[bool, typer.Option("--accept", help="With --plan: steps that do not fit count as never done.")] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--config-set", metavar="KEY=VALUE", help="Set a key of the configuration. Repeatable.")
    ] = None,
    handlers: Annotated[str | None, typer.Option(metavar="MODULE:FUNCTION", help="The entrypoint, in place of the file's.")] = None,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="Cancel what still runs after this time, and exit 5.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 when a run completes only in part.")] = False,
    is_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no warnings on stderr.")] = False,
    debug: Debug = False,
) -> None:
    """Go on with runs whose process has ended, where they stood.

    A run that somebody has paused goes on when it is named. Exit codes: 0 completed, or nothing was unfinished; 1 failed;
    2 bad configuration or usage; 3 paused or waiting for approval; 5 timed out; 130 and 143 interrupted.
    """
    from agentflow.cli.conduct import Terms
    from agentflow.cli.journals import Place
    from agentflow.cli.resume import Wanted
    from agentflow.cli.resume import resume as resume_runs
    from agentflow.cli.sources import pairs
    from agentflow.cli.usage import UsageError

    if run is None and (plan is not None or is_accepted):
        raise UsageError("--plan and --accept are about one run", hint="name it: agentflow resume RUN --plan current")
    if is_accepted and plan is None:
        raise UsageError("--accept says nothing without --plan", hint="agentflow resume RUN --plan current --accept")
    entrypoint = {} if handlers is None else {"agent_flow.entrypoint": handlers}
    keys = {**pairs("--config-set", overrides), **entrypoint}
    terms = Terms(timeout, strict, quiet)
    end(resume_runs(Wanted(Place(config, journal), run, plan and plan.value, is_accepted, keys, terms, is_json, debug)))


@runs_app.command("pause")
def pause_run(
    run: RunId, *, reason: Reason = "", config: ConfigFile = None, journal: JournalPath = None, is_json: Json = False, debug: Debug = False
) -> None:
    """Let no further step of a run begin; those in flight finish."""
    give(_order("pause", run, told=reason), config, journal, is_json=is_json)


@runs_app.command("resume")
def resume_run(  # noqa: PLR0913 - one parameter an option
    run: RunId,
    *,
    by: By = "",
    is_continuing: Continue = False,
    config: ConfigFile = None,
    journal: JournalPath = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Lift a person's pause."""
    give(_order("resume", run, by=by), config, journal, is_continuing=is_continuing, is_json=is_json)


@runs_app.command("cancel")
def cancel_run(
    run: RunId, *, reason: Reason = "", config: ConfigFile = None, journal: JournalPath = None, is_json: Json = False, debug: Debug = False
) -> None:
    """End a run that has not ended."""
    give(_order("cancel", run, told=reason), config, journal, is_json=is_json)


@runs_app.command("approve")
def approve_step(  # noqa: PLR0913 - one parameter an option
    run: RunId,
    place: StepPlace = None,
    *,
    by: By = "",
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="What else they say.", show_default=False)] = "",
    digest: Annotated[
        str | None, typer.Option("--digest", metavar="HEX", help="What was seen; another thing that waits there now is not approved.")
    ] = None,
    is_continuing: Continue = False,
    config: ConfigFile = None,
    journal: JournalPath = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Let a step run that waits for a person; exit 1 when it was answered before."""
    order = _order("approve", run, place=place or "", by=by, told=note, digest=digest)
    give(order, config, journal, is_continuing=is_continuing, is_json=is_json)


@runs_app.command("reject")
def reject_step(  # noqa: PLR0913 - one parameter an option
    run: RunId,
    place: StepPlace = None,
    *,
    by: By = "",
    reason: Reason = "",
    is_continuing: Continue = False,
    config: ConfigFile = None,
    journal: JournalPath = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Fail a step that waits for a person; exit 1 when it was answered before."""
    give(_order("reject", run, place=place or "", by=by, told=reason), config, journal, is_continuing=is_continuing, is_json=is_json)


@runs_app.command("retry")
def retry_run(
    run: RunId,
    *,
    is_continuing: Continue = False,
    config: ConfigFile = None,
    journal: JournalPath = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Record a new run of the event of one that has ended, under the same plan."""
    give(_order("retry", run), config, journal, is_continuing=is_continuing, is_json=is_json)


@runs_app.command("fork")
def fork_run(  # noqa: PLR0913 - one parameter an option
    run: RunId,
    *,
    at: Annotated[
        int | None, typer.Option(metavar="SEQ", min=0, help="From where it stood after this record. Default: where it ended.")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=JSON", help="Set a key of the state before it goes on. Repeatable.")
    ] = None,
    plan_from: Annotated[
        Path | None,
        typer.Option(
            "--plan-from", metavar="FILE", help="Walk the plan of this configuration. Default: the recorded plan.", show_default=False
        ),
    ] = None,
    config: ConfigFile = None,
    journal: JournalPath = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Begin a new run that has done what another one had done, and go on with it; the other one stays as it is.

    One that has failed begins again at the step that failed, unless --at says where. Exit codes as of `run`.
    """
    from agentflow.cli.journals import Place
    from agentflow.cli.resume import Wanted
    from agentflow.cli.resume import fork as begin_fork

    end(begin_fork(Wanted(Place(config, journal), is_json=is_json, is_debug=debug), run, at, changes or (), plan_from))


@dead_letters_app.command("replay")
def replay_dead_letter(  # noqa: PLR0913 - one parameter an option
    run: RunId,
    *,
    is_again: Annotated[bool, typer.Option("--again", help="Also when it was replayed before.")] = False,
    is_continuing: Continue = False,
    config: ConfigFile = None,
    journal: JournalPath = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Record a new run of a dead letter's event, under the same plan."""
    give(_order("replay", run, is_again=is_again), config, journal, is_continuing=is_continuing, is_json=is_json)


def _order(verb: str, run: str, **rest: object) -> Order:
    from agentflow.engine.desk import Order

    return Order(verb, run, **rest)  # type: ignore[arg-type] # each call names the fields


def give(order: Order, config: ConfigFile, journal: JournalPath, *, is_continuing: bool = False, is_json: bool) -> None:
    """Have an order carried out, and end the command with its exit code."""
    from agentflow.cli.journals import Place
    from agentflow.cli.orders import give as give_order

    end(give_order(Place(config, journal), order, is_continuing=is_continuing, is_json=is_json))
