"""The checker: what must hold of every journal, whatever happened to the processes that wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentflow import app
from agentflow.core.codec import decode, fault_in
from agentflow.core.entry import Entry
from agentflow.core.plan_codec import decode_plan
from agentflow.core.records import (
    EventPatched,
    StepCompleted,
    StepFailed,
    StepStarted,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowCreated,
    WorkflowFailed,
)
from agentflow.core.replay import event_of, replay
from agentflow.core.run_row import RunRow
from agentflow.core.standing import Standing
from agentflow.core.state import State

ENDS = (WorkflowCompleted, WorkflowFailed, WorkflowCancelled)
STATES = {WorkflowCompleted: "completed", WorkflowFailed: "failed", WorkflowCancelled: "cancelled"}


def standing_of(run_id: str, entries: Sequence[Entry], plan_hash: str, plan: bytes) -> Standing:
    """Replay a journal from its first record."""
    created = decode(run_id, entries[0]).fact
    assert isinstance(created, WorkflowCreated)
    missing: Any = lambda name: (_ for _ in ()).throw(LookupError(name))  # noqa: E731
    node = decode_plan(plan_hash, plan, app.compile_rule, missing, app.compile_schema)
    return replay(run_id, node, event_of(run_id, created), entries)


def state_of(standing: Standing) -> dict[str, Any]:
    """Return the state to which a journal comes."""
    return State.over(standing.walk.scope).to_dict()["data"]


def faults_of(row: RunRow, entries: Sequence[Entry], plan: bytes | None) -> list[str]:
    """Return what is wrong with the journal of a run that should have ended; [] when nothing is."""
    run_id = row.run_id
    chain = fault_in(run_id, entries)
    if chain or plan is None or not entries:
        return [f"{run_id}: {chain or 'no plan, or no records'}"]
    facts = [decode(run_id, entry).fact for entry in entries]
    faults = [f"{run_id}: {fault}" for fault in (*_endings(row, facts), *_steps(facts))]
    standing = standing_of(run_id, entries, row.plan_hash, plan)
    if standing.ended != facts[-1]:
        faults.append(f"{run_id}: replay ends with {standing.ended}, the journal with {facts[-1]}")
    return faults


def _endings(row: RunRow, facts: list[Any]) -> list[str]:
    faults = []
    ends = [fact for fact in facts if isinstance(fact, ENDS)]
    if len(ends) != 1 or facts[-1] is not ends[0]:
        faults.append(f"it ended {len(ends)} times, and not with its last record: {[type(fact).__name__ for fact in facts[-5:]]}")
    elif row.state != STATES[type(ends[0])] or row.ended_at is None:
        faults.append(f"its row says {row.state}, its journal {ends[0]}")
    if sum(isinstance(fact, EventPatched) and fact.when == "before" for fact in facts) > 1:
        faults.append("the hooks before it are recorded twice")
    if any(
        isinstance(fact, EventPatched) and fact.when == "after" and not is_last for fact, is_last in zip(facts, _lasts(facts), strict=True)
    ):
        faults.append("the hooks after it are not recorded at its end")
    return faults


def _lasts(facts: list[Any]) -> list[bool]:
    """Say of each record whether nothing but hooks and the end follow it."""
    told: list[bool] = []
    for fact in reversed(facts):
        told.append(all(told) and (isinstance(fact, ENDS) or (isinstance(fact, EventPatched) and fact.when == "after")))
    return told[::-1]


def _steps(facts: list[Any]) -> list[str]:
    faults: list[str] = []
    attempts: dict[str, int] = {}
    done: set[str] = set()
    for fact in facts:
        if isinstance(fact, StepStarted):
            if fact.position in done:
                faults.append(f"{fact.position} was started after it was done")
            if fact.attempt <= attempts.get(fact.position, 0):
                faults.append(f"{fact.position} was started as attempt {fact.attempt} after {attempts[fact.position]}")
            attempts[fact.position] = fact.attempt
        elif isinstance(fact, StepCompleted | StepFailed):
            if fact.position in done:
                faults.append(f"{fact.position} was completed twice")
            done.add(fact.position)
    return faults
