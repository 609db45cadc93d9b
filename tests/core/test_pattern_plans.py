"""What a recorded plan, snapshot or patch of a pattern has to look like: anything else is refused as damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from agentflow.core.answered import Answered, like
from agentflow.core.event import Event, accept, first_scope
from agentflow.core.frame import OPEN
from agentflow.core.map_walk import instruction_of
from agentflow.core.packing import MisfitError, pack_patch, unpack_patch
from agentflow.core.part import REDUCE, Part, Results, Template
from agentflow.core.plan import AGENDA, DELEGATION, OVER, WAVES, Agenda, Branch, Call, Edge, Flow, Loop, Map, Node, Par, Seq
from agentflow.core.plan_codec import decode_plan, encode_plan, hash_of
from agentflow.core.rules import Rule
from agentflow.core.snapshot import freeze, thaw
from agentflow.core.state import Patch
from agentflow.core.walks import walk_of
from agentflow.errors import JournalDamagedError

MAPPED = Seq((Map(Call("m"), OVER, "xs", is_collecting=True), Call("r", part=Part(input=Results(REDUCE, Template("all"))))), Flow("f", "x"))
BRANCH = Branch((Call("a"), Call("b")), routes={"a": 0, "b": 1})
GRAPH = Loop(BRANCH, 4, is_handoff=True, entry="a", edges=(Edge("a", "b", Rule("state.x > 1")), Edge("a", "")), max_visits=2)
LED = Loop(Seq((Call("lead"), Map(BRANCH, AGENDA, most=2))), 3, agenda=Agenda(DELEGATION, "lead", 6))


def changed(plan: Node, change: Callable[[list[dict[str, Any]]], object]) -> bytes:
    """Return an encoded plan with something changed in its table of nodes."""
    told = json.loads(encode_plan(plan))
    change(told["nodes"])
    return json.dumps(told).encode()


def of(nodes: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(row for row in nodes if row["kind"] == kind)


@pytest.mark.parametrize(
    ("plan", "change"),
    [
        (MAPPED, lambda nodes: of(nodes, "Map").update(source="thin air")),
        (MAPPED, lambda nodes: next(row for row in nodes if "part" in row)["part"]["input"].update(form="haiku")),
        (MAPPED, lambda nodes: next(row for row in nodes if "part" in row)["part"].update(id=3)),
        (GRAPH, lambda nodes: of(nodes, "Loop").update(entry="nowhere")),
        (GRAPH, lambda nodes: of(nodes, "Loop").update(edges={"a": "b"})),
        (GRAPH, lambda nodes: of(nodes, "Loop")["edges"].append(["a", "nowhere", None])),
        (GRAPH, lambda nodes: of(nodes, "Loop")["edges"].append(["a"])),
        (LED, lambda nodes: of(nodes, "Loop")["agenda"].update(kind="wish")),
    ],
)
def test_a_plan_that_is_none_is_refused(plan: Node, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """A plan whose Map, graph, agenda or input is not what this release writes is damaged, never guessed at."""
    encoded = changed(plan, change)
    with pytest.raises(JournalDamagedError):
        decode_plan(hash_of(encoded), encoded, Rule, lambda name: lambda before, values: values)


def frozen(plan: Node) -> tuple[Event, dict[str, Any]]:
    """Return a plan's walk after its start, as JSON."""
    event = accept(Event("", {"xs": [1, 2]}), "1", float)
    walk = walk_of(plan, event, first_scope(event))
    walk.start()
    return event, json.loads(json.dumps(freeze(walk)))


def test_a_snapshot_with_items_where_there_is_no_map_is_refused() -> None:
    """Items belong to a Map, and each to a case that its body has."""
    event, row = frozen(LED)
    row["frames"][0]["rows"] = []
    with pytest.raises(MisfitError, match="is no Map"):
        thaw(LED, event, row)
    event, row = frozen(MAPPED)
    next(frame for frame in row["frames"] if "rows" in frame)["rows"][0]["case"] = 7
    with pytest.raises(MisfitError):
        thaw(MAPPED, event, row)


