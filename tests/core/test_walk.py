"""The walk, driven by hand: what each node makes ready, settles, and how it ends. No event loop anywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentflow.core.event import Event
from agentflow.core.facts import RunFacts, outputs_of
from agentflow.core.failure import Failure, failure_of
from agentflow.core.frame import Frame
from agentflow.core.merge import Conflict, Merge
from agentflow.core.plan import Branch, Call, Flow, Loop, Node, Par, Seq, Unread
from agentflow.core.records import BranchTaken, LoopEnded, RouteIgnored
from agentflow.core.rules import Rule
from agentflow.core.state import Patch, Scope, State
from agentflow.core.walk import Answer, Walk

Handler = Callable[[State], str | None]  # what it returns is a route

A, B, C, D = (Call(name) for name in "abcd")


def make(plan: Node, data: dict[str, Any] | None = None, event: Event | None = None, meta: dict[str, Any] | None = None) -> Walk:
    return Walk(plan, event or Event("a"), Scope(dict(data or {}), meta), is_noting=True)


def answer(frame: Frame, handler: Handler | None) -> Answer:
    state = State.over(frame.scope)
    try:
        given = handler(state) if handler is not None else None
        patch = state.patch_to(frame.scope)
    except ValueError as error:
        return failure_of(error)
    patch.route = given
    return patch


def drive(walk: Walk, handlers: dict[str, Handler] | None = None, *, newest_first: bool = False) -> list[str]:
    """Complete all that becomes ready, and return the agents in the order of their calls."""
    called: list[str] = []
    ready = walk.start()
    while ready:
        frame = ready.pop(-1 if newest_first else 0)
        called.append(frame.node.agent)
        ready += walk.complete(frame, answer(frame, (handlers or {}).get(called[-1])))
    assert walk.is_done
    return called


def put(key: str, value: object) -> Handler:
    def handler(state: State) -> None:
        state[key] = value

    return handler


def add(key: str, value: object) -> Handler:
    """Append to a list that every step of the run shares, so that its order can be read."""

    def handler(state: State) -> None:
        state[key] = [*state.get(key, []), value]

    return handler


def fail(message: str) -> Handler:
    def handler(state: State) -> None:
        raise ValueError(message)

    return handler


def go(route: str) -> Handler:
    return lambda state: route


def final(walk: Walk) -> dict[str, Any]:
    return State.over(walk.scope).to_dict()["data"]


def route_flow(
    *names: str, hops: int = 32, default: str | None = None, flow: Flow | None = None, cases: tuple[Node, ...] | None = None
) -> Loop:
    nodes = cases or tuple(Call(name) for name in names)
    return Loop(
        Branch(nodes, routes={name: index for index, name in enumerate(names)}, default=default), hops + 1, is_handoff=True, flow=flow
    )


# --- sequences ---


def test_sequence_runs_in_order_on_one_state() -> None:
    """Each step of a sequence sees what the one before left."""
    walk = make(Seq((A, B, C)))
    assert drive(walk, {name: add("order", name) for name in "abc"}) == ["a", "b", "c"]
    assert final(walk) == {"order": ["a", "b", "c"]}
    assert (walk.outcome.reason, walk.outcome.failure) == ("completed", None)


def test_sequence_makes_one_call_ready_at_a_time() -> None:
    """The second step of a sequence is not ready before the first is complete."""
    walk = make(Seq((A, B)))
    (first,) = walk.start()
    assert (first.node, first.position) == (A, "0.0")
    (second,) = walk.complete(first, Patch({}))
    assert (second.node, second.position) == (B, "0.1")


def test_sequence_stops_at_a_failure_and_keeps_the_state_so_far() -> None:
    """After a failed step nothing is called, its own changes are lost, and the error names stage, agent and position."""
    walk = make(Seq((A, B, C)))
    assert drive(walk, {"a": put("a", 1), "b": fail("no")}) == ["a", "b"]
    assert final(walk) == {"a": 1}
    failure = walk.outcome.failure
    assert failure is not None
    assert (failure.stage, failure.agent, failure.position, failure.message) == ("b", "b", "0.1", "no")
    assert walk.outcome.reason == "error"
    assert walk.outcome.errors == {"b": failure}


def test_single_call_is_a_plan() -> None:
    """A plan may be one call; its position is the root's."""
    walk = make(A)
    (frame,) = walk.start()
    assert (frame.position, frame.stage) == ("0", "")
    assert walk.complete(frame, Patch({})) == []
    assert walk.is_done


def test_second_call_of_an_agent_replaces_its_output() -> None:
    """`outputs` has the last patch of each agent."""
    walk = make(Seq((A, B, A)))
    values = iter([1, 2])
    drive(walk, {"a": lambda state: state.update(n=next(values)), "b": put("m", 1)})
    assert outputs_of(walk, ("a", "b")) == {"a": {"n": 2}, "b": {"m": 1}}


def test_plain_walk_needs_no_outcome() -> None:
    """A walk in which nothing went wrong is plain: there is nothing to tell of."""
    walk = make(Seq((A, B)))
    drive(walk)
    assert walk.is_plain


