"""How the patches of parallel branches become one: the laws, and each policy."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.core.merge import NAMED_POLICIES, Conflict, Merge, merge_patches
from agentflow.core.state import REMOVED, Patch, Scope
from agentflow.core.values import same
from agentflow.errors import MergeError

keys = st.sampled_from(["a", "b", "c"])
scalars = st.sampled_from([0, 1, 1.0, True, False, None, "x", "y"]) | st.integers(-9, 9)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=2), max_leaves=4)
settings = values | st.just(REMOVED)
patches = st.builds(
    Patch, st.dictionaries(keys, settings, max_size=3), st.none() | st.dictionaries(keys, st.sampled_from(["1", "2"]), max_size=2)
)
branch_lists = st.lists(patches, min_size=1, max_size=4)


def named(found: list[Patch]) -> list[tuple[str, Patch]]:
    return [(f"agent{index}", patch) for index, patch in enumerate(found)]


def merged(policy: str, before: dict[str, Any], *written: object, **functions: Any) -> object:
    """Merge what branches wrote to key `k` under a policy of that key."""
    merge = Merge(keys={"k": policy}, functions=functions.get("functions", {}))
    patch, conflicts = merge_patches(merge, Scope(before), named([Patch({"k": value}) for value in written]))
    assert conflicts == []
    return patch.data["k"]


# --- laws ---


@given(branch_lists)
def test_ordered_keeps_the_last_in_the_list(found: list[Patch]) -> None:
    """Under `ordered` each key has the value of the last branch in the list that wrote it."""
    expected: dict[str, object] = {}
    texts: dict[str, object] = {}
    for patch in found:
        expected |= patch.data
        texts |= patch.meta or {}
    patch, _ = merge_patches(Merge(), Scope({}), named(found))
    assert same(dict(patch.data), expected)
    assert (patch.meta or {}) == texts


@given(branch_lists, st.randoms(use_true_random=False))
def test_disjoint_patches_commute(found: list[Patch], shuffler: Any) -> None:
    """Patches that share no key come to the same in any order, with no conflict."""
    seen: set[tuple[str, str]] = set()
    disjoint = []
    for patch in found:
        fresh = Patch(
            {k: v for k, v in patch.data.items() if ("d", k) not in seen},
            {k: v for k, v in (patch.meta or {}).items() if ("m", k) not in seen},
        )
        seen |= {("d", key) for key in fresh.data} | {("m", key) for key in fresh.meta or {}}
        disjoint.append(fresh)
    shuffled = list(disjoint)
    shuffler.shuffle(shuffled)
    first, conflicts = merge_patches(Merge(), Scope({}), named(disjoint))
    second, others = merge_patches(Merge("strict"), Scope({}), named(shuffled))
    assert conflicts == others == []
    assert same(dict(first.data), dict(second.data))
    assert (first.meta or {}) == (second.meta or {})


@given(branch_lists)
def test_strict_raises_exactly_where_ordered_records(found: list[Patch]) -> None:
    """`strict` refuses what `ordered` records as a conflict, and nothing else."""
    patch, conflicts = merge_patches(Merge(), Scope({}), named(found))
    if conflicts:
        with pytest.raises(MergeError, match=f"`{conflicts[0].key}`"):
            merge_patches(Merge("strict"), Scope({}), named(found))
    else:
        strict, _ = merge_patches(Merge("strict"), Scope({}), named(found))
        assert same(dict(strict.data), dict(patch.data))


@given(branch_lists, patches)
def test_equal_values_never_collide(found: list[Patch], both: Patch) -> None:
    """Two branches that write the same collide in nothing."""
    _, conflicts = merge_patches(Merge(), Scope({}), named([both, both]))
    assert conflicts == []


@given(branch_lists)
def test_conflict_names_all_writers_and_the_winner(found: list[Patch]) -> None:
    """A conflict lists every branch that wrote the key, in declared order, and the last one as winner."""
    _, conflicts = merge_patches(Merge(), Scope({}), named(found))
    for conflict in conflicts:
        is_meta = conflict.key.startswith("meta.")
        key = conflict.key.removeprefix("meta.")
        writers = tuple(name for name, patch in named(found) if key in ((patch.meta or {}) if is_meta else patch.data))
        assert (conflict.agents, conflict.winner) == (writers, writers[-1])


@given(
    st.sampled_from(["sum", "max", "min"]),
    st.lists(st.integers(-99, 99), min_size=1),
    st.none() | st.integers(-99, 99),
    st.randoms(use_true_random=False),
)
def test_arithmetic_does_not_depend_on_order(policy: str, numbers: list[int], before: int | None, shuffler: Any) -> None:
    """`sum`, `max` and `min` come to the same in any order of the branches."""
    data = {} if before is None else {"k": before}
    shuffled = list(numbers)
    shuffler.shuffle(shuffled)
    assert merged(policy, data, *numbers) == merged(policy, data, *shuffled)


@given(st.lists(st.lists(scalars, max_size=3), min_size=1, max_size=3), st.lists(scalars, max_size=2), st.randoms(use_true_random=False))
def test_union_has_the_same_members_in_any_order(added: list[list[Any]], before: list[Any], shuffler: Any) -> None:
    """`union` has each value once; which ones does not depend on the order of the branches."""
    written = [[*before, *items] for items in added]
    shuffled = list(written)
    shuffler.shuffle(shuffled)
    first, second = merged("union", {"k": before}, *written), merged("union", {"k": before}, *shuffled)
    assert isinstance(first, list)
    assert isinstance(second, list)
    assert len(first) == len(second)
    assert all(any(same(item, other) for other in second) for item in first)
    assert not any(same(item, other) for index, item in enumerate(first) for other in first[:index])


@given(st.lists(values, min_size=1, max_size=4), values)
def test_collect_lists_what_was_written_in_declared_order(written: list[Any], before: Any) -> None:
    """`collect` is the list of the values written, in the order of the list of branches."""
    assert same(merged("collect", {"k": before}, *written), written)


@given(st.lists(st.lists(scalars, max_size=3), min_size=1, max_size=3), st.lists(scalars, max_size=2))
def test_append_keeps_declared_order(added: list[list[Any]], before: list[Any]) -> None:
    """`append` is what the state had, then what each branch added, in the order of the list."""
    expected = [*before, *(item for items in added for item in items)]
    assert same(merged("append", {"k": before}, *([*before, *items] for items in added)), expected)


@given(st.sampled_from(sorted(set(NAMED_POLICIES) - {"ordered", "strict"})))
def test_key_that_all_removed_is_removed(policy: str) -> None:
    """A key that every writer removed is removed, whatever its policy."""
    assert merged(policy, {"k": 1}, REMOVED, REMOVED) is REMOVED


# --- each policy ---


@pytest.mark.parametrize(
    ("policy", "before", "written", "result"),
    [
        ("first", {}, [1, 2], 1),
        ("last", {"k": 0}, [1, 2], 2),
        ("last", {"k": 0}, [1, REMOVED], 1),
        ("max", {"k": 9}, [1, 2], 2),
        ("max", {}, ["a", "c", "b"], "c"),
        ("min", {}, [3, 1.5], 1.5),
        ("sum", {}, [1, 2], 3),
        ("sum", {"k": 10}, [11, 12], 13),
        ("sum", {"k": None}, [1], 1),
        ("sum", {"k": 1}, [1.5, 3], 3.5),
        ("append", {}, [[1], [2, 3]], [1, 2, 3]),
        ("append", {"k": [0]}, [[0, 1], [0, 2]], [0, 1, 2]),
        ("append", {"k": [0]}, [[5], 6], [0, 5, 6]),
        ("append", {"k": "x"}, [["x", 1], "y"], ["x", "x", 1, "y"]),
        ("append", {"k": None}, ["y"], ["y"]),
        ("append", {"k": [1]}, [[True, 2]], [1, True, 2]),
        ("union", {"k": [1]}, [[1, 2], [1, 3, 2]], [1, 2, 3]),
        ("union", {}, [[1, True, 1.0], [1]], [1, True, 1.0]),
        ("collect", {"k": 0}, [1, [2]], [1, [2]]),
        ("collect", {}, [1], [1]),
    ],
)
def test_policy_of_a_key(policy: str, before: dict[str, Any], written: list[Any], result: object) -> None:
    """Each named policy combines what was there with what branches wrote, as its table says."""
    assert same(merged(policy, before, *written), result)


@pytest.mark.parametrize(
    ("policy", "before", "written", "told"),
    [
        ("sum", {}, [1, "x"], "str is not a number"),
        ("sum", {}, [True], "bool is not a number"),
        ("sum", {"k": "x"}, [1], "str is not a number"),
        ("sum", {}, [2**62, 2**62], "outside"),
        ("sum", {}, [1e308, 1e308], "inf"),
        ("max", {}, [1, "x"], "str is not a number"),
        ("min", {}, [None], "NoneType is not a number"),
    ],
)
def test_values_a_policy_cannot_combine_are_an_error(policy: str, before: dict[str, Any], written: list[Any], told: str) -> None:
    """A merge that cannot be made names the key, its writers, the policy and why."""
    with pytest.raises(MergeError, match=told) as caught:
        merged(policy, before, *written)
    assert "key `k` written by agent0" in caught.value.message
    assert f"`{policy}`" in caught.value.message


def test_policies_of_keys_stand_beside_the_default() -> None:
    """A key with a policy is combined by it; the others collide as the default says."""
    found = named([Patch({"k": [1], "x": 1}), Patch({"k": [2], "x": 2})])
    patch, conflicts = merge_patches(Merge(keys={"k": "append"}), Scope({}), found)
    assert (patch.data, conflicts) == ({"k": [1, 2], "x": 2}, [Conflict("x", ("agent0", "agent1"), "agent1")])


def test_strict_names_key_and_agents() -> None:
    """A strict collision says which key and which agents; metadata collides too."""
    with pytest.raises(MergeError, match="key `k` was written by agent0, agent1 with different values"):
        merge_patches(Merge("strict"), Scope({}), named([Patch({"k": 1}), Patch({"k": True})]))
    with pytest.raises(MergeError, match=r"key `meta\.m` was written by agent0, agent1"):
        merge_patches(Merge("strict"), Scope({}), named([Patch({}, {"m": "1"}), Patch({}, {"m": "2"})]))


def test_function_gets_what_was_there_and_what_was_written() -> None:
    """A policy `module:function` is called with copies: the value before (None when missing) and the values in declared order."""
    asked: list[Any] = []

    def combine(before: Any, written: list[Any]) -> object:
        asked.append((before, list(written)))
        if before:
            before.append("mine")
        written[0].append("mine")
        return {"n": len(written)}

    items = [[1], [2]]
    assert merged("m:f", {"k": [0]}, *items, functions={"m:f": combine}) == {"n": 2}
    assert merged("m:f", {}, *items, functions={"m:f": combine}) == {"n": 2}
    assert (asked[0][0], asked[1][0], items) == ([0, "mine"], None, [[1], [2]])


class RudeError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit(3), RudeError(), RecursionError()])
def test_function_that_raises_anything_is_a_merge_error(error: BaseException) -> None:
    """Whatever a merge function raises fails the merge, and never anything more."""

    def combine(before: object, written: list[Any]) -> object:
        raise error

    with pytest.raises(MergeError) as caught:
        merged("m:f", {}, 1, functions={"m:f": combine})
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("answer", [math.nan, {1}, object()])
def test_function_must_answer_with_json(answer: object) -> None:
    """A merge function whose answer is not JSON fails the merge, naming the key."""
    with pytest.raises(MergeError, match=r"state\.k is (a|the)"):
        merged("m:f", {}, 1, functions={"m:f": lambda before, written: answer})


def test_function_that_was_not_found_is_a_merge_error() -> None:
    """A policy without its function fails the merge."""
    with pytest.raises(MergeError, match="m:f"):
        merged("m:f", {}, 1)


def test_conflict_as_json() -> None:
    """A conflict as JSON has key, agents, winner and position."""
    row = Conflict("k", ("a", "b"), "b", "0.1").to_dict()
    assert row == {"key": "k", "agents": ["a", "b"], "winner": "b", "position": "0.1"}
