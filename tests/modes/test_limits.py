"""The limits of flows and agents in the calls of a plan: approvals and process deaths. Time and retries: test_modes.py."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow import app
from agentflow.core.plan import Call, Flow, Loop, Node, Par, Seq, walk_nodes
from agentflow.modes import MODES, Mode

DAY_S = 24 * 3600.0
NAMES = {
    "collaborative_agents": ["a", "b"],
    "sequential_agents": ["a", "b"],
    "loop_agent": "a",
    "map": "a",
    "over": "items",
    "reduce": "b",
    "planner": "a",
    "workers": ["b"],
    "supervisor": "a",
    "agents": ["a", "b"],
    "branches": [{"when": "true", "then": "a", "else": "b"}],
    "edges": [{"from": "a", "to": "b"}],
    "entry": "a",
}
OF_STEPS = {"mode": "parallel", "steps": [{"agent": "a"}, {"agent": "b"}]}


def linked(orchestration: dict[str, Any], agents: dict[str, Any], **more: Any) -> Node:
    source = {"agent_flow": {"name": "main"}, "orchestration": orchestration, "agents": agents, **more}
    project = app.load(source, environ={})
    project.modes["bare"] = Mode(lambda flow: Seq((Call("a", approval_timeout_s=5.0), Call("b"))))
    plan, found = project.check()
    assert [one for one in found if one.severity == "error"] == []
    assert plan is not None
    return plan


def approvals(plan: Node) -> dict[str, float | None]:
    return {node.agent: node.approval_timeout_s for node in walk_nodes(plan) if isinstance(node, Call)}


@pytest.mark.parametrize("mode", MODES)
def test_an_agent_that_requires_approval_waits_in_every_mode(mode: str) -> None:
    """The call of such an agent has its time limit, a day by default; the other agents' calls have none."""
    flow = OF_STEPS if mode == "parallel" else {"mode": mode, **NAMES}
    plan = linked(flow, {"a": {"requires_approval": True}, "b": {}})
    expected = {"a": DAY_S} if mode == "loop" else {"a": DAY_S, "b": None}
    assert approvals(plan) == expected
    timed = linked(flow, {"a": {"requires_approval": True, "approval_timeout_seconds": 300}, "b": {}})
    assert approvals(timed)["a"] == 300.0


def test_an_agent_whose_approval_is_switched_off_does_not_wait() -> None:
    """A time limit alone makes no step wait."""
    switched_off = {"requires_approval": False, "approval_timeout_seconds": 300}
    assert approvals(linked({"mode": "sequential", **NAMES}, {"a": switched_off, "b": {}})) == {"a": None, "b": None}


def test_what_a_registered_mode_sets_stays() -> None:
    """A mode's function may ask for an approval of its own, and the agent's table does not change its time limit."""
    agents = {"a": {"requires_approval": True}, "b": {"requires_approval": True}}
    assert approvals(linked({"mode": "bare"}, agents)) == {"a": 5.0, "b": DAY_S}


def test_each_flow_has_its_own_process_deaths() -> None:
    """The main flow and each named one carry what their tables say, 3 by default."""
    flows = {
        "team": {"mode": "collaborative", "collaborative_agents": ["a"], "max_process_deaths": 1},
        "again": {"mode": "loop", "loop_agent": "a"},
    }
    orchestration = {"mode": "sequential", "sequential_agents": ["team", "again"], "max_process_deaths": 7}
    assert linked(orchestration, {"a": {}}, flows=flows) == Seq(
        (
            Par((Call("a"),), flow=Flow("team", "collaborative", None, 1)),
            Loop(Call("a"), 5, flow=Flow("again", "loop", None, 3)),
        ),
        Flow("main", "sequential", None, 7),
    )
