"""Plan rows: the nodes of the patterns as plain JSON."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow.core.aggregate import Aggregate
from agentflow.core.merge import Merge
from agentflow.core.part import REDUCE, Previous, Results, Template
from agentflow.core.plan import (
    AGENDA,
    OVER,
    STEPS,
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
    Schema,
    Seq,
    Unread,
)
from agentflow.core.plan_rows import to_dict

A = Call("a")


def own(node: Node, *names: str) -> dict[str, Any]:
    """Return some entries of a node's row."""
    row = to_dict(node)
    return {name: row[name] for name in names}


def test_a_map_says_what_it_goes_through_and_how_it_joins() -> None:
    """What is not asked for is left out; steps are as many as there are."""
    row = to_dict(Map(A, OVER, "files", 7, 3, 0.0, Merge("strict", {"k": "sum"})))
    del row["steps"]
    join = {"max_concurrency": 3, "failure_threshold": 0.0, "merge": "strict", "merge_keys": {"k": "sum"}}
    assert row == {"kind": "map", "each_of": "over", "key": "files", "most_items": 7, **join}
    body = Branch((A, A), routes={"x": 0, "y": 1})
    assert to_dict(Map(body, STEPS))["most_items"] == 2
    told = {"collects": True, "bears_failures": True, "default": "a"}
    assert own(Map(body, AGENDA, is_collecting=True, is_bearing=True, default="a"), *told) == told


def test_a_loop_says_how_it_goes_on() -> None:
    """Its agenda, or its entry and edges."""
    agenda = Agenda(WAVES, "planner", 9, most_replans=2)
    assert to_dict(Loop(A, 3, agenda=agenda))["agenda"] == {"kind": "waves", "most_items": 9, "leader": "planner", "max_replans": 2}
    edges = (Edge("a", "b", Unread("state.x")), Edge("a", ""))
    row = to_dict(Loop(Branch((A,), routes={"a": 0}), 4, is_handoff=True, entry="a", edges=edges, max_visits=2))
    assert row["edges"] == [{"from": "a", "to": "b", "when": "state.x"}, {"from": "a", "to": "", "when": None}]
    assert (row["entry"], row["max_visits"]) == ("a", 2)


@pytest.mark.parametrize(
    ("told", "row"),
    [
        (Template({"x": "{{ state.x }}"}), {"is": "input", "value": {"x": "{{ state.x }}"}}),
        (Template([1], is_data=True), {"is": "data", "value": [1]}),
        (Previous(), {"is": "previous"}),
        (Results(REDUCE, Template("sum up")), {"is": "reduce", "instruction": "sum up"}),
    ],
)
def test_a_member_says_what_it_is_given(told: Any, row: dict[str, Any]) -> None:
    """In its author's words, or what it is made of."""
    assert to_dict(Call("a", part=Part("gather", told)))["input"] == row


def test_a_member_says_what_its_flow_says_of_it() -> None:
    """Its id, title and what its failure does; a flow's stand apart from its own."""
    part = Part("gather", on_error="continue", title="Gather it")
    told = {"id": "gather", "title": "Gather it", "on_error": "continue"}
    assert own(Call("a", part=part), *told) == told
    assert to_dict(Seq((A,), Flow("inner", "sequential", part=part)))["part"] == told
    assert "part" not in to_dict(Seq((A,), Flow("inner", "sequential")))


def test_contracts_and_aggregates_stand_where_they_hold() -> None:
    """Of an agent, a flow and a join."""
    schema = Schema({"type": "object"})
    call = Call("a", contract=Contract((), schema), policy=Policy(is_background=True))
    assert own(call, "writes", "output_schema", "background") == {
        "writes": [],
        "output_schema": {"type": "object"},
        "background": True,
    }
    assert "writes" not in to_dict(Call("a", contract=Contract()))
    assert to_dict(Seq((A,), Flow("f", "sequential", state_schema=schema)))["state_schema"] == {"type": "object"}
    assert to_dict(Par((A, A), aggregate=Aggregate("vote")))["aggregate"] == "vote"
