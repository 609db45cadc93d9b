"""Runner: lifetimes. Register, start, emit, stop."""

from __future__ import annotations

import asyncio
from asyncio import get_running_loop
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from agentflow import app
from agentflow.agents.entrypoint import marked
from agentflow.agents.function import Handler
from agentflow.agents.isolation import AnyAgent
from agentflow.core.event import Event
from agentflow.core.plan import Node
from agentflow.core.records import Record
from agentflow.core.result import RunResult, StopReport
from agentflow.engine.acceptance import accepted, emitted_for, known_run
from agentflow.engine.engine import Engine
from agentflow.engine.hooks import Callback, Hook, Hooks
from agentflow.engine.intake import Bounds
from agentflow.engine.parts import Parts
from agentflow.engine.program import Program
from agentflow.engine.run import Run, RunHandle
from agentflow.engine.watchdog import Watchdog
from agentflow.engine.workers import Workers
from agentflow.errors import (
    AgentflowError,
    DuplicateEventError,
    EntrypointError,
    RegistrationError,
    RunnerStateError,
)
from agentflow.modes import RESERVED_MODES, Mode, Orchestrator
from agentflow.served import ServedRuns

Function = TypeVar("Function", bound=Callable[..., Any])


class Runner(ServedRuns):
    """Runs the events of one configuration. Made by `from_config` or `from_dict`.

    A runner is started once and stopped once, on one event loop; `async with runner:` does both.
    """

    def __init__(self, project: app.Project, *, seed: int | None = None, default_journal: str = "memory:") -> None:
        self._project = project
        self._adapters = app.adapters(project, seed)
        self._agents: dict[str, AnyAgent] = {}
        self._hooks = Hooks()
        self._observers: list[Callable[[Record], None]] = []
        self._engine: Engine | None = None
        ServedRuns.__init__(self, project, self._adapters, default_journal)
        self._stopping: asyncio.Task[StopReport] | None = None
        self._finder = project.finder(lambda text: self._adapters.log.warn("group_writable", {"detail": text}))
        self._load_handlers()

    @classmethod
    def from_config(
        cls,
        path: str | Path,
        *,
        overrides: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
        seed: int | None = None,
        default_journal: str = "memory:",
    ) -> Self:
        """Read a TOML file and load the handlers it names.

        Args:
            path: the file.
            overrides: values by dotted key, e.g. `{"orchestration.mode": "loop"}`; they win over the file and environment.
            environ: environment variables; None takes the process's.
            seed: makes the jitter of retries repeatable.
            default_journal: where runs are recorded when the configuration does not say; a relative path starts at the file.

        Raises:
            ConfigError: the file has mistakes; all of them are listed. An unknown mode is refused at `start`, since
                `register_mode` may still add it.
            EntrypointError: the entrypoint or a handler cannot be loaded.
        """
        return cls._made(path, overrides, environ, seed, default_journal)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any], *, environ: Mapping[str, str] | None = None, seed: int | None = None) -> Self:
        """As `from_config`, from a mapping of the file's shape. Relative names are looked for in the current folder.

        Raises:
            ConfigError, EntrypointError: as `from_config`.
        """
        return cls._made(config, None, environ, seed)

    @classmethod
    def _made(
        cls,
        source: str | Path | Mapping[str, Any],
        overrides: Mapping[str, object] | None,
        environ: Mapping[str, str] | None,
        seed: int | None,
        default_journal: str = "memory:",
    ) -> Self:
        project = app.load(source, overrides=overrides, environ=environ)
        project.require(may_lack_modes=True)
        return cls(project, seed=seed, default_journal=default_journal)

    # --- registration ---

    def register_agent(self, name: str, handler: Handler, *, replace: bool = False) -> None:
        """Give an agent its handler: `(event, state)` or `(event, state, ctx)`, sync or async.

        It returns a State, a mapping, an AgentResult or None. An agent without a table in the configuration gets the
        defaults. `replace` allows a second registration.

        Raises:
            RegistrationError: bad name or handler, registered twice, or the name of a flow.
            RunnerStateError: the runner has started.
        """
        self._require_not_started("register_agent")
        if type(name) is not str or not name:
            raise RegistrationError(f"an agent's name is a non-empty string, not {name!r}")
        if name in self._project.config.flows:
            raise RegistrationError(f"`{name}` is a flow in the configuration", hint="rename the agent or the flow")
        if name in self._agents and not replace:
            raise RegistrationError(f"agent `{name}` has a handler already", hint="register it once, or pass replace=True")
        self._agents[name] = self._adapters.isolation.agent(name, handler)

    def agent(self, name: str) -> Callable[[Function], Function]:
        """Register the decorated function as the handler of agent `name`.

        Raises:
            RegistrationError, RunnerStateError: as `register_agent`.
        """
        if type(name) is not str:
            raise RegistrationError(f"@runner.agent needs an agent's name, got {name!r}", hint='write @runner.agent("name")')

        def register(function: Function) -> Function:
            self.register_agent(name, function)
            return function

        return register

    def register_callback(self, hook: Hook, name: str, callback: Callback) -> None:
        """Run a callback `(args)`, sync or async, at a hook; names are unique on each hook.

        Raises:
            RegistrationError: unknown hook, empty or taken name, or a callable that does not take one argument.
        """
        self._hooks.register(hook, name, callback)

    def unregister_callback(self, hook: Hook, name: str) -> None:
        """Remove a callback.

        Raises:
            RegistrationError: there is none of that name on the hook.
        """
        self._hooks.unregister(hook, name)

    def on(self, hook: Hook, name: str | None = None) -> Callable[[Function], Function]:
        """Register the decorated function at a hook, under its own name unless another is given.

        Raises:
            RegistrationError: as `register_callback`.
        """

        def register(function: Function) -> Function:
            self.register_callback(hook, name if name is not None else function.__name__, function)
            return function

        return register

    def register_mode(self, name: str, orchestrator: Orchestrator) -> None:
        """Add a mode: a function from a flow's configuration (FlowConfig) to a plan whose calls name agents and flows.

        Raises:
            RegistrationError: bad or taken name, or no function.
            RunnerStateError: the runner has started.
        """
        self._require_not_started("register_mode")
        if type(name) is not str or not name or name in self._project.modes or name in RESERVED_MODES:
            raise RegistrationError(f"a mode cannot be named {name!r}", hint="choose a non-empty name that agentflow does not use itself")
        given: object = orchestrator  # a caller without a type checker may pass anything
        if not callable(given):
            raise RegistrationError(f"mode `{name}` is {given!r}, not a function", hint="right: def mode(flow: FlowConfig) -> Node: ...")
        self._project.modes[name] = Mode(orchestrator)

    def observe(self, observer: Callable[[Record], None]) -> None:
        """Call `observer(record)` for each record of each run from now on. It runs on the loop and should return soon."""
        self._observers.append(observer)

    # --- lifetime ---

    async def start(self) -> None:
        """Check that everything the main flow reaches has a handler, and begin to take events.

        Raises:
            ConfigError: a mode is unknown, or a registered mode's plan has mistakes.
            MissingHandlerError: agents lack a handler; all are named.
            RegistrationError: a handler with `isolation = "process"` cannot be imported by another process.
            RunnerStateError: it was started before.
        """
        if self._engine is not None:
            raise RunnerStateError("the runner was started before", hint="make a new one; a runner starts once")
        project, adapters = self._project, self._adapters
        settings = project.config.runner
        project.extra_agents = tuple(self._agents)
        program = self._program(project)
        adapters.isolation.locate(self._finder)
        self._observers += adapters.watch(project)
        journals = await self._open_journals(program, self._finder)
        bounds = Bounds(settings.queue_size, settings.queue_wait_seconds, settings.max_running, self.on_busy)
        self._gates = gates = app.gates_of(project, adapters)
        parts = Parts(
            program=program,
            agents=self._agents,
            executor=adapters.executor,
            clock=adapters.clock,
            log=adapters.log,
            hooks=self._hooks,
            emitter=self,
            observers=self._observers,
            bounds=bounds,
            grace_s=settings.cancel_grace_seconds,
            journals=journals,
            gates=gates,
            tracing=adapters.tracing,
        )
        self._engine = Engine(parts)
        self._watchdog = Watchdog(self._engine)
        self._watchdog.start()
        self._begin_counting(self._engine)
        await self._open_desk(self._engine)

    async def stop(self, timeout: float | None = None) -> StopReport:
        """Take no more events, wait `timeout` seconds for open runs (default `runner.drain_timeout_seconds`), cancel the rest.

        A second call returns what the first one reported. Never waits for a handler that does not end.
        """
        engine = self._engine
        if engine is None:
            return StopReport()
        if self._stopping is None:
            wait_s = self._project.config.runner.drain_timeout_seconds if timeout is None else timeout
            self._stopping = asyncio.get_running_loop().create_task(self._stop(engine, wait_s))
        return await asyncio.shield(self._stopping)

    async def _stop(self, engine: Engine, wait_s: float) -> StopReport:
        left = await engine.ending.drain(wait_s)
        self._watchdog.stop()
        threads = self._adapters.threads
        report = StopReport(left.cancelled, (*left.abandoned, *sorted(threads.stuck.values())), left.resumable)
        threads.close()
        await self._close_journals()
        await self._adapters.close()
        return report

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    # --- events ---

    async def emit(self, event: Event, *, wait: bool = True) -> RunHandle:
        """Accept an event and return the handle of its run at once; with `wait=False` a full queue is not waited for either.

        Raises:
            InvalidEventError, InvalidValueError: the event is not valid; the error names the path and the type.
            RoutingError: its `orchestration_override` names nothing that can run here.
            QueueFullError: the queue stayed full for `runner.queue_wait_seconds`, or is full and nobody waits.
            SessionBusyError: its session has an open run, and `on_busy` is "reject".
            RunnerStateError: the runner is not started, or is stopping.
        """
        engine = self._taking_engine()
        run = engine.accept(event)
        while not engine.admit(run):
            if not wait and not engine.intake.is_contested(run):
                raise engine.intake.fullness()
            await engine.room(run)
        known = run if run.journal is None else await accepted(engine, run)
        return RunHandle(known, engine, is_duplicate=known is not run)

    async def emit_for(self, parent: object, event: Event) -> RunHandle:
        """Accept an event on behalf of a run, which `args.runner.emit` of a callback does.

        Raises:
            as `emit`.
        """
        assert isinstance(parent, Run)  # noqa: S101 - callbacks are called for runs
        engine = self._taking_engine()
        return RunHandle(await emitted_for(parent, engine, event), engine)

    async def run(self, event: Event) -> RunResult:
        """Emit an event and wait for its result.

        Raises:
            as `emit`; a run that fails does not raise, `result.raise_for_status()` does.
        """
        engine = self._engine
        if engine is None or self._stopping is not None or get_running_loop() is not engine.loop:
            engine = self._taking_engine()  # it says what is wrong
        run = engine.accept(event)
        while not engine.admit(run):  # as in `emit`: a coroutine between would cost each event its frame
            await engine.room(run)
        if run.journal is not None:
            return await self._recorded(engine, run)
        return await run.ended()

    async def _recorded(self, engine: Engine, run: Run) -> RunResult:
        if not run.has_steps:  # nobody else waits until it is accepted
            run = await accepted(engine, run)
        try:
            return await run.ended()
        except DuplicateEventError as error:
            return await (await known_run(engine, error)).ended()

    def _taking_engine(self) -> Engine:
        if self._engine is None:
            raise RunnerStateError("the runner is not started", hint="async with runner: ..., or await runner.start()")
        if self._stopping is not None:
            raise RunnerStateError("the runner is stopped", hint="make a new one")
        if asyncio.get_running_loop() is not self._engine.loop:
            raise RunnerStateError(
                "the runner was started on another event loop", hint="asyncio.run_coroutine_threadsafe(runner.emit(event), loop)"
            )
        return self._engine

    # --- looking in ---

    @property
    def plan(self) -> Node:
        """The main flow's plan, once started.

        Raises:
            RunnerStateError: not started.
        """
        if self._engine is None:
            raise RunnerStateError("the plan is linked when the runner starts", hint="await runner.start()")
        return self._engine.program.plan

    @property
    def log(self) -> app.LazyLog:
        """Where it says what nobody else is told."""
        return self._adapters.log

    @property
    def agents(self) -> tuple[str, ...]:
        """The names of the agents that have a handler."""
        return tuple(self._agents)

    @property
    def workers(self) -> Workers:
        """The pools of workers, once started.

        Raises:
            RunnerStateError: not started.
        """
        if self._gates is None:
            raise RunnerStateError("the workers are there when the runner has started", hint="await runner.start()")
        return self._gates.workers

    # --- setting up ---

    def _require_not_started(self, verb: str) -> None:
        if self._engine is not None:
            raise RunnerStateError(f"{verb} after start", hint="register everything before the runner starts")

    def _program(self, project: app.Project) -> Program:
        return project.program(lambda reference: self._finder.function(reference, project.folder), self._agents)

    def _load_handlers(self) -> None:
        """Load the entrypoint and the handlers that agents name."""
        project = self._project
        entrypoint = project.config.agent_flow.entrypoint
        for name, agent in project.config.agents.items():
            if agent.handler is not None:
                folder = project.draft.folder_of(("agents", name, "handler"))
                self.register_agent(name, self._finder.function(agent.handler, folder))
        if entrypoint is None:
            return
        module, register = self._finder.entrypoint(entrypoint, project.draft.folder_of(("agent_flow", "entrypoint")))
        if register is not None:
            try:
                answer = register(self)
            except AgentflowError:
                raise
            except Exception as error:
                told = f"entrypoint `{entrypoint}` failed: {type(error).__name__}: {error}"
                raise EntrypointError(told, hint="it is called with the runner: def register(runner): ...") from error
            if asyncio.iscoroutine(answer):
                answer.close()
                raise EntrypointError(f"entrypoint `{entrypoint}` is async", hint="def register(runner): ... registers at once")
        for name, function in marked(module):
            known = self._agents.get(name)
            if known is None or known.function is not function:
                self.register_agent(name, function)