def test_an_answer_with_more_than_its_changes_comes_back() -> None:
    """What a step returned that was there already, and its messages, are written with its patch; a message that is none is refused."""
    told = Answered(Patch({"x": 1}), {"y": [1]}, (("b", {"hi": 1}),))
    back = unpack_patch(json.loads(json.dumps(pack_patch(told))))
    assert isinstance(back, Answered)
    assert (back.data, back.same, back.sent) == (told.data, told.same, told.sent)
    with pytest.raises(MisfitError):
        unpack_patch({"sent": [["b"]]})


def test_an_answer_that_a_hook_changes_keeps_what_was_said() -> None:
    """What a hook changes takes the place of what was there already; of a plain patch there is nothing to keep."""
    told = Answered(Patch({"x": 1}), {"y": 1, "z": 1}, (("b", 1),))
    after = like(told, Patch({"x": 1, "y": 2}))
    assert isinstance(after, Answered)
    assert (after.values(), after.sent) == ({"z": 1, "x": 1, "y": 2}, (("b", 1),))
    assert type(like(Patch({}), Patch({"x": 1}))) is Patch


def test_an_input_of_an_item_is_filled_with_what_it_is_given() -> None:
    """A member's own input speaks of the item, in its event data and in ctx.input alike."""
    plan = Seq((Map(Call("m", part=Part(input=Template("item {{ event.data.item }}"))), OVER, "xs"),), Flow("f", "x"))
    event = accept(Event("", {"xs": [7]}), "1", float)
    (item,) = walk_of(plan, event, first_scope(event)).start()
    assert (item.given, instruction_of(item, event)) == ({"input": "item 7"}, "item 7")


def test_a_message_where_nobody_listens_is_dropped_by_the_walk() -> None:
    """ctx.send refuses it before; a walk that is given one all the same goes on without it."""
    event = accept(Event(""), "1", float)
    walk = walk_of(LED, event, first_scope(event))
    (lead,) = walk.start()
    assert walk.complete(lead, Answered(Patch({"done": True}), {}, (("a", 1),))) == []
    assert walk.is_done


def test_a_step_that_has_run_is_not_planned_again() -> None:
    """A replanner that names the id of a step that has begun fails the flow."""
    steps = Map(BRANCH, AGENDA, most=3, failure_threshold=0.0, is_bearing=True)
    again = Map(Call("re"), "revision", most=1)
    plan = Seq((Call("pl"), Loop(Seq((steps, again)), 3, agenda=Agenda(WAVES, "pl", 3, "", 2))))
    event = accept(Event(""), "1", float)
    walk = walk_of(plan, event, first_scope(event))
    told = {"plan": [{"id": "one", "agent": "a"}, {"id": "two", "agent": "b", "depends_on": ["one"]}]}
    (planner,) = walk.start()
    (first,) = walk.complete(planner, Patch(dict(told)))
    (replanner,) = walk.complete(first, Patch({}))
    assert walk.complete(replanner, Patch({"plan": [{"id": "one", "agent": "a"}]})) == []
    assert walk.outcome.failure is not None
    assert "`one` is planned again" in walk.outcome.failure.message


def test_a_map_that_failed_has_the_same_name_after_a_restart() -> None:
    """What is said of a Map whose items could not be made, or have failed, does not depend on whether the run was read again since."""
    plan = Par((Map(Call("a"), OVER, "n"), Call("b"), Call("c")), failure_threshold=0.0)
    event = accept(Event("", {"n": 3}), "1", float)
    whole = walk_of(plan, event, first_scope(event), is_noting=True)
    ready = whole.start()
    read = thaw(plan, event, json.loads(json.dumps(freeze(whole))))
    told = []
    for walk in (whole, read):
        assert walk.root is not None
        open_calls = [frame for frame in walk.root.frames if frame is not None and frame.status == OPEN]
        assert len(open_calls) == len(ready) == 2
        for frame in open_calls:
            walk.complete(frame, Patch({}))
        assert walk.outcome.failure is not None
        told.append(walk.outcome.failure.message)
    assert told[0] == told[1]
    assert "map: " in told[0]
