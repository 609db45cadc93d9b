"""Allowance: what a workflow's steps may use together, and what they have used: one ledger for all of them.

The engine reserves and settles each attempt in it. What is used up is seen here, before a step is begun: so a step that is
denied leaves nothing in the journal, and is asked for anew when the workflow is resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from math import isfinite
from typing import TypeAlias

from agentflow.core import records as facts
from agentflow.core.ledger import Budget, BudgetSnapshot, Figures, Ledger
from agentflow.engine.account import Account
from agentflow.engine.budgets import RUN
from agentflow.errors import BudgetExceededError, WorkflowError, did_you_mean
from agentflow.workflow.milestones import WorkflowEvent
from agentflow.workflow.steps import usage_of

Tell: TypeAlias = Callable[[str, WorkflowEvent, facts.BudgetExhausted | None], None]
WHOLE = ("tokens", "calls")
WARNING, EXHAUSTED = "budget_warning", "budget_exhausted"


class Allowance:
    """The account of one workflow.

    Args:
        root_id: the workflow's id.
        budget: what its steps may use; None only counts.
        tell: is called with (key, event, fact) when the budget is nearly used up, and when it is; once each. `fact` is what no
            run of a step has recorded; None when one has.
    """

    def __init__(self, root_id: str, budget: Budget | None, tell: Tell) -> None:
        self.budget = budget
        self._root_id = root_id
        self._tell = tell
        self._told: set[str] = set()
        self._ledger = Ledger(budget or Budget())
        self._exhausted: set[str] = set()  # the engine's: whether it has told so
        self._engines: set[str] = set()  # the runs whose attempts the engine settles
        self._counted: dict[str, Figures] = {}  # what was counted of others, by run

    def account(self, run_id: str) -> Account:
        """Return the account of a run whose plan has a budget, perhaps one that the workflow had earlier and has no longer."""
        if self.budget is None:
            return Account({RUN: Ledger(Budget())})
        self._engines.add(run_id)
        return Account({RUN: self._ledger}, exhausted=self._exhausted)

    def check(self, reserve_tokens: int) -> None:
        """See whether one more step may begin.

        Raises:
            BudgetExceededError: it may not; the message says which figure does not suffice.
        """
        figure = self._ledger.lacks(Figures(tokens=reserve_tokens, calls=1))
        if not figure:
            return
        used, limit = _tidy(figure, self._ledger.taken(figure)), getattr(self.budget, figure)
        self._exhausted.add(RUN)
        self._tell_once(EXHAUSTED, figure, used, limit, facts.BudgetExhausted(RUN, figure, used, limit))
        told = f"the budget of workflow {self._root_id} is used up: {figure} {used:.10g} of {limit:.10g}"
        if used < limit:
            told = told.replace("is used up", "does not suffice") + f" are used or reserved, and the step reserves {reserve_tokens}"
        raise BudgetExceededError(told, hint=f"raise budget.{figure}, or do with fewer steps")

    def restore(self, run_id: str, used: Figures, *, is_engines: bool) -> None:
        """Count what a recorded run has used; `look` tells what has to be told of it."""
        self._ledger.settle(Figures(), used)
        if is_engines:
            self._engines.add(run_id)
        else:
            self._counted[run_id] = used

    def count(self, run_id: str, told: Sequence[facts.Fact]) -> None:
        """Count what a step's run has used, by its records, once; nothing where the engine has done so."""
        if run_id in self._engines:
            return
        used = _used_by(told)
        self._ledger.settle(Figures(), used - self._counted.get(run_id, Figures()))
        self._counted[run_id] = used
        self.look()

    def hear(self, fact: facts.Fact) -> None:
        """Take note of what the engine tells of the budget."""
        if isinstance(fact, facts.BudgetWarned):
            self.look()
        elif isinstance(fact, facts.BudgetExhausted):
            self._tell_once(EXHAUSTED, fact.figure, _tidy(fact.figure, fact.used), _tidy(fact.figure, fact.limit))

    def look(self) -> None:
        """Tell that the budget is nearly used up, if it is."""
        budget = self.budget
        figure = "" if budget is None or not self._ledger.is_warned else self._ledger.over(budget.warn_at)
        if figure:
            self._tell_once(WARNING, figure, getattr(self._ledger.used, figure), getattr(budget, figure))

    def snapshot(self) -> BudgetSnapshot:
        """Return how the budget stands."""
        return self._ledger.snapshot()

    def _tell_once(self, kind: str, figure: str, used: float, limit: float, fact: facts.BudgetExhausted | None = None) -> None:
        if kind in self._told:
            return
        self._told.add(kind)
        limits = ", ".join(f"{name} {most!r}" for name, most in self._ledger.limits())  # one that was raised may be used up again
        self._tell(f"{kind} of {limits}", {"type": kind, "figure": figure, "used": used, "limit": limit}, fact)


def checked_budget(given: object) -> Budget | None:
    """Return a budget that was given as such, or as a mapping with its keys.

    Raises:
        WorkflowError: it is neither, has an unknown key, or a figure that is none.
    """
    names = [field.name for field in fields(Budget)]
    if given is None:
        return None
    if isinstance(given, Mapping):
        for name in given:
            if name not in names:
                raise WorkflowError(f"a budget has no key {name!r}", hint=did_you_mean(str(name), names))
        given = Budget(**given)
    if not isinstance(given, Budget):
        raise WorkflowError(f"a budget is {type(given).__name__}", hint="Budget(tokens=100_000, cost_usd=2.5), or a mapping with such keys")
    for name in names:
        _check_figure(name, getattr(given, name))
    return given


def _check_figure(name: str, value: object) -> None:
    if value is None and name != "warn_at":
        return
    if name in WHOLE:
        if type(value) is not int or value < 1:
            raise WorkflowError(f"budget.{name} is {value!r}", hint="use a whole number >= 1, or None for no limit")
    elif type(value) not in (int, float) or not (isfinite(value) and value > 0):  # type: ignore[arg-type, operator] # it is a number
        raise WorkflowError(f"budget.{name} is {value!r}", hint="use a number > 0, or None for no limit")
    elif name == "warn_at" and value > 1:  # type: ignore[operator] # it is a number
        raise WorkflowError(f"budget.warn_at is {value!r}", hint="use a share above 0 and up to 1, e.g. 0.8")


def _used_by(told: Sequence[facts.Fact]) -> Figures:
    used = usage_of(told)
    took = sum(fact.duration_s for fact in told if isinstance(fact, facts.StepCompleted | facts.StepFailed))
    return Figures(used.total_tokens, used.cost_usd, took, used.calls)


def _tidy(figure: str, used: float) -> float:
    return int(used) if figure in WHOLE else used
