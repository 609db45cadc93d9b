"""Failure policies in a walk: what is borne, what ends a failed flow, joins that do not wait, handlers and compensators."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest

from agentflow.core.event import Event
from agentflow.core.failure import Failure, failure_of
from agentflow.core.frame import Frame, SpecialFrame, child_at
from agentflow.core.plan import Branch, Call, ErrorRoutes, Flow, Loop, Node, Par, Policy, Seq
from agentflow.core.policy_walk import DEADLINE, LOST, PolicyWalk
from agentflow.core.records import LoopEnded, RouteIgnored
from agentflow.core.rules import Rule
from agentflow.core.state import Patch, Scope, State
from agentflow.core.walk import Answer, Walk
from agentflow.core.walks import kind_of, walk_of

A, B, C, D, R, H = (Call(name) for name in "abcdrh")
CONTINUE = Flow("main", "any", on_error="continue")
RESCUED = Flow("main", "any", rescue=R)
HANDLED = Flow("main", "any", errors=ErrorRoutes(H))
NO_WAY = Branch((A, B), (Rule("state.missing == 1"),))
EVENT = Event("a", {"n": 1}, id="e1", timestamp=5.0)

Answers = dict[str, Any]  # by agent or position: data to set, an exception or code to fail with, a function of the state, or a Patch


def undone(name: str, by: str = "u", **policy: Any) -> Call:
    return Call(name, policy=Policy(compensate=Call(by), **policy))


def make(plan: Node, data: dict[str, Any] | None = None) -> Walk:
    return walk_of(plan, EVENT, Scope(dict(data or {})), is_noting=True)


def answered(frame: Frame, answers: Answers) -> Answer:
    given = answers.get(frame.position, answers.get(frame.node.agent, {}))
    if isinstance(given, Exception):
        return failure_of(given)
    if isinstance(given, Patch):
        return given
    state = State.over(frame.scope)
    state.update(given(state) if callable(given) else given)
    return state.patch_to(frame.scope)


def drive(walk: Walk, answers: Answers, ready: list[Frame] | None = None) -> list[str]:
    """Complete all that becomes ready, and return the positions and agents in the order of their calls."""
    called: list[str] = []
    ready = walk.start() if ready is None else ready
    while ready:
        frame = ready.pop(0)
        called.append(f"{frame.position} {frame.node.agent}")
        ready += walk.complete(frame, answered(frame, answers))
        assert not walk.closing
    assert walk.is_done
    return called


def final(walk: Walk) -> dict[str, Any]:
    return State.over(walk.scope).to_dict()["data"]


def told(walk: Walk) -> dict[str, str]:
    return {name: str(failure) for name, failure in walk.outcome.errors.items()}


def ends(walk: Walk) -> tuple[str, bool, str]:
    outcome = walk.outcome
    return outcome.reason, outcome.is_partial, "" if outcome.failure is None else str(outcome.failure)


# --- which plans pay ---


@pytest.mark.parametrize(
    ("plan", "kind"),
    [
        (Seq((A, Par((B, C), quorum=1))), Walk),
        (Seq((Call("a", policy=Policy(fallback=(B,), default_output={})),), Flow("main", "any", 5.0)), Walk),
        (Seq((A,), CONTINUE), PolicyWalk),
        (Seq((Seq((A,), RESCUED),)), PolicyWalk),
        (Seq((A,), HANDLED), PolicyWalk),
        (Loop(undone("a"), 2), PolicyWalk),
        (Par((A, B), fail_fast=True), PolicyWalk),
        (Seq((Par((A, B), join_timeout_s=1.0), C)), PolicyWalk),
    ],
)
def test_only_plans_with_policies_of_the_walk_are_walked_with_care(plan: Node, kind: type[Walk]) -> None:
    """What the walk itself has nothing to do with, such as fallbacks, leaves it the plain one."""
    assert kind_of(plan) is kind
    assert type(make(plan)) is kind


# --- on_error = "continue" ---


def test_a_sequence_goes_on_after_a_failed_step() -> None:
    """The failure is told, the next step sees the state of the one before, and the run is partial."""
    walk = make(Seq((A, B, C), CONTINUE))
    assert drive(walk, {"a": {"x": 1}, "b": ValueError("no"), "c": lambda state: {"y": state["x"]}}) == ["0.0 a", "0.1 b", "0.2 c"]
    assert (final(walk), ends(walk), told(walk)) == ({"x": 1, "y": 1}, ("partial", True, ""), {"b": "b at 0.1: ValueError: no"})


def test_a_sequence_whose_steps_all_fail_goes_on_to_its_end() -> None:
    """Also the last step may fail."""
    walk = make(Seq((A, B), CONTINUE))
    assert drive(walk, {"a": ValueError("no"), "b": ValueError("no")}) == ["0.0 a", "0.1 b"]
    assert ends(walk) == ("partial", True, "")


def test_a_loop_goes_on_after_a_failed_round() -> None:
    """A failed round counts as a round; conditions are read after it as after any other."""
    walk = make(Loop(A, 3, flow=CONTINUE))
    assert drive(walk, {"0#1": ValueError("no"), "0#3": ValueError("no")}) == ["0#1 a", "0#2 a", "0#3 a"]
    assert ends(walk) == ("max_iterations", True, "")
    until = make(Loop(A, 5, Rule("state.x > 1"), flow=CONTINUE), {"x": 0})
    drive(until, {"a": lambda state: {"x": state["x"] + 1}, "0#2": ValueError("no")})
    assert (final(until), until.outcome.reason) == ({"x": 2}, "condition_met")


def test_phases_without_a_name_obey_the_flow_around_them() -> None:
    """In a mixed flow the sequential phase goes on, too; a join still judges its branches, and may fail and be borne."""
    plan = Seq((Par((A, B)), Seq((C, D))), CONTINUE)
    walk = make(plan)
    assert drive(walk, {"a": ValueError("no"), "b": ValueError("no"), "c": ValueError("no")}) == [
        "0.0.0 a",
        "0.0.1 b",
        "0.1.0 c",
        "0.1.1 d",
    ]
    assert ends(walk) == ("partial", True, "")
    assert set(told(walk)) == {"a", "b", "c", "a, b"}


def test_a_flow_inside_stops_as_it_says_itself() -> None:
    """A nested flow that stops ends at its failure, and is the failed step of the flow that goes on."""
    plan = Seq((Seq((A, B), Flow("inner", "any")), C), CONTINUE)
    walk = make(plan)
    assert drive(walk, {"a": ValueError("no")}) == ["0.0.0 a", "0.1 c"]
    assert told(walk) == {"a": "a at 0.0.0: ValueError: no", "inner": "a at 0.0.0: ValueError: no"}


def test_a_flow_inside_that_goes_on_has_not_failed() -> None:
    """What a nested flow has borne is nothing to the flow around it, but makes the run partial."""
    walk = make(Seq((Seq((A, B), Flow("inner", "any", on_error="continue")), C)))
    assert drive(walk, {"a": ValueError("no")}) == ["0.0.0 a", "0.0.1 b", "0.1 c"]
    assert ends(walk) == ("partial", True, "")


def test_a_flow_that_was_cut_is_a_failed_step() -> None:
    """A nested flow whose time is up is borne as any step is."""
    walk = make(Seq((Seq((A, B), Flow("inner", "any", 1.0)), C), CONTINUE))
    (a,) = walk.start()
    (c,) = walk.cut(a.parent, Failure("late", "EventTimeoutError", "timeout"))
    assert drive(walk, {}, [c]) == ["0.1 c"]
    assert ends(walk) == ("partial", True, "")


def test_a_choice_that_cannot_be_made_is_borne() -> None:
    """A branch whose conditions have no answer fails as it is entered; the flow goes on, wherever it stands."""
    walk = make(Seq((NO_WAY, C, NO_WAY), CONTINUE))
    assert drive(walk, {}) == ["0.1 c"]
    assert ends(walk) == ("partial", True, "")
    nested = make(Seq((Seq((NO_WAY, NO_WAY)), D), CONTINUE))
    assert drive(nested, {}) == ["0.1 d"]


def test_thousands_of_choices_that_cannot_be_made_are_no_trouble() -> None:
    """They are left in a row, not in depth."""
    walk = make(Seq((NO_WAY,) * (sys.getrecursionlimit() * 2) + (C,), CONTINUE))
    assert len(drive(walk, {})) == 1


@pytest.mark.parametrize(("body", "why"), [(NO_WAY, "`state.missing` is not there"), (Seq((NO_WAY, NO_WAY)), "nobody was called")])
def test_a_round_in_which_nobody_is_called_ends_a_loop(body: Node, why: str) -> None:
    """Else a loop of a billion rounds would end them all at once; the same holds in a later round."""
    walk = make(Loop(body, 10**9, flow=CONTINUE))
    assert drive(walk, {}) == []
    assert walk.outcome.reason == "error"
    assert why in ends(walk)[2]
    later = make(Loop(Branch((A, B), (Rule("state.x == 1"),)), 10**9, flow=CONTINUE), {"x": 1})
    assert drive(later, {"a": lambda state: state.pop("x") and {}}) == ["0#1.0 a"]
    assert later.notes[-1] == LoopEnded("0", "error", 2, {"iteration": 1})


def test_a_step_of_a_route_flow_that_fails_ends_it_well() -> None:
    """A failed step names no route, so that the flow has no way on: it ends, and the run is partial."""
    flow = Loop(Branch((A, B), routes={"a": 0, "b": 1}), 5, is_handoff=True, flow=CONTINUE)
    walk = make(flow)
    assert drive(walk, {"a": Patch({}, route="b"), "b": ValueError("no")}) == ["0#1.0 a", "0#2.1 b"]
    assert ends(walk) == ("partial", True, "")


# --- on_error = "route:AGENT" ---


def route_flow(flow: Flow | None) -> Loop:
    return Loop(Branch((A, B), routes={"a": 0, "b": 1}, default="a"), 5, is_handoff=True, flow=flow)


@pytest.mark.parametrize(
    ("plan", "position"),
    [
        (Seq((A, B), RESCUED), "0.2"),
        (Seq((Seq((A,)), B), RESCUED), "0.2"),
        (Loop(A, 5, flow=RESCUED), "0#2"),
        (Loop(Seq((A, B)), 5, flow=RESCUED), "0#2"),
        (route_flow(RESCUED), "0#2.2"),
        (Branch((B, A), (Rule("false"),), flow=RESCUED), "0.2"),
        (Seq((Par((A, A)), B), RESCUED), "0.2"),
    ],
)
def test_a_flow_that_fails_ends_with_the_agent_it_is_routed_to(plan: Node, position: str) -> None:
    """That is its last step, at the place after its steps, rounds or hops; it sees what is settled and why it is called."""
    walk = make(plan, {"seen": 0})
    seen: list[Any] = []

    def handler(state: State) -> dict[str, Any]:
        return {"seen": state["seen"] + 1}

    ready = walk.start()
    while ready:
        frame = ready.pop(0)
        seen.append((frame.position, frame.node.agent, frame.is_after, frame.given))
        ready += walk.complete(frame, answered(frame, {"a": ValueError("no"), "r": handler}))
    *_, (place, agent, is_after, given) = seen
    assert (place, agent, is_after) == (position, "r", False)
    assert given["error"]["message"].endswith("no") or "ValueError: no" in given["error"]["message"]
    assert given["event"]["data"] == {"n": 1}
    assert (final(walk)["seen"], ends(walk)) == (1, ("partial", True, ""))


def test_what_the_agent_is_told() -> None:
    """The error with its category and severity, who failed, where, after how many attempts, and the event."""
    walk = make(Seq((A, B), RESCUED))
    (a,) = walk.start()
    (rescue,) = walk.complete(a, failure_of(TimeoutError("slow"), attempts=3))
    assert rescue.given == {
        "error": {"code": "TimeoutError", "type": "TimeoutError", "message": "slow", "category": "timeout", "severity": "medium"},
        "agent": "a",
        "position": "0.0",
        "attempts": 3,
        "event": EVENT.to_dict(),
    }


def test_an_agent_that_is_routed_to_may_fail() -> None:
    """Then its flow fails with its error: nothing is routed twice."""
    walk = make(Seq((A, B), RESCUED))
    assert drive(walk, {"a": ValueError("no"), "r": KeyError("neither")}) == ["0.0 a", "0.2 r"]
    assert ends(walk) == ("error", True, "r at 0.2: KeyError: 'neither'")
    assert set(told(walk)) == {"a", "r"}


def test_a_nested_flow_that_was_rescued_has_ended_well() -> None:
    """The flow around it goes on with its next step."""
    walk = make(Seq((Seq((A, B), replace(RESCUED, name="inner")), C)))
    assert drive(walk, {"a": ValueError("no"), "r": {"x": 1}}) == ["0.0.0 a", "0.0.2 r", "0.1 c"]
    assert (final(walk), ends(walk)) == ({"x": 1}, ("partial", True, ""))
    assert walk.outputs["inner"].data == {"x": 1}


def test_a_flow_that_is_ended_from_outside_is_not_rescued() -> None:
    """Its time is up; but the flow around it may be."""
    inner = Seq((A, B), Flow("inner", "any", 1.0, rescue=Call("never")))
    walk = make(Seq((inner, C), RESCUED))
    (a,) = walk.start()
    (rescue,) = walk.cut(a.parent, Failure("late", "EventTimeoutError", "timeout"))
    assert (rescue.position, rescue.node) == ("0.2", R)
    again = make(Seq((A,), RESCUED))
    again.start()
    assert again.cut(None, Failure("late", code="timeout")) == []
    assert again.outcome.reason == "timeout"


def test_a_flow_that_cannot_begin_is_rescued() -> None:
    """A route flow with no way, a branch without an answer: both fail as they are entered."""
    lost = Loop(Branch((A, B), routes={"x": 0, "b": 1}), 5, is_handoff=True, flow=RESCUED)
    assert drive(make(lost), {}) == ["0#2.2 r"]
    assert drive(make(Seq((NO_WAY, B), RESCUED)), {}) == ["0.2 r"]
    assert drive(make(replace(NO_WAY, flow=RESCUED)), {}) == ["0.2 r"]


def test_a_route_of_the_agent_leads_on_from_the_flow_that_it_ends() -> None:
    """It binds to the route flow around; with none it is ignored, also where its own flow hands on."""
    inner = route_flow(replace(RESCUED, name="inner"))
    outer = Loop(Branch((inner, C), routes={"a": 0, "c": 1}), 5, is_handoff=True)
    walk = make(outer)
    answers = {"a": ValueError("no"), "r": Patch({}, route="c")}
    assert drive(walk, answers) == ["0#1.0#1.0 a", "0#1.0#2.2 r", "0#2.1 c"]
    alone = make(route_flow(RESCUED))
    assert drive(alone, {"a": ValueError("no"), "r": Patch({}, route="b")}) == ["0#1.0 a", "0#2.2 r"]
    assert alone.notes[-1] == RouteIgnored("0#2.2", "b")
    wrong = make(outer)
    drive(wrong, {**answers, "r": Patch({}, route="nobody")})
    assert wrong.outcome.reason == "error"


def test_a_parallel_branch_may_be_rescued() -> None:
    """The join sees a branch that ended well, and its patch."""
    walk = make(Par((Seq((A, B), replace(RESCUED, name="inner")), C), failure_threshold=0.0))
    drive(walk, {"a": ValueError("no"), "r": {"x": 1}, "c": {"y": 1}})
    assert (final(walk), ends(walk)) == ({"x": 1, "y": 1}, ("partial", True, ""))


def test_the_child_after_the_last_is_the_one_that_ends_a_flow() -> None:
    """So a snapshot finds it again; a flow without one has no such child."""
    assert child_at(Seq((A, B), RESCUED), 2) is R
    assert child_at(Loop(A, 2, flow=RESCUED), 1) is R
    assert child_at(route_flow(RESCUED), 2) is R
    with pytest.raises(IndexError):
        child_at(Seq((A, B)), 2)


# --- joins: quorum ---


@pytest.mark.parametrize(
    ("quorum", "failing", "is_ok"), [(1, "ab", True), (2, "ab", False), (2, "a", True), (3, "a", False), (3, "", True), (1, "abc", False)]
)
def test_a_quorum_says_how_many_branches_must_succeed(quorum: int, failing: str, is_ok: bool) -> None:
    """It takes the place of the threshold, which would say otherwise of a third and of two thirds."""
    walk = make(Par((A, B, C), failure_threshold=0.5, quorum=quorum))
    drive(walk, {name: ValueError("no") for name in failing})
    assert (walk.outcome.failure is None) == is_ok
    if not is_ok:
        assert f"{3 - len(failing)} of 3 branches succeeded, {quorum} must" in walk.outcome.failure.message  # type: ignore[union-attr]
        assert walk.outcome.reason == "threshold"


def test_a_failed_join_is_what_its_branches_were() -> None:
    """Its category is theirs where they agree, and it is as grave as the gravest."""
    walk = make(Par((A, B)))
    drive(walk, {"a": TimeoutError("slow"), "b": TimeoutError("slow")})
    failure = walk.outcome.failure
    assert failure is not None
    assert (failure.type, failure.category, failure.severity) == ("JoinError", "timeout", "medium")
    mixed = make(Par((A, B)))
    drive(mixed, {"a": TimeoutError("slow"), "b": PermissionError("no")})
    assert mixed.outcome.failure is not None
    assert (mixed.outcome.failure.category, mixed.outcome.failure.severity) == ("internal", "high")


# --- joins: fail_fast and deadline ---


def begun(plan: Node) -> tuple[PolicyWalk, dict[str, Frame]]:
    walk = make(plan)
    assert isinstance(walk, PolicyWalk)
    return walk, {frame.node.agent: frame for frame in walk.start()}


def test_fail_fast_gives_up_once_the_join_is_lost() -> None:
    """Of four branches of which half may fail, the third failure is one too many: no other begins, and those that run can be ended."""
    walk, ready = begun(Par((A, B, C, D), concurrency=4, fail_fast=True, failure_threshold=0.5))
    for name in "ab":
        assert walk.complete(ready[name], failure_of(ValueError("no"))) == []
        assert walk.closing == []
    walk.complete(ready["c"], failure_of(ValueError("no")))
    (join,) = walk.closing
    assert (join.position, walk.counted(join), walk.is_done) == ("0", ("0.0", "0.1", "0.2"), False)
    assert walk.close_join(join, LOST) == []
    assert (walk.is_done, walk.outcome.reason, walk.closing) == (True, "threshold", [])
    assert "JoinClosedError" in str(walk.outcome.errors["d"])


def test_fail_fast_starts_nothing_more() -> None:
    """Branches that wait for a place are not begun once the join is lost."""
    walk, ready = begun(Par((A, B, C), concurrency=1, fail_fast=True, failure_threshold=0.0))
    assert walk.complete(ready["a"], failure_of(ValueError("no"))) == []
    walk.close_join(walk.closing[0], LOST)
    assert (walk.is_done, set(walk.outcome.errors)) == (True, {"a", "b", "c"})


def test_fail_fast_speaks_of_a_quorum_too() -> None:
    """With two of three needed the second failure ends the join."""
    walk, ready = begun(Par((A, B, C), fail_fast=True, quorum=2))
    walk.complete(ready["a"], failure_of(ValueError("no")))
    assert walk.closing == []
    walk.complete(ready["c"], failure_of(ValueError("no")))
    assert len(walk.closing) == 1


def test_a_join_that_ends_by_itself_is_not_closed() -> None:
    """The last branch makes the join fail as it would without fail_fast."""
    walk, ready = begun(Par((A, B), fail_fast=True, failure_threshold=0.5))
    walk.complete(ready["a"], failure_of(ValueError("no")))
    walk.complete(ready["b"], failure_of(ValueError("no")))
    assert (walk.is_done, walk.closing, walk.outcome.reason) == (True, [], "threshold")
    inner, ready = begun(Seq((Par((A, B), fail_fast=True, quorum=2), C), CONTINUE))
    inner.complete(ready["b"], failure_of(ValueError("no")))
    assert len(inner.closing) == 1
    (c,) = inner.complete(ready["a"], Patch({}))  # its answer came before it could be cancelled
    assert (c.node, inner.closing) == (C, [])


def test_a_join_without_fail_fast_waits_for_all() -> None:
    """However many have failed, and whatever else the plan asks for."""
    walk, ready = begun(Seq((Par((A, B, C), failure_threshold=0.0), D), CONTINUE))
    assert walk.complete(ready["a"], failure_of(ValueError("no"))) == []
    assert walk.closing == []


def test_a_lost_join_inside_another_one_is_forgotten_with_it() -> None:
    """Closing the outer one ends the inner one: it is not to be closed any more."""
    plan = Par((Par((A, B, C), fail_fast=True, failure_threshold=0.0), D), fail_fast=True, failure_threshold=0.0)
    walk, ready = begun(plan)
    walk.complete(ready["a"], failure_of(ValueError("no")))
    walk.complete(ready["d"], failure_of(ValueError("no")))
    assert [join.position for join in walk.closing] == ["0.0", "0"]
    walk.close_join(walk.closing[1], LOST)
    assert (walk.is_done, walk.closing) == (True, [])


def test_a_lost_join_in_a_flow_that_is_cut_is_forgotten_with_it() -> None:
    """Its flow has ended: there is nothing left to close."""
    inner = Seq((Par((A, B), fail_fast=True, failure_threshold=0.0), C), Flow("inner", "any", 1.0))
    walk, ready = begun(Seq((inner, D), CONTINUE))
    walk.complete(ready["a"], failure_of(ValueError("no")))
    (join,) = walk.closing
    (d,) = walk.cut(join.parent, Failure("late", code="timeout"))
    assert (d.node, walk.closing) == (D, [])


def test_at_the_deadline_what_is_missing_has_failed() -> None:
    """The join is judged with what there is; a nested flow keeps what its steps have said, but settles nothing."""
    inner = Seq((B, C), Flow("inner", "any"))
    walk, ready = begun(Par((A, inner, D), concurrency=2, join_timeout_s=1.0, failure_threshold=0.7))
    walk.complete(ready["b"], Patch({"y": 1}))
    (d,) = walk.complete(ready["a"], Patch({"x": 1}))
    assert d.node is D
    assert walk.close_join(walk.root, DEADLINE) == []  # type: ignore[arg-type]
    assert (final(walk), ends(walk)) == ({"x": 1}, ("partial", True, ""))
    assert set(walk.outputs) == {"a", "b", "inner"}
    assert {name: failure.code for name, failure in walk.outcome.errors.items()} == {"inner": "join_closed", "d": "join_closed"}


def test_at_the_deadline_default_outputs_count() -> None:
    """An agent with a default gives it, in the declared order of patches, and the run is degraded; with fail_fast nothing is made up."""
    slow = Call("b", policy=Policy(default_output={"k": ["b"]}))
    plan = Par((A, slow, C), join_timeout_s=1.0, failure_threshold=0.0)
    walk, ready = begun(plan)
    walk.complete(ready["c"], Patch({"k": ["c"]}))
    walk.complete(ready["a"], Patch({"k": ["a"]}))
    walk.close_join(walk.root, DEADLINE)  # type: ignore[arg-type]
    assert (final(walk), walk.outcome.reason, walk.outcome.failure, walk.outcome.is_degraded) == ({"k": ["c"]}, "degraded", None, True)
    assert walk.outputs["b"].data == {"k": ["b"]}
    lost, ready = begun(replace(plan, fail_fast=True))
    lost.complete(ready["a"], failure_of(ValueError("no")))
    lost.close_join(lost.closing[0], LOST)
    assert (final(lost), lost.outcome.is_degraded) == ({}, False)


def test_a_default_output_is_a_copy_each_time() -> None:
    """What one run makes of it reaches no other one."""
    kept: dict[str, Any] = {"k": []}
    plan = Par((A, Call("b", policy=Policy(default_output=kept))), join_timeout_s=1.0)
    walk, ready = begun(plan)
    walk.complete(ready["a"], Patch({}))
    walk.close_join(walk.root, DEADLINE)  # type: ignore[arg-type]
    assert walk.scope.entries["k"] is not kept["k"]


def test_a_closed_join_that_failed_may_be_borne_or_rescued() -> None:
    """What follows it is as for any step."""
    walk, ready = begun(Seq((Par((A, B), join_timeout_s=1.0), C), CONTINUE))
    (c,) = walk.close_join(ready["a"].parent, DEADLINE)  # type: ignore[arg-type]
    assert c.position == "0.1"
    rescued, ready = begun(Seq((Par((A, B), join_timeout_s=1.0), C), RESCUED))
    (rescue,) = rescued.close_join(ready["a"].parent, DEADLINE)  # type: ignore[arg-type]
    assert (rescue.position, rescue.given["error"]["category"]) == ("0.2", "timeout")  # type: ignore[index]


# --- the error handler ---


def test_the_handler_is_called_once_when_the_run_has_failed() -> None:
    """It stands at `!`, sees the state so far, and what it sets is kept; the run stays failed."""
    walk = make(Seq((A, B, C), HANDLED))
    seen = drive(walk, {"a": {"x": 1}, "b": ValueError("no"), "h": lambda state: {"noted": state["x"]}})
    assert seen == ["0.0 a", "0.1 b", "! h"]
    assert (final(walk), ends(walk), walk.outcome.handling) == (
        {"x": 1, "noted": 1},
        ("error", False, "b at 0.1: ValueError: no"),
        "handled",
    )
    assert walk.outputs["h"].data == {"noted": 1}


def test_a_handler_that_recovers_makes_the_run_partial() -> None:
    """`recovered` is the handler's own key: the event's is hidden from it, and it leaves the state as it was."""
    walk = make(Seq((A, B), HANDLED), {"recovered": True})
    (a,) = walk.start()
    (handler,) = walk.complete(a, failure_of(ValueError("no")))
    assert (handler.position, handler.stage, handler.is_after, "recovered" in State.over(handler.scope)) == ("!", "h", True, False)
    assert walk.outcome.failure is not None
    assert walk.complete(handler, answered(handler, {"h": {"recovered": True, "x": 1}})) == []
    assert (final(walk), ends(walk), walk.outcome.handling) == ({"recovered": True, "x": 1}, ("partial", True, ""), "recovered")
    assert (told(walk), walk.outputs["h"].data) == ({"a": "a at 0.0: ValueError: no"}, {"recovered": True, "x": 1})
    only_true = make(Seq((A,), HANDLED))
    drive(only_true, {"a": ValueError("no"), "h": {"recovered": "yes"}})
    assert (only_true.outcome.handling, final(only_true)) == ("handled", {})


def test_a_main_loop_that_failed_has_handed_over_its_state() -> None:
    """The handler sees what its rounds have settled, and nothing of the loop's own keys."""
    walk = make(Loop(A, 3, flow=HANDLED))
    (a,) = walk.start()
    (a,) = walk.complete(a, Patch({"x": 1}))
    (handler,) = walk.complete(a, failure_of(ValueError("no")))
    assert State.over(handler.scope).to_dict()["data"] == {"x": 1}
    walk.complete(handler, Patch({}))
    assert final(walk) == {"x": 1}


