"""Workflow: the verbs of the functional API. Each runs its steps through the engine, and answers from the journal what it has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agentflow.core.ledger import Budget, BudgetSnapshot
from agentflow.core.values import adopt
from agentflow.engine.hooks import Callback, Hook, Hooks
from agentflow.errors import InvalidValueError, WorkflowError
from agentflow.ports import Store
from agentflow.system import SystemClock
from agentflow.workflow.allowance import checked_budget
from agentflow.workflow.chains import Stage, run_pipeline
from agentflow.workflow.host import Settings
from agentflow.workflow.milestones import Subscription
from agentflow.workflow.phase import Phase
from agentflow.workflow.rounds import Decide, First, checked_bound, run_loop
from agentflow.workflow.session import Session, check_name
from agentflow.workflow.specs import AgentStepSpec, LoopOutcome, StepOutcome
from agentflow.workflow.steps import AgentExecutor, StepEvents

DEFAULT_HINT = 8
_ROOT = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


class Workflow:
    """Agent steps composed in plain Python: every step is recorded, and a workflow that is resumed repeats none that succeeded.

    On resume the Python function runs again from the top. A step that succeeded answers from the journal, one that failed or
    was in flight runs again; a round of a loop whose decision is recorded answers as it stands. A step's id, within the phase,
    loop or pipeline it stands in, is what it is found by: with another agent, prompt or bound it is refused as stale.

    `async with` ends the workflow's run when its block was left without an exception; else it stays open to be resumed.

    Args:
        executor: anything with `async execute_step(spec, emit)`, which returns a StepOutcome or the output alone. Its
            `concurrency_hint` (default 8, at least 1) bounds how many steps run at once.
        root_id: the id of the workflow's run, 1 to 100 characters of `A-Za-z0-9_.:-`; a fresh one when None.
        store: an open store, `sqlite:PATH` or a path, opened and closed with the workflow; None keeps nothing beyond it.
        resume: go on with what is recorded under `root_id`, or begin where nothing is.
        max_concurrency: overrides the executor's hint.
        timeout_s: bounds each attempt of a step, in seconds.
        max_retries: how often a step is tried again after a failure, 0 to 100.
        step_events: is called with (task_id, event) for what executors emit.
        budget: what all steps together may use: a Budget, or a mapping with its keys; None for as much as they like. Each attempt
            counts, those of a run that is resumed too. Once a figure is used up no step begins any more, whatever verb asks: it
            gets a failed outcome with the code `budget`, and what is in flight goes on to its end.

    Raises:
        TypeError: the executor has no `execute_step`.
        WorkflowError: resume without a root_id, or a bound or a budget that is none.
    """

    def __init__(  # noqa: PLR0913 - one facade over what a builder would set one by one
        self,
        executor: AgentExecutor,
        *,
        root_id: str | None = None,
        store: Store | str | Path | None = None,
        resume: bool = False,
        max_concurrency: int | None = None,
        timeout_s: float = 300.0,
        max_retries: int = 0,
        step_events: StepEvents | None = None,
        budget: Budget | Mapping[str, Any] | None = None,
    ) -> None:
        if not callable(getattr(executor, "execute_step", None)):
            raise TypeError(f"a workflow needs an executor with `async execute_step(spec, emit)`, not {type(executor).__name__}")
        if resume and root_id is None:
            raise WorkflowError("a workflow cannot be resumed without a root_id", hint='give it the same one each time: root_id="report-7"')
        if root_id is not None and not (type(root_id) is str and _ROOT.fullmatch(root_id)):
            raise WorkflowError(f"root_id is {root_id!r}", hint="use 1 to 100 characters of A-Z a-z 0-9 _ . : -")
        if type(max_retries) is not int or not 0 <= max_retries <= 100 or not 0 < timeout_s < float("inf"):
            raise WorkflowError("max_retries is 0 to 100, and timeout_s a number of seconds > 0")
        self._hooks = Hooks()
        name, limits = root_id or f"workflow-{SystemClock().fresh_id()}", checked_budget(budget)
        settings = Settings(name, store, resume, timeout_s, max_retries, limits, self._hooks)
        self._session = Session(executor, settings, _hint_of(executor, max_concurrency), step_events)

    @property
    def root_id(self) -> str:
        """The id of the workflow's run."""
        return self._session.root_id

    def register_callback(self, hook: Hook, name: str, callback: Callback) -> None:
        """Run a callback `(args)` at a hook, as `Runner.register_callback` does: each step is an event of its own.

        Raises:
            RegistrationError: unknown hook, empty or taken name, or a callable that does not take one argument.
        """
        self._hooks.register(hook, name, callback)

    # --- verbs ---

    async def agent(self, spec: AgentStepSpec) -> StepOutcome:
        """Run one step. What it raises makes a failed outcome.

        Raises:
            WorkflowError: the spec asks for what is not supported yet.
            IllegalTransitionError: the step, or the workflow, runs elsewhere at this moment.
            StoreError: it cannot be recorded.
        """
        return await self._session.step(spec, self._session.prefix)

    async def parallel(self, specs: Iterable[AgentStepSpec]) -> list[StepOutcome]:
        """Run steps at once, as many as the executor takes, and return their outcomes in the order of the specs.

        None is run when the identity of one is stale.

        Raises:
            as `agent`; WorkflowError too when two specs have the same id.
        """
        return await self._session.side_by_side(specs)

    async def pipeline(self, items: Iterable[Any], stages: Sequence[Stage], *, name: str | None = None) -> list[StepOutcome | None]:
        """Take each item through the stages by itself, without a barrier between them; return each item's last outcome.

        A chain ends when a step fails, or a stage returns None: then its last outcome is that of the stage before, None for
        the first. A stage that raises makes a failed outcome that names it.

        Args:
            items: anything; an item's place in them is part of its steps' identity.
            stages: `(outcome of the stage before or None, item) -> AgentStepSpec or None`, sync or async.
            name: tells pipelines apart on resume; None numbers them in order.

        Raises:
            as `agent`.
        """
        return await run_pipeline(self._session, self._session.scope("pipeline", name), items, stages)

    async def loop(self, specs: First, decide: Decide, max_iterations: int, *, name: str | None = None) -> LoopOutcome:
        """Run rounds of steps until `decide` says stop, a round has nothing to run, or there were `max_iterations`.

        Args:
            specs: what the first round runs, or a function of the round's number (from 1) that says what a round runs.
            decide: `(outcomes of the round) -> LoopDecision`, sync or async; asked after each round, and recorded.
            max_iterations: the most rounds, at least 1.
            name: tells loops apart on resume; None numbers them in order.

        Returns:
            The last round's outcomes; its `reason` is condition_met, max_iterations, budget when steps of that round were
            denied, or error when `decide` raised.

        Raises:
            as `agent`; WorkflowError too for a bound below 1.
        """
        most = checked_bound(max_iterations)
        return await run_loop(self._session, self._session.scope("loop", name), specs, decide, most)

    def phase(self, name: str, specs: Iterable[AgentStepSpec] | None = None, *, key: str | None = None) -> Phase:
        """Return a named phase: `await` it to run `specs` at once, or `async with` it around other verbs.

        Its steps' ids are its own. A name that comes again in one workflow needs a `key` (default: the name).

        Raises:
            WorkflowError: name or key is no text of 1 to 100 characters without a slash.
        """
        check_name("phase", name)
        check_name("phase's key", name if key is None else key)
        return Phase(self._session, name, name if key is None else key, None if specs is None else list(specs))

    # --- what is told ---

    def log(self, message: str) -> None:
        """Tell subscribers something and record it; durable when the next verb has returned.

        Raises:
            InvalidValueError: it is no text.
            RunnerStateError: the workflow is closed.
        """
        if not isinstance(message, str):
            raise InvalidValueError(f"a log message is {type(message).__name__}, not a string")
        adopt(message, "workflow.log")
        self._session.tell(f"log {self._session.count('log')}", {"type": "log", "message": message})

    def subscribe(self) -> Subscription:
        """Return an async iterator over the workflow's events from now on.

        Their `type` is phase_start, phase_end, log, budget_warning, budget_exhausted or lagged.
        """
        return self._session.milestones.subscribe()

    def budget_snapshot(self) -> BudgetSnapshot:
        """Return what the workflow's steps have used and what is left of its budget, by figure: tokens, cost_usd, seconds, calls.

        With a budget all recorded steps count, once the workflow is open (`async with`, or its first verb); without one those
        count that were asked for, also where the journal answered.
        """
        return self._session.allowance.snapshot()

    # --- lifetime ---

    async def __aenter__(self) -> Self:
        await self._session.host()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            await self.finish()
        else:
            await self.close()

    async def finish(self) -> None:
        """End the workflow's run, `completed`, or `partial` when steps have failed for good, and close it.

        Raises:
            StoreError: that cannot be recorded.
        """
        await self._session.close("partial" if self._session.failed else "completed")

    async def close(self) -> None:
        """Let go of the journal and leave the workflow's run open, so that it can be resumed.

        Raises:
            StoreError: what it has told cannot be recorded.
        """
        await self._session.close(None)


def _hint_of(executor: object, override: int | None) -> int:
    """Return how many steps run at once."""
    hint: object = getattr(executor, "concurrency_hint", DEFAULT_HINT) if override is None else override
    if callable(hint):
        hint = hint()
    if type(hint) is not int:
        raise WorkflowError(f"concurrency_hint is {hint!r}", hint="use a whole number; 0 counts as 1")
    return max(hint, 1)
