"""Positions: which nodes of a plan stand above a step, and whose budgets it uses."""

from __future__ import annotations

import pytest

from agentflow.core.ledger import Budget
from agentflow.core.plan import AGENDA, OVER, TASKS, Agenda, Branch, Call, Flow, Loop, Map, Node, Seq, name_of
from agentflow.core.spending import Spending, marks_of, nodes_above

INNER = Seq((Call("x"), Call("y")), Flow("inner", "sequential", budget=Budget(calls=5)))
BODY = Branch((Call("a"), INNER), routes={"a": 0, "inner": 1})
TEAM = Loop(Seq((Call("boss"), Map(BODY, AGENDA))), 3, agenda=Agenda("delegation", "boss", 9))
PLAN = Seq((Map(Seq((Call("p"), Call("q"))), OVER, "list"), TEAM, Map(Call("z"), TASKS)))


@pytest.mark.parametrize(
    ("position", "marks"),
    [
        ("0", []),
        ("0.1#2[13].4", [(".", 1), ("#", 2), ("[", 13), (".", 4)]),
        ("0[0]", [("[", 0)]),
        ("0[2][3]", [("[", 2), ("[", 3)]),
        ("0[", [("[", -1)]),
    ],
)
def test_a_position_is_a_way_down(position: str, marks: list[tuple[str, int]]) -> None:
    """By child, round and item."""
    assert list(marks_of(position)) == marks


@pytest.mark.parametrize(
    ("position", "names"),
    [
        ("0.0[4].1", ["0 seq", "0.0 map", "0.0[4] seq", "0.0[4].1 q"]),
        (
            "0.1#2.1[0].1.0",
            ["0 seq", "0.1 loop", "0.1#2 seq", "0.1#2.1 map", "0.1#2.1[0] branch", "0.1#2.1[0].1 inner", "0.1#2.1[0].1.0 x"],
        ),
        ("0.2[999]", ["0 seq", "0.2 map", "0.2[999] z"]),
        ("0.2[0].5", ["0 seq", "0.2 map", "0.2[0] z"]),
        ("0.1#1.1[0].7", ["0 seq", "0.1 loop", "0.1#1 seq", "0.1#1.1 map", "0.1#1.1[0] branch"]),
        ("!", []),
    ],
)
def test_nodes_above_a_step_are_found_by_its_position(position: str, names: list[str]) -> None:
    """Through items and rounds, as far as the plan goes."""
    assert [f"{place} {name_of(node)}" for place, node in nodes_above(PLAN, position)] == names


def test_what_an_item_uses_is_charged_to_the_flow_that_it_takes() -> None:
    """Each item has its own budget of a flow that is run for it."""
    spending = Spending(PLAN, {})
    spending.call("0.1#1.1[0].1.0", "x")
    spending.call("0.1#1.1[0].1.1", "y")
    spending.call("0.1#1.1[1].1.0", "x")
    spending.call("0.1#1.1[2].0", "a")
    assert {scope: figures.calls for scope, figures in spending.spent.items()} == {
        "": 4,
        "flow:0.1#1.1[0].1": 2,
        "flow:0.1#1.1[1].1": 1,
    }


def test_a_flow_as_the_only_body_is_charged_at_the_item() -> None:
    """It stands where the item stands."""
    plan: Node = Map(INNER, TASKS)
    spending = Spending(plan, {})
    spending.call("0[3].0", "x")
    assert set(spending.spent) == {"", "flow:0[3]"}
