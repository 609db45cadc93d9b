"""The timeline of a run: its attempts with their times, which way it went, and both as a sequence diagram."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow.core import timeline
from agentflow.core.failure import Failure
from agentflow.core.records import (
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    BranchTaken,
    FallbackTaken,
    FlowCut,
    JoinClosed,
    LoopEnded,
    Record,
    RouteIgnored,
    StepAbandoned,
    StepCompleted,
    StepFailed,
    StepRetried,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowCreated,
    WorkflowFailed,
    WorkflowPaused,
    WorkflowRecovering,
    WorkflowResumed,
)
from agentflow.core.state import Patch
from agentflow.core.timeline import attempts_of, flow_of, sequence_diagram
from tests.journals import done, failed, started


def told(*facts: Any) -> list[Record]:
    """Return records a second apart."""
    return [Record("run-1", 100.0 + seq, fact, seq) for seq, fact in enumerate((WorkflowCreated({"id": "e"}, "mixed"), *facts))]


def outcomes(*facts: Any) -> list[tuple[str, int, str, float | None]]:
    return [(one.position, one.attempt, one.outcome, one.duration_s) for one in attempts_of(told(*facts))]


def test_attempts_have_their_times() -> None:
    """An attempt lasts from its start, or from when it was due, to its end; one without an end is running."""
    retried = StepRetried("0", "a", 1, 2.0, Failure("busy"), 104.5)
    again = [started("0", "a"), retried, started("0", "a", 2)]
    assert outcomes(*again) == [("0", 1, "retried", 1.0), ("0", 2, "running", None)]
    for end, outcome in (
        (StepCompleted("0", "a", 2, 9.0, Patch({})), "completed"),
        (StepFailed("0", "a", 2, 9.0, Failure("no")), "failed"),
    ):
        assert outcomes(*again, WorkflowResumed(), end) == [("0", 1, "retried", 1.0), ("0", 2, outcome, 0.5)]
    assert outcomes(started("0", "a"), done("0", "a")) == [("0", 1, "completed", 0.5)], "of the only attempt it was measured"
    assert outcomes(started("0", "a"), failed("0", "a")) == [("0", 1, "failed", 0.5)]
    (attempt,) = attempts_of(told(started("0", "a"), StepCompleted("0", "a", 1, 9.0, Patch({"x": 1}), "b")))
    assert (attempt.seq, attempt.started_at, attempt.keys, attempt.route, attempt.failure) == (1, 101.0, ("x",), "b", None)
    assert attempt.to_dict() | {"error": None} == attempt.to_dict()
    (attempt,) = attempts_of(told(started("0", "a"), failed("0", "a", "no")))
    assert (str(attempt.failure), attempt["error"]["message"]) == ("ValueError: no", "no")  # type: ignore[index,call-overload]


@pytest.mark.parametrize(
    ("fact", "outcome", "took"),
    [
        (WorkflowRecovering(2, "other", ("0.0", "0.9")), "lost", None),
        (FlowCut("0.0", Failure("slow")), "cut", 2.0),
        (JoinClosed("0", (), "deadline"), "cut", 2.0),
        (WorkflowFailed("failed", "dead_letter", 1.0), "cut", 2.0),
        (WorkflowCancelled("asked"), "cut", 2.0),
        (StepAbandoned("0.0", "a"), "running", None),
    ],
)
def test_attempts_that_something_else_ended(fact: Any, outcome: str, took: float | None) -> None:
    """A crash loses an attempt, and nobody knows when; a cut or the end of the run ends it; a cut elsewhere does not."""
    assert outcomes(started("0.0", "a"), started("0.1", "b"), fact)[0] == ("0.0", 1, outcome, took)
    assert outcomes(started("0.0", "a"), FlowCut("0.1", Failure("slow"))) == [("0.0", 1, "running", None)]


def test_who_takes_a_failed_agents_place_is_named() -> None:
    """An attempt after which another agent follows is replaced, and the next one is that agent's, until the step has ended."""
    fell_back = FallbackTaken("0.0", "a", "b", 1, 1, Failure("no"))
    records = told(started("0.0", "a"), fell_back, started("0.0", "a"), done("0.0", "a"), started("0.0", "a"))
    assert [(one.agent, one.outcome) for one in attempts_of(records)] == [("a", "replaced"), ("b", "completed"), ("a", "running")]


