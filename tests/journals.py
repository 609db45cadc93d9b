"""Writes runs into a store as an engine does: each record chained to the one before, the row in the same append."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agentflow.core.append import Append
from agentflow.core.codec import encode
from agentflow.core.entry import Entry
from agentflow.core.event import Event, accept
from agentflow.core.failure import Failure
from agentflow.core.plan import Call, Flow, Node, Par, Seq
from agentflow.core.plan_codec import encode_plan, hash_of
from agentflow.core.records import Fact, StepCompleted, StepFailed, StepRetried, StepStarted, WorkflowCompleted, WorkflowCreated
from agentflow.core.replay import replay
from agentflow.core.run_row import RunRow
from agentflow.core.snapshot import freeze_standing
from agentflow.core.state import Patch
from agentflow.ports import Store

PLAN = Seq((Call("plan"), Par((Call("write"), Call("draw"))), Call("check")), Flow("main", "mixed"))
BEGAN = 1_000_000.0  # when a run's first record was written; each further one is a second later


class Writer:
    """Writes one run.

    Args:
        store: where to.
        run_id: which run.
        plan: what it walks.
    """

    def __init__(self, store: Store, run_id: str, *, plan: Node = PLAN, began: float = BEGAN) -> None:
        self.store = store
        self.run_id = run_id
        self.body = encode_plan(plan)
        self.plan = plan
        self.began = began
        self.entries: list[Entry] = []
        self.row = RunRow(run_id=run_id, event_id=f"event-{run_id}", event_hash="aa", plan_hash=hash_of(self.body), started_at=began)

    async def begin(self, *facts: Fact, data: Mapping[str, Any] | None = None, is_hooked: bool = False, **row: Any) -> Writer:
        """Write the run's first record and more; `row` changes its row, which says `running`."""
        self.row = replace(self.row, pattern="mixed", **{"state": "running", **row})
        event = accept(Event("plan", data, id=self.row.event_id, session_id=self.row.session_id, timestamp=self.began), "", float)
        created = WorkflowCreated(event.to_dict(), "mixed", self.row.plan_hash, is_hooked=is_hooked)
        plan = self.row.plan_hash, self.body
        await self._append((created, *facts), Append(self.run_id, 0, 1, row=self.row, plan=plan, is_new=True))
        return self

    async def tell(self, *facts: Fact, is_kept: bool = False, **row: Any) -> Writer:
        """Write more records; `row` changes the row, `is_kept` adds a snapshot behind them."""
        append = Append(self.run_id, len(self.entries), self.row.epoch)
        if row:
            self.row = append.row = replace(self.row, **row)
        await self._append(facts, append, is_kept=is_kept)
        return self

    async def finish(self) -> Writer:
        """Write what is left of a run that began, to its end."""
        told: list[Fact] = [started("0.0", "plan"), done("0.0", "plan", topic="tea"), started("0.1.0", "write"), started("0.1.1", "draw")]
        told += [
            done("0.1.1", "draw", image="cup"),
            done("0.1.0", "write", text="hot"),
            started("0.2", "check"),
            done("0.2", "check", ok=True),
        ]
        await self.tell(*told)
        return await self.tell(
            WorkflowCompleted("completed", "completed", 8.0),
            state="completed",
            status="completed",
            reason="completed",
            ended_at=self.began + 9,
        )

    async def _append(self, facts: tuple[Fact, ...], append: Append, *, is_kept: bool = False) -> None:
        first = len(self.entries)
        for fact in facts:
            seq, previous = len(self.entries), self.entries[-1].hash if self.entries else b""
            self.entries.append(encode(self.run_id, seq, self.row.epoch, self.began + seq, fact, previous))
        append.entries = tuple(self.entries[first:])
        if is_kept:
            append.snapshot = len(self.entries) - 1, self.snapshot()
        await self.store.append(append)

    def snapshot(self) -> bytes:
        """Return the run's standing after its last record."""
        event = accept(Event("plan", id=self.row.event_id, session_id=self.row.session_id, timestamp=self.began), "", float)
        return freeze_standing(replay(self.run_id, self.plan, event, self.entries))


def started(position: str, agent: str, attempt: int = 1) -> StepStarted:
    """An attempt begins."""
    return StepStarted(position, agent, attempt)


def done(position: str, agent: str, **data: Any) -> StepCompleted:
    """A step is done in its first attempt."""
    return StepCompleted(position, agent, 1, 0.5, Patch(data), None, {"total_tokens": 2})


def failed(position: str, agent: str, text: str = "no") -> StepFailed:
    """A step fails in its first attempt."""
    return StepFailed(position, agent, 1, 0.5, Failure(text, "ValueError"))


def retried(position: str, agent: str, attempt: int = 1, *, due_at: float = BEGAN) -> StepRetried:
    """An attempt fails and is made again."""
    return StepRetried(position, agent, attempt, 2.0, Failure("busy", "OSError", attempts=attempt), due_at)
