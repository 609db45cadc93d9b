"""`agentflow run`: events through the main flow of a configuration."""

from __future__ import annotations

import asyncio
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from inspect import signature
from math import isfinite
from pathlib import Path

from agentflow import app
from agentflow.cli import terminal
from agentflow.cli.conduct import Conductor, Terms
from agentflow.cli.events import Wish
from agentflow.cli.exits import Exit
from agentflow.cli.progress import Progress, progress
from agentflow.cli.results import Form, Results
from agentflow.cli.sources import config_file
from agentflow.cli.traces import trace_of
from agentflow.cli.usage import UsageError
from agentflow.core.event import Event
from agentflow.core.result import RunResult
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
    results = Results(order.form)
    with redirect_stdout(sys.stderr):  # stdout holds the results alone; what handlers print goes to stderr
        runner = runner_of(config_file(order.config), order.overrides, is_quiet=order.terms.is_quiet)
        shown = progress(lambda: runner.plan, is_quiet=order.terms.is_quiet)
        runner.observe(shown.observe)
        results.agents = runner.agents
        return asyncio.run(_run(runner, order, events, results, shown))


async def _run(runner: Runner, order: Order, events: Event | str, results: Results, shown: Progress) -> int:
    def show(result: RunResult) -> bool:
        shown.settle(result.run_id)
        if order.is_debug:
            trace(result)
        return results.add(result)

    def close() -> None:
        shown.settle("")
        results.close()

    shown.begin()
    try:
        code, is_left = await Conductor(runner, order.terms, show, close).conduct(events)
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


def runner_of(file: Path, overrides: dict[str, str], *, is_quiet: bool = False) -> Runner:
    """Return the runner of a configuration, its handlers loaded; say its warnings on stderr.

    Raises:
        ConfigError: the configuration has mistakes.
        AgentflowError: its handlers cannot be loaded.
    """
    project = app.load(file, overrides=overrides)
    project.require(may_lack_modes=True)
    if not is_quiet:
        warn(project)
    return with_handlers(project)


def warn(project: app.Project) -> None:
    """Say the warnings of a configuration on stderr, but for the keys that only other modes use."""
    for one in project.check()[1]:
        if one.severity == "warning" and one.code != terminal.UNUSED_KEY:
            terminal.note(one.render() + "\n")


def with_handlers(project: app.Project) -> Runner:
    """Return the runner of a project; loading the handlers runs user code, which may do anything.

    Raises:
        AgentflowError: the handlers cannot be loaded.
    """
    try:
        return Runner(project)
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
