"""What handlers may return, what calls use, and what a run comes to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentflow.core.event import Event
from agentflow.core.failure import Failure, failure_of
from agentflow.core.plan import Call, Loop, Node, Par, Seq
from agentflow.core.result import AgentResult, RunResult, Usage
from agentflow.core.state import Patch, Scope
from agentflow.core.walk import Answer, Walk
from agentflow.errors import AgentAnswerError, InvalidValueError, RunFailedError


class RudeError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def ended(plan: Node, answers: dict[str, Answer], *, cut: Failure | None = None, cancelled: str = "", usage: Usage | int = 0) -> RunResult:
    walk = Walk(plan, Event("a", timestamp=12.5), Scope({"given": [1]}, {"m": "x"}))
    ready = walk.start()
    while ready and cut is None:
        frame = ready.pop(0)
        ready += walk.complete(frame, answers.get(frame.node.agent, Patch({})))
    if cut is not None:
        walk.cut(None, cut)
    return RunResult("run-1", walk, ("a", "b"), usage, cancelled, (), 0.25)


A, B = Call("a"), Call("b")
FAILED = failure_of(ValueError("odd"))


@pytest.mark.parametrize(
    ("result", "status", "reason"),
    [
        (ended(Seq((A, B)), {}), "completed", "completed"),
        (ended(Par((A, B)), {"b": FAILED}), "partial", "partial"),
        (ended(Loop(A, 2), {}), "completed", "max_iterations"),
        (ended(Seq((A, B)), {"a": FAILED}), "failed", "error"),
        (ended(Par((A, B)), {"a": FAILED, "b": FAILED}), "failed", "threshold"),
        (ended(Seq((A,)), {}, cut=Failure("late", code="timeout")), "timed_out", "timeout"),
        (ended(Seq((A,)), {}, cut=Failure("stop", code="cancelled"), cancelled="shutdown"), "cancelled", "shutdown"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_status_and_reason(result: RunResult, status: str, reason: str) -> None:
    """A run is completed, partial, failed, timed out or cancelled, and its reason says how it came to that."""
    assert (result.status, result.reason) == (status, reason)
    assert repr(result) == f"RunResult('run-1', status='{status}', reason='{reason}')"


def test_result_as_json() -> None:
    """The JSON of a result has the keys that `--json` prints, and is JSON all the way down."""
    result = ended(Par((A, B)), {"a": Patch({"k": 1}), "b": Patch({"k": [2]})}, usage=2)
    row = result.to_dict()
    assert json.loads(json.dumps(row)) == row
    assert row == {
        "run_id": "run-1",
        "status": "completed",
        "reason": "completed",
        "flags": [],
        "state": {"data": {"given": [1], "k": [2]}, "meta": {"m": "x"}},
        "outputs": {"a": {"k": 1}, "b": {"k": [2]}},
        "error": None,
        "errors": {},
        "conflicts": [{"key": "k", "agents": ["a", "b"], "winner": "b", "position": "0"}],
        "usage": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "cost_usd": 0.0, "calls": 2},
        "timing": {"accepted_at": 12.5, "duration_seconds": 0.25},
    }


def test_failed_result_tells_what_went_wrong() -> None:
    """A failed result has its error, and each agent's failure by name, also when the exception cannot be printed."""
    result = ended(Seq((A, B)), {"a": failure_of(RudeError(), attempts=3)})
    assert result.error is not None
    assert (result.error.agent, result.error.stage, result.error.attempts) == ("a", "a", 3)
    assert result.errors == {"a": result.error}
    row = result.to_dict()
    assert isinstance(row["error"], dict)
    assert row["error"]["message"] == "<RudeError whose text raises RuntimeError>"
    assert row["errors"] == {"a": row["error"]}


def test_raise_for_status() -> None:
    """A run that did not complete raises with the handler's exception as cause; one that did returns itself."""
    good = ended(Par((A, B)), {"b": FAILED})
    assert good.raise_for_status() is good
    bad = ended(Seq((A,)), {"a": FAILED})
    with pytest.raises(RunFailedError, match="run-1 failed") as caught:
        bad.raise_for_status()
    assert isinstance(caught.value.__cause__, ValueError)


def test_state_and_outputs_are_the_readers_own() -> None:
    """Reading a result twice gives the same objects; the state is a State."""
    result = ended(Seq((A,)), {"a": Patch({"k": 1})})
    assert result.state is result.state
    assert result.outputs is result.outputs
    assert (result.state["k"], result.state.meta["m"], result.conflicts) == (1, "x", [])


def test_usage_adds_up() -> None:
    """Tokens of either kind count into the total, `tokens` into the total only."""
    usage = Usage()
    usage.add(tokens=5, cost_usd=0.5)
    usage.add(input_tokens=2, output_tokens=3, cost_usd=1)
    assert usage.to_dict() == {"input_tokens": 2, "output_tokens": 3, "total_tokens": 10, "cost_usd": 1.5, "calls": 0}
    assert ended(Seq((A,)), {}, usage=usage).usage is usage


@pytest.mark.parametrize(
    "figures",
    [
        {"tokens": -1},
        {"tokens": 1.5},
        {"tokens": True},
        {"input_tokens": None},
        {"cost_usd": -0.1},
        {"cost_usd": float("nan")},
        {"cost_usd": "1"},
    ],
)
def test_usage_refuses_what_is_no_figure(figures: dict[str, Any]) -> None:
    """A negative or odd figure is refused by name, and nothing is added."""
    usage = Usage()
    with pytest.raises(InvalidValueError, match=f"usage.{next(iter(figures))} is"):
        usage.add(**figures)
    assert usage == Usage()


def test_agent_result_checks_what_it_can() -> None:
    """A route that is no text and unknown usage keys are refused where the handler makes the result."""
    assert AgentResult({"k": 1}, "b", {"tokens": 1}).route == "b"
    assert AgentResult() == AgentResult(None, None, None, None)
    with pytest.raises(AgentAnswerError, match="route is int"):
        AgentResult(route=5)  # type: ignore[arg-type]
    with pytest.raises(AgentAnswerError, match="no 'token'"):
        AgentResult(usage={"token": 1})