# --- nested flows ---


def test_nested_flow_output_stands_under_its_name() -> None:
    """What the steps of a nested flow changed together is the flow's output, beside those of its agents."""
    walk = make(Seq((A, Seq((B, C), Flow("inner", "sequential")))))
    drive(walk, {"a": put("x", 1), "b": put("x", 2), "c": put("y", 3)})
    assert outputs_of(walk, ("a", "b", "c", "inner")) == {"a": {"x": 1}, "b": {"x": 2}, "c": {"y": 3}, "inner": {"x": 2, "y": 3}}
    assert final(walk) == {"x": 2, "y": 3}


def test_main_flow_is_no_output() -> None:
    """The main flow's own name is not among the outputs."""
    walk = make(Seq((A,), Flow("main", "sequential")))
    drive(walk, {"a": put("x", 1)})
    assert outputs_of(walk, ()) == {"a": {"x": 1}}


def test_failed_nested_flow_keeps_the_state_so_far() -> None:
    """A failure inside a nested flow ends the sequences around it; what was settled stays."""
    walk = make(Seq((Seq((A, B), Flow("inner", "sequential")), C)))
    assert drive(walk, {"a": put("x", 1), "b": fail("no")}) == ["a", "b"]
    assert final(walk) == {"x": 1}
    failure = walk.outcome.failure
    assert failure is not None
    assert (failure.stage, failure.agent, failure.position) == ("inner", "b", "0.0.1")


def test_removed_key_of_a_nested_flow_is_gone_outside() -> None:
    """A key that a nested flow removes is removed from the state around it."""
    walk = make(Seq((Seq((A,), Flow("inner", "sequential")), B)), {"x": 1, "y": 2})
    seen: list[bool] = []
    drive(walk, {"a": lambda state: state.pop("x"), "b": lambda state: seen.append("x" in state)})
    assert (seen, final(walk)) == ([False], {"y": 2})


# --- joins ---


def test_branches_start_together_on_the_same_state() -> None:
    """All branches are ready at once and none sees what another does."""
    walk = make(Par((A, B)), {"n": 1})
    first, second = walk.start()
    walk.complete(first, answer(first, put("n", 2)))
    assert State.over(second.scope)["n"] == 1


@pytest.mark.parametrize("newest_first", [False, True])
def test_branches_merge_in_declared_order(newest_first: bool) -> None:
    """The last branch in the list wins a collision, whichever completes last; the collision is recorded."""
    walk = make(Seq((D, Par((A, B, C)))))
    drive(walk, {"a": put("k", 1), "b": put("k", 2), "c": put("x", 0)}, newest_first=newest_first)
    assert final(walk) == {"k": 2, "x": 0}
    assert walk.outcome.conflicts == [Conflict("k", ("a", "b"), "b", "0.1")]


def test_join_takes_deep_changes_too() -> None:
    """A list that a branch changed in place is part of its patch, and the other branch's copy is its own."""
    walk = make(Par((A, B)), {"items": [1]})
    seen: list[Any] = []
    drive(walk, {"a": lambda state: state["items"].append(2), "b": lambda state: seen.append(state["items"])})
    assert (seen, final(walk)) == ([[1]], {"items": [1, 2]})


def test_strict_collision_fails_the_join_and_writes_nothing() -> None:
    """Under `strict` two different values for a key fail the join, naming key and agents."""
    walk = make(Par((A, B), merge=Merge("strict")), {"k": 0})
    drive(walk, {"a": put("k", 1), "b": put("k", 2)})
    failure = walk.outcome.failure
    assert failure is not None
    assert "`k`" in failure.message
    assert "a, b" in failure.message
    assert (failure.type, failure.position, final(walk)) == ("MergeError", "0", {"k": 0})


def test_strict_lets_equal_values_pass() -> None:
    """Two branches that write the same value do not collide."""
    walk = make(Par((A, B), merge=Merge("strict")))
    drive(walk, {"a": put("k", [1]), "b": put("k", [1])})
    assert (walk.outcome.failure, final(walk)) == (None, {"k": [1]})


def test_never_more_than_max_concurrency_are_open() -> None:
    """Of a join's branches at most `concurrency` are ready and not yet complete."""
    walk = make(Par(tuple(Call(f"a{n}") for n in range(7)), concurrency=3))
    ready = walk.start()
    most, done = len(ready), 0
    while ready:
        ready += walk.complete(ready.pop(), Patch({}))
        most, done = max(most, len(ready)), done + 1
    assert (most, done, walk.is_done) == (3, 7, True)


