"""Budgets: what runs, flows and agents may use; reserved before an attempt is announced, settled after it.

A run's ledgers are made when its first call is about to begin. An attempt takes from its agent's, its flows' and its run's
ledger at once. When the run's own does not suffice nothing of it begins any more: what is in flight ends, and the run with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from agentflow.core.failure import Failure, failure_of
from agentflow.core.frame import Frame
from agentflow.core.ledger import Budget, BudgetSnapshot, Figures, Ledger
from agentflow.core.plan import Call
from agentflow.core.records import BudgetExhausted, BudgetWarned
from agentflow.engine.account import Account
from agentflow.engine.run import Run
from agentflow.engine.step import Phase, Step
from agentflow.errors import BudgetExceededError

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine

RUN = ""  # the scope of a run's own ledger


def call_at(frame: Frame) -> Call:
    """Return the call that a frame stands for."""
    call = frame.node
    assert isinstance(call, Call)  # noqa: S101 - only calls become ready
    return call


class Budgets:
    """Keeps the accounts of one engine's runs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # --- before an attempt ---

    def screen(self, run: Run, ready: list[Frame], acting: Callable[[Frame], Call] = call_at) -> list[Frame]:
        """Reserve what calls that are ready will need, in declared order, and return those that may begin.

        A call that its agent's or a nested flow's budget forbids may begin, and fails when it is admitted. `acting` tells which call
        is made at a frame, when it is not its own.
        """
        account = _account(run)
        allowed: list[Frame] = []
        for frame in ready:
            if account.denied is not None and not frame.is_after:
                continue
            if self._reserve(run, frame, acting(frame)) != RUN:
                allowed.append(frame)
        return allowed

    def again(self, step: Step, call: Call, before: Failure) -> Failure | None:
        """Reserve for one more attempt of a step, by `call`, after it has failed with `before`; what the step fails with if it may not."""
        run, frame = step.run, step.frame
        if not run.program.has_budgets or frame is None:
            return None
        account = _account(run)
        scope = self._reserve(run, frame, call)
        denial = account.denied if scope == RUN else account.denials.pop(frame.position, None)
        if scope is None or denial is None:
            return None
        return replace(denial, message=f"{denial.message}; the attempt before had failed: {before.type}: {before.message}")

    def take_up(self, run: Run, frame: Frame, call: Call) -> None:
        """Reserve for an attempt that another process has announced, and that is still to be made: it is counted as made already."""
        if run.program.has_budgets:
            for _, ledger in self.ledgers_above(run, frame, call):
                ledger.used -= Figures(calls=1)
                ledger.reserve(_wanted(call))
            _account(run).reserved[frame.position] = call

    def denial_of(self, step: Step) -> Failure | None:
        """Return why a step may not begin, if its budget forbids it."""
        if step.frame is None or not step.run.program.has_budgets:
            return None
        return _account(step.run).denials.pop(step.frame.position, None)

    def cut_of(self, run: Run) -> Failure | None:
        """Return why a run has to end now that nothing of it is in flight; None when its budget suffices."""
        return None if run.account is None else run.account.denied

    def _reserve(self, run: Run, frame: Frame, call: Call) -> str | None:
        """Reserve for an attempt; None when all ledgers suffice, else the scope of the one that does not."""
        if frame.is_after:
            return None
        wanted = _wanted(call)
        ledgers = self.ledgers_above(run, frame, call)
        for scope, ledger in ledgers:
            lacking = ledger.lacks(wanted)
            if lacking:
                self._deny(run, frame, scope, ledger, lacking)
                return scope
        for _, ledger in ledgers:
            ledger.reserve(wanted)
        _account(run).reserved[frame.position] = call
        return None

    def _deny(self, run: Run, frame: Frame, scope: str, ledger: Ledger, figure: str) -> None:
        used, limit = ledger.taken(figure), dict(ledger.limits())[figure]
        account = _account(run)
        spending = None if run.journal is None else run.journal.standing.spending
        if scope not in account.exhausted and (spending is None or scope not in spending.exhausted):
            account.exhausted.add(scope)
            self._engine.teller.tell(run, BudgetExhausted(scope, figure, used, limit))
        told = f"the budget of {_name(scope, run)} is used up: {figure} {used:g} of {limit:g}"
        failure = failure_of(BudgetExceededError(told, hint=f"raise budget.{figure}, or do with fewer steps"), attempts=0)
        if scope == RUN:
            account.denied = failure
        else:
            account.denials[frame.position] = failure

    # --- after it ---

    def settle(self, step: Step, *, is_lost: bool) -> None:
        """Put what an attempt used in the place of what it had reserved; of a lost one the reservation is charged at least."""
        run, frame = step.run, step.frame
        if frame is None or not run.program.has_budgets:
            return
        call = _account(run).reserved.pop(frame.position, None)
        if call is None:
            return
        is_made = step.phase is Phase.ATTEMPT  # else it was cut before its agent was called, or while it waited to be tried again
        seconds = max(self._engine.monotonic() - step.started, 0.0) if is_made else 0.0
        step.worked_s += seconds
        wanted, used = _wanted(call), Figures(seconds=seconds, calls=1)
        if step.used is not None:
            used += Figures(tokens=step.used.total_tokens, cost_usd=step.used.cost_usd)
        if is_lost and used.tokens < wanted.tokens:
            used += Figures(tokens=wanted.tokens - used.tokens)
        for scope, ledger in self.ledgers_above(run, frame, call):
            if ledger.settle(wanted, used):
                self._warn(run, scope, ledger)

    def release(self, step: Step) -> None:
        """Give back what was reserved for an attempt that is not made."""
        run, frame = step.run, step.frame
        call = None if frame is None or not run.program.has_budgets else _account(run).reserved.pop(frame.position, None)
        if call is not None and frame is not None:
            for _, ledger in self.ledgers_above(run, frame, call):
                ledger.settle(_wanted(call), Figures())

    def _warn(self, run: Run, scope: str, ledger: Ledger) -> None:
        share = ledger.budget.warn_at
        for figure, limit in ledger.limits():
            used: float = getattr(ledger.used, figure)
            if used >= limit * share:
                self._engine.teller.tell(run, BudgetWarned(scope, figure, used, limit))
                self._engine.teller.say(
                    "budget_low", {"run_id": run.run_id, "scope": scope, "figure": figure, "used": used, "limit": limit}
                )
                return

    # --- the ledgers ---

    def ledgers_above(self, run: Run, frame: Frame, call: Call) -> list[tuple[str, Ledger]]:
        """Return the ledgers that a call takes from, with their scopes: its agent's, its flows' from the inside out, its run's."""
        found: list[tuple[str, Ledger]] = []
        if call.policy is not None and call.policy.budget is not None:
            found.append(self._ledger(run, f"agent:{call.agent}", call.policy.budget))
        above: Frame | None = frame.parent
        while above is not None:
            flow = None if type(above.node) is Call else above.node.flow
            if flow is not None and flow.budget is not None:
                found.append(self._ledger(run, RUN if above.parent is None else f"flow:{above.position}", flow.budget))
            above = above.parent
        return found

    def _ledger(self, run: Run, scope: str, budget: Budget) -> tuple[str, Ledger]:
        ledgers = _account(run).ledgers
        if scope not in ledgers:
            spending = None if run.journal is None else run.journal.standing.spending
            ledgers[scope] = ledger = Ledger(budget)
            if spending is not None:
                ledger.used, ledger.is_warned = spending.spent.get(scope, Figures()), scope in spending.warned
        return scope, ledgers[scope]

    def snapshot(self, run: Run) -> BudgetSnapshot | None:
        """Return how a run's own budget stands; None when it has none."""
        budget = run.program.flow.budget
        return None if budget is None else self._ledger(run, RUN, budget)[1].snapshot()


def _account(run: Run) -> Account:
    if run.account is None:
        run.account = Account()
    return run.account


def _wanted(call: Call) -> Figures:
    return Figures(tokens=0 if call.policy is None else call.policy.reserve_tokens, calls=1)


def _name(scope: str, run: Run) -> str:
    if not scope:
        return f"run {run.run_id}"
    kind, _, name = scope.partition(":")
    return f"{kind} `{name}`" if kind == "agent" else f"the flow at {name}"
