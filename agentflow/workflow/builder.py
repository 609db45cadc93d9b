"""WorkflowBuilder: a Workflow put together bit by bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from agentflow.core.ledger import Budget
from agentflow.ports import Store
from agentflow.workflow.facade import Workflow
from agentflow.workflow.steps import AgentExecutor, StepEvents


class WorkflowBuilder:
    """Puts a Workflow together; the executor is mandatory, everything else optional.

    Raises:
        TypeError: the executor is missing or has no `execute_step`; raised by the builder itself.
    """

    def __init__(self, executor: AgentExecutor) -> None:
        Workflow(executor)  # refuses what is none
        self._executor = executor
        self._given: dict[str, Any] = {}

    def root_id(self, root_id: str) -> Self:
        """Give the workflow's run its id."""
        return self._with(root_id=root_id)

    def store(self, store: Store | str | Path) -> Self:
        """Say where it is recorded."""
        return self._with(store=store)

    def resume(self) -> Self:
        """Go on with what is recorded; needs a `root_id`."""
        return self._with(resume=True)

    def max_concurrency(self, most: int) -> Self:
        """Override the executor's hint."""
        return self._with(max_concurrency=most)

    def step_events(self, listener: StepEvents) -> Self:
        """Be told what executors emit."""
        return self._with(step_events=listener)

    def budget(self, budget: Budget | Mapping[str, Any]) -> Self:
        """Bound what its steps may use."""
        return self._with(budget=budget)

    def build(self) -> Workflow:
        """Return the workflow.

        Raises:
            WorkflowError: see `Workflow`.
        """
        return Workflow(self._executor, **self._given)

    def _with(self, **given: Any) -> Self:
        self._given |= given
        return self
