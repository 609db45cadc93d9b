"""Snapshot: a walk frozen between any two completions and thawed goes on as if nothing had happened."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from agentflow.core.codec import HASH_BYTES
from agentflow.core.event import Event, accept
from agentflow.core.facts import outputs_of
from agentflow.core.failure import Failure
from agentflow.core.frame import Frame
from agentflow.core.packing import MisfitError
from agentflow.core.plan import Branch, Call, Flow, Loop, Node, Par, Policy, Seq
from agentflow.core.replay import first_scope
from agentflow.core.snapshot import _checksum, freeze, freeze_standing, thaw, thaw_standing
from agentflow.core.standing import Approval, Standing, StepStanding
from agentflow.core.state import REMOVED, Patch, State
from agentflow.core.walk import Walk
from agentflow.core.walks import walk_of
from agentflow.errors import JournalDamagedError, JournalVersionError
from tests.core.test_walk_properties import AGENTS, MOST_STEPS, ordered_plans, respond, seeds

EVENT = accept(Event("a", {"items": [0], "y": 1, "n": 1}, {"m": "0"}), "7", lambda: 5.0)


def a_walk(plan: Node) -> Walk:
    return walk_of(plan, EVENT, first_scope(EVENT), is_noting=True)


def written(walk: Walk) -> Any:
    """Return a frozen walk as it comes back from a store."""
    return json.loads(json.dumps(freeze(walk)))


def open_calls(walk: Walk) -> list[Frame]:
    """Return the calls that wait for an answer, in declared order."""
    found: list[Frame] = []
    frames = [] if walk.is_done else [frame for frame in (walk.root, walk.after) if frame is not None]
    while frames:
        frame = frames.pop()
        if type(frame.node) is Call and frame.status == 0:
            found.append(frame)
        frames.extend(reversed(frame.open_children))
    return found


def picture(walk: Walk) -> dict[str, Any]:
    outcome = None if walk.is_plain else walk.outcome
    return {
        "state": json.dumps(State.over(walk.scope).to_dict()),
        "outputs": json.dumps(outputs_of(walk, AGENTS)),
        "open": [(frame.position, frame.node, frame.stage) for frame in open_calls(walk)],
        "given": [json.dumps(frame.given) for frame in open_calls(walk)],
        "closing": [par.position for par in walk.closing],
        "seen": [json.dumps(State.over(frame.scope).to_dict()) for frame in open_calls(walk)],
        "outcome": outcome
        and [
            outcome.reason,
            outcome.is_partial,
            outcome.failure and outcome.failure.to_dict(),
            [(name, failure.to_dict()) for name, failure in outcome.errors.items()],
            outcome.conflicts,
        ],
        "is_done": walk.is_done,
    }


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(ordered_plans, seeds, st.integers(0, 2**32).map(Random), st.floats(0, 0.5))
def test_a_thawed_walk_goes_on_as_the_frozen_one(plan: Node, seed: int, dice: Random, share: float) -> None:
    """Frozen and thawed after any completions, a walk makes the same of the same answers, and looks the same in between."""
    whole, cold = a_walk(plan), a_walk(plan)
    ready = {frame.position: frame for frame in whole.start()}
    cold.start()
    for _ in range(MOST_STEPS):
        if dice.random() < share:
            cold = thaw(plan, EVENT, written(cold) if dice.random() < 0.5 else freeze(cold))
        assert picture(cold) == picture(whole)
        assert freeze(cold) == freeze(whole)
        if not ready:
            break
        if whole.closing and dice.random() < 0.7:  # sometimes other branches end first
            whole_join, cold_join = whole.closing[-1], cold.closing[-1]
            ready = {at: frame for at, frame in ready.items() if not frame.is_below(whole_join)}
            ready |= {found.position: found for found in whole.close_join(whole_join, "fail_fast")}
            cold.close_join(cold_join, "fail_fast")
            continue
        position = dice.choice(list(ready))
        frame = ready.pop(position)
        answer = respond(frame, position, seed)
        twin = next(found for found in open_calls(cold) if found.position == position)
        if (policy := frame.node.policy) is not None and policy.default_output is not None and dice.random() < 0.3:
            answer = Patch(dict(policy.default_output))
            for walk in (whole, cold):
                walk.degrade(Failure("no", agent=frame.node.agent, position=position))
            if dice.random() < 0.5:
                cold = thaw(plan, EVENT, written(cold))
                twin = next(found for found in open_calls(cold) if found.position == position)
        ready |= {found.position: found for found in whole.complete(frame, answer)}
        cold.complete(twin, answer)
    else:
        assume(condition=False)


def test_a_join_that_is_to_be_closed_is_remembered() -> None:
    """So whoever goes on with the run closes it before anything else."""
    walk = a_walk(Seq((Par((Call("a"), Call("b")), fail_fast=True, failure_threshold=0.0), Call("c"))))
    a, _ = walk.start()
    walk.complete(a, Failure("no", "ValueError"))
    twin = thaw(walk.plan, EVENT, written(walk))
    assert [par.position for par in twin.closing] == ["0.0"]
    assert twin.closing[0] is twin.root.child  # type: ignore[union-attr]
    row = written(walk) | {"closing": ["0.1"]}
    with pytest.raises(MisfitError, match="no join is open"):
        thaw(walk.plan, EVENT, row)


def test_what_can_be_undone_is_found_again() -> None:
    """Of a step in a loop, of the call that ended one, and of hops: each has its own compensator."""

    def undone(name: str) -> Call:
        return Call(name, policy=Policy(compensate=Call(f"undo_{name}")))

    loop = Loop(undone("a"), 5, flow=Flow("loop", "loop", rescue=undone("r")))
    hops = Loop(Branch((undone("a"), undone("b")), routes={"x": 0, "b": 1}, default="b"), 3, is_handoff=True, flow=Flow("hops", "route"))
    walk = a_walk(Seq((loop, hops, Call("c"))))
    (frame,) = walk.start()
    (frame,) = walk.complete(frame, Patch({"x": 1}))
    (frame,) = walk.complete(frame, Failure("no", "ValueError"))
    (frame,) = walk.complete(frame, Patch({"x": 2}))
    (frame,) = walk.complete(frame, Patch({"x": 3}))
    assert frame.position == "0.2"
    for ready in (walk, thaw(walk.plan, EVENT, written(walk))):
        (frame,) = open_calls(ready)
        ready_now = ready.complete(frame, Failure("no", "ValueError"))
        called = []
        while ready_now:
            frame = ready_now.pop()
            called.append((frame.position, frame.node.agent, frame.given["output"]))  # type: ignore[index, union-attr]
            ready_now += ready.complete(frame, Patch({}))
        assert called == [("~0.1#1.1", "undo_b", {"x": 3}), ("~0.0#3", "undo_r", {"x": 2}), ("~0.0#1", "undo_a", {"x": 1})]


@pytest.mark.parametrize(
    "change",
    [
        {"after": "!"},
        {"after": "~", "undo": []},
        {"undo": [{"position": "0.1", "patch": {}}]},
        {"undo": [{"position": "0", "patch": {}}]},
        {"undo": [{"position": "0.9", "patch": {}}]},
    ],
)
def test_what_follows_a_failure_must_fit_the_plan(change: dict[str, Any]) -> None:
    """A phase that has nobody to call, or a step that nothing undoes, is no walk through this plan."""
    walk = a_walk(Seq((Call("a", policy=Policy(compensate=Call("u"))), Call("b"))))
    (frame,) = walk.start()
    (frame,) = walk.complete(frame, Patch({}))
    walk.complete(frame, Failure("no", "ValueError"))
    with pytest.raises(MisfitError):
        thaw(walk.plan, EVENT, written(walk) | change)


def test_a_thawed_walk_is_the_frozen_ones_no_more() -> None:
    """What the frozen walk does later does not reach the thawed one, although nothing was written out in between."""
    plan = Seq((Call("a"), Call("b")))
    walk = a_walk(plan)
    [frame] = walk.start()
    twin = thaw(plan, EVENT, freeze(walk))
    walk.complete(frame, Patch({"x": 1}, {"m": "1"}))
    assert State.over(twin.scope).to_dict() == {"data": {"items": [0], "y": 1, "n": 1}, "meta": {"m": "0"}}
    assert outputs_of(twin, ()) == {}


def test_removed_keys_stay_removed() -> None:
    """A branch that removed a key does not see the parent's, also after a thaw, and removes it at the join."""
    plan = Par((Seq((Call("a"), Call("b"))), Call("c")))
    walk = a_walk(plan)
    first, _ = walk.start()
    walk.complete(first, Patch({"y": REMOVED}, {"m": REMOVED}))
    twin = thaw(plan, EVENT, written(walk))
    one, two = open_calls(twin)
    assert (one.position, "y" in State.over(one.scope), "y" in State.over(two.scope)) == ("0.0.1", False, True)
    assert "m" not in State.over(one.scope).meta
    twin.complete(one, Patch({}))
    twin.complete(two, Patch({}))
    assert State.over(twin.scope).to_dict() == {"data": {"items": [0], "n": 1}, "meta": {}}


