"""ServedRuns: the part of a runner that a service needs: another configuration while it runs, orders to the process, leases."""

from __future__ import annotations

import asyncio
import os
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

from agentflow import app
from agentflow.agents.isolation import AnyAgent
from agentflow.config.diagnostics import ConfigError, Diagnostic
from agentflow.config.model import AgentConfig, Config
from agentflow.config.section import Section
from agentflow.core.event import Event
from agentflow.core.plan_codec import encode_plan, hash_of
from agentflow.core.result import StopReport
from agentflow.core.values import Json
from agentflow.engine.cache import Cache
from agentflow.engine.engine import Engine
from agentflow.engine.health import STATUS, Health, Probe, health_of
from agentflow.engine.limits import RunLimits
from agentflow.engine.program import Program
from agentflow.engine.refusing import record_refusal
from agentflow.errors import AgentflowError, RunnerStateError
from agentflow.ports import Feed
from agentflow.recorded import RecordedRuns

RELOAD, DRAIN = "reload", "drain"  # orders to the process, as another one sends them
# What a new configuration may change. Everything else was given to parts that live as long as the process.
_CHANGING = frozenset({"agent_flow", "orchestration", "flows", "agents", "limits", "error_routing", "schedules"})
_LASTING_OF_AGENTS = ("handler", "isolation", "rate_limit", "circuit_breaker", "queue_timeout_seconds")

Answer: TypeAlias = Callable[[], Awaitable[Mapping[str, Json]]]


