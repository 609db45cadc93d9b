"""Specs and outcomes as data: JSON round trips, identities, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from agentflow.errors import InvalidValueError
from agentflow.workflow import AgentStepSpec, StepOutcome, identity_of
from agentflow.workflow.specs import digest_of
from tests.workflow.conftest import spec


def test_a_spec_comes_back_from_json() -> None:
    """What a spec is written as makes an equal one, and optional fields may be missing."""
    whole = AgentStepSpec("a", "worker", "for people", "do it", 3, "parent", None)
    assert whole == AgentStepSpec.from_dict(json.loads(json.dumps(whole.to_dict())))
    assert AgentStepSpec("a", "worker") == AgentStepSpec.from_dict({"task_id": "a", "agent": "worker"})


@pytest.mark.parametrize(
    "row",
    [
        {"agent": "w"},
        {"task_id": "", "agent": "w"},
        {"task_id": "a", "agent": ""},
        {"task_id": "a\n", "agent": "w"},
        {"task_id": 1, "agent": "w"},
        {"task_id": "a", "agent": "w", "max_steps": 0},
        {"task_id": "a", "agent": "w", "max_steps": True},
        {"task_id": "a", "agent": "w", "promt": "x"},
    ],
)
def test_a_spec_that_is_none_is_refused(row: dict[str, Any]) -> None:
    """A missing, misspelt, empty or mistyped field is an error that names it."""
    with pytest.raises(InvalidValueError):
        AgentStepSpec.from_dict(row)


def test_an_identity_is_what_makes_a_step_the_step_it_is() -> None:
    """It differs by workflow, id, agent, prompt, bound and schema, and by nothing else; no prompt can be read in it."""
    one = spec("a", "secret words")
    told = {identity_of("w", one), identity_of("other", one)}
    for changed in ({"task_id": "b"}, {"agent": "x"}, {"prompt": "y"}, {"max_steps": 1}, {"output_schema": {"type": "object"}}):
        told.add(identity_of("w", replace(one, **changed)))  # type: ignore[arg-type]
    assert 7 == len(told)
    assert identity_of("w", one) == identity_of("w", replace(one, description="x", parent_session_id="y"))
    assert all(len(digest) == 64 and "secret" not in digest for digest in told)


def test_an_identity_does_not_depend_on_the_order_of_keys() -> None:
    """Canonical JSON has one order."""
    assert digest_of({"a": 1, "b": {"c": 2, "d": 3}}) == digest_of({"b": {"d": 3, "c": 2}, "a": 1})


def test_a_failed_outcome_says_whose_it_is() -> None:
    """It has the id, the agent and the error; outcomes are equal whatever time they took."""
    outcome = StepOutcome.failed("a", "worker", "no luck", attempts=2)
    assert ("a", "worker", False, "no luck", 2) == (outcome.task_id, outcome.agent, outcome.success, outcome.error, outcome.attempts)
    assert outcome == replace(outcome, duration=3.0)
    assert {"task_id", "session_id", "agent", "output", "success", "structured", "error", "attempts", "tokens", "duration", "code"} == {
        *outcome.to_dict()
    }