def test_a_handler_that_fails_is_not_handled() -> None:
    """The run keeps its own failure, and the handler's is told beside it, after those of the steps."""
    walk = make(Seq((A,), Flow("main", "any", errors=ErrorRoutes(H, {"RuntimeError": H}))))
    assert drive(walk, {"a": ValueError("no"), "h": RuntimeError("neither")}) == ["0.0 a", "! h"]
    assert (ends(walk)[2], walk.outcome.handling) == ("a at 0.0: ValueError: no", "failed")
    assert list(told(walk).values()) == ["a at 0.0: ValueError: no", "h at !: RuntimeError: neither"]


class WeatherError(Exception):
    code = "hail"
    category = "weather"
    severity = "critical"


@pytest.mark.parametrize(
    ("error", "handler"),
    [
        (TimeoutError("x"), "by_category"),
        (WeatherError("x"), "by_code"),
        (ConnectionResetError("x"), "by_class"),
        (MemoryError("x"), "by_severity"),
        (ValueError("x"), "default"),
    ],
)
def test_code_beats_severity_beats_category_beats_default(error: Exception, handler: str) -> None:
    """A code may also be the name of the exception's class, or of a base of it."""
    routes = ErrorRoutes(
        Call("default"),
        {"hail": Call("by_code"), "ConnectionError": Call("by_class")},
        {"critical": Call("by_severity")},
        {"timeout": Call("by_category"), "weather": Call("never"), "network": Call("never"), "resource": Call("never")},
    )
    walk = make(Seq((A,), Flow("main", "any", errors=routes)))
    assert drive(walk, {"a": error}) == ["0.0 a", f"! {handler}"]


