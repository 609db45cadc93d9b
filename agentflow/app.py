"""The composition root: from a configuration to the parts of an engine. The one place that knows each adapter by name."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentflow.agents.entrypoint import Finder
from agentflow.agents.isolation import Isolation
from agentflow.agents.threads import Threads
from agentflow.config.diagnostics import ConfigError, Diagnostic, in_order_of
from agentflow.config.display import KeyPath, quoted
from agentflow.config.journal import JournalChoice as JournalChoice
from agentflow.config.journal import journal_of
from agentflow.config.load import Draft, read
from agentflow.config.model import AgentConfig, Config
from agentflow.config.schema_files import schema_in
from agentflow.config.source import reason_of
from agentflow.core.codec import canonical
from agentflow.core.contract import Schema
from agentflow.core.merge import Combine
from agentflow.core.plan import Condition, Node
from agentflow.core.values import Json
from agentflow.engine.gates import Gates
from agentflow.engine.program import Program
from agentflow.errors import RoutingError, StorageError, StoreError, did_you_mean
from agentflow.executors.local import LocalExecutor
from agentflow.modes import MODES, Mode
from agentflow.modes.contracts import Told
from agentflow.modes.handlers import require_handlers
from agentflow.modes.linker import Linker
from agentflow.modes.tools import Tools, unresolved
from agentflow.system import SystemClock

if TYPE_CHECKING:
    from agentflow.engine.telling import Observer
    from agentflow.logs import StructuredLog
    from agentflow.ports import Executor, Store
    from agentflow.stores.control import ControlServer
    from agentflow.telemetry.tracing import Tracing

# What a mode or an agent that is registered before the start may still cure; a near miss of a known mode is a mistake.
REGISTERED_LATER = frozenset({"AF0201", "AF0218", "AF0254", "AF0255"})
LOG_FILE = ("logging", "file")
JOURNAL_URL = ("journal", "url")


@dataclass(frozen=True)
class Linked:
    """What all flows came to, and with which modes and agents: while those stay, nobody links them again.

    `is_whole` says that the plan can run as it is: no merge function stands in it that is still to be loaded.
    """

    given: tuple[Mapping[str, Mode], tuple[str, ...]]
    plan: Node | None
    found: tuple[Diagnostic, ...]
    is_whole: bool


@dataclass
class Project:
    """A configuration that was read: its best-effort model, its mistakes, and the ways to the plans in it."""

    draft: Draft
    config: Config
    modes: dict[str, Mode] = field(default_factory=lambda: dict(MODES))
    extra_agents: tuple[str, ...] = ()
    is_strict: bool = False  # as of Finder
    again: Callable[[], Project] | None = None  # reads it once more, from where it came
    _linked: Linked | None = field(default=None, init=False, repr=False)
    _schemas: dict[Path, dict[str, Json]] = field(default_factory=dict, init=False, repr=False)

    @property
    def folder(self) -> Path:
        """The folder of the configuration's file."""
        return self.draft.folder

    def finder(self, warn: Callable[[str], None]) -> Finder:
        """Return what finds the Python that this configuration names."""
        base = self.draft.folder_of(("runner", "pythonpath"))
        return Finder([(base / folder).resolve() for folder in self.config.runner.pythonpath], warn, is_strict=self.is_strict)

    def journal(self, default: str) -> JournalChoice:
        """Return where runs are recorded; `default` is the url where the configuration says nothing of it."""
        draft = self.draft
        return journal_of(self.config.journal, default, lambda: draft.folder_of(JOURNAL_URL), draft.folder)

    def check(self) -> tuple[Node | None, list[Diagnostic]]:
        """Link every flow without importing user code; return the main plan and all that is wrong, with its place."""
        linked = self._link()
        return linked.plan, list(linked.found)

    def _link(self) -> Linked:
        given = (dict(self.modes), self._tools(unresolved).extra_agents)
        if self._linked is not None and self._linked.given == given:
            return self._linked
        references: list[str] = []

        def function(reference: str) -> Combine:
            references.append(reference)
            return unresolved(reference)

        linker = Linker(self.config, self._tools(function))
        plan = linker.main()
        linker.check_all()
        wrong = {one.place for one in self.draft.diagnostics}
        located = [one for one in self.draft.locate(linker.diagnostics) if one.place is None or one.place not in wrong]
        in_order = sorted([*self.draft.diagnostics, *located], key=in_order_of)
        self._linked = Linked(given, plan, tuple(in_order), not references)
        return self._linked

    def require(self, *, may_lack_modes: bool) -> None:
        """Refuse a configuration with mistakes; modes and agents may still be registered when `may_lack_modes`.

        Raises:
            ConfigError: with every mistake.
        """
        _, found = self.check()
        errors = [one for one in found if one.severity == "error"]
        if may_lack_modes and all(one.code in REGISTERED_LATER for one in errors) and not self._has_misspelt_mode():
            return
        if errors:
            raise ConfigError(found)

    def program(self, function: Callable[[str], Combine], handlers: Mapping[str, object]) -> Program:
        """Link the main flow for running.

        Raises:
            ConfigError: it has mistakes.
            MissingHandlerError: agents that it reaches have no handler.
        """
        self.require(may_lack_modes=False)
        linked = self._link()
        linker = Linker(self.config, self._tools(function))
        plan = linked.plan if linked.is_whole else linker.main()
        if plan is None:
            raise ConfigError(linked.found)
        subscriptions = linker.subscriptions()
        require_handlers(plan, handlers, self.config.agent_flow.entrypoint, [one.call for one in subscriptions])
        overrides: dict[str, Program] = {}

        def override(name: str) -> Program:
            if name not in overrides:
                node = self._overriding(name, Linker(self.config, self._tools(function)))
                require_handlers(node, handlers, self.config.agent_flow.entrypoint)
                overrides[name] = Program(node, configs, override)
            return overrides[name]

        configs = {name: self.config.agents.get(name, AgentConfig()).model_dump() for name in {*self.config.agents, *self.extra_agents}}
        return Program(plan, configs, override, subscriptions)

    def _overriding(self, name: str, linker: Linker) -> Node:
        """Link the flow, or the main flow in the mode, that an event asks for."""
        if name in self.config.flows:
            node = linker.alone(name)
        elif name in self.modes or name == "collaborate":
            node = linker.main(mode="collaborative" if name == "collaborate" else name)
        else:
            known = [*self.config.flows, *self.modes]
            raise RoutingError(f"orchestration_override names no flow or mode `{name}`", hint=did_you_mean(name, known))
        if node is None:
            told = "; ".join(one.message for one in linker.diagnostics if one.severity == "error")
            raise RoutingError(f"orchestration_override `{name}` cannot run here: {told}", hint="add the keys this mode needs")
        return node

    def _has_misspelt_mode(self) -> bool:
        """Say whether a mode is so near a known one, or so empty, that nobody means to register it."""
        named = {flow.mode for flow in (self.config.orchestration, *self.config.flows.values())} - set(self.modes)
        return any(not name.strip() or get_close_matches(name.lower(), self.modes, n=1, cutoff=0.8) for name in named)

    def _tools(self, function: Callable[[str], Combine]) -> Tools:
        extra = tuple(name for name in self.extra_agents if name not in self.config.agents)
        return Tools(self.modes, compile_rule, function, extra, self._schema)

    def _schema(self, told: Told, path: KeyPath) -> Schema:
        return compile_schema(schema_in(self.draft.folder_of(path), told, self._schemas) if isinstance(told, str) else told)


