"""What holds for every plan: completion order does not matter, a cut can be replayed, costs do not grow."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from types import FrameType
from typing import Any
from zlib import crc32

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from agentflow.core import walk as walk_module
from agentflow.core.agenda_walk import peers_of
from agentflow.core.answered import Answered
from agentflow.core.event import Event
from agentflow.core.facts import outputs_of
from agentflow.core.failure import Failure
from agentflow.core.frame import Frame
from agentflow.core.map_frame import MapFrame
from agentflow.core.merge import Merge
from agentflow.core.part import REDUCE, REPLAN, SYNTHESIS, Part, Previous, Results, Template
from agentflow.core.plan import (
    AGENDA,
    DELEGATION,
    MAILBOX,
    OVER,
    REVISION,
    TASKS,
    WAVES,
    Agenda,
    Branch,
    Call,
    Edge,
    ErrorRoutes,
    Flow,
    Loop,
    Map,
    Node,
    Par,
    Policy,
    Seq,
    key_of,
)
from agentflow.core.rules import Rule
from agentflow.core.state import Patch, Scope, State
from agentflow.core.walk import Answer, Walk
from agentflow.core.walks import walk_of

AGENTS = ("a", "b", "c", "d")
KEYS = ("x", "y", "items")
MOST_STEPS = 300

RULES = [
    Rule(source)
    for source in (
        "has(state.x) && state.x == 1",
        "state.y == 2",
        "has(outputs.a) && has(outputs.b)",
        "has(meta.m)",
        "event.data.n > 0",
        "has(state.items) && size(state.items) > 1",
    )
]
MERGES = [
    Merge(),
    Merge("strict"),
    Merge(keys={"items": "append", "x": "collect"}),
    Merge(keys={"items": "union", "y": "sum"}),
    Merge(keys={"x": "first", "m": "last", "y": "max"}),
]

# --- random plans, and handlers that answer by position and by the state they see, never by when they are called ---

RESCUE, TRIAGE, UNDO = Call("r"), Call("h"), Call("u")
flows = st.none() | st.sampled_from(
    [*(Flow(name, "any") for name in ("f1", "f2", "f3")), Flow("f4", "any", on_error="continue"), Flow("f5", "any", rescue=RESCUE)]
)
PARTS = [
    Part("one"),
    Part("two", Template({"y": "{{ state.y }}", "n": "{{ event.data.n }}!"}, is_data=True)),
    Part("", Previous(Template("{{ state.y }}"))),
    Part("three", on_error="continue"),
    Part("four", Template("{{ outputs.a }}"), on_error="stop"),
]
calls = st.sampled_from([*(Call(name) for name in AGENTS), *(Call(name) for name in AGENTS), *(Call("a", part=part) for part in PARTS)])
undoable = st.sampled_from(
    [Call(name, policy=Policy(compensate=UNDO, default_output={"x": name} if name == "b" else None)) for name in AGENTS]
)
mains = st.sampled_from(
    [
        Flow("main", "any", errors=ErrorRoutes(TRIAGE)),
        Flow("main", "any", errors=ErrorRoutes(None, {"ValueError": TRIAGE})),
        Flow("main", "any", on_error="continue"),
        Flow("main", "any", rescue=RESCUE, errors=ErrorRoutes(TRIAGE)),
    ]
)


def _route_flow(cases: list[Node], default: int, hops: int, flow: Flow | None) -> Loop:
    routes = {name: index for index, name in enumerate(AGENTS[: len(cases)])}
    return Loop(Branch(tuple(cases), routes=routes, default=AGENTS[default % len(cases)]), hops, is_handoff=True, flow=flow)


def _branch(cases: list[Node], conditions: list[Rule], flow: Flow | None) -> Branch:
    return Branch(tuple(cases[: len(conditions) + 1]), tuple(conditions[: len(cases)]), flow=flow)


def _joins(nodes: st.SearchStrategy[Node], concurrency: int, thresholds: list[float], *, is_early: bool) -> st.SearchStrategy[Node]:
    """Joins of 2 to 4 branches; with `is_early` some do not wait for all."""
    early = {"fail_fast": st.booleans(), "join_timeout_s": st.none() | st.just(5.0)} if is_early else {}
    branches = st.lists(nodes, min_size=2, max_size=4).map(tuple)
    quorums = st.sampled_from([None, None, 1, 2])
    limits = (st.integers(1, concurrency), st.sampled_from(thresholds))
    return st.builds(Par, branches, *limits, st.sampled_from(MERGES), flows, quorum=quorums, **early)


def _routed(cases: list[Node]) -> Branch:
    """Return a branch by the names of agents, and by what the first of them can do."""
    return Branch(tuple(cases), routes={**{name: index for index, name in enumerate(AGENTS[: len(cases)])}, "skill": 0})


def _tasks(planner: Call, cases: list[Node], default: str, last: Results, flow: Flow | None) -> Seq:
    workers = Map(_routed(cases), TASKS, most=3, concurrency=2, is_collecting=last.form == REDUCE, default=default)
    return Seq((planner, workers, Call("d", part=Part(input=last))), flow)


def _supervised(leader: Call, cases: list[Node], default: str, flow: Flow | None) -> Loop:
    members = Map(_routed(cases), AGENDA, most=2, default=default)
    return Loop(Seq((leader, members)), 2, agenda=Agenda(DELEGATION, leader.agent, 4, default), flow=flow)


def _peers(cases: list[Node], most: int, flow: Flow | None) -> Loop:
    routes = {name: index for index, name in enumerate(AGENTS[: len(cases)])}
    return Loop(Map(Branch(tuple(cases), routes=routes), AGENDA, most=3), most, agenda=Agenda(MAILBOX, "", most), flow=flow)


def _planned(planner: Call, cases: list[Node], replans: int, flow: Flow | None) -> Seq:
    steps = Map(_routed(cases), AGENDA, most=4, failure_threshold=0.0, is_bearing=replans > 0)
    again = Map(Call("c", part=Part(input=Results(REPLAN))), REVISION, most=1)
    body = Seq((steps, again)) if replans else steps
    loop = Loop(body, 4, agenda=Agenda(WAVES, planner.agent, 4, "a", replans))
    return Seq((planner, loop, Call("d", part=Part(input=Results(SYNTHESIS)))), flow)


def _graph(cases: list[Node], conditions: list[Rule], visits: int, flow: Flow | None) -> Loop:
    edges = (Edge("a", "b", conditions[0]), Edge("a", ""), Edge("b", "a", conditions[-1]), Edge("b", ""))
    routes = {"a": 0, "b": 1}
    bound = len(cases) * visits
    return Loop(Branch(tuple(cases), routes=routes), bound, is_handoff=True, entry="a", edges=edges, max_visits=visits, flow=flow)


def _patterns(nodes: st.SearchStrategy[Node], *, is_early: bool) -> st.SearchStrategy[Node]:
    """Maps, graphs and loops with an agenda, of any nodes."""
    cases = st.lists(nodes, min_size=2, max_size=2)
    leaders = st.sampled_from([Call("a"), Call("b")])
    defaults = st.sampled_from(["", "a"])
    merges = st.sampled_from(MERGES)
    over = st.builds(
        *(Map, nodes, st.just(OVER), st.just("items"), st.just(3), st.integers(1, 2), st.sampled_from([0.0, 0.5, 1.0]), merges),
        is_collecting=st.booleans(),
        flow=flows,
    )
    return (
        over
        | st.builds(lambda body, last, flow: Seq((body, last), flow), over, st.just(Call("d", part=Part(input=Results(REDUCE)))), flows)
        | st.builds(_tasks, leaders, cases, defaults, st.sampled_from([Results(REDUCE, Template("all")), Results(SYNTHESIS)]), flows)
        | st.builds(_supervised, leaders, cases, defaults, flows)
        | st.builds(_peers, cases, st.integers(1, 4), flows)
        | st.builds(_planned, leaders, cases, st.integers(0, 2), flows)
        | st.builds(_graph, cases, st.lists(st.sampled_from(RULES), min_size=1, max_size=2), st.integers(1, 2), flows)
    )


def _inner(nodes: st.SearchStrategy[Node], *, is_early: bool) -> st.SearchStrategy[Node]:
    several = st.lists(nodes, min_size=2, max_size=3)
    return _patterns(nodes, is_early=is_early) | (
        st.builds(Seq, several.map(tuple), flows)
        | _joins(nodes, 3, [0.0, 0.5, 1.0], is_early=is_early)
        | st.builds(Loop, nodes, st.integers(1, 2), st.none() | st.sampled_from(RULES), flow=flows)
        | st.builds(_branch, several, st.lists(st.sampled_from(RULES), min_size=1, max_size=2), flows)
        | st.builds(_route_flow, several, st.integers(0, 2), st.integers(1, 3), flows)
    )


def _trees(calls: st.SearchStrategy[Call], *, is_early: bool) -> st.SearchStrategy[Node]:
    parts = st.recursive(calls, lambda nodes: _inner(nodes, is_early=is_early), max_leaves=6)
    # Something side by side in each plan, or completion order would mean nothing.
    joins = _joins(parts, 4, [0.5, 1.0], is_early=is_early) | _patterns(parts, is_early=is_early)
    trees = (
        joins
        | st.builds(lambda *steps: Seq(steps), parts, joins, parts)
        | st.builds(Loop, joins, st.just(2))
        | st.builds(_route_flow, st.tuples(joins, parts).map(list), st.just(0), st.just(3), flows)
    )
    return st.builds(lambda tree, flow: tree if flow is None else Seq((tree,), flow), trees, st.none() | mains)


plans = _trees(calls, is_early=False)
# And those in which the order of completion counts: joins that do not wait for all, and steps that are undone in its reverse.
ordered_plans = _trees(calls | undoable, is_early=True)
seeds = st.integers(0, 2**20)


def respond(frame: Frame, position: str, seed: int) -> Answer:
    """Answer as a handler would: by what it sees and where it stands."""
    state = State.over(frame.scope)
    dice = Random(crc32(f"{seed}/{position}/{sorted(state)}/{frame.given}".encode()))
    for _ in range(dice.randrange(4)):
        _act(state, dice, position)
    if frame.given is not None and dice.random() < 0.3:
        state["recovered"] = True
    for key in frame.controls if isinstance(frame, MapFrame) else ():
        if dice.random() < 0.9:
            state[key] = steer(key, dice)
    if dice.random() < (0.06 if seed % 3 else 0.2):
        return Failure(f"failed at {position}", "ValueError")
    patch = state.patch_to(frame.scope)
    patch.route = dice.choice(AGENTS) if dice.random() < 0.2 else None
    peers = peers_of(frame)
    if peers is not None and dice.random() < 0.7:
        sent = tuple((dice.choice(sorted(peers)), position) for _ in range(dice.randrange(1, 3)))
        patch = Answered(patch, {"same": position} if dice.random() < 0.3 else {}, sent)
    return patch


def steer(key: str, dice: Random) -> Any:
    """Return what a leader says by one of its keys; now and then something that cannot be followed."""
    name = dice.choice(["a", "b", "skill", "skill", "nobody"] if dice.random() < 0.2 else ["a", "b"])
    match key:
        case "next":
            return dice.choice([name, ["a", {"agent": name, "task": {"n": 1}}], {"capability": name}, "" if dice.random() < 0.2 else name])
        case "tasks":
            return [{"id": f"t{at}", "specialty": dice.choice([name, None]), "input": at} for at in range(dice.randrange(4))]
        case "plan":
            ids = [f"s{dice.randrange(1000)}" for _ in range(dice.randrange(3))]
            return [{"id": one, "agent": name, "input": one, "depends_on": ids[:at]} for at, one in enumerate(ids)]
        case _:
            return dice.random() < 0.4


def _act(state: State, dice: Random, position: str) -> None:
    key = dice.choice(KEYS)
    match dice.randrange(8):
        case 0:
            state.pop(key, None)
        case 1:
            state[key] = dice.choice([0, 1, 1.0, True, 2, None])
        case 2:
            state[key] = [position]
        case 3:
            if isinstance(state.get("items"), list):
                state["items"].append(position)
            else:
                state["items"] = []
        case 4:
            state["y"] = len(state) + int(state.get("iteration", 0))
        case 5:
            state.meta["m"] = position
        case 6:
            state.meta.pop("m", None)
        case _:
            if dice.random() < 0.3:
                state["loop_complete"] = True


@dataclass
class Driven:
    """A walk, driven to its end, and the answers in the order in which calls were completed."""

    walk: Walk
    answers: list[tuple[str, Answer]]

    def result(self) -> dict[str, Any]:
        outcome = self.walk.outcome
        return {
            "state": State.over(self.walk.scope).to_dict(),
            "outputs": outputs_of(self.walk, AGENTS),
            "reason": outcome.reason,
            "failure": outcome.failure and outcome.failure.to_dict(),
            "is_partial": outcome.is_partial,
            "handling": outcome.handling,
            "errors": [(name, failure.to_dict()) for name, failure in outcome.errors.items()],
            "conflicts": outcome.conflicts,
            "notes": sorted(map(repr, self.walk.notes)),
            "calls": sorted(position for position, _ in self.answers),
        }


def drive(plan: Node, seed: int, pick: Callable[[int], int], known: dict[str, Answer] | None = None) -> Driven:
    """Complete ready calls in the order that `pick` chooses; those whose position is known answer first, as recorded."""
    found = walk_of(plan, accepted(seed), Scope({"items": [0], "y": 1}, {"m": "0"}), is_noting=True)
    open_calls = [(frame.position, frame) for frame in found.start()]
    answers: list[tuple[str, Answer]] = []
    while open_calls:
        if len(answers) == MOST_STEPS:
            assume(condition=False)
        recorded = [index for index, (position, _) in enumerate(open_calls) if position in (known or {})]
        index = recorded[pick(len(recorded))] if recorded else pick(len(open_calls))
        position, frame = open_calls.pop(index)
        answer = known[position] if known and position in known else respond(frame, position, seed)
        answers.append((position, answer))
        open_calls += [(ready.position, ready) for ready in found.complete(frame, answer)]
    assert found.is_done
    return Driven(found, answers)


def accepted(seed: int) -> Event:
    return Event("a", {"n": seed % 2}, id="e1", timestamp=5.0)


def first(_: int) -> int:
    return 0


def last(count: int) -> int:
    return count - 1


every_plan = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


@every_plan
@given(plans, seeds, st.randoms(use_true_random=False))
def test_any_completion_order_gives_the_same_result(plan: Node, seed: int, dice: Random) -> None:
    """State, outputs, outcome, notes and calls made do not depend on the order in which ready calls are completed."""
    expected = drive(plan, seed, first).result()
    event(expected["reason"])
    event(f"{[call for call in expected['calls'] if call == '!']} {expected['is_partial']}")
    assert drive(plan, seed, last).result() == expected
    assert drive(plan, seed, dice.randrange).result() == expected


@every_plan
@given(plans, seeds, st.randoms(use_true_random=False))
def test_cut_anywhere_and_replayed_gives_the_same_result(plan: Node, seed: int, dice: Random) -> None:
    """A fresh walk fed the answers that were recorded before a cut goes on to the same end."""
    whole = drive(plan, seed, dice.randrange)
    cut = dice.randrange(len(whole.answers) + 1)
    recorded = dict(whole.answers[:cut])
    assert len(recorded) == cut, "a position is completed once"
    replayed = drive(plan, seed, dice.randrange, recorded)
    assert {position for position, _ in replayed.answers[:cut]} == set(recorded), "every recorded answer finds its place"
    assert replayed.result() == whole.result()


@every_plan
@given(plans, seeds, st.randoms(use_true_random=False))
def test_cut_from_outside_ends_the_walk(plan: Node, seed: int, dice: Random) -> None:
    """A walk can be ended at any moment: it is done, failed, starts nothing, and what its steps said stays readable."""
    whole = drive(plan, seed, dice.randrange)
    found = walk_of(plan, accepted(seed), Scope({"items": [0], "y": 1}, {"m": "0"}))
    open_calls = [(frame.position, frame) for frame in found.start()]
    said: set[str] = set()
    recorded = dict(whole.answers)
    for _ in range(dice.randrange(len(whole.answers) + 1)):
        if not open_calls:
            break
        position, frame = open_calls.pop(dice.randrange(len(open_calls)))
        said |= {key_of(frame.node)} if isinstance(recorded[position], Patch) else set()
        open_calls += [(ready.position, ready) for ready in found.complete(frame, recorded[position])]
    assume(not found.is_done)
    before = outputs_of(found, AGENTS)
    assert found.cut(None, Failure("stop", code="timeout"), is_final=True) == []
    assert (found.is_done, found.outcome.reason) == (True, "timeout")
    assert said <= set(outputs_of(found, AGENTS))
    assert {name: before[name] for name in AGENTS if name in before} == {
        name: found for name, found in outputs_of(found, AGENTS).items() if name in AGENTS
    }


@every_plan
@given(plans, seeds, st.randoms(use_true_random=False))
def test_concurrency_is_never_exceeded(plan: Node, seed: int, dice: Random) -> None:
    """Of the branches of one join no more than its concurrency are open at any moment."""
    found = walk_of(plan, accepted(seed), Scope({"items": [0], "y": 1}))
    open_calls = found.start()
    for _ in range(MOST_STEPS):
        if not open_calls:
            break
        _check_open_branches(open_calls)
        frame = open_calls.pop(dice.randrange(len(open_calls)))
        open_calls += found.complete(frame, respond(frame, frame.position, seed))


def _check_open_branches(open_calls: list[Frame]) -> None:
    branches: dict[int, tuple[Par, set[int]]] = {}
    for call in open_calls:
        frame = call
        while frame.parent is not None:
            if isinstance(frame.parent.node, Par):
                branches.setdefault(id(frame.parent), (frame.parent.node, set()))[1].add(frame.index)
            frame = frame.parent
    assert all(len(open_branches) <= par.concurrency for par, open_branches in branches.values())


# --- costs ---


def _nested(size: int) -> Node:
    return Par((Seq((Loop(Seq(tuple(Call(f"a{index}") for index in range(size))), size), Call("last")), Flow("f", "any")), Call("b")))


SHAPES: dict[str, Callable[[int], Node]] = {
    "long sequence": lambda size: Seq(tuple(Call(f"a{index}") for index in range(size))),
    "wide join": lambda size: Par(tuple(Call(f"a{index}") for index in range(size)), concurrency=3),
    "wide open join": lambda size: Par(tuple(Call(f"a{index}") for index in range(size)), concurrency=size),
    "long loop": lambda size: Loop(Call("a"), size),
    "wide route": lambda size: Loop(
        Branch(tuple(Call(f"a{i}") for i in range(size)), routes={f"a{i}": i for i in range(size)}), 9, is_handoff=True
    ),
    "nested": _nested,
}


def _calls_of_the_third_completion(plan: Node, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Count Python calls made and frames entered by one completion in the middle of a plan."""
    frames = calls = 0

    class Counted(Frame):
        __slots__ = ()

        def __init__(self, *args: Any) -> None:
            nonlocal frames
            frames += 1
            super().__init__(*args)

    monkeypatch.setattr(walk_module, "Frame", Counted)
    found = Walk(plan, Event("a1"), Scope({}))
    ready = found.start()
    for _ in range(2):
        ready += found.complete(ready.pop(0), Patch({"k": 1}, route="a2"))
    frames = 0

    def count(frame: FrameType, kind: str, _argument: object) -> None:
        nonlocal calls  # of our own code only: the garbage collector may call others in between
        calls += kind == "call" and "agentflow" in frame.f_globals.get("__name__", "")

    old = sys.getprofile()
    sys.setprofile(count)
    try:
        found.complete(ready[0], Patch({"k": 1}, route="a3"))
    finally:
        sys.setprofile(old)
    return calls, frames


