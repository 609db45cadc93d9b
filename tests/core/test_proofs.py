"""Proofs: what a plan is sure of before it runs."""

from __future__ import annotations

import pytest

from agentflow.core.aggregate import Aggregate
from agentflow.core.ledger import Budget
from agentflow.core.merge import Merge
from agentflow.core.plan import (
    AGENDA,
    DELEGATION,
    MAILBOX,
    OVER,
    STEPS,
    TASKS,
    WAVES,
    Agenda,
    Branch,
    Call,
    Contract,
    Edge,
    Flow,
    Loop,
    Map,
    Node,
    Par,
    Part,
    Policy,
    Retry,
    Schema,
    Seq,
    Unread,
)
from agentflow.core.proofs import budgets_of, conflicts_of, errors_of, joins_of, loops_of, rows, sites_in

A, B, C = Call("a"), Call("b"), Call("c")


def ways(*cases: Node) -> Branch:
    """A branch by route."""
    return Branch(cases, routes={str(index): index for index in range(len(cases))})


def writing(agent: str, *keys: str) -> Call:
    """A call whose agent declares what it writes."""
    return Call(agent, contract=Contract(keys))


def schema(**told: object) -> Contract:
    """A contract that is a schema of the answer."""
    return Contract(None, Schema({"properties": {"x": {}}, **told}))  # type: ignore[dict-item]


def conflicts(plan: Node) -> list[tuple[str, str, tuple[str, ...], str]]:
    """Return the keys that may be written side by side: position, key, agents and policy."""
    return [(one.position, one.key, one.agents, one.merge) for one in conflicts_of(plan)[0]]


def test_each_node_has_one_site() -> None:
    """Rounds and items have no numbers; a branch by route has no step of its own; what stands twice is told once."""
    shared = Seq((A,), Flow("shared", "sequential"))
    hops = Loop(ways(B, shared), 3, is_handoff=True)
    plan = Seq((shared, Loop(Par((hops, shared)), 2), Map(ways(C, Seq((Call("d"),))), TASKS), Map(Call("e"), OVER, "list")))
    told = {site.node.agent: site.position for site in sites_in(plan) if isinstance(site.node, Call)}
    assert told == {"a": "0.0.0", "b": "0.1#.0#.0", "c": "0.2[].0", "d": "0.2[].1.0", "e": "0.3[]"}


@pytest.mark.parametrize(
    ("loop", "told"),
    [
        (Loop(A, 4), ("counting", "an agent sets `loop_complete`", 4, "rounds")),
        (Loop(A, 4, Unread("state.ok")), ("counting", "state.ok, or an agent sets `loop_complete`", 4, "rounds")),
        (Loop(ways(A), 4, is_handoff=True), ("route", "a step hands on to nobody", 3, "hand-offs")),
        (Loop(ways(A), 4, is_handoff=True, entry=""), ("decision_tree", "a step hands on to nobody", 3, "hand-offs")),
        (Loop(ways(A), 4, is_handoff=True, entry="a", edges=(Edge("a", ""),)), ("graph", "a way leads to the end", 4, "visits")),
        (Loop(A, 4, agenda=Agenda(DELEGATION, "boss", 9)), ("delegation", "boss sets `done`", 4, "rounds")),
        (Loop(A, 4, agenda=Agenda(MAILBOX, "", 9)), ("mailbox", "no message is left, or `consensus` is set", 9, "messages")),
        (Loop(A, 4, agenda=Agenda(WAVES, "planner", 9)), ("waves", "the plan is done", 4, "waves")),
    ],
)
def test_every_loop_says_how_it_ends(loop: Loop, told: tuple[str, str, int, str]) -> None:
    """By which condition, and after how much at the latest."""
    (one,) = loops_of(Seq((loop,), Flow("main", "any")))
    assert (one.position, one.flow) == ("0.0", "main")
    assert (one.kind, one.stop, one.most, one.unit) == told


def test_every_join_says_when_it_fails() -> None:
    """Joins of branches and of items, with how many there are and what becomes of their patches."""
    par = Par((A, B), quorum=1, fail_fast=True, join_timeout_s=5.0, merge=Merge("strict"))
    plan = Seq((par, Map(A, TASKS, most=7, is_collecting=True, is_bearing=True), Par((A, B), aggregate=Aggregate("vote"))))
    first, second, third = joins_of(plan)
    assert (first.members, first.quorum, first.fail_fast, first.join_timeout_seconds, first.merge) == (2, 1, True, 5.0, "strict")
    assert (second.members, second.quorum, second.bears_failures, second.merge) == (7, None, True, "")
    assert (third.aggregate, third.merge) == ("vote", "")


