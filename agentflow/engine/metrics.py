"""Metrics: what one engine has done and what it is at, as plain figures for whoever asks.

Counting costs each fact a little, and without a journal nobody makes facts: so it goes on from the start only where runs are
recorded or the configuration asks for it, and else begins when somebody first asks. What only the log is told of is counted always.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from agentflow.core.records import Fact, WorkflowCancelled, WorkflowCompleted, WorkflowFailed
from agentflow.core.tally import Tally
from agentflow.core.values import Json
from agentflow.engine.run import Run

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine

METRICS = "metrics"  # the order of another process that is answered with `present`

MOST_TOLD = 100  # budgets of open runs

Source: TypeAlias = Callable[[], Mapping[str, Json]]


class Metrics:
    """The figures of one engine.

    Attributes:
        since: when counting began, in seconds since the epoch; None before that.
        sources: each adds its entries to what `snapshot` returns, e.g. how circuit breakers stand.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tally = Tally()
        self.since: float | None = None
        self.sources: list[Source] = []

    def begin(self) -> None:
        """Count from now on; nothing changes when that has begun before. Runs that are open now are counted when they end."""
        if self.since is not None:
            return
        engine = self._engine
        self.since = engine.clock.time()
        if engine.journals is None:
            engine.teller.observers.append(self._tally.follow)
        else:
            engine.teller.count = self._count  # facts are made anyhow: they need not become records

    def _count(self, run: Run, fact: Fact) -> None:
        taken_s = None
        if run.is_recovered and run.journal is not None and isinstance(fact, WorkflowCompleted | WorkflowFailed | WorkflowCancelled):
            taken_s = self._engine.clock.time() - run.journal.standing.created_at
        self._tally.take(fact, run.program.flow.mode, taken_s)

    def snapshot(self) -> dict[str, Json]:
        """Return what was counted since `since`, and what is open now."""
        return {"since": self.since, "until": self._engine.clock.time(), **self._tally.to_dict(), **self.present()}

    def present(self) -> dict[str, Json]:
        """Return what is open now, what only the log was told of, and what the sources say."""
        engine = self._engine
        states = Counter("queued" if run.begun is None else run.state for run in engine.runs)
        warnings: dict[str, Json] = dict(sorted(engine.teller.told.items()))
        left_behind: list[Json] = [str(left) for left in sorted(engine.supervision.abandoned.values())]
        told: dict[str, Json] = {
            "runs": {"open": len(engine.runs), **{state: states[state] for state in ("queued", "running", "paused")}},
            "budgets": [*islice(self._budgets(), MOST_TOLD)],
            "queue_depth": engine.intake.waiting,
            "warnings": warnings,
            "abandoned_handlers": left_behind,
        }
        for source in self.sources:
            told.update(source())
        return told

    def _budgets(self) -> Iterator[Json]:
        """Yield how the budgets of open runs stand: `scope` is "" for a run's own, "agent:NAME" or "flow:POSITION"."""
        for run in self._engine.runs:
            for scope, ledger in (run.account.ledgers if run.account is not None else {}).items():
                yield {"run_id": run.run_id, "scope": scope, **ledger.snapshot().to_dict()}