@pytest.mark.parametrize(
    ("branches", "failing", "threshold", "status"),
    [
        (2, 1, 0.5, "partial"),
        (3, 2, 0.5, "threshold"),
        (4, 2, 0.5, "partial"),
        (3, 1, 0.0, "threshold"),
        (3, 2, 1.0, "partial"),
        (3, 3, 1.0, "threshold"),
        (1, 1, 1.0, "threshold"),
        (3, 1, 1 / 3, "partial"),
    ],
)
def test_threshold_counts_failed_of_all(branches: int, failing: int, threshold: float, status: str) -> None:
    """A join fails when failed / total > threshold, and always when no branch succeeded; else it is partial."""
    names = [f"a{n}" for n in range(branches)]
    walk = make(Par(tuple(Call(name) for name in names), failure_threshold=threshold))
    drive(walk, {name: fail("no") for name in names[:failing]})
    assert walk.outcome.reason == status
    assert walk.outcome.is_partial == (status == "partial")


def test_failed_branch_gives_nothing_to_the_join() -> None:
    """Nothing that a failed branch settled before its failure reaches the state; what its steps said stays readable."""
    walk = make(Par((Seq((A, B)), C)), {"k": 0})
    drive(walk, {"a": put("k", 1), "b": fail("no"), "c": put("x", 2)})
    assert final(walk) == {"k": 0, "x": 2}
    assert outputs_of(walk, ("a", "b", "c")) == {"a": {"k": 1}, "c": {"x": 2}}
    assert (walk.outcome.is_partial, walk.outcome.reason) == (True, "partial")


def test_join_error_carries_each_message() -> None:
    """The error of a failed join names every failed branch with its message; `errors` has each failure."""
    walk = make(Par((A, B, C), failure_threshold=0.5))
    drive(walk, {"a": fail("first"), "b": put("x", 1), "c": fail("third")})
    failure = walk.outcome.failure
    assert failure is not None
    assert "2 of 3" in failure.message
    assert "a: ValueError: first" in failure.message
    assert "c: ValueError: third" in failure.message
    assert (failure.agent, failure.position) == ("a, c", "0")
    assert {name: found.message for name, found in walk.outcome.errors.items()} == {"a": "first", "c": "third"}
    assert final(walk) == {"x": 1}


def test_join_error_tells_branches_of_one_name_apart() -> None:
    """Two branches without a name of their own are each told with their own message."""
    walk = make(Par((Seq((A,)), Seq((B,)))))
    drive(walk, {"a": fail("first"), "b": fail("second")})
    failure = walk.outcome.failure
    assert failure is not None
    assert "first" in failure.message
    assert "second" in failure.message


def test_join_error_tells_this_rounds_failures() -> None:
    """A branch that fails again in a later round is told with its latest message."""
    flow = Seq((A,), Flow("inner", "sequential"))
    walk = make(Loop(Par((flow, B), failure_threshold=0.5), 2))
    messages = iter(["round one", "round two"])
    drive(walk, {"a": lambda state: fail(next(messages))(state)})
    assert walk.outcome.errors["inner"].message == "round two"


def test_one_failure_does_not_keep_waiting_branches_from_starting() -> None:
    """A branch that waits for room starts also when the one before it failed."""
    walk = make(Par((A, B, C), concurrency=1, failure_threshold=0.9))
    assert drive(walk, {"a": fail("no"), "b": fail("no"), "c": put("x", 1)}) == ["a", "b", "c"]
    assert final(walk) == {"x": 1}


def test_branch_that_fails_while_it_starts_joins_once() -> None:
    """A last branch whose condition has no answer ends the join exactly once: the step after it is not skipped."""
    broken = Branch((A, B), (Rule("state.missing > 1"),))
    walk = make(Seq((Par((C, broken), concurrency=1), Call("next"), Call("last"))))
    assert drive(walk, {"c": put("x", 1)}) == ["c", "next", "last"]
    assert (final(walk), walk.outcome.is_partial) == ({"x": 1}, True)


def test_many_branches_may_fail_while_they_start() -> None:
    """Hundreds of branches that fail at once, one slot at a time, end in a join error and no recursion error."""
    broken = tuple(Branch((A,), (Rule("state.missing > 1"),), flow=Flow(f"f{n}", "route")) for n in range(600))
    walk = make(Par((*broken, B), concurrency=1))
    drive(walk)
    failure = walk.outcome.failure
    assert failure is not None
    assert "600 of 601" in failure.message


def test_failed_join_inside_a_tolerant_one_is_not_the_runs_reason() -> None:
    """The reason tells of the failure that ended the run, not of one that a join had tolerated."""
    inner = Par((A, B), failure_threshold=0)
    walk = make(Seq((Par((inner, C)), D)))
    drive(walk, {"a": fail("no"), "d": fail("late")})
    assert walk.outcome.failure is not None
    assert (walk.outcome.reason, walk.outcome.failure.agent) == ("error", "d")


@pytest.mark.parametrize("newest_first", [False, True])
def test_one_agent_in_two_branches_is_told_by_declared_order(newest_first: bool) -> None:
    """Where one agent works in two branches, `outputs` has what the later branch in the list said."""
    branches = tuple(Seq((Call(name), A), Flow("flow-" + name, "sequential")) for name in ("x", "y"))
    walk = make(Par(branches))
    drive(
        walk, {"x": put("from", "x"), "y": put("from", "y"), "a": lambda state: state.update(said=state["from"])}, newest_first=newest_first
    )
    assert outputs_of(walk, ())["a"] == {"said": "y"}