def test_scopes_keep_their_identity() -> None:
    """Steps of one line share a scope; a nested flow and a loop have their own over it; a branch has one of its own."""
    inner = Seq((Loop(Call("a"), 3), Call("b")), Flow("inner", "any"))
    plan = Seq((Par((inner, Call("c"))), Call("d")))
    walk = a_walk(plan)
    walk.start()
    twin = thaw(plan, EVENT, written(walk))
    one, two = open_calls(twin)
    loop = one.parent
    assert loop is not None
    assert loop.parent is not None
    assert one.scope is one.outer is loop.scope
    assert loop.scope.parent is loop.outer is loop.parent.scope
    assert loop.parent.scope.parent is loop.parent.outer
    assert loop.parent.outer.parent is two.scope.parent is twin.scope
    assert twin.outputs is twin.scope.outputs


def test_a_walk_that_has_not_begun_or_has_ended() -> None:
    """Both are frozen without frames; a walk that failed as it began too."""
    plan = Call("a")
    walk = a_walk(plan)
    twin = thaw(plan, EVENT, written(walk))
    assert (twin.root, twin.is_done) == (None, False)
    [frame] = twin.start()
    twin.complete(frame, Failure("no", "ValueError"))
    again = thaw(plan, EVENT, written(twin))
    assert (again.is_done, again.root, again.outcome.reason, str(again.outcome.failure)) == (True, None, "error", "a at 0: ValueError: no")
    broken = a_walk(Branch((Call("a"),), routes={"x": 0}))
    broken = a_walk(Loop(Branch((Call("a"),), routes={"x": 0}), 1, is_handoff=True))
    assert broken.start() == []
    assert "frames" not in freeze(broken)


