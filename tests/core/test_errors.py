"""Errors that carry what their catchers ask for, and say it in their message."""

from __future__ import annotations

import pytest

from agentflow.errors import AgentflowError, IllegalTransitionError, MissingAgentError, PlanMismatchError, RunNotFoundError


def test_an_order_that_a_state_does_not_allow_names_both() -> None:
    """The message names the run, its state and what was asked; the hint says what is possible."""
    error = IllegalTransitionError("r1", "completed", "pause", "it has ended")
    assert str(error) == "cannot pause run r1: it is completed; it has ended"
    assert (error.code, error.run_id, error.state, error.order, error.hint) == ("AF0508", "r1", "completed", "pause", "it has ended")
    assert IllegalTransitionError("r1", "running", "resume").hint == ""


@pytest.mark.parametrize(("where", "message"), [("", "no run 'r1'"), ("sqlite:/a.db", "no run 'r1' in sqlite:/a.db")])
def test_a_run_that_is_not_there_is_named(where: str, message: str) -> None:
    """The message has the id as it was given and the journal that was asked; it is caught as a failed look-up too."""
    error = RunNotFoundError("r1", where=where)
    assert (error.code, error.message, error.run_id, error.where) == ("AF0509", message, "r1", where)
    assert isinstance(error, LookupError)
    assert isinstance(error, AgentflowError)


def test_a_plan_that_does_not_fit_lists_the_differences() -> None:
    """The first ten differences stand in the message, all of them in the error."""
    error = PlanMismatchError("r1", ["0.1 was a, is b"])
    assert (error.code, error.message) == ("plan_mismatch", "run r1 does not fit the present plan: 0.1 was a, is b")
    assert "--accept" in error.hint
    many = PlanMismatchError("r1", [f"0.{number} is gone" for number in range(12)])
    assert many.message.endswith("0.9 is gone; and 2 more")
    assert len(many.differences) == 12


def test_a_run_that_lacks_agents_names_them() -> None:
    """The first twenty agents stand in the message, all of them in the error, and each reason of such a pause begins alike."""
    error = MissingAgentError("r1", ["a", "b"])
    assert (error.code, error.reason, error.agents) == ("AF0510", "missing_agent", ("a", "b"))
    assert error.message == "run r1 is paused: its plan names agents without a handler: `a`, `b`"
    assert MissingAgentError("r1", [f"a{number}" for number in range(21)]).message.endswith("`a19` and 1 more")
