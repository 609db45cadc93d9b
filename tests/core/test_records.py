"""Records: one fact each, as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentflow.core.failure import Failure
from agentflow.core.records import BranchTaken, LoopEnded, Record, StepCompleted, StepFailed, WorkflowEnded

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
            StepCompleted("0.1", "a", 1, 0.5, ("x", "y")),
            {"type": "StepCompleted", "position": "0.1", "agent": "a", "attempts": 1, "duration_s": 0.5, "keys": ["x", "y"]},
        ),
        (
            StepFailed("0.1", "a", 2, 0.5, FAILURE),
            {"type": "StepFailed", "position": "0.1", "agent": "a", "attempts": 2, "duration_s": 0.5, "failure": FAILURE.to_dict()},
        ),
        (
            WorkflowEnded("completed", "completed", 1.5),
            {"type": "WorkflowEnded", "status": "completed", "reason": "completed", "duration_s": 1.5, "failure": None},
        ),
    ],
)
def test_record_as_json(fact: Any, row: dict[str, Any]) -> None:
    """A record as JSON has run, time, type and the fields of its fact, and is JSON all the way down."""
    found = Record("run-1", 12.5, fact).to_dict()
    assert found == {"run_id": "run-1", "at": 12.5, **row}
    assert json.loads(json.dumps(found)) == found