def test_an_end_without_a_start_is_no_attempt() -> None:
    """Where the records of a run begin late, what they do not tell of is left out."""
    assert outcomes(done("0", "a"), failed("0", "a")) == []


def test_which_way_a_run_went() -> None:
    """Steps and choices stand in their order; a second attempt is no second step."""
    way = flow_of(
        told(
            BranchTaken("0", 1, "b"),
            started("0.1", "b"),
            StepRetried("0.1", "b", 1, 1.0, Failure("x"), 1.0),
            started("0.1", "b", 2),
            RouteIgnored("0.1", "c"),
            LoopEnded("0.2", "condition_met", 1, {}),
            LoopEnded("0.3", "max_iterations", 2, {}),
            JoinClosed("0.4", ("0.4.1",), "deadline"),
            started("!", "h"),
            started("~0.1", "u"),
        )
    )
    assert way == [
        ("0", "takes b"),
        ("0.1", "b"),
        ("0.1", "hands on to c, which nothing encloses"),
        ("0.2", "ends after 1 round (condition_met)"),
        ("0.3", "ends after 2 rounds (max_iterations)"),
        ("0.4", "goes on with 1 branch (deadline)"),
        ("!", "h"),
        ("~0.1", "u"),
    ]


EVERYTHING = [
    started("0.0", "a"),
    StepRetried("0.0", "a", 1, 2.0, Failure("busy; #1", "OSError"), 1.0),
    started("0.0", "a", 2),
    StepCompleted("0.0", "a", 2, 1.0, Patch({"x": 1, "y": 2}), "b"),
    WorkflowRecovering(2, "other"),
    ApprovalRequested("0.1", "b", "d"),
    WorkflowPaused("approval", ("0.1",)),
    ApprovalGranted("0.1", "ann"),
    WorkflowResumed("ann"),
    started("0.1", "b"),
    StepCompleted("0.1", "b", 1, 1.0, Patch({})),
    BranchTaken("0.2", 0, "c"),
    ApprovalRequested("0.2", "b", "d"),
    ApprovalRejected("0.2"),
    failed("0.2", "b", "rejected\nby nobody"),
    StepAbandoned("0.2", "b"),
]


def test_the_sequence_diagram() -> None:
    """A sequence diagram has a lane for each agent, an arrow there and back for each attempt, and notes for people and pauses."""
    assert sequence_diagram(told(*EVERYTHING, WorkflowFailed("failed", "error", 1.0))).splitlines() == [
        "sequenceDiagram",
        "    participant run as mixed",
        "    participant agent0 as a",
        "    participant agent1 as b",
        "    run->>agent0: 0.0",
        "    agent0--xrun: OSError: busy#59; #35;1, again in 2 s",
        "    run->>agent0: 0.0, attempt 2",
        "    agent0-->>run: x, y, on to b",
        "    Note over run: taken over",
        "    Note over agent1: waits for approval",
        "    Note over run: paused approval",
        "    Note over agent1: approved by ann",
        "    Note over run: resumed",
        "    run->>agent1: 0.1",
        "    agent1-->>run: nothing changed",
        "    Note over agent1: waits for approval",
        "    Note over agent1: rejected",
        "    agent1--xrun: ValueError: rejected by nobody",
        "    Note over run: failed",
    ]


def test_a_sequence_diagram_of_one_agent() -> None:
    """Of one agent there is its lane alone, with the notes of the run."""
    text = sequence_diagram(told(*EVERYTHING, WorkflowCancelled("asked")), "a")
    assert "agent1" not in text
    assert text.count("agent0") == 5
    assert text.endswith("Note over run: cancelled\n")
    assert "participant agent0" not in sequence_diagram(told(*EVERYTHING), "nobody")


def test_a_long_run_and_long_texts_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A diagram has so many arrows, and says how many more there would be."""
    monkeypatch.setattr(timeline, "MOST_ARROWS", 3)
    rounds = [fact for number in range(3) for fact in (started(f"0#{number}", "a"), done(f"0#{number}", "a", **{"k" * 300: 1}))]
    text = sequence_diagram(told(*rounds, WorkflowCompleted("completed", "completed", 1.0)))
    assert text.endswith("    Note over run: and 4 more\n")
    assert max(map(len, text.splitlines())) < 240
    assert "participant run as run" in sequence_diagram([])