@pytest.mark.parametrize("newest_first", [False, True])
def test_errors_of_one_agent_in_two_branches_by_declared_order(newest_first: bool) -> None:
    """Where one agent fails in two branches, `errors` has the failure of the later branch in the list."""
    branches = tuple(Seq((Call(name), A), Flow("flow-" + name, "sequential")) for name in ("x", "y"))
    walk = make(Par((*branches, B)))
    handlers = {"x": put("from", "x"), "y": put("from", "y"), "a": lambda state: fail(state["from"])(state)}
    drive(walk, handlers, newest_first=newest_first)
    assert walk.outcome.errors["a"].message == "y"
    assert list(walk.outcome.errors) == ["flow-x", "a", "flow-y"]


def test_branch_that_undoes_its_change_changes_nothing() -> None:
    """A branch whose steps together leave a key as it was does not collide with one that changes it."""
    walk = make(Par((Seq((A, B)), C)), {"k": 1, "gone": 0}, meta={"m": "1"})

    def there(state: State) -> None:
        state["k"] = 2
        state["new"] = 1
        state.meta["m"] = "2"

    def back(state: State) -> None:
        state["k"] = 1
        del state["new"]
        state.meta["m"] = "1"

    drive(walk, {"a": there, "b": back, "c": lambda state: state.update(k=5, new=3)}, newest_first=True)
    assert (final(walk), walk.outcome.conflicts) == ({"k": 5, "gone": 0, "new": 3}, [])


def test_conflicts_are_told_in_the_plans_order() -> None:
    """Conflicts of joins that stand side by side are listed by position, whichever join ended first."""
    inner = [Par((Call(f"{side}1"), Call(f"{side}2")), flow=Flow(side, "collaborative")) for side in "lr"]
    handlers = {f"{side}{n}": put(f"k{side}", n) for side in "lr" for n in (1, 2)}
    for newest_first in (False, True):
        walk = make(Par(tuple(inner)))
        drive(walk, handlers, newest_first=newest_first)
        assert [(found.key, found.position) for found in walk.outcome.conflicts] == [("kl", "0.0"), ("kr", "0.1")]


# --- loops ---


def counted(seen: list[Any]) -> Handler:
    return lambda state: seen.append(state["iteration"])


def test_loop_counts_rounds_from_zero_to_its_bound() -> None:
    """`iteration` is the number of rounds completed; the loop ends after `bound` rounds with max_iterations."""
    seen: list[Any] = []
    walk = make(Loop(A, 3))
    drive(walk, {"a": counted(seen)})
    assert seen == [0, 1, 2]
    assert walk.outcome.reason == "max_iterations"
    assert LoopEnded("0", "max_iterations", 3, {"iteration": 2}) in walk.notes


@pytest.mark.parametrize("key", ["loop_complete", "loop_completed"])
def test_loop_ends_when_its_body_says_so(key: str) -> None:
    """`loop_complete` or `loop_completed` = true ends the loop; the keys leave the state and are kept in LoopEnded."""
    walk = make(Loop(A, 5))
    assert drive(walk, {"a": put(key, True)}) == ["a"]
    assert (walk.outcome.reason, final(walk)) == ("condition_met", {})
    assert walk.notes == [LoopEnded("0", "condition_met", 1, {"iteration": 0, key: True})]


@pytest.mark.parametrize("value", [1, "true", [True], False])
def test_loop_goes_on_for_anything_but_true(value: object) -> None:
    """Only the JSON value true ends a loop."""
    walk = make(Loop(A, 2))
    assert drive(walk, {"a": put("loop_complete", value)}) == ["a", "a"]


def test_loop_clears_its_keys_on_entry() -> None:
    """A `loop_complete` left over from before does not end a loop, nor is an old `iteration` seen in it."""
    seen: list[Any] = []
    walk = make(Loop(A, 2), {"loop_complete": True, "iteration": 7})
    assert drive(walk, {"a": counted(seen)}) == ["a", "a"]
    assert seen == [0, 1]


def test_loop_keys_leave_the_state() -> None:
    """The step after a loop sees none of the loop's keys."""
    walk = make(Seq((Loop(A, 2), B)))
    seen: list[Any] = []
    drive(walk, {"a": put("loop_completed", True), "b": lambda state: seen.append(sorted(state))})
    assert seen == [[]]


def test_outer_loops_keys_come_back() -> None:
    """After an inner loop the outer loop's `iteration` is visible again."""
    seen: list[Any] = []
    walk = make(Loop(Seq((Loop(A, 3), B)), 2))
    drive(walk, {"a": put("loop_complete", True), "b": counted(seen)})
    assert seen == [0, 1]


def test_inner_loop_does_not_end_the_outer_one() -> None:
    """`loop_complete` of an inner loop is no answer to the outer one."""
    walk = make(Loop(Loop(A, 9, flow=Flow("inner", "loop")), 2))
    assert drive(walk, {"a": put("loop_complete", True)}) == ["a", "a"]
    assert walk.outcome.reason == "max_iterations"