def load(
    source: Path | str | Mapping[str, Any],
    *,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Project:
    """Read a configuration. Mistakes are kept for `Project.check`; only a file that cannot be read at all is refused.

    Raises:
        ConfigError: nothing could be read.
    """
    draft = read(source, overrides=overrides, environ=environ)
    if draft.config is None:
        raise ConfigError(draft.diagnostics)
    return Project(draft, draft.config, again=partial(load, source, overrides=overrides, environ=environ))


def store_of(
    choice: JournalChoice,
    *,
    is_reader: bool = False,
    control: str = "",
    warn: Callable[[str], None] = lambda message: None,
) -> Store:
    """Return the store of a journal, not opened yet; its adapter is imported here.

    Args:
        choice: which journal.
        is_reader: for reading only, beside whoever writes it.
        control: where this process takes commands, for others to find.
        warn: is told what somebody should look at.

    Raises:
        StoreError: a reader asks for a journal that is in another process's memory.
    """
    if choice.path is not None:
        from agentflow.stores.sqlite import SqliteStore

        return SqliteStore(choice.path, durability=choice.durability, is_reader=is_reader, control=control, warn=warn)
    if is_reader:
        hint = 'set url = "sqlite:PATH" in [journal], or name a file with --journal PATH'
        raise StoreError("the journal is `memory:`: nothing of it outlives the process that ran", hint=hint)
    from agentflow.stores.memory import MemoryStore

    return MemoryStore()


def control_of(choice: JournalChoice, answer: Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]) -> ControlServer | None:
    """Return what takes orders for a journal, not started yet; None where it is in memory."""
    if choice.path is None:
        return None
    from agentflow.stores.control import ControlServer

    return ControlServer(choice.path, answer)


async def ask_owner(address: str, order: Mapping[str, Any]) -> dict[str, Any]:
    """Send an order to the process that has a journal, at the address that its lock names, and return the answer.

    Raises:
        OSError: nobody listens there.
        StorageError: there was no answer; whether the order was carried out is not known.
    """
    from agentflow.stores.control import ask

    return await ask(address, order)


async def ask_live(choice: JournalChoice, question: Mapping[str, Any]) -> dict[str, Any] | None:
    """Ask the process that has a journal how it stands; None where none has it, or it does not answer."""
    if choice.path is None:
        return None
    from agentflow.stores.lock import control_named_by

    address = control_named_by(Path(f"{choice.path}.lock"))
    try:
        return await ask_owner(address, question) if address else None
    except (OSError, StorageError):
        return None