@pytest.mark.parametrize("shape", SHAPES)
def test_completion_costs_depth_and_not_size(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One completion makes as many calls and frames in a plan of 2,000 steps as in one of 10."""
    small = _calls_of_the_third_completion(SHAPES[shape](10), monkeypatch)
    large = _calls_of_the_third_completion(SHAPES[shape](2000), monkeypatch)
    assert small == large
    assert small[1] <= 3


def _reachable(found: Walk) -> dict[str, int]:
    """Count the frames, scopes and patches that a walk holds on to."""
    counts = {"Frame": 0, "Scope": 0, "Patch": 0}
    seen: set[int] = set()
    waiting: list[object] = [found]
    while waiting:
        item = waiting.pop()
        if id(item) not in seen and isinstance(item, (Walk, Frame, Scope, Patch, dict, list)):
            seen.add(id(item))
            counts[type(item).__name__] = counts.get(type(item).__name__, 0) + 1
            waiting.extend(gc.get_referents(item))
    return counts


@pytest.mark.parametrize(
    ("body", "rounds"),
    [
        (Call("a"), 10_000),
        (Seq((Call("a"), Par((Call("b"), Seq((Call("c"), Call("d")), Flow("f", "any")))))), 1000),
        (Loop(Call("a"), 2), 1000),
    ],
    ids=["call", "join", "loop"],
)
def test_memory_of_a_loop_does_not_grow(body: Node, rounds: int) -> None:
    """After ten rounds and after thousands a walk holds the same number of frames, scopes and patches."""
    found = Walk(Loop(body, rounds + 1), Event("a"), Scope({}))
    ready = found.start()
    counts: list[dict[str, int]] = []
    done = 0
    while True:
        frame = ready.pop()
        if frame.position.startswith((f"0#{10}", f"0#{rounds}")) and len(ready) == 0 and frame.node == Call("a"):
            counts.append(_reachable(found))
        if frame.position.startswith(f"0#{rounds + 1}"):
            break
        done += 1
        ready += found.complete(frame, Patch({"k": done}))
    assert len(counts) >= 2
    assert counts[0] == counts[-1]
    assert counts[0]["Frame"] <= 6


def test_ended_walk_is_freed_without_a_garbage_collection() -> None:
    """Frames of an ended walk hold no cycles: dropping the walk frees them."""
    inner = Seq((Call("c"), Loop(Call("d"), 2)), Flow("f", "any"))
    plan = Seq((Call("a"), Par((Call("b"), inner)), Branch((Call("a"), Call("b")), (RULES[0],))))
    gc.collect()
    gc.disable()
    try:
        before = sum(type(found) is Frame for found in gc.get_objects())
        found = drive(plan, 1, first)
        assert len(found.answers) == 6
        del found
        assert sum(type(found) is Frame for found in gc.get_objects()) == before
    finally:
        gc.enable()