def test_until_is_asked_after_each_round() -> None:
    """A loop runs at least once and ends when `until` holds."""
    walk = make(Loop(A, 9, until=Rule("state.n >= 3")), {"n": 9})
    values = iter([1, 2, 3])
    assert drive(walk, {"a": lambda state: state.update(n=next(values))}) == ["a", "a", "a"]
    assert (walk.outcome.reason, final(walk)) == ("condition_met", {"n": 3})


def test_until_goes_before_the_bound() -> None:
    """A condition that is met in the last allowed round is the reason told."""
    walk = make(Loop(A, 1, until=Rule("true")))
    drive(walk)
    assert walk.outcome.reason == "condition_met"


def test_until_without_an_answer_fails_the_loop() -> None:
    """An `until` that names a missing value fails the loop, naming the path; LoopEnded says error."""
    walk = make(Loop(A, 9, until=Rule("state.score > 1")))
    assert drive(walk, {"a": put("x", 1)}) == ["a"]
    failure = walk.outcome.failure
    assert failure is not None
    assert "`state.score` is not there" in failure.message
    assert (walk.outcome.reason, failure.agent, failure.position, final(walk)) == ("error", "a", "0", {"x": 1})
    assert [note.reason for note in walk.notes if isinstance(note, LoopEnded)] == ["error"]


def test_uncompiled_condition_has_no_answer() -> None:
    """A condition that was never linked fails the loop that asks it."""
    walk = make(Loop(A, 9, until=Unread("true")))
    drive(walk)
    assert walk.outcome.failure is not None
    assert "never compiled" in walk.outcome.failure.message


def test_failure_in_a_round_ends_the_loop() -> None:
    """A failing body ends its loop with the failure of that round, whose position has the round's number."""
    results = iter([put("n", 1), fail("broken")])
    walk = make(Loop(A, 5))
    assert drive(walk, {"a": lambda state: next(results)(state)}) == ["a", "a"]
    failure = walk.outcome.failure
    assert failure is not None
    assert (failure.position, walk.outcome.reason, final(walk)) == ("0#2", "error", {"n": 1})


def test_partial_rounds_do_not_hide_how_a_loop_ended() -> None:
    """A loop with a partial round still says whether its condition was met."""
    walk = make(Loop(Par((A, B)), 2))
    drive(walk, {"a": fail("no")})
    assert (walk.outcome.is_partial, walk.outcome.reason) == (True, "max_iterations")


def test_nested_loop_does_not_name_the_runs_reason() -> None:
    """Only the main flow's own loop gives the run its reason."""
    walk = make(Seq((Loop(A, 2, flow=Flow("inner", "loop")), B)))
    drive(walk)
    assert walk.outcome.reason == "completed"


def test_positions_in_a_loop_of_a_sequence() -> None:
    """A position has child indices and rounds: `0.1#2.0` is the first step in round two of the second step's loop."""
    walk = make(Seq((A, Loop(Seq((B, C)), 2))))
    positions: list[str] = []
    ready = walk.start()
    while ready:
        positions.append(ready[0].position)
        ready = walk.complete(ready[0], Patch({}))
    assert positions == ["0.0", "0.1#1.0", "0.1#1.1", "0.1#2.0", "0.1#2.1"]


# --- branches ---


def test_first_true_condition_wins() -> None:
    """A branch takes the first case whose condition holds, and notes which."""
    plan = Branch((A, B, C), (Rule("state.n > 5"), Rule("state.n > 1")))
    for value, agent, case in ((9, "a", 0), (3, "b", 1), (0, "c", 2)):
        walk = make(plan, {"n": value})
        assert drive(walk) == [agent]
        assert walk.notes == [BranchTaken("0", case, agent)]


def test_condition_without_an_answer_fails_the_walk_at_its_start() -> None:
    """A switch that asks for a missing value fails the run before any call, naming the path."""
    walk = make(Branch((A, B), (Rule("event.data.size < 10"),), flow=Flow("main", "sequential")))
    assert walk.start() == []
    assert walk.is_done
    assert walk.outcome.failure is not None
    assert "`event.data.size` is not there" in walk.outcome.failure.message


def test_branch_without_an_else_fails_when_nothing_holds() -> None:
    """A branch with a condition for each case fails when none holds."""
    walk = make(Branch((A,), (Rule("state.n > 5"),)), {"n": 1})
    assert drive(walk) == []
    assert walk.outcome.failure is not None
    assert "none of `state.n > 5` holds, and there is no other way" in walk.outcome.failure.message


def test_condition_may_ask_event_meta_and_outputs() -> None:
    """Conditions see the event, the metadata and the outputs as they stand."""
    asked = "event.data.size == 3 && event.target == 't' && meta.tone == 'dry' && outputs.a.x == 1 && has(outputs.a) && size(meta) == 1"
    walk = make(Seq((A, Branch((B, C), (Rule(asked),)))), event=Event("t", {"size": 3}), meta={"tone": "dry"})
    assert drive(walk, {"a": put("x", 1)}) == ["a", "b"]


