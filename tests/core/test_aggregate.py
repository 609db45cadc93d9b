"""Aggregates: how one answer is made of those of parallel branches, always over the full set in declared order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.core.aggregate import Aggregate, Finding, aggregated
from agentflow.core.event import Event
from agentflow.core.failure import Failure
from agentflow.core.plan import Call, Flow, Par, Seq
from agentflow.core.state import REMOVED, Patch, Scope
from agentflow.core.walk import Walk
from agentflow.errors import AggregateError

SOURCES = ("first", "vote", "concat", "best:score", "mine:gather")


def findings(*changes: dict[str, Any]) -> list[Finding]:
    return [Finding(f"id{index}", f"agent{index}", Patch(change)) for index, change in enumerate(changes)]


def made(source: str, *changes: dict[str, Any], before: dict[str, Any] | None = None, function: Any = None) -> dict[str, object]:
    """Make one answer of what branches set, on top of a state."""
    return aggregated(Aggregate(source, function), Scope(before or {}), findings(*changes)).data


def test_first_is_the_first_branch_whole() -> None:
    """Its whole patch, removals and metadata too, and nothing of the others."""
    first = Patch({"a": 1, "b": REMOVED}, {"by": "x"})
    patch = aggregated(Aggregate("first"), Scope({"b": 2}), [Finding("i", "a", first), *findings({"a": 3, "c": 4})])
    assert (patch.data, patch.meta) == ({"a": 1, "b": REMOVED}, {"by": "x"})


def test_the_most_common_value_wins_a_vote() -> None:
    """For each key by itself; of as common ones that of the earliest branch."""
    told = made("vote", {"verdict": "fail", "n": 1}, {"verdict": "pass", "n": 2}, {"verdict": "pass"})
    assert told == {"verdict": "pass", "n": 1}


def test_a_vote_counts_as_json_does() -> None:
    """`1`, `1.0` and `true` are three values; the order of an object's keys makes no difference."""
    assert made("vote", {"n": 1}, {"n": True}, {"n": 1.0}, {"n": 1.0}) == {"n": 1.0}
    assert made("vote", {"n": 0}, {"n": {"a": 1, "b": 2}}, {"n": {"b": 2, "a": 1}}) == {"n": {"a": 1, "b": 2}}


def test_who_leaves_a_key_as_it_is_votes_for_that() -> None:
    """An answer that the state has already is no change, and still a vote; so nothing changes where it wins."""
    assert made("vote", {"verdict": "fail"}, {}, {}, before={"verdict": "pass"}) == {}
    assert made("vote", {"verdict": "fail"}, {"verdict": "fail"}, {}, before={"verdict": "pass"}) == {"verdict": "fail"}
    assert made("vote", {"verdict": "fail"}, {}, {}) == {"verdict": "fail"}


def test_a_removal_is_a_vote() -> None:
    """Where most branches remove a key it is removed."""
    assert made("vote", {"k": REMOVED}, {"k": REMOVED}, {"k": 2}, before={"k": 1}) == {"k": REMOVED}


def test_concat_joins_by_kind() -> None:
    """Lists become one, texts lines of one, all else and what is mixed a list of the values."""
    told = made("concat", {"l": [1], "t": "a", "n": 1, "m": "x", "once": 3}, {"l": [2, 3], "t": "b", "n": {"k": 2}, "m": ["y"]})
    assert told == {"l": [1, 2, 3], "t": "a\nb", "n": [1, {"k": 2}], "m": ["x", ["y"]], "once": [3]}


def test_concat_removes_what_nobody_sets() -> None:
    """A key that one branch removes and none sets is removed; one that another sets is not."""
    assert made("concat", {"a": REMOVED, "b": REMOVED}, {"b": "x"}, before={"a": 1, "b": 2}) == {"a": REMOVED, "b": "x"}


@pytest.mark.parametrize(
    ("scores", "best"), [((0.2, 0.9, 0.5), 1), ((1, 2, 2.0), 1), (("a", "c", "b"), 1), ((None, 3, 1), 1), ((7, None, None), 0)]
)
def test_the_best_has_the_greatest_key(scores: Any, best: int) -> None:
    """A number or a text; of as great ones the first; a branch without the key is not chosen. The winner's whole patch counts."""
    changes = [{"by": index} | ({} if score is None else {"score": score}) for index, score in enumerate(scores)]
    assert made("best:score", *changes) == changes[best]


