"""Session: one running of a workflow's function: its host, its bounds, its phases, and how a step is run in it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from agentflow.core.records import BudgetExhausted
from agentflow.errors import AgentflowError, BudgetExceededError, InvalidValueError, RunnerStateError, StaleIdentityError, WorkflowError
from agentflow.workflow.allowance import Allowance
from agentflow.workflow.host import Host, Settings, Told
from agentflow.workflow.milestones import Milestones, WorkflowEvent
from agentflow.workflow.phase import present_phase
from agentflow.workflow.specs import AgentStepSpec, StepOutcome
from agentflow.workflow.steps import AgentExecutor, Job, StepEvents, outcome_of, step_job

Value = TypeVar("Value")
MOST_CHARS = 100  # of the name of a phase, loop or pipeline
_INSIDE: ContextVar[frozenset[int]] = ContextVar("agentflow_workflow_inside", default=frozenset())


class Session:
    """What the verbs of one workflow share.

    Args:
        executor: runs the steps.
        settings: where and how they are recorded.
        most_at_once: how many of them run at once.
        listener: gets what executors emit.
    """

    def __init__(self, executor: AgentExecutor, settings: Settings, most_at_once: int, listener: StepEvents | None) -> None:
        self.root_id = settings.root_id
        self.milestones = Milestones()
        self.allowance = Allowance(settings.root_id, settings.budget, self._tell_of_budget)
        self.failed: set[str] = set()
        self._executor = _Guarded(executor, self)
        self._settings = settings
        self._listener = listener
        self._places = asyncio.Semaphore(most_at_once)
        self._host: Host | None = None
        self._opening = asyncio.Lock()
        self._is_closed = False
        self._counts: Counter[str] = Counter()
        self._phases: set[str] = set()
        self._told: list[tuple[str, WorkflowEvent]] = []  # before it was open

    # --- lifetime ---

    async def host(self) -> Host:
        """Return the host; it is opened on first use.

        Raises:
            RunnerStateError: the workflow is closed.
            StoreError, IllegalTransitionError: see `Host.open`.
        """
        async with self._opening:
            if self._is_closed:
                raise RunnerStateError(f"workflow {self.root_id} is closed", hint="make a new one with resume=True")
            if self._host is None:
                host = Host(self._settings, self.allowance)
                await host.open()
                self._host = host
                for key, event in self._told:
                    host.root.note(key, event)
                self.allowance.look()
            return self._host

    async def close(self, status: str | None) -> None:
        """Let go of the journal, once; see `Host.close`. What ends is recorded, even when nothing was run."""
        if status is not None and not self._is_closed:
            await self.host()
        async with self._opening:
            is_closed, self._is_closed = self._is_closed, True
            try:
                if self._host is not None and not is_closed:
                    await self._host.close(status)
            finally:
                self.milestones.close()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Host]:
        """Hold the host for as long as a verb needs it."""
        host = await self.host()
        await host.begin_work()
        try:
            yield host
            await host.root.written()
        finally:
            await host.end_work()

    # --- milestones ---

    def tell(self, key: str, event: WorkflowEvent) -> None:
        """Tell the subscribers of something, and record it."""
        if self._is_closed:
            raise RunnerStateError(f"workflow {self.root_id} is closed", hint="make a new one with resume=True")
        if self._host is None:
            self._told.append((key, event))
        else:
            self._host.root.note(key, event)
        self.milestones.tell(event)

    def _tell_of_budget(self, key: str, event: WorkflowEvent, fact: BudgetExhausted | None) -> None:
        """Tell how the budget stands; in the words in which it is recorded, if it was told before this process began."""
        if self._is_closed or self._host is None:
            return  # what is told at the end is told by whoever resumes it
        known = self._host.root.recorded(key)
        if known is None and fact is not None:
            self._host.root.note_fact(fact)
        self.tell(key, known or event)

    def count(self, kind: str) -> int:
        """Return how many of a kind there were before in this session, and count one more."""
        self._counts[kind] += 1
        return self._counts[kind] - 1

    def enter_phase(self, path: str) -> int:
        """Note that a phase begins, and return its number.

        Raises:
            WorkflowError: there was one of that name.
        """
        if path in self._phases:
            raise WorkflowError(f"phase `{path}` was there before", hint='give it a key of its own: workflow.phase("name", key="...")')
        self._phases.add(path)
        return self.count("phase")

    @property
    def prefix(self) -> str:
        """What the ids of steps begin with where the caller stands."""
        phase = present_phase(self)
        return f"{phase.path}/" if phase is not None else ""

    def scope(self, verb: str, name: str | None) -> str:
        """Return what the ids of one verb's steps begin with: its name, else its number among its like where it stands."""
        prefix = self.prefix
        if name is None:
            return f"{prefix}{verb}-{self.count(prefix + verb) + 1}"
        check_name(verb, name)
        if self.count(f"{prefix}{verb} {name}"):
            raise WorkflowError(f"{verb} `{name}` was there before", hint="give each a name of its own")
        return f"{prefix}{name}"

    # --- steps ---

    async def step(self, spec: AgentStepSpec, prefix: str, *, is_final: bool = False) -> StepOutcome:
        """Run a step and return its outcome: a failed one whatever its executor did.

        Raises:
            WorkflowError, InvalidValueError: the spec cannot be run.
            IllegalTransitionError: it runs already, here or elsewhere.
            StoreError, JournalDamagedError, JournalVersionError: it cannot be recorded, or what is recorded not be read.
        """
        _check(spec)
        phase = present_phase(self)
        outcome: StepOutcome | None = None
        if phase is not None:
            phase.begin_step()
        try:
            async with self.working() as host:
                job = self._job(spec, prefix)
                try:
                    told = await self._placed(host, job, is_final=is_final)
                    outcome = outcome_of(spec, told.run_id, told.facts)
                    self.allowance.count(told.run_id, told.facts)
                except (StaleIdentityError, BudgetExceededError) as error:
                    outcome = _not_run(spec, error)
        finally:
            if phase is not None:
                phase.end_step(outcome)
        (self.failed.discard if outcome.success else self.failed.add)(job.key)
        return outcome

    def _job(self, spec: AgentStepSpec, prefix: str) -> Job:
        return step_job(self.root_id, prefix, spec, self._executor, self._listener)

    async def _placed(self, host: Host, job: Job, *, is_final: bool) -> Told:
        """Perform a job in one of the places; one that a step asks for while it runs has that step's."""
        if id(self) in _INSIDE.get():
            return await host.perform(job, is_final=is_final)
        async with self._places:
            return await host.perform(job, is_final=is_final)

    async def side_by_side(self, specs: Iterable[AgentStepSpec], prefix: str | None = None, *, is_final: bool = False) -> list[StepOutcome]:
        """Run steps at once, as far as there are places, and return their outcomes in the order of the specs.

        When the identity of one is stale none is run.

        Raises:
            WorkflowError: two have the same id.
        """
        prefix = self.prefix if prefix is None else prefix
        specs = list(specs)
        for spec in specs:
            _check(spec)
        ids = Counter(spec.task_id for spec in specs)
        twice = [name for name, count in ids.items() if count > 1]
        if twice:
            raise WorkflowError(f"two steps have the id `{twice[0]}`", hint="a step's id stands for one piece of work: give each its own")
        if not specs:
            return []
        async with self.working() as host:
            stale = await self._stale_of(host, specs, prefix)
            if stale:
                return [await self._answered(host, spec, prefix, stale) for spec in specs]
            return await together([self.step(spec, prefix, is_final=is_final) for spec in specs])

    async def _stale_of(self, host: Host, specs: Sequence[AgentStepSpec], prefix: str) -> dict[str, StaleIdentityError]:
        """Return what is wrong with those steps that are recorded as other work, by id."""
        stale: dict[str, StaleIdentityError] = {}
        for spec in specs:
            try:
                await host.recorded(self._job(spec, prefix))
            except StaleIdentityError as error:
                stale[spec.task_id] = error
        return stale

    async def _answered(self, host: Host, spec: AgentStepSpec, prefix: str, stale: dict[str, StaleIdentityError]) -> StepOutcome:
        if spec.task_id in stale:
            return _not_run(spec, stale[spec.task_id])
        told = await host.recorded(self._job(spec, prefix))
        if told is None:
            return _not_run(spec, StaleIdentityError(f"not run: stale identity of {', '.join(stale)}"))
        return outcome_of(spec, told.run_id, told.facts)