def test_condition_in_a_branch_does_not_see_a_sibling() -> None:
    """Neither state nor outputs of a sibling branch reach a condition, so that completion order cannot matter."""
    rule = Rule("has(outputs.b) || has(state.b)")
    for newest_first in (False, True):
        walk = make(Par((Seq((A, Branch((C, D), (rule,)))), B)))
        called = drive(walk, {"b": put("b", 1)}, newest_first=newest_first)
        assert called.count("d") == 1


def test_condition_in_a_branch_sees_its_own_line() -> None:
    """A condition sees what was said before the join and on its own branch so far."""
    rule = Rule("outputs.a.x == 1 && outputs.b.y == 2")
    walk = make(Seq((A, Par((Seq((B, Branch((C, D), (rule,)))), Call("e"))))))
    assert "c" in drive(walk, {"a": put("x", 1), "b": put("y", 2)})


def test_switch_of_the_main_flow_is_still_the_main_flow() -> None:
    """The flow that a switch chose answers for the main one: its loop gives the reason, its name is no output."""
    quick = Loop(A, 1, flow=Flow("quick", "loop"))
    walk = make(Branch((quick, B), (Rule("true"),), flow=Flow("main", "sequential")))
    drive(walk, {"a": put("x", 1)})
    assert (walk.outcome.reason, outputs_of(walk, ()), final(walk)) == ("max_iterations", {"a": {"x": 1}}, {"x": 1})


# --- hand-offs ---


def test_event_goes_to_its_target() -> None:
    """A route flow calls the event's target and nothing else."""
    walk = make(route_flow("a", "b"), event=Event("b"))
    assert drive(walk) == ["b"]


def test_metadata_route_goes_before_the_target() -> None:
    """`metadata.route` wins over the event's target."""
    walk = make(route_flow("a", "b"), event=Event("b", metadata={"route": "a"}))
    assert drive(walk) == ["a"]


def test_result_hands_on_until_it_names_nobody() -> None:
    """Each answer's route is the next member; an answer without one ends the run."""
    walk = make(route_flow("a", "b", "c"))
    assert drive(walk, {"a": go("c"), "c": go("b")}) == ["a", "c", "b"]
    assert walk.outcome.failure is None


def test_event_without_a_target_fails() -> None:
    """With neither target nor `metadata.route` the error speaks of the missing routing key; nothing is called."""
    walk = make(route_flow("a"), event=Event(""))
    assert drive(walk) == []
    assert walk.outcome.failure is not None
    assert "missing routing key" in walk.outcome.failure.message


def test_unknown_target_names_the_nearest() -> None:
    """An unknown target is an error that names it and the nearest agent."""
    walk = make(route_flow("analyzer", "b"), event=Event("analyser"))
    drive(walk)
    failure = walk.outcome.failure
    assert failure is not None
    assert "`analyser`" in failure.message
    assert "did you mean `analyzer`?" in failure.message


def test_route_to_a_stranger_fails_the_step() -> None:
    """A route that names no member of its flow fails the step that named it, with the nearest name."""
    walk = make(route_flow("analyzer", "b"), event=Event("b"))
    drive(walk, {"b": go("analyser")})
    failure = walk.outcome.failure
    assert failure is not None
    assert (failure.agent, failure.code) == ("b", "AF0503")
    assert "did you mean `analyzer`?" in failure.message


def test_hop_limit_names_the_cycle() -> None:
    """After `max_hops` hand-offs the run fails, and the error shows the agents that go round."""
    walk = make(route_flow("a", "b", hops=4))
    assert drive(walk, {"a": go("b"), "b": go("a")}) == ["a", "b", "a", "b", "a"]
    failure = walk.outcome.failure
    assert failure is not None
    assert "max_hops = 4" in failure.message
    assert "a -> b -> a -> b -> a -> b" in failure.message
    assert (walk.outcome.reason, failure.code) == ("hop_limit", "AF0504")


def test_route_binds_to_the_nearest_route_flow() -> None:
    """A route named inside a nested route flow moves that one; the outer goes on as if nothing had been named."""
    inner = route_flow("c", "d", default="c", flow=Flow("inner", "route"))
    walk = make(route_flow("a", "inner", cases=(A, inner)), event=Event("inner"))
    assert drive(walk, {"c": go("d")}) == ["c", "d"]


def test_route_of_a_nested_sequence_hands_on_when_it_ends() -> None:
    """A route named by a step of a flow that is a member takes effect when that flow is done."""
    walk = make(route_flow("f", "a", cases=(Seq((B, C), Flow("f", "sequential")), A)), event=Event("f"))
    assert drive(walk, {"b": go("a")}) == ["b", "c", "a"]