class ReloadError(AgentflowError):
    """A configuration is valid, and yet cannot take over while the process runs; `keys` are those that would have to stay."""

    code = "AF0850"

    def __init__(self, message: str, *, keys: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.keys = keys


@dataclass(frozen=True, slots=True)
class ReloadReport:
    """What a reload came to.

    Attributes:
        plan_before, plan: the hash of the main flow's plan.
        changed: the sections that differ from before, in the order of the configuration.
        open_runs: how many runs go on under the plan that each was accepted with.
        warnings: what the new configuration is warned of.
    """

    plan_before: str
    plan: str
    changed: tuple[str, ...]
    open_runs: int
    warnings: tuple[Diagnostic, ...] = ()

    def to_dict(self) -> dict[str, Json]:
        """Return the report as JSON."""
        warnings: list[Json] = [dict(one.to_dict()) for one in self.warnings]
        told: dict[str, Json] = {"plan_before": self.plan_before, "plan": self.plan, "changed": [*self.changed]}
        return {**told, "open_runs": self.open_runs, "warnings": warnings}


class ServedRuns(RecordedRuns):
    """What a runner does for a service.

    Attributes:
        answers: by order to the process, e.g. `reload`, what carries it out; whoever serves may put another in its place.
        on_reload: each is called when another configuration has taken over.
        fault: tells why no events are taken now, "" when they are; whoever serves may put another in its place.
    """

    _engine: Engine | None
    _agents: dict[str, AnyAgent]

    def __init__(self, project: app.Project, adapters: app.Adapters, default_journal: str) -> None:
        super().__init__(project, adapters, default_journal)
        self.answers: dict[str, Answer] = {RELOAD: self._reload_again, DRAIN: self._drain, STATUS: self.status}
        self.on_reload: list[Callable[[], None]] = []
        self.fault: Callable[[], str] = lambda: "" if self._is_taking() else "stopping"
        self._since = 0.0  # when it began to take events, in seconds since the epoch
        self._probe: Probe | None = None
        self._first = project.config
        self._reloading = asyncio.Lock()
        self._draining: asyncio.Task[StopReport] | None = None

    @abstractmethod
    def _program(self, project: app.Project) -> Program:
        """Link a configuration with the handlers and modes that are registered."""

    @abstractmethod
    async def stop(self, timeout: float | None = None) -> StopReport:  # noqa: ASYNC109 - a public name, and a deadline there is data
        """Take no more events, let open runs end, and let go of everything."""

    @property
    def open_runs(self) -> int:
        """How many runs have not ended, paused ones included."""
        return 0 if self._engine is None else len(self._engine.runs)

    async def _open_desk(self, engine: Engine) -> None:
        self._since = self._adapters.clock.time()
        if engine.journals is not None:
            self._probe = Probe(engine.journals.store, engine.journals.owner)
        await super()._open_desk(engine)

    def _is_taking(self) -> bool:
        try:
            return not self._taking_engine().intake.is_closed
        except RunnerStateError:
            return False

    # --- how it stands ---

    async def health(self) -> Health:
        """Return whether it can do its work; the journal is asked by a write to it, at most once a second.

        Raises:
            RunnerStateError: not started.
        """
        present = self.metrics(is_present=True)
        stores = () if self._probe is None else (await self._probe.health(),)
        return health_of(present, stores, is_taking=self._is_taking())

    async def status(self) -> dict[str, Json]:
        """Return how the process stands, as JSON for whoever looks after it.

        Raises:
            RunnerStateError: not started.
        """
        health = await self.health()
        present: dict[str, Any] = self.metrics(is_present=True)
        engine, fault = self._engine, self.fault()
        assert engine is not None  # noqa: S101 - else there were no metrics
        return {
            "pid": os.getpid(),
            "since": self._since,
            "version": version("agentflow"),
            "journal": self.journal_url,
            "durability": self.durability,
            "owner": "" if engine.journals is None else engine.journals.owner,
            "is_ready": not fault,
            "fault": fault,
            "runs": present["runs"],
            "queue_depth": present["queue_depth"],
            "sessions": engine.intake.sessions,
            "breakers": [{"agent": name, **present["gates"][name]["breaker"]} for name in present["open_breakers"]],
            "workers": present["workers"],
            "warnings": present["warnings"],
            "health": health.to_dict(),
        }

    @property
    def feed(self) -> Feed:
        """Tells of all that is recorded, as it is recorded.

        Raises:
            RunnerStateError: nothing is recorded here, or the runner is not started.
        """
        return self._recording()[1].store

    # --- another configuration ---

    async def reload(self, source: app.Project | str | Path | None = None) -> ReloadReport:
        """Let a configuration take over for the events that are accepted from now on; it does so as a whole or not at all.

        Runs that are open, and those that wait, go on under the plan with which they were accepted. Handlers and modes stay
        those that were registered before the start.

        Args:
            source: a file, or a configuration that was read; None reads again what the runner was made from.

        Raises:
            ConfigError: it has mistakes.
            MissingHandlerError: it reaches agents that have no handler; all are named.
            ReloadError: it changes what cannot change while the process runs; every key is named.
            EntrypointError: a merge function that it names cannot be loaded.
            RunnerStateError: the runner is not started, or is stopping.
        """
        async with self._reloading:
            self._taking_engine()
            project = await asyncio.to_thread(self._read, source)  # it may be large: the runs that go on do not wait for it
            program = self._program(project)
            self._require_fit(project, program)
            return self._take_over(project, program)

    def _read(self, source: app.Project | str | Path | None) -> app.Project:
        project = source
        if project is None:
            if self._project.again is None:
                raise RunnerStateError("nothing says where the configuration comes from", hint="runner.reload(path)")
            project = self._project.again()
        elif not isinstance(project, app.Project):
            project = app.load(project)
        project.modes.update(self._project.modes)
        project.extra_agents = tuple(self._agents)
        project.require(may_lack_modes=False)
        return project

    def _require_fit(self, project: app.Project, program: Program) -> None:
        """Refuse a configuration that asks for other parts than the process has.

        Raises:
            ReloadError: it does.
        """
        keys = _lasting_keys(self._first, project.config)
        if program.has_approvals and (self._engine is None or self._engine.journals is None):
            keys.append("agents.*.requires_approval")
        if project.folder.absolute() != self._project.folder.absolute():
            told = f"{project.folder} is another folder than {self._project.folder}: journal and handlers are beside the file"
            raise ReloadError(told, hint="start another process with it")
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            told = f"{keys[0]}{more} cannot change while the process runs"
            raise ReloadError(told, keys=tuple(keys), hint=f"restart it, or take these changes back: {', '.join(keys)}")

    def _take_over(self, project: app.Project, program: Program) -> ReloadReport:
        """Put a configuration in the place of the present one; nothing is awaited here, so no event sees half of it."""
        engine = self._taking_engine()  # it may have begun to stop meanwhile
        before, plan = engine.program.plan, program.plan
        old, new = self._project.config, project.config
        changed = tuple(name for name in type(new).model_fields if getattr(old, name) != getattr(new, name))
        self._project = project
        engine.program = program
        engine.cache = Cache(engine.monotonic)  # what it knows was answered under other instructions
        if engine.journals is not None:
            engine.journals.forget_plans()
            engine.journals.limits = RunLimits(new.limits.max_records, new.limits.max_run_bytes)
        warnings = tuple(one for one in project.check()[1] if one.severity == "warning")
        report = ReloadReport(hash_of(encode_plan(before)), hash_of(encode_plan(plan)), changed, len(engine.runs), warnings)
        for listener in self.on_reload:
            listener()
        return report

    # --- orders to the process ---

    async def _answer(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        answer = self.answers.get(str(order.get("verb")))
        if answer is None:
            return await super()._answer(order)
        try:
            return {"pid": os.getpid(), **await answer()}
        except AgentflowError as error:
            rows: list[Json] = [dict(one.to_dict()) for one in error.diagnostics] if isinstance(error, ConfigError) else []
            return {"error": {"code": error.code, "message": error.message, "hint": error.hint, "diagnostics": rows}}

    async def _reload_again(self) -> Mapping[str, Json]:
        return (await self.reload()).to_dict()

    async def _drain(self) -> Mapping[str, Json]:
        """Begin to stop; once nothing is open the journal is free, and the process may do what it likes."""
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self.stop())
        return {"open_runs": self.open_runs, "drain_timeout_seconds": self._project.config.runner.drain_timeout_seconds}

    # --- leases ---

    async def hold(self, name: str, lease_s: float) -> bool:
        """Hold a named lease for `lease_s` seconds, or prolong it; False while another process that lives has it.

        Raises:
            RunnerStateError: nothing is recorded here, or the runner is not started.
            StoreError: the journal cannot be written.
        """
        _, journals = self._recording()
        return await journals.store.hold(name, journals.owner, lease_s) is not None

    # --- what is no event ---

    async def refuse(self, event: Event, error: Exception) -> str:
        """Record an event that will not be run, with the reason, as a dead letter; durable when it returns. Return the run's id.

        Raises:
            RunnerStateError: nothing is recorded here, or the runner is not started.
            StoreError: the journal cannot be written.
        """
        return await record_refusal(*self._recording(), event, error)


def _lasting_keys(first: Config, new: Config) -> list[str]:
    """Return the keys that a configuration changes although they last as long as the process; `first` is that of its start."""
    keys: list[str] = []
    for name in type(new).model_fields:
        if name not in _CHANGING:
            keys += _differing(name, getattr(first, name), getattr(new, name))
    keys += _differing("agent_flow.entrypoint", first.agent_flow.entrypoint, new.agent_flow.entrypoint)
    keys += _differing("orchestration.on_busy", first.orchestration.on_busy, new.orchestration.on_busy)
    for name, table in new.agents.items():
        before = first.agents.get(name, AgentConfig())
        keys += [f"agents.{name}.{key}" for key in _LASTING_OF_AGENTS if getattr(before, key) != getattr(table, key)]
    return keys


def _differing(path: str, before: object, after: object) -> list[str]:
    """Return the keys below a path whose values differ, or the path itself where there are none on both sides."""
    if before == after:
        return []
    if isinstance(before, Section) and type(after) is type(before):
        below = [_differing(f"{path}.{key}", getattr(before, key), getattr(after, key)) for key in type(before).model_fields]
        return [key for keys in below for key in keys]
    return [path]
