"""Records: one fact each, as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentflow.core.failure import Failure
from agentflow.core.records import BranchTaken, LoopEnded, Record, StepCompleted, StepFailed, WorkflowCancelled, WorkflowCreated
from agentflow.core.records import WorkflowFailed as Failed
from agentflow.core.state import REMOVED, Patch

FAILURE = Failure("no", "ValueError", "E1", "a", "0.1", "s")


@pytest.mark.parametrize(
    ("fact", "row"),
    [
        (BranchTaken("0.1", 2, "c"), {"type": "BranchTaken", "position": "0.1", "case": 2, "name": "c"}),
        (
            LoopEnded("0", "condition_met", 3, {"iteration": 2}),
            {"type": "LoopEnded", "position": "0", "reason": "condition_met", "iterations": 3, "final": {"iteration": 2}},
        ),
        (
            StepCompleted("0.1", "a", 1, 0.5, Patch({"x": 1, "y": REMOVED}, {"m": "t"}), "b", {"total_tokens": 2}),
            {
                "type": "StepCompleted",
                "position": "0.1",
                "agent": "a",
                "attempts": 1,
                "duration_s": 0.5,
                "patch": {"data": {"x": 1}, "removed": ["y"], "meta": {"m": "t"}},
                "route": "b",
                "usage": {"total_tokens": 2},
                "emitted": [],
            },
        ),
        (
            StepFailed("0.1", "a", 2, 0.5, FAILURE),
            {
                "type": "StepFailed",
                "position": "0.1",
                "agent": "a",
                "attempts": 2,
                "duration_s": 0.5,
                "failure": FAILURE.to_dict(),
                "usage": None,
            },
        ),
        (
            Failed("failed", "error", 1.5, FAILURE, ("abandoned",)),
            {
                "type": "WorkflowFailed",
                "status": "failed",
                "reason": "error",
                "duration_s": 1.5,
                "failure": FAILURE.to_dict(),
                "flags": ["abandoned"],
            },
        ),
        (WorkflowCancelled("asked"), {"type": "WorkflowCancelled", "reason": "asked", "duration_s": None, "flags": []}),
    ],
)
def test_record_as_json(fact: Any, row: dict[str, Any]) -> None:
    """A record as JSON has run, time, type and the fields of its fact, and is JSON all the way down."""
    found = Record("run-1", 12.5, fact, 3).to_dict()
    assert found == {"run_id": "run-1", "seq": 3, "at": 12.5, **row}
    assert json.loads(json.dumps(found)) == found


def test_a_record_that_is_not_journaled_has_no_number() -> None:
    """`seq` is None while nothing is kept."""
    assert Record("run-1", 12.5, WorkflowCancelled("asked")).to_dict()["seq"] is None


def test_what_records_say_of_themselves() -> None:
    """A created run names its event's id, target and session, a completed step its keys."""
    created = WorkflowCreated({"id": "e", "target": "t", "session_id": "s"}, "loop")
    assert (created.event_id, created.target, created.session_id) == ("e", "t", "s")
    assert (WorkflowCreated({}, "loop").event_id, WorkflowCreated({}, "loop").session_id) == ("", None)
    assert WorkflowCreated({"target": "t"}, "loop").target == "t"
    assert WorkflowCreated({"target": None}, "loop").target == ""
    assert StepCompleted("0", "a", 1, 0.1, Patch({"k": 1, "gone": REMOVED})).keys == ("k", "gone")