def test_nested_route_flow_starts_at_its_default() -> None:
    """A route flow used as an agent starts at its default, whatever the event's target is, and settles its state."""
    inner = route_flow("c", "d", default="d", flow=Flow("inner", "route"))
    walk = make(Seq((inner, A)), event=Event("c", metadata={"route": "c"}))
    assert drive(walk, {"d": put("x", 1)}) == ["d", "a"]
    assert (final(walk), outputs_of(walk, ())["inner"]) == ({"x": 1}, {"x": 1})


def test_nested_route_flow_has_its_own_hop_count() -> None:
    """Hops inside a nested route flow do not count for the one around it."""
    inner = route_flow("c", "d", default="c", hops=2, flow=Flow("inner", "route"))
    walk = make(route_flow("inner", "a", hops=1, cases=(inner, A)), event=Event("inner"))
    hops = iter(["d"])
    assert drive(walk, {"c": lambda state: next(hops, None), "d": go("c")}) == ["c", "d", "c"]
    assert walk.outcome.failure is None


def test_route_without_a_route_flow_is_noted_as_ignored() -> None:
    """In another mode a route changes nothing and is noted."""
    walk = make(Seq((A, B)))
    assert drive(walk, {"a": go("b")}) == ["a", "b"]
    assert walk.notes == [RouteIgnored("0.0", "b")]


def test_ignored_route_costs_nothing_when_nobody_notes() -> None:
    """Without observers no note is kept."""
    walk = Walk(Seq((A, Branch((B,)))), Event("a"), Scope({}))
    drive(walk, {"a": go("b")})
    assert walk.notes == []
    loop = Walk(Loop(A, 1), Event("a"), Scope({}))
    drive(loop)
    assert loop.notes == []


@pytest.mark.parametrize("newest_first", [False, True])
def test_routes_of_parallel_branches_follow_declared_order(newest_first: bool) -> None:
    """Of the routes that branches name, that of the last in the list hands on, whichever completes last."""
    team = Par((A, B, Par((C,), flow=Flow("deep", "collaborative"))), flow=Flow("team", "collaborative"))
    walk = make(route_flow("team", "x", "y", cases=(team, Call("x"), Call("y"))), event=Event("team"))
    called = drive(walk, {"a": go("x"), "b": go("x"), "c": go("y")}, newest_first=newest_first)
    assert called[3:] == ["y"]


def test_route_of_a_failed_branch_is_dropped() -> None:
    """A branch that fails after it named a route gives nothing, its route included."""
    team = Par((Seq((A, B)), C), flow=Flow("team", "collaborative"))
    walk = make(route_flow("team", "x", cases=(team, Call("x"))), event=Event("team"))
    assert "x" not in drive(walk, {"a": go("x"), "b": fail("no")})


def test_switch_to_a_route_flow_starts_at_the_target() -> None:
    """A route flow that switches chose stands for the main flow: it starts at the event's target."""
    inner = Branch((route_flow("a", "b", flow=None), C), (Rule("true"),), flow=Flow("second", "sequential"))
    walk = make(Branch((inner, D), (Rule("true"),), flow=Flow("main", "sequential")), event=Event("b"))
    assert drive(walk) == ["b"]


# --- cuts ---

TIMEOUT = Failure("too late", type="EventTimeoutError", code="timeout")


def test_cut_keeps_what_is_settled() -> None:
    """A run ended from outside keeps the state so far and tells the failure it was ended with."""
    walk = make(Seq((A, B)))
    (first,) = walk.start()
    walk.complete(first, answer(first, put("x", 1)))
    assert walk.cut(None, TIMEOUT) == []
    assert (walk.is_done, walk.outcome.reason, walk.outcome.failure, final(walk)) == (True, "timeout", TIMEOUT, {"x": 1})


def test_cut_keeps_finished_branches() -> None:
    """Branches that were done when the run was ended are merged; those still running give nothing to the state."""
    walk = make(Par((A, Seq((B, C), Flow("f", "sequential")), D)))
    first, second, _ = walk.start()
    walk.complete(first, answer(first, put("a", 1)))
    walk.complete(second, answer(second, put("b", 1)))
    walk.cut(None, TIMEOUT)
    assert final(walk) == {"a": 1}
    assert outputs_of(walk, ()) == {"a": {"a": 1}, "b": {"b": 1}, "f": {"b": 1}}


def test_cut_settles_open_nested_flows_and_loops() -> None:
    """What the finished steps of an open nested flow or loop came to is kept, without the loop's own keys."""
    walk = make(Seq((Loop(Seq((A, B), Flow("f", "sequential")), 3, flow=Flow("l", "loop")),)))
    (first,) = walk.start()
    walk.complete(first, answer(first, put("a", 1)))
    walk.cut(None, TIMEOUT)
    assert (final(walk), outputs_of(walk, ())) == ({"a": 1}, {"a": {"a": 1}, "f": {"a": 1}, "l": {"a": 1}})


def test_cut_of_a_waiting_join_does_not_start_what_waits() -> None:
    """When a run is ended, branches that wait for room are never started."""
    walk = make(Par((A, B, C), concurrency=1))
    walk.start()
    assert walk.cut(None, TIMEOUT) == []
    assert walk.is_done