class _Guarded:
    """The executor, marked as running inside its workflow, so that a step which asks for steps does not wait for its own place."""

    def __init__(self, executor: AgentExecutor, session: Session) -> None:
        self._executor = executor
        self._session = session

    async def execute_step(self, spec: AgentStepSpec, emit: Any) -> object:
        token = _INSIDE.set(_INSIDE.get() | {id(self._session)})
        try:
            told: Any = self._executor.execute_step(spec, emit)
            return await told if hasattr(told, "__await__") else told
        finally:
            _INSIDE.reset(token)


async def together(work: Sequence[Coroutine[Any, Any, Value]]) -> list[Value]:
    """Do things at once and return what they gave, in order; when one raises the others are cancelled."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _not_run(spec: AgentStepSpec, error: AgentflowError) -> StepOutcome:
    return StepOutcome.failed(spec.task_id, spec.agent, str(error), attempts=0, code=error.code)


def check_name(kind: str, name: object) -> None:
    """Refuse what cannot name a part of a workflow.

    Raises:
        WorkflowError: it is no text of 1 to 100 printable characters without a slash.
    """
    if not (type(name) is str and 0 < len(name) <= MOST_CHARS and name.isprintable() and "/" not in name):
        raise WorkflowError(f"a {kind} cannot be named {str(name)[:40]!r}", hint=f"use 1 to {MOST_CHARS} printable characters, and no /")


def _check(spec: object) -> None:
    if not isinstance(spec, AgentStepSpec):
        raise InvalidValueError(f"a step is an AgentStepSpec, not {type(spec).__name__}", hint='AgentStepSpec("id", "agent", prompt="...")')
    if spec.output_schema is not None:
        raise WorkflowError(f"step `{spec.task_id}` has an output_schema, which is not supported yet", hint="take it out for now")