def test_keys_written_side_by_side_need_a_policy() -> None:
    """Those of two branches, wherever in them; one branch may write a key as often as it likes."""
    inner = Seq((writing("b", "x", "y"), writing("c", "y")), Flow("inner", "sequential"))
    assert conflicts(Par((writing("a", "x"), inner))) == [("0", "x", ("a", "b"), "ordered")]
    assert conflicts(Par((writing("a", "x"), inner), merge=Merge("strict"))) == [("0", "x", ("a", "b"), "strict")]
    assert conflicts(Par((writing("a", "x"), inner), merge=Merge("strict", {"x": "sum"}))) == []
    assert conflicts(Seq((writing("a", "x"), inner))) == []
    assert conflicts(Par((inner,))) == []


def test_whoever_may_take_a_place_counts() -> None:
    """Fallbacks write in their agent's place; what a background step sets is not merged."""
    spare = Call("a", contract=Contract(()), policy=Policy(fallback=(writing("spare", "x"),)))
    assert conflicts(Par((spare, writing("b", "x")))) == [("0", "x", ("spare", "b"), "ordered")]
    behind = Call("a", contract=Contract(("x",)), policy=Policy(is_background=True))
    assert conflicts_of(Par((behind, writing("b", "x")))) == ([], [])


def test_items_work_side_by_side_too() -> None:
    """One agent for several items may write its key twice; steps take each way once; what is collected is not merged."""
    plan = Map(ways(writing("a", "x"), writing("b", "y")), AGENDA, most=2)
    assert conflicts(plan) == [("0", "x", ("a",), "ordered"), ("0", "y", ("b",), "ordered")]
    assert conflicts(Map(ways(writing("a", "x"), writing("b", "y"), writing("c", "y")), STEPS)) == [("0", "y", ("b", "c"), "ordered")]
    assert conflicts(Map(writing("a", "x"), OVER, "list")) == [("0", "x", ("a",), "ordered")]
    assert conflicts(Map(writing("a", "x"), OVER, "list", is_collecting=True)) == []
    assert conflicts(Map(writing("a", "x"), OVER, "list", most=1)) == []
    assert conflicts(Par((writing("a", "x"), writing("b", "x")), aggregate=Aggregate("first"))) == []


def test_of_agents_that_declare_nothing_it_is_unknown() -> None:
    """A schema of the answer names keys, and all of them only where it allows no others."""
    plan = Par((A, writing("b", "x"), Call("open", contract=schema()), Call("closed", contract=schema(additionalProperties=False))))
    found, unknown = conflicts_of(plan)
    assert [(one.key, one.agents) for one in found] == [("x", ("b", "open", "closed"))]
    assert [(one.position, one.agents) for one in unknown] == [("0", ("a", "open"))]
    assert conflicts_of(Par((Call("bare", contract=Contract()), writing("b"))))[1][0].agents == ("bare",)
    assert conflicts_of(Seq((A, B))) == ([], [])


def test_each_step_says_what_becomes_of_its_failure() -> None:
    """By itself, by its join, by the flow it stands in, or by default."""
    tried = Call("a", retry=Retry(2), policy=Policy(fallback=(B,), default_output={}))
    onward = Seq((Call("c"), Par((Call("d"), Call("e", part=Part(on_error="stop"))))), Flow("onward", "sequential", on_error="continue"))
    saved = Loop(Call("f"), 2, flow=Flow("saved", "loop", rescue=C))
    assert [(one.agent, one.on_error, one.by) for one in errors_of(Seq((tried, onward, saved)))] == [
        ("a", "stop", "default"),
        ("c", "continue", "flow onward"),
        ("d", "join", "join 0.1.1"),
        ("e", "stop", "step"),
        ("f", "route:c", "flow saved"),
    ]
    first = errors_of(tried)[0]
    assert (first.attempts, first.fallback, first.has_default) == (3, ("b",), True)


def test_budgets_are_told_once() -> None:
    """Of the run, its flows, and the agents."""
    budget = Budget(tokens=9)
    inner = Seq((Call("a", policy=Policy(budget=budget)), A, Call("a", policy=Policy(budget=budget))), Flow("inner", "any", budget=budget))
    plan = Seq((inner, B), Flow("main", "any", budget=Budget(calls=3)))
    assert [(one.scope, one.tokens, one.calls) for one in budgets_of(plan)] == [
        ("run", None, 3),
        ("flow inner", 9, None),
        ("agent a", 9, None),
    ]


def test_proofs_are_json() -> None:
    """Names of several agents are arrays."""
    (row,) = rows(conflicts_of(Par((writing("a", "x"), writing("b", "x"))))[0])
    assert row == {"position": "0", "flow": "", "key": "x", "agents": ["a", "b"], "merge": "ordered"}
