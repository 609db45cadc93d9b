"""`agentflow resume` and `runs fork`: go on with recorded runs whose process has ended, or anew from their records."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

from agentflow.cli import terminal
from agentflow.cli.conduct import Fork, Resumption, Terms
from agentflow.cli.events import parsed
from agentflow.cli.exits import Exit
from agentflow.cli.hints import Hint
from agentflow.cli.journals import Place
from agentflow.cli.progress import progress
from agentflow.cli.results import Results
from agentflow.cli.run import Stage, carry_out, journal_key, runner_of
from agentflow.cli.sources import config_file, pairs
from agentflow.cli.usage import UsageError
from agentflow.config.journal import BESIDE_THE_FILE
from agentflow.errors import IllegalTransitionError


@dataclass(frozen=True)
class Wanted:
    """What `agentflow resume` was asked to do."""

    place: Place
    run_id: str | None = None
    plan: str | None = None
    is_accepted: bool = False
    overrides: dict[str, str] = field(default_factory=dict)
    terms: Terms = field(default_factory=Terms)
    is_json: bool = False
    is_debug: bool = False


def resume(wanted: Wanted) -> int:
    """Go on with a run, or with all that are unfinished, until nothing of them goes on; return the exit code.

    Raises:
        AgentflowError: the configuration, its handlers or the journal cannot be used, or there is no such run.
    """
    results = Results("json" if wanted.is_json else "text", is_list=wanted.run_id is None)
    run_id = None if wanted.run_id is None else asyncio.run(_whole_id(wanted.place, wanted.run_id))
    code = _conducted(wanted, Resumption(run_id, wanted.plan, wanted.is_accepted), results)
    if results.is_empty and run_id is None and not code and not wanted.terms.is_quiet:
        terminal.note("nothing is unfinished")
    return code


def fork(wanted: Wanted, origin: str, at: int | None, changes: Sequence[str], plan_from: Path | None) -> int:
    """Begin a new run with the records of another one, and go on with it until nothing of it goes on; return the exit code.

    Args:
        wanted: where, and on what terms.
        origin: the other run's id, or a beginning of it.
        at: the number of its last record that counts; None takes all.
        changes: `KEY=JSON` words: keys of the state to set before the new run goes on.
        plan_from: the configuration whose plan it walks; None takes the plan that is recorded.

    Raises:
        UsageError: a change is not KEY=JSON.
        AgentflowError: as `resume`; or what was done does not fit the other plan.
    """
    keys = {key: _json(key, text) for key, text in pairs("--set", list(changes)).items()}
    file = None if plan_from is None else config_file(plan_from)
    run_id = asyncio.run(_whole_id(wanted.place, origin))
    return _conducted(wanted, Fork(run_id, at, keys, file), Results("json" if wanted.is_json else "text"))


def _json(key: str, text: str) -> object:
    try:
        return parsed(text)
    except ValueError as error:
        raise UsageError(
            f"--set {key}: the value is not JSON: {error}", hint=f"""a text has double quotes: --set '{key}="hello"'"""
        ) from None


def _conducted(wanted: Wanted, work: Resumption | Fork, results: Results) -> int:
    place = wanted.place
    with redirect_stdout(sys.stderr):
        overrides = {**wanted.overrides, **journal_key(place.journal)}
        runner = runner_of(config_file(place.config), overrides, is_quiet=wanted.terms.is_quiet, default_journal=BESIDE_THE_FILE)
        shown = progress(lambda: runner.plan, is_quiet=wanted.terms.is_quiet)
        stage = Stage(results, shown, Hint(place.config, place.journal), wanted.is_debug)
        try:
            return asyncio.run(carry_out(runner, work, wanted.terms, stage))
        except IllegalTransitionError as error:
            terminal.show_error(error)
            return Exit.FAILED


async def _whole_id(place: Place, run_id: str) -> str:
    async with place.found().opened() as (_, history):
        return (await history.find(run_id)).run_id
