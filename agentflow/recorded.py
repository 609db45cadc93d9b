"""RecordedRuns: the part of a runner that deals with its journal: to open it, to read runs back, and to go on with them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentflow import app
from agentflow.agents.entrypoint import Finder
from agentflow.core.breaker import CLOSED
from agentflow.core.merge import Combine
from agentflow.core.plan_codec import decode_plan
from agentflow.core.records import Record
from agentflow.core.run_row import RunFilter, RunRow
from agentflow.core.run_view import RunView
from agentflow.core.state import State
from agentflow.core.values import Json
from agentflow.engine.desk import AGAIN, Desk, Order, Receipt
from agentflow.engine.engine import Engine
from agentflow.engine.forking import fork
from agentflow.engine.gates import Gates
from agentflow.engine.history import History
from agentflow.engine.intake import PARALLEL
from agentflow.engine.journal import Journals
from agentflow.engine.limits import RunLimits
from agentflow.engine.metrics import METRICS, Metrics
from agentflow.engine.program import Program
from agentflow.engine.run import RunHandle
from agentflow.engine.watchdog import Watchdog
from agentflow.engine.workers import WORKERS
from agentflow.errors import AgentflowError, IllegalTransitionError, RunnerStateError, RunNotFoundError, StoreError
from agentflow.ports import Store

if TYPE_CHECKING:
    from agentflow.stores.control import ControlServer

# Whoever has the lock of a journal's file is the only one there, for as long as it lives: a lease need not end before it does.
LEASE_S = 10 * 365 * 86_400.0


class RecordedRuns(ABC):
    """What a runner does with recorded runs.

    Attributes:
        journal_url: where its runs are recorded; `memory:` when they are not, or only while it lives.
        takes_over: whether it goes on with a run that an order lets go on, or begins, and that nobody else has; a service does.
    """

    def __init__(self, project: app.Project, adapters: app.Adapters, default_journal: str) -> None:
        self._project = project
        self._adapters = adapters
        self._journal = project.journal(default_journal)
        self._store: Store | None = None
        self._history: History | None = None
        self._control: ControlServer | None = None
        self._desk: Desk | None = None
        self._gates: Gates | None = None
        self._metrics: Metrics | None = None
        self._unfinished: list[RunRow] = []  # the runs that had a session when the journal was opened
        self._watchdog: Watchdog
        self._function: Callable[[str], Combine]  # finds a merge function
        self.journal_url = self._journal.url
        self.takes_over = False

    @abstractmethod
    def _taking_engine(self) -> Engine:
        """Return the engine, while it takes events."""

    async def _open_journals(self, program: Program, finder: Finder) -> Journals | None:
        """Open the store, unless nothing is to be kept; a plan that waits for people needs one, if only in memory."""
        choice, told = self._journal, self._project.config.journal
        is_asked_for = choice.path is not None or (told.url is not None and told.durability is None)
        if not is_asked_for and not program.has_approvals:
            return None
        log, folder, clock = self._adapters.log, self._project.folder, self._adapters.clock
        self._control = control = app.control_of(choice, self._answer)
        address = "" if control is None else control.address
        warn: Callable[[str], None] = lambda text: log.warn("journal", {"detail": text}) if log.is_wanted else None  # noqa: E731
        self._store = store = app.store_of(choice, control=address, warn=warn)
        try:
            await store.open()
            self._function = lambda name: finder.function(name, folder)
            self._history = History(store, app.compile_rule, self._function, app.compile_schema)
            self._unfinished = await self._history.holders()
        except BaseException:
            await self._close_journals()
            raise
        owner, limits = clock.fresh_id(), self._project.config.limits
        await store.renew(owner, LEASE_S)
        return Journals(
            store,
            clock,
            asyncio.get_running_loop(),
            owner,
            lambda plan_hash, body: decode_plan(plan_hash, body, app.compile_rule, self._function, app.compile_schema),
            choice.snapshot_every,
            limits=RunLimits(limits.max_records, limits.max_run_bytes),
        )

    async def _open_desk(self, engine: Engine) -> None:
        """Let recorded runs have their sessions, and take orders from other processes, while the journal is a file.

        Without a socket the runs go on all the same.
        """
        for row in self._unfinished:  # before anything is awaited, and so before any event is accepted
            engine.intake.keep_place(row.session_id or "", row.run_id)
        self._unfinished.clear()
        if self._store is None or self._history is None:
            return
        self._desk = desk = Desk(self._store, self._history, self._adapters.clock, engine)
        engine.busy.cancel = lambda run_id, reason: desk.carry_out(Order("cancel", run_id, told=reason))
        if self._control is None:
            return
        try:
            await self._control.start()
        except StoreError as error:
            self._adapters.log.warn("control", {"detail": str(error)})

    async def _answer(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        desk, gates, metrics = self._desk, self._gates, self._metrics
        assert desk is not None and gates is not None and metrics is not None  # noqa: S101, PT018 - there before anybody is listened to
        if order.get("verb") == WORKERS:
            return gates.workers.figures()
        if order.get("verb") == METRICS:
            return metrics.present()
        answer = await desk.answer(order)
        if "error" not in answer:
            await self._follow(str(order.get("verb")), str(answer["run_id"]), is_live=answer["is_live"] is True)
        return answer

    async def order(self, order: Order) -> Receipt:
        """Carry out what somebody asks of a run; durable when it returns.

        Raises:
            AgentflowError: as `Desk.carry_out`; RunnerStateError where nothing is recorded.
        """
        if self._desk is None:
            raise RunnerStateError("nothing is recorded here", hint='add [journal] with url = "sqlite:PATH", and start the runner')
        receipt = await self._desk.carry_out(order)
        await self._follow(order.verb, receipt.run_id, is_live=receipt.is_live)
        return receipt

    async def _follow(self, verb: str, run_id: str, *, is_live: bool) -> None:
        """Go on with a run after an order, where nobody has it; one that cannot go on stays as it is recorded."""
        if self.takes_over and not is_live and verb in (*AGAIN, "resume", "approve", "reject"):
            with suppress(AgentflowError):
                await self.resume(run_id)

    def _begin_counting(self, engine: Engine) -> None:
        """Make the metrics, and count from now on unless that is to wait until somebody asks."""
        self._metrics = metrics = Metrics(engine)
        metrics.sources.append(self._figures)
        wanted = self._project.config.telemetry.metrics
        if wanted or (wanted is None and engine.journals is not None):
            metrics.begin()

    def _figures(self) -> dict[str, Json]:
        """Return what the metrics tell of the parts that the engine does not know."""
        assert self._gates is not None  # noqa: S101 - they are made before anything is counted
        gates: dict[str, Any] = self._gates.status()
        return {
            "open_breakers": [name for name, gate in gates.items() if gate["breaker"] and gate["breaker"]["state"] != CLOSED],
            "gates": gates,
            "workers": [pool.figures() for pool in self._gates.workers.pools.values()],
            "abandoned_threads": [*sorted(self._adapters.threads.stuck.values())],
            "loop": self._watchdog.to_dict(),
        }

    async def _close_journals(self) -> None:
        if self._control is not None:
            await self._control.close()
        if self._store is not None:
            await self._store.close()

    # --- going on ---

    async def resume(self, run_id: str | None = None, *, plan: str | None = None, accept: bool = False) -> list[RunHandle]:
        """Go on with recorded runs whose owner has died or stopped, and return their handles; all of them when no run is named.

        A run that somebody has paused goes on only when it is named; one that waits for people goes on waiting.

        Args:
            run_id: the run; None for all that are unfinished.
            plan: None goes on under the plan that is recorded for the run, "current" moves the named run to the present one.
            accept: with `plan`: count the steps that do not fit the present plan as never done.

        Raises:
            RunNotFoundError: no run has this id.
            IllegalTransitionError: it has ended, or another owner goes on with it, or it waits for people only.
            PlanMismatchError: it does not fit the present plan.
            RunnerStateError: nothing is recorded here, or the runner is not started.
            StoreError: the journal cannot be read or written.
        """
        engine, journals = self._recording()
        if plan not in (None, "current"):
            raise RunnerStateError(f"resume cannot move a run to plan {plan!r}", hint='plan="current" is the one there is')
        if run_id is not None and run_id in {run.run_id for run in engine.runs}:
            run = await engine.recovery.known(run_id)
            await engine.control.resume(run, "resume")
            return [RunHandle(run, engine)]
        rows = await journals.store.take(journals.owner, lease_s=LEASE_S, run_ids=None if run_id is None else [run_id])
        if run_id is not None and not rows:
            rows = [await self._laid_aside(journals, run_id)]
        if plan is not None:
            rows = [await engine.recovery.move(row, is_accepted=accept) for row in rows]
        runs = engine.recovery.take_over(rows)
        if run_id is not None:
            for run in runs:
                await engine.recovery.until_read(run)
                if run.is_paused:
                    await engine.control.resume(run, "resume")
        return [RunHandle(run, engine) for run in runs]

    async def handle(self, run_id: str) -> RunHandle:
        """Return the handle of a run: of one that goes on here, or of one that is only recorded.

        Raises:
            RunNotFoundError: no run has this id.
            RunnerStateError: nothing is recorded here, or the runner is not started.
            JournalDamagedError, StoreError: its journal cannot be read.
        """
        engine, _ = self._recording()
        return RunHandle(await engine.recovery.known(run_id), engine)

    async def fork(
        self,
        run_id: str,
        *,
        at: int | None = None,
        set: Mapping[str, Any] | None = None,  # noqa: A002 - what the command line calls it, too
        config: str | Path | None = None,
    ) -> RunHandle:
        """Begin a new run that has done what another one had done after its record number `at`, and goes on from there.

        Args:
            run_id: the run to start from; it is not changed.
            at: a record's number; None takes all, but for how the run ended: one that has failed begins again at the step that failed.
            set: keys of the state to change before the new run goes on.
            config: a file whose plan the new run walks; None takes the plan that is recorded.

        Raises:
            RunNotFoundError: there is no such run or record.
            PlanMismatchError: what was done does not fit the plan of `config`.
            ConfigError, MissingHandlerError: `config` cannot be run here.
            InvalidValueError: a value of `set` is not JSON.
            RunnerStateError: nothing is recorded here, or the runner is not started.
        """
        engine, _ = self._recording()
        program = None
        if config is not None:
            project = app.load(config)
            project.require(may_lack_modes=False)
            program = project.program(
                lambda name: (_ for _ in ()).throw(RunnerStateError(f"{name} is not loaded for a fork")), engine.agents
            )
        recorded = await self._read_back().recorded(run_id, at)
        changes = State(dict(set)) if set else None
        return RunHandle(await fork(engine, recorded, program, changes, is_again=at is None), engine)

    async def _laid_aside(self, journals: Journals, run_id: str) -> RunRow:
        """Return the row of a run that could not be taken: this runner has it, and does not go on with it.

        Raises:
            RunNotFoundError: there is none.
            IllegalTransitionError: it has ended, or another owner goes on with it.
        """
        row = await journals.store.row(run_id)
        if row is None:
            raise RunNotFoundError(run_id, where=journals.store.url)
        if not row.is_open or row.owner != journals.owner:
            raise IllegalTransitionError(run_id, row.state, "resume", "another owner goes on with it" if row.is_open else "")
        return row

    # --- looking in ---

    @property
    def project(self) -> app.Project:
        """The configuration."""
        return self._project

    @property
    def durability(self) -> str | None:
        """What an accepted event survives: full, relaxed or none; None where nothing is recorded, or before the start."""
        return None if self._store is None else self._store.durability

    @property
    def on_busy(self) -> str:
        """What an event does whose session has an open run: "queue", "reject", "interrupt" or "parallel"."""
        return self._project.config.orchestration.on_busy

    def metrics(self, *, is_present: bool = False) -> dict[str, Any]:
        """Return what was counted since `since`, and what is open now, as plain JSON; also after the runner has stopped.

        `is_present` leaves out what was counted. Without a journal and without `[telemetry] metrics = true` counting begins
        with the first call that does not. Times are in seconds.

        Raises:
            RunnerStateError: not started.
        """
        if self._metrics is None:
            raise RunnerStateError("the metrics are there when the runner has started", hint="await runner.start()")
        if not is_present:
            self._metrics.begin()
        return self._metrics.present() if is_present else self._metrics.snapshot()

    # --- reading back ---

    async def runs(  # noqa: PLR0913 - one parameter a question
        self,
        *,
        state: str | None = None,
        status: str | None = None,
        pattern: str | None = None,
        session: str | None = None,
        since: float | None = None,
        root: str | None = None,
        children: bool = False,
        flag: str | None = None,
        beyond: str | None = None,
        limit: int | None = None,
    ) -> list[RunRow]:
        """Return the recorded runs that fit, the newest first; what is None is not asked about.

        One whose row is damaged has the flag `corrupt`, and what could be read of it.

        Args:
            state: pending, running, paused, recovering, completed, failed or cancelled.
            status: completed, partial, failed, timed_out or cancelled.
            pattern: the mode of the main flow.
            session: the session's id.
            since: began at this time or later, in seconds since the epoch.
            root: those that belong to this run, e.g. the steps of a workflow.
            children: also runs that belong to another one; without it, and without `root`, they are left out.
            flag: e.g. "dead_lettered" or "corrupt".
            beyond: those that were accepted before this run.
            limit: at most so many.

        Raises:
            RunnerStateError: nothing is recorded here.
        """
        told = {"state": state, "status": status, "pattern": pattern, "session_id": session, "since": since, "root_id": root}
        is_top = None if children or root is not None else True
        return await self._read_back().runs(RunFilter(**told, is_top=is_top, flag=flag, beyond=beyond, limit=limit))  # type: ignore[arg-type] # by name

    async def blocked(self) -> dict[str, RunRow]:
        """Return the recorded runs that wait behind another one of their session, by id, each with the one whose turn it is.

        Raises:
            RunnerStateError: nothing is recorded here.
        """
        return {} if self.on_busy == PARALLEL else await self._read_back().blocked()

    async def get(self, run_id: str, *, at: int | None = None) -> RunView:
        """Return a run as it stands, or as it stood after its record number `at`: row, state, outputs, steps, usage.

        Raises:
            RunNotFoundError: there is no such run or record.
            JournalDamagedError, StoreDamagedError: its journal cannot be read.
            RunnerStateError: nothing is recorded here.
        """
        return await self._read_back().view(run_id, at)

    async def events(self, run_id: str, start: int = 0) -> list[Record]:
        """Return a run's records from number `start` on, in order.

        Raises:
            as `get`.
        """
        return await self._read_back().events(run_id, start)

    async def row(self, run_id: str) -> RunRow:
        """Return the row of the run that has exactly this id, as `runs` lists it.

        Raises:
            RunNotFoundError: there is none.
        """
        return await self._read_back().row(run_id)

    async def diagram(self, run_id: str) -> str:
        """Return the plan that a run walks as a Mermaid flowchart, its steps coloured by how they stand.

        Raises:
            as `get`.
        """
        return await self._read_back().diagram(run_id)

    def _recording(self) -> tuple[Engine, Journals]:
        engine = self._taking_engine()
        if engine.journals is None:
            raise RunnerStateError("nothing is recorded here", hint='add [journal] with url = "sqlite:PATH"')
        return engine, engine.journals

    def _read_back(self) -> History:
        if self._history is None:
            raise RunnerStateError("nothing is recorded here", hint='add [journal] with url = "sqlite:PATH", and start the runner')
        return self._history