# --- a whole standing ---

PLAN = Seq((Call("a"), Par((Call("b"), Seq((Call("c"),), Flow("inner", "any", 5.0))))), Flow("main", "any"))


def standing_of(plan: Node = PLAN) -> Standing:
    standing = Standing("run-1", a_walk(plan))
    ready = standing.walk.start()
    ready = standing.walk.complete(ready[0], Patch({"x": 1}))
    standing.ready = {frame.position: frame for frame in ready}
    standing.is_begun = True
    return standing


def test_a_standing_comes_back_as_it_was() -> None:
    """All that is known of a run and its open steps is in the bytes."""
    standing = standing_of()
    standing.seq, standing.epoch, standing.size, standing.hash = 7, 2, 900, b"h" * 16
    standing.plan_hash, standing.created_at, standing.cancelled, standing.flags = "h1", 5.5, "asked", ("abandoned",)
    standing.paused, standing.waiting, standing.paused_at, standing.paused_s = "review", ("0.1.0",), 8.0, 2.5
    standing.usage.add(tokens=3, cost_usd=0.5)
    standing.has_emitted = True
    standing.flows = {"0.1.1": 6.0, "0.0": 1.0}
    approval = Approval("d", 9.0, "granted", "me", "fine")
    standing.steps["0.1.0"] = StepStanding("b", 2, 1, True, 3.5, 1, 1.5, Failure("no", "E", kinds=("E",)), {"k": [1]}, approval)
    standing.steps["0.1.1.0"] = StepStanding("c", 1, approval=Approval("d"))
    found = thaw_standing("run-1", PLAN, EVENT, freeze_standing(standing))
    for name in (
        *("seq", "epoch", "size", "hash", "plan_hash", "created_at", "cancelled", "flags", "is_begun", "has_limits"),
        *("paused", "waiting", "paused_at", "paused_s", "usage", "steps", "ended", "has_emitted"),
    ):
        assert getattr(found, name) == getattr(standing, name), name
    assert found.flows == {"0.1.1": 6.0}, "a flow that has ended is forgotten"
    assert list(found.ready) == ["0.1.0", "0.1.1.0"]
    assert freeze(found.walk) == freeze(standing.walk)
    assert freeze_standing(found) == freeze_standing(standing)