def test_what_no_handler_is_for_ends_the_run() -> None:
    """Without a default a failure of another kind is nobody's."""
    walk = make(Seq((A,), Flow("main", "any", errors=ErrorRoutes(None, categories={"timeout": H}))))
    assert drive(walk, {"a": ValueError("no")}) == ["0.0 a"]
    assert walk.outcome.handling == ""


def test_a_handler_is_called_when_the_runs_time_is_up_and_not_when_it_was_cancelled() -> None:
    """After a cancellation nothing begins; nor when the engine ends the run for good, or before it has begun."""
    late = make(Seq((A,), HANDLED))
    late.start()
    (handler,) = late.cut(None, Failure("late", "EventTimeoutError", "timeout", kinds=("EventTimeoutError", "TimeoutError")))
    assert (handler.position, handler.given["error"]["category"]) == ("!", "timeout")  # type: ignore[index]
    late.complete(handler, Patch({}))
    assert late.outcome.reason == "timeout"
    for failure, is_final in (
        (Failure("stop", code="cancelled"), False),
        (Failure("full", code="AF0513"), False),
        (Failure("fault"), True),
    ):
        walk = make(Seq((A,), HANDLED))
        walk.start()
        assert walk.cut(None, failure, is_final=is_final) == []
        assert walk.is_done
    unbegun = make(Seq((A,), HANDLED))
    assert unbegun.cut(None, Failure("hook")) == []