def test_cut_of_one_flow_lets_the_rest_go_on() -> None:
    """A nested flow that is ended from outside fails alone; its siblings and what follows go on."""
    inner = Seq((A, B), Flow("inner", "sequential"))
    walk = make(Seq((Par((inner, C)), D)))
    first, second = walk.start()
    assert first.parent is not None
    assert walk.cut(first.parent, TIMEOUT) == []
    (following,) = walk.complete(second, answer(second, put("c", 1)))
    assert following.node == D
    walk.complete(following, Patch({}))
    assert (walk.outcome.is_partial, walk.outcome.errors["inner"].code, final(walk)) == (True, "timeout", {"c": 1})


def test_cut_of_a_branch_starts_the_one_that_waits() -> None:
    """Ending a branch from outside makes room: the waiting branch is returned as ready."""
    walk = make(Par((A, B), concurrency=1))
    (first,) = walk.start()
    (second,) = walk.cut(first, TIMEOUT)
    assert second.node == B


def test_cut_before_the_start_ends_the_walk() -> None:
    """A run that is cancelled before it starts ends with that failure."""
    walk = make(Seq((A,)))
    assert walk.cut(None, Failure("stop", code="cancelled")) == []
    assert (walk.is_done, walk.outcome.reason) == (True, "error")


# --- looking at a walk under way ---


def test_outputs_are_readable_while_the_walk_goes_on() -> None:
    """What open branches and nested flows have said so far can be read before they are joined."""
    walk = make(Seq((A, Par((B, Seq((C, D), Flow("inner", "sequential")), Call("e"))))))
    assert outputs_of(walk, ()) == {}
    (first,) = walk.start()
    b, c, _ = walk.complete(first, answer(first, put("a", 1)))
    walk.complete(b, answer(b, put("b", 1)))
    walk.complete(c, answer(c, put("c", 1)))
    assert outputs_of(walk, ()) == {"a": {"a": 1}, "b": {"b": 1}, "c": {"c": 1}}


def test_outputs_follow_the_order_asked_for() -> None:
    """Outputs are listed in the order given, and after them those that it does not name."""
    walk = make(Seq((A, B, C)))
    drive(walk, {name: put(name, 1) for name in "abc"})
    assert list(outputs_of(walk, ("c", "x", "a"))) == ["c", "a", "b"]


def test_outputs_are_copies() -> None:
    """Changing what `outputs_of` returned reaches nobody."""
    walk = make(Seq((A,)))
    drive(walk, {"a": put("items", [1])})
    outputs_of(walk, ())["a"]["items"].append(2)
    assert (outputs_of(walk, ()), final(walk)) == ({"a": {"items": [1]}}, {"items": [1]})


def test_frame_knows_what_it_is_below() -> None:
    """A call is below itself and the nodes around it, and not below its sibling."""
    walk = make(Par((A, Seq((B,)))))
    first, second = walk.start()
    assert second.parent is not None
    assert (second.is_below(second), second.is_below(second.parent), second.is_below(first)) == (True, True, False)
    assert second.parent.parent is not None
    assert first.is_below(second.parent.parent)


@pytest.mark.parametrize(
    ("root", "path", "value"),
    [
        ("state", (), {"a": {"b": 1}}),
        ("state", ("a", "b"), 1),
        ("meta", (), {"m": "x"}),
        ("meta", ("m",), "x"),
        ("outputs", ("z",), {"k": 1}),
        ("outputs", (), {"z": {"k": 1}}),
        ("event", ("metadata",), {"u": "v"}),
        ("event", ("data", "size"), 3),
        ("event", (), {"id": "e", "target": "t", "session_id": None, "data": {"size": 3}, "metadata": {"u": "v"}}),
    ],
)
def test_facts_of_a_run(root: str, path: tuple[str, ...], value: object) -> None:
    """The facts that conditions ask about are the state, its metadata, the event and the outputs."""
    walk = make(Seq((Call("z"),)), {"a": {"b": 1}}, Event("t", {"size": 3}, {"u": "v"}, id="e"), {"m": "x"})
    (frame,) = walk.start()
    walk.complete(frame, answer(frame, put("k", 1)))
    del walk.scope.entries["k"]
    assert RunFacts(walk.event, walk.scope).fact(root, path) == value


def test_outputs_of_a_flow_that_was_cut_are_those_it_handed_up() -> None:
    """What stands below a flow that was ended from outside shows no more: it may bear another one's name."""
    inner = Loop(Call("a"), 2, flow=Flow("same", "loop"))
    plan = Par((Par((inner, Call("b")), flow=Flow("same", "any")), Call("c")))
    walk = Walk(plan, Event("a"), Scope({}))
    ready = {frame.position: frame for frame in walk.start()}
    walk.complete(ready["0.0.0#1"], Patch({"x": 1}))
    part = ready["0.0.1"].parent
    walk.cut(part, Failure("late", code="timeout"))
    assert outputs_of(walk, ()) == {"same": {}, "a": {"x": 1}}