def test_each_flipped_bit_of_a_snapshot_is_found() -> None:
    """A snapshot has a checksum of its own; one that does not fit is damage."""
    body = freeze_standing(standing_of())
    dice = Random(7)
    for _ in range(300):
        flipped = bytearray(body)
        place = dice.randrange(len(body) * 8)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(JournalDamagedError, match="snapshot does not have the checksum"):
            thaw_standing("run-1", PLAN, EVENT, bytes(flipped))
    for cut in (b"", body[:10], body[:-1]):
        with pytest.raises(JournalDamagedError):
            thaw_standing("run-1", PLAN, EVENT, cut)


def test_a_snapshot_of_another_run_or_release_is_refused() -> None:
    """A snapshot belongs to one run; one of a later release is not guessed at."""
    body = freeze_standing(standing_of())
    with pytest.raises(JournalDamagedError, match="of another run"):
        thaw_standing("run-2", PLAN, EVENT, body)
    row = json.loads(body[HASH_BYTES:])
    with pytest.raises(JournalVersionError, match="snapshot version 2"):
        thaw_standing("run-1", PLAN, EVENT, signed({**row, "version": 2}))


def signed(row: Any) -> bytes:
    body = json.dumps(row).encode()
    return _checksum(body) + body


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of each value inside a JSON value."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


def test_a_snapshot_that_says_something_else_is_data_or_damage() -> None:
    """Whatever stands in any place of a snapshot, reading it gives a standing or damage, and nothing else."""
    standing = standing_of()
    standing.steps["0.1.0"] = StepStanding("b", 2, 1, True, 3.5, 1, 1.5, Failure("no"), {"k": [1]}, Approval("d", 9.0))
    standing.walk.outcome.tell("a", Failure("no", position="0"))
    row = json.loads(freeze_standing(standing)[HASH_BYTES:])
    refused = 0
    for path in places(row):
        for other in (None, -1, 99, "x", [], {}, [7], {"k": 7}, True, 1.5):
            changed = json.loads(json.dumps(row))
            inner = changed
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = other
            try:
                thaw_standing("run-1", PLAN, EVENT, signed(changed))
            except JournalDamagedError:
                refused += 1
            except JournalVersionError:
                assert path == ("version",)
    assert refused > 300


@pytest.mark.parametrize(
    "row",
    [
        None,
        [],
        {},
        {"scope": {"spare": 1}},
        {"scope": {}, "frames": [{"parent": -1, "index": 0}]},
        {"scope": {}, "frames": [{"parent": -1, "index": 0, "round": 0}]},
        {"scope": {}, "frames": [{"parent": -1, "index": 0, "round": 0}, {"parent": 5, "index": 0}]},
        {"scope": {}, "frames": [{"parent": -1, "index": 0, "round": 0}, {"parent": 0, "index": 9}]},
        {"scope": {}, "frames": [{"parent": -1, "index": 0, "round": 0}, {"parent": 0, "index": 0, "status": 5}]},
        {"scope": {}, "frames": [{"parent": -1, "index": 0, "round": 1}, {"parent": 0, "index": 1, "round": 2, "left": 2}]},
    ],
)
def test_a_walk_of_another_shape_is_refused(row: Any) -> None:
    """What is no walk through the plan is refused."""
    with pytest.raises(MisfitError):
        thaw(PLAN, EVENT, row)