def test_a_run_that_is_cut_while_it_is_handled_ends() -> None:
    """Nothing follows, and nothing is undone."""
    walk = make(Seq((undone("a"), B), HANDLED))
    (a,) = walk.start()
    (b,) = walk.complete(a, Patch({}))
    walk.complete(b, failure_of(ValueError("no")))
    assert walk.cut(None, Failure("late", code="timeout")) == []
    assert (walk.is_done, walk.after, walk.outcome.reason) == (True, None, "timeout")


def test_a_run_that_fails_as_it_begins_is_handled() -> None:
    """Its plan has no way to enter; there is no open frame, and the handler is ready."""
    walk = make(Seq((NO_WAY,), HANDLED))
    (handler,) = walk.start()
    assert (handler.position, walk.root, walk.is_done) == ("!", None, False)
    walk.complete(handler, Patch({"recovered": True}))
    assert (walk.outcome.reason, list(told(walk))) == ("partial", ["main"])


def test_a_route_that_a_handler_names_is_ignored() -> None:
    """It stands in no flow."""
    walk = make(Seq((A,), HANDLED))
    drive(walk, {"a": ValueError("no"), "h": Patch({}, route="a")})
    assert walk.notes == [RouteIgnored("!", "a")]


def test_what_was_borne_is_not_handled() -> None:
    """A handler is for a run that has failed, after on_error."""
    walk = make(Seq((A, B), Flow("main", "any", on_error="continue", errors=ErrorRoutes(H))))
    assert drive(walk, {"a": ValueError("no")}) == ["0.0 a", "0.1 b"]