def test_the_best_is_judged_by_what_branches_leave() -> None:
    """A branch that scores what the state has already is no worse for it: a loop over a join gets no worse."""
    assert made("best:score", {"by": 0}, {"by": 1, "score": 0.7}, before={"score": 0.8}) == {"by": 0}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([{"by": 1}, {"score": REMOVED}], "no branch has set `score`"),
        ([{"score": 1}, {"score": "high"}], "`score` cannot be compared (`id0`: number, `id1`: text)"),
        ([{"score": True}], "`score` cannot be compared (`id0`: bool)"),
        ([{"score": [1]}, {"score": [2]}], "`score` cannot be compared"),
    ],
)
def test_a_best_that_cannot_be_told_is_an_error_naming_the_key(changes: Any, told: str) -> None:
    """Nobody has the key, or its values have no order among them."""
    with pytest.raises(AggregateError) as caught:
        made("best:score", *changes)
    assert told in str(caught.value)


def test_a_function_gets_all_answers_in_declared_order() -> None:
    """Each with agent, id and output; what it returns is the answer, copied."""
    seen: list[Any] = []
    kept = {"verdict": ["pass"]}

    def gather(results: list[Any]) -> Any:
        seen.append(results)
        return kept

    assert (told := made("m:f", {"a": [1]}, {"a": REMOVED}, function=gather)) == {"verdict": ["pass"]}
    assert seen == [[{"agent": "agent0", "id": "id0", "output": {"a": [1]}}, {"agent": "agent1", "id": "id1", "output": {}}]]
    kept["verdict"].append("fail")
    assert told == {"verdict": ["pass"]}


def test_a_function_cannot_change_the_outputs() -> None:
    """It gets copies."""
    own = findings({"a": [1]})

    def gather(results: list[Any]) -> Any:
        results[0]["output"]["a"].append(2)
        return {}

    aggregated(Aggregate("m:f", gather), Scope({}), own)
    assert own[0].patch.data == {"a": [1]}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (KeyError("verdict"), "`m:f` failed: KeyError: 'verdict'"),
        (SystemExit(3), "`m:f` failed: SystemExit"),
        (["pass"], "not a mapping"),
        (None, "not a mapping"),
        ({"verdict": {1}}, "the answer of m:f.verdict is a set"),
    ],
)
def test_a_function_that_fails_is_an_error_of_its_own_kind(answer: Any, told: str) -> None:
    """Whatever it raises, and what it returns that is no mapping of JSON."""

    def gather(results: list[Any]) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    with pytest.raises(AggregateError) as caught:
        made("m:f", {"a": 1}, function=gather)
    assert told in str(caught.value)


def test_of_no_answers_none_is_made() -> None:
    """Where all branches failed the join has an error of its own; no function is asked."""
    assert made("best:score") == made("m:f") == {}


@given(
    st.permutations(range(4)),
    st.lists(st.dictionaries(st.sampled_from(["score", "x"]), st.sampled_from([0, 1, 2]), max_size=2) | st.none(), min_size=4, max_size=4),
    st.sampled_from(SOURCES),
)
def test_the_order_of_completion_makes_no_difference(order: list[int], answers: list[Any], source: str) -> None:
    """State, outputs and error of a join are the same whoever answers first; None stands for a branch that fails."""

    def gather(results: list[Any]) -> Any:
        return {"told": [one["id"] for one in results], "sum": sum(one["output"].get("x", 0) for one in results)}

    def walked(numbers: list[int]) -> Any:
        par = Par(tuple(Call(name) for name in "abcd"), failure_threshold=1, aggregate=Aggregate(source, gather))
        walk = Walk(Seq((par,), Flow("main", "mixed")), Event(data={}), Scope({}))
        ready = {frame.node.agent: frame for frame in walk.start()}  # type: ignore[union-attr]
        for number in numbers:
            answer = answers[number]
            walk.complete(ready["abcd"[number]], Failure("no") if answer is None else Patch(dict(answer)))
        outputs = {name: patch.values() for name, patch in sorted(walk.outputs.items())}
        return walk.is_done, walk.scope.entries, outputs, walk.outcome.failure and walk.outcome.failure.message, walk.outcome.conflicts

    assert walked(order) == walked([0, 1, 2, 3])


def test_a_join_that_is_cut_has_no_answer() -> None:
    """An aggregate is judged over all that succeed: where some are still open it is not made, and their outputs stay."""
    walk = Walk(Seq((Par((Call("a"), Call("b")), aggregate=Aggregate("first")),), Flow("main", "mixed")), Event(data={}), Scope({}))
    frame, _ = walk.start()
    walk.complete(frame, Patch({"x": 1}))
    walk.cut(None, Failure("late"))
    assert (walk.scope.entries, {name: patch.values() for name, patch in walk.outputs.items()}) == ({}, {"a": {"x": 1}})
