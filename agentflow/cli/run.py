"""`agentflow run`: events through the main flow of a configuration."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from inspect import signature
from math import isfinite
from pathlib import Path

from agentflow import app
from agentflow.cli import terminal
from agentflow.cli.conduct import Conductor, Terms, Work
from agentflow.cli.events import Wish
from agentflow.cli.exits import Exit
from agentflow.cli.hints import Hint
from agentflow.cli.progress import Progress, progress
from agentflow.cli.results import Form, Results
from agentflow.cli.sources import config_file
from agentflow.cli.traces import trace_of
from agentflow.cli.usage import UsageError
from agentflow.config.journal import BESIDE_THE_FILE, IN_MEMORY
from agentflow.core.event import Event
from agentflow.core.result import RunResult
from agentflow.core.run_row import RunRow
from agentflow.core.run_view import RunView
from agentflow.errors import AgentflowError, EntrypointError
from agentflow.runner import Runner


@dataclass(frozen=True)
class Order:
    """What `agentflow run` was asked to do."""

    config: Path | None
    wish: Wish
    event: str | None
    overrides: dict[str, str]
    terms: Terms
    form: Form
    is_debug: bool = False
    journal: Path | None = None

    def events(self) -> Event | str:
        """Return the one event that the options describe, or the name of where events are.

        Raises:
            UsageError: options contradict each other, or cannot be used.
        """
        limit = self.terms.timeout_s
        if limit is not None and not (isfinite(limit) and limit > 0):
            raise UsageError(f"--timeout {limit:g} is no number of seconds above 0")
        if self.event is None:
            return self.wish.event()
        if not self.wish.is_empty:
            raise UsageError("--event says all about the events", hint="leave --target, --data, --set, --meta and --session out")
        return self.event


def run(order: Order) -> int:
    """Run the events and print their results; return the exit code.

    Raises:
        AgentflowError: the order, the configuration or its handlers cannot be used.
    """
    events = order.events()
    results, hint = Results(order.form), Hint(order.config, order.journal)
    with redirect_stdout(sys.stderr):  # stdout holds the results alone; what handlers print goes to stderr
        overrides = {**order.overrides, **journal_key(order.journal)}
        runner = runner_of(config_file(order.config), overrides, is_quiet=order.terms.is_quiet, default_journal=BESIDE_THE_FILE)
        shown = progress(lambda: runner.plan, is_quiet=order.terms.is_quiet)
        return asyncio.run(carry_out(runner, events, order.terms, Stage(results, shown, hint, order.is_debug)))


def journal_key(path: Path | None) -> dict[str, str]:
    """Return what `--journal` sets in the configuration."""
    return {} if path is None else {"journal.url": f"sqlite:{path.absolute()}"}


@dataclass(frozen=True)
class Stage:
    """Where what becomes of runs is shown: results on stdout, progress and what to do next on stderr."""

    results: Results
    shown: Progress
    hint: Hint
    is_debug: bool = False

    def show(self, result: RunResult, children: Sequence[RunResult] = ()) -> bool:
        """Show a result, and say whether stdout can still be written."""
        for one in (result, *children):
            self.shown.settle(one.run_id)
            if self.is_debug:
                trace(one)
        return self.results.add(result, children)

    def rest(self, view: RunView, ahead: RunRow | None, *, is_kept: bool) -> None:
        """Show a run that is paused, or waits behind one that is `ahead`, and say how it goes on, if it can."""
        self.shown.settle(view.row.run_id)
        self.results.rest(view)
        lost = f"warning: {view.row.run_id} is given up: its journal is in memory; name a file with --journal PATH"
        terminal.note(terminal.safe(self.hint.told(view, ahead) if is_kept else lost))

    def close(self) -> None:
        """Write what was kept."""
        self.shown.settle("")
        self.results.close()


async def carry_out(runner: Runner, work: Work, terms: Terms, stage: Stage) -> int:
    """Do the work with a runner that has not started; return the exit code.

    Raises:
        AgentflowError: the runner cannot start, or a recorded run cannot go on.
        OSError: stdout cannot be written.
    """
    results, shown = stage.results, stage.shown
    runner.observe(shown.observe)
    results.agents = runner.agents
    shown.begin()
    try:
        code, is_left = await Conductor(runner, terms, stage).conduct(work)
    finally:
        shown.settle("")
    results.close()
    if results.failure is not None:
        if not is_left:
            raise results.failure
        code = Exit.FAILED
    if is_left:
        terminal.leave(code)
    return code


def trace(result: RunResult) -> None:
    """Say on stderr where in the user's code each failure of a result came from."""
    failures = [*([result.error] if result.error else []), *result.errors.values()]
    for error in {id(failure.exception): failure.exception for failure in failures}.values():
        if error is not None:
            terminal.note(terminal.safe(trace_of(error)))


def runner_of(
    file: Path, overrides: dict[str, str], *, is_quiet: bool = False, default_journal: str = IN_MEMORY, is_strict: bool = False
) -> Runner:
    """Return the runner of a configuration, its handlers loaded; say its warnings on stderr. `is_strict` is that of the Finder.

    Raises:
        ConfigError: the configuration has mistakes.
        AgentflowError: its handlers cannot be loaded.
    """
    project = app.load(file, overrides=overrides)
    project.require(may_lack_modes=True)
    project.is_strict = is_strict
    if not is_quiet:
        warn(project)
    return with_handlers(project, default_journal)


def warn(project: app.Project) -> None:
    """Say the warnings of a configuration on stderr, but for the keys that only other modes use."""
    for one in project.check()[1]:
        if one.severity == "warning" and one.code != terminal.UNUSED_KEY:
            terminal.note(one.render() + "\n")


def with_handlers(project: app.Project, default_journal: str = IN_MEMORY) -> Runner:
    """Return the runner of a project; loading the handlers runs user code, which may do anything.

    Raises:
        AgentflowError: the handlers cannot be loaded.
    """
    try:
        return Runner(project, default_journal=default_journal)
    except AgentflowError as error:
        handler = _handler_named(project)
        if handler is None:
            raise
        module, name = handler
        raise EntrypointError(f"`{name}` is a handler", hint=f"name the module alone: {module}") from error
    except (Exception, SystemExit) as error:
        raise EntrypointError(
            f"the entrypoint failed: {type(error).__name__}: {error}", hint="run again with --debug for the traceback"
        ) from error


def _handler_named(project: app.Project) -> tuple[str, str] | None:
    """Return module and function of an entrypoint whose function answers as an agent does, instead of registering any."""
    module, _, name = (project.config.agent_flow.entrypoint or "").partition(":")
    if not name:
        return None
    try:
        _, function = project.finder(lambda _: None).entrypoint(f"{module}:{name}", project.draft.folder_of(("agent_flow", "entrypoint")))
        if function is None:
            return None
        needed = [one for one in signature(function).parameters.values() if one.default is one.empty]
    except (AgentflowError, TypeError, ValueError):
        return None
    positional = [one for one in needed if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return (module, name) if len(positional) in (2, 3) else None