# --- compensation ---


def test_steps_are_undone_in_the_reverse_order_of_completion() -> None:
    """Each compensator stands at `~` and the step's position, and is told what the step had said and why; the run stays failed."""
    plan = Seq((Par((undone("a"), undone("b", "v"))), undone("c"), D))
    walk = make(plan)
    ready = {frame.node.agent: frame for frame in walk.start()}
    walk.complete(ready["b"], Patch({"y": 1}))
    (c,) = walk.complete(ready["a"], Patch({"x": 1}))
    (d,) = walk.complete(c, Patch({"z": 1}))
    (first,) = walk.complete(d, failure_of(ValueError("no"), attempts=2))
    assert (first.position, first.node.agent, first.is_after) == ("~0.1", "u", True)
    assert first.given == {
        "position": "0.1",
        "agent": "c",
        "output": {"z": 1},
        "error": {"code": "ValueError", "type": "ValueError", "message": "no", "category": "validation", "severity": "medium"},
    }
    (second,) = walk.complete(first, Patch({"z": 0}))
    (third,) = walk.complete(second, Patch({}))
    assert ([second.position, third.position], [second.node.agent, third.node.agent]) == (["~0.0.0", "~0.0.1"], ["u", "v"])
    assert walk.complete(third, Patch({})) == []
    assert (final(walk), ends(walk)) == ({"x": 1, "y": 1, "z": 0}, ("error", False, "d at 0.2: ValueError: no"))