@lru_cache(maxsize=1024)  # a configuration is linked more than once before it runs
def compile_rule(source: str) -> Condition:
    """Compile a condition; the CEL library is imported here, when the first one is met."""
    from agentflow.core.rules import Rule

    return Rule(source)


def compile_schema(source: Mapping[str, Json]) -> Schema:
    """Compile a JSON Schema, or raise SchemaError; the library is imported here, when the first one is met."""
    from agentflow.core.json_schema import compiled

    return compiled(canonical(source))


@dataclass
class Adapters:
    """The parts of one runner that touch the machine."""

    clock: SystemClock
    log: LazyLog
    threads: Threads
    isolation: Isolation
    executor: Executor
    tracing: Tracing | None = None

    def watch(self, project: Project) -> list[Observer]:
        """Open the log and begin to trace, where that is wanted; return what is to get each record for them.

        Raises:
            ConfigError: the log file cannot be opened, or traces are to be sent and the extra is not installed.
        """
        self.tracing = tracing_of(project, self)
        observers: list[Observer] = [self.log.opened().observe] if self.log.is_wanted else []
        if self.tracing is not None:
            self.executor = self.tracing
            observers.append(self.tracing.observe)
        return observers

    async def close(self) -> None:
        """End the processes of handlers, send what is left of the traces, and close the log."""
        await self.isolation.close()
        if self.tracing is not None:
            await self.tracing.close()
        self.log.close()


def tracing_of(project: Project, adapters: Adapters) -> Tracing | None:
    """Return what traces, where a collector is named or the program has set up OpenTelemetry; nothing of it is imported else.

    Raises:
        ConfigError: a collector is named, and the extra is not installed.
    """
    is_named = project.config.telemetry.otlp_endpoint is not None
    if not is_named and "opentelemetry.trace" not in sys.modules:
        return None
    try:
        if not is_named:
            from agentflow.telemetry.ambient import tracing
        else:
            from agentflow.telemetry.export import tracing
    except ImportError as error:
        message = f"traces cannot be sent: {error.name} is not installed"
        place = ("telemetry", "otlp_endpoint")
        raise ConfigError(project.draft.locate([Diagnostic("AF0123", message, place, help="pip install 'agentflow[otel]'")])) from None
    return tracing(project.config, adapters.executor, adapters.clock, adapters.log)


def adapters(project: Project, seed: int | None) -> Adapters:
    """Choose the adapters that a configuration asks for."""
    threads = Threads()
    return Adapters(SystemClock(seed), LazyLog(project), threads, Isolation(project.config, threads), LocalExecutor())


def gates_of(project: Project, adapters: Adapters) -> Gates:
    """Make what stands before the agents, on the running loop; the log is told when a circuit breaker changes."""
    loop = asyncio.get_running_loop()
    gates = Gates(project.config, loop, adapters.clock.monotonic_of(loop))
    gates.watchers.append(
        lambda agent, before, after: adapters.log.warn("circuit_breaker", {"agent": agent, "state": after, "before": before})
    )
    return gates


class LazyLog:
    """The log, imported and opened when the first line is written."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._log: StructuredLog | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether the configuration has a [logging] section: then each record is written too."""
        return "logging" in self._project.config.given

    def opened(self) -> StructuredLog:
        """Open the log as the configuration says; without a section only warnings are written.

        Raises:
            ConfigError: the log file cannot be opened, or is none.
        """
        if self._log is None:
            from agentflow.logs import StructuredLog

            logging = self._project.config.logging
            file = None
            if logging.file is not None:
                file = self._project.draft.folder_of(LOG_FILE) / logging.file
            try:
                self._log = StructuredLog(logging.level if self.is_wanted else "warning", logging.format, file)
            except (OSError, ValueError) as error:
                raise ConfigError(self._project.draft.locate([_no_log(file, error)])) from None
        return self._log

    def warn(self, event: str, fields: Mapping[str, object], error: BaseException | None = None) -> None:
        """Write one warning with its fields, and the traceback of `error` where given."""
        self.opened().warn(event, fields, error)

    def bind(self, fields: Mapping[str, object]) -> object:
        """Return a logger for a handler, with these fields on each of its lines."""
        return self.opened().bind(fields)

    def close(self) -> None:
        """Close the log, if it was opened."""
        if self._log is not None:
            self._log.close()


def _no_log(file: Path | None, error: OSError | ValueError) -> Diagnostic:
    """Return why there is no log, and what to do."""
    is_missing = isinstance(error, FileNotFoundError) and file is not None
    advice = f"make its folder first: mkdir -p {file.parent}" if is_missing and file else "name a file that can be appended to"
    return Diagnostic("AF0119", f"the log file {quoted(file)} cannot be written: {reason_of(error)}", LOG_FILE, help=advice)
