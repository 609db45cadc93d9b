"""Plans as data: names, order, and their JSON."""

from __future__ import annotations

import json

import pytest

from agentflow.core.ledger import Budget
from agentflow.core.merge import Merge
from agentflow.core.plan import (
    Branch,
    Call,
    ErrorRoutes,
    Flow,
    Loop,
    Node,
    Par,
    Policy,
    Retry,
    Seq,
    Unread,
    agents_of,
    children,
    name_of,
    walk_nodes,
)
from agentflow.core.plan_rows import to_dict
from agentflow.errors import RuleError

A, B, C = Call("a"), Call("b"), Call("c")
TREE = Seq(
    (A, Par((B, Loop(A, 3)), flow=Flow("team", "collaborative", 5.0)), Branch((C, A), (Unread("true"),))), Flow("main", "sequential")
)


@pytest.mark.parametrize(
    ("node", "below"),
    [(A, ()), (Seq((A, B)), (A, B)), (Par((A, B)), (A, B)), (Loop(A, 2), (A,)), (Branch((A, B)), (A, B))],
)
def test_children_stand_in_declared_order(node: Node, below: tuple[Node, ...]) -> None:
    """The nodes directly below a node are told in declared order."""
    assert children(node) == below


def test_walk_goes_depth_first() -> None:
    """Nodes are visited from the root down, in declared order."""
    assert [name_of(node) for node in walk_nodes(TREE)] == ["main", "a", "team", "b", "loop", "branch", "c"]


def test_shared_flow_is_visited_once() -> None:
    """Flows that name each other many times are walked in time of their number, not of the tree they unfold to."""
    node: Node = A
    for level in range(64):
        node = Seq((node, node), Flow(f"f{level}", "sequential"))
    assert agents_of(node) == ("a",)
    assert len(list(walk_nodes(node))) == 65


def test_agents_are_told_once_in_declared_order() -> None:
    """The agents of a plan are listed where each first stands."""
    assert agents_of(TREE) == ("a", "b", "c")


@pytest.mark.parametrize(
    ("node", "name"), [(A, "a"), (Seq((A,)), "seq"), (Seq((A,), Flow("main", "sequential")), "main"), (Par((A,)), "par")]
)
def test_name_of_a_node(node: Node, name: str) -> None:
    """A node goes by its agent's or flow's name, else by its kind."""
    assert name_of(node) == name


def test_condition_that_is_not_linked_refuses_to_answer() -> None:
    """A condition that was never compiled is an error when it is asked, not a no."""
    with pytest.raises(RuleError, match="never compiled"):
        Unread("true").holds(None)  # type: ignore[arg-type]


def test_plan_as_json() -> None:
    """The JSON of a plan has each node with its kind, its own fields, its flow and its steps."""
    call = {"kind": "call", "agent": "a", "timeout_seconds": 300.0, "max_retries": 0, "approval_timeout_seconds": None}
    assert to_dict(A) == call
    assert to_dict(Call("a", 5.0, Retry(3))) == {**call, "timeout_seconds": 5.0, "max_retries": 3}
    assert to_dict(Call("a", approval_timeout_s=60.0)) == {**call, "approval_timeout_seconds": 60.0}
    flow = {"flow": "main", "mode": "sequential", "flow_timeout_seconds": None, "max_process_deaths": 3, "on_error": "stop"}
    assert to_dict(Seq((A,), Flow("main", "sequential"))) == {"kind": "seq", **flow, "steps": [call]}
    par = {"kind": "par", "max_concurrency": 2, "failure_threshold": 0.5, "merge": "ordered", "steps": [call]}
    assert to_dict(Par((A,), 2)) == par
    assert to_dict(Par((A,), 2, merge=Merge("strict", {"k": "sum"}))) == {**par, "merge": "strict", "merge_keys": {"k": "sum"}}
    assert to_dict(Loop(A, 3)) == {"kind": "loop", "bound": 3, "until": None, "hands_on": False, "steps": [call]}
    assert to_dict(Loop(A, 3, Unread("state.x")))["until"] == "state.x"
    assert to_dict(Branch((A,), (Unread("true"),))) == {"kind": "branch", "when": ["true"], "steps": [call]}
    assert to_dict(Branch((A,), routes={"a": 0})) == {"kind": "branch", "when": [], "routes": {"a": 0}, "default": None, "steps": [call]}
    json.dumps(to_dict(TREE))


def test_failure_policies_as_json() -> None:
    """What a call, a join and a flow have of them stands under the keys of the configuration; what they have not is left out."""
    call = Call("a", policy=Policy((Call("b"),), ("x",), {}, 2, 5.0, Call("u"), Budget(tokens=9), 3))
    row = to_dict(call)
    assert {name: row[name] for name in list(row)[5:]} == {
        "fallback": [to_dict(Call("b"))],
        "fallback_on": ["x"],
        "default_output": {},
        "self_correct": 2,
        "cache_seconds": 5.0,
        "compensate": to_dict(Call("u")),
        "budget": {"tokens": 9, "warn_at": 0.8},
        "reserve_tokens": 3,
    }
    join = to_dict(Par((A,), quorum=1, fail_fast=True, join_timeout_s=5.0))
    assert (join["quorum"], join["fail_fast"], join["join_timeout_seconds"]) == (1, True, 5.0)
    errors = ErrorRoutes(A, {"x": A}, {"high": A}, {"timeout": A})
    flow = to_dict(Seq((A,), Flow("main", "any", rescue=Call("r"), budget=Budget(calls=2), errors=errors)))
    assert (flow["on_error"], flow["rescue"], flow["budget"]) == ("route:r", to_dict(Call("r")), {"calls": 2, "warn_at": 0.8})
    assert (flow["error_handler"], flow["code_handlers"]) == (to_dict(A), {"x": to_dict(A)})
    assert (flow["severity_handlers"], flow["category_handlers"]) == ({"high": to_dict(A)}, {"timeout": to_dict(A)})
    assert to_dict(Seq((A,), Flow("main", "any", on_error="continue")))["on_error"] == "continue"
    json.dumps(flow)


def test_agents_beside_the_steps_are_agents_of_the_plan() -> None:
    """Those of the steps first, then who may be called beside them, each once: so that none is missing when it is needed."""
    undo = Call("u", policy=Policy((Call("v"),)))
    inner = Seq((Call("a", policy=Policy((Call("b"),), compensate=undo)),), Flow("inner", "any", rescue=Call("r")))
    plan = Seq((inner, Call("c")), Flow("main", "any", errors=ErrorRoutes(Call("h"), {"x": Call("a")}, {}, {"timeout": Call("h2")})))
    assert agents_of(plan) == ("a", "c", "h", "h2", "r", "b", "u", "v")