def test_each_round_is_undone() -> None:
    """A step of a loop is undone as often as it was completed."""
    walk = make(Seq((Loop(undone("a"), 3), B)))
    called = drive(walk, {"b": ValueError("no")})
    assert called[4:] == ["~0.0#3 u", "~0.0#2 u", "~0.0#1 u"]


def test_a_compensator_that_fails_stops_no_other() -> None:
    """Each has its own outcome."""
    walk = make(Seq((undone("a", "u"), undone("b", "v"), C)))
    called = drive(walk, {"c": ValueError("no"), "v": RuntimeError("stuck"), "u": {"undone": True}})
    assert called[3:] == ["~0.1 v", "~0.0 u"]
    assert (final(walk), told(walk)) == ({"undone": True}, {"c": "c at 0.2: ValueError: no", "v": "v at ~0.1: RuntimeError: stuck"})


def test_only_completed_steps_are_undone() -> None:
    """Not the one that failed, not one that `default_output` has answered, and none when the run ends well."""
    walk = make(Seq((undone("a"), undone("b"), undone("c"))))
    (a,) = walk.start()
    (b,) = walk.complete(a, Patch({}))
    walk.degrade(Failure("no", agent="b", position="0.1"))
    assert isinstance(walk, PolicyWalk)
    assert walk.degraded == {"0.1"}
    (c,) = walk.complete(b, Patch({"made": "up"}))
    assert walk.degraded == set()
    (only,) = walk.complete(c, failure_of(ValueError("no")))
    assert (only.position, walk.complete(only, Patch({})), walk.is_done) == ("~0.0", [], True)
    fine = make(Seq((undone("a"), B), CONTINUE))
    assert drive(fine, {"b": ValueError("no")}) == ["0.0 a", "0.1 b"]


def test_what_ran_in_a_failed_branch_or_a_cut_flow_is_undone() -> None:
    """What counts is that the step was completed, not what became of the flow around it."""
    inner = Seq((undone("a"), B), Flow("inner", "any", 1.0))
    walk = make(Par((inner, undone("c", "v")), failure_threshold=0.0))
    a, c = walk.start()
    (b,) = walk.complete(a, Patch({"x": 1}))
    walk.cut(b.parent, Failure("late", code="timeout"))
    (first,) = walk.complete(c, Patch({}))
    (second,) = walk.complete(first, Patch({}))
    assert (first.position, second.position) == ("~0.1", "~0.0.0")


def test_a_handler_comes_before_compensation_and_may_spare_it() -> None:
    """Only a run that stays failed is undone; the handler itself never is."""
    plan = Seq((undone("a"), B), Flow("main", "any", errors=ErrorRoutes(undone("h", "never"))))
    assert drive(make(plan), {"b": ValueError("no")}) == ["0.0 a", "0.1 b", "! h", "~0.0 u"]
    assert drive(make(plan), {"b": ValueError("no"), "h": RuntimeError("no")})[2:] == ["! h", "~0.0 u"]
    assert drive(make(plan), {"b": ValueError("no"), "h": {"recovered": True}})[2:] == ["! h"]


def test_a_step_that_ended_a_flow_is_undone_too() -> None:
    """The agent of on_error is a step like others."""
    walk = make(Seq((Seq((A,), Flow("inner", "any", rescue=undone("r"))), B)))
    assert drive(walk, {"a": ValueError("no"), "b": ValueError("no")}) == ["0.0.0 a", "0.0.1 r", "0.1 b", "~0.0.1 u"]


def test_the_calls_of_the_last_phases_stand_alone() -> None:
    """They are in no flow: nothing around them has a clock, a budget or a join."""
    walk = make(Seq((undone("a"), B)))
    (a,) = walk.start()
    (b,) = walk.complete(a, Patch({}))
    (undo,) = walk.complete(b, failure_of(ValueError("no")))
    assert isinstance(undo, SpecialFrame)
    assert (undo.parent, undo.handoff, undo.is_live, walk.root, walk.after) == (None, None, True, None, undo)


def test_nothing_is_kept_once_a_walk_has_ended() -> None:
    """What could have been undone is let go of."""
    walk = make(Seq((undone("a"), B)))
    drive(walk, {})
    assert isinstance(walk, PolicyWalk)
    assert walk.undo == []
