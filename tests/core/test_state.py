"""State as a step sees it, and the patch that it comes to."""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy
from enum import IntEnum
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agentflow.core.state import MISSING, REMOVED, Patch, Scope, State
from agentflow.core.values import copy_json, same
from agentflow.errors import InvalidValueError

keys = st.sampled_from(["a", "b", "c", "d"])
scalars = st.none() | st.booleans() | st.sampled_from([0, 1, 1.0, 0.0, 2.5, "", "x", "é"])
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=6)
tables = st.dictionaries(keys, values, max_size=4)
texts = st.dictionaries(keys, st.sampled_from(["1", "2", ""]), max_size=3)


def over(data: dict[str, Any], meta: dict[str, Any] | None = None) -> tuple[State, Scope]:
    scope = Scope(copy_json(data), None if meta is None else dict(meta))
    return State.over(scope), scope


def settled(scope: Scope) -> dict[str, Any]:
    return State.over(scope).to_dict()


def entries_of(scope: Scope) -> dict[str, Any]:
    visible = scope.keys()
    return {key: scope.lookup(key) for key in visible}


class OverlayLikeADict(RuleBasedStateMachine):
    """A state over a scope does what a dict does, and its patch makes the scope what the dict became."""

    @initialize(parent=tables, own=tables, removed=st.sets(keys), meta=texts, is_nested=st.booleans())
    def begin(self, parent: dict[str, Any], own: dict[str, Any], removed: set[str], meta: dict[str, Any], is_nested: bool) -> None:
        root = Scope(copy_json(parent), dict(meta))  # type: ignore[arg-type]
        self.scope = root
        if is_nested:
            self.scope = Scope({**own, **dict.fromkeys(removed, REMOVED)}, {"a": REMOVED, "b": "9"}, root)  # type: ignore[dict-item]
        self.before = entries_of(self.scope)
        self.before_meta = {key: self.scope.lookup_meta(key) for key in self.scope.meta_keys()}
        self.model: dict[str, Any] = deepcopy(self.before)
        self.meta: dict[str, Any] = dict(self.before_meta)
        self.state = State.over(self.scope)

    @rule(key=keys, value=values)
    def set(self, key: str, value: Any) -> None:
        self.state[key] = copy_json(value)
        self.model[key] = copy_json(value)

    @rule(key=keys)
    def read(self, key: str) -> None:
        assert (key in self.state) == (key in self.model)
        assert same(self.state.get(key, "none"), self.model.get(key, "none"))

    @rule(key=keys)
    def remove(self, key: str) -> None:
        assert (self.state.pop(key, MISSING) is MISSING) == (self.model.pop(key, MISSING) is MISSING)

    @rule(key=keys)
    def remove_strictly(self, key: str) -> None:
        if key in self.model:
            del self.state[key], self.model[key]
        else:
            with pytest.raises(KeyError):
                del self.state[key]

    @rule(key=keys, value=values)
    def change_in_place(self, key: str, value: Any) -> None:
        for mapping in (self.state, self.model):
            found = mapping.get(key)
            if isinstance(found, list):
                found.append(copy_json(value))
            elif isinstance(found, dict):
                found["deep"] = copy_json(value)
                for inner in found.values():
                    if isinstance(inner, list):
                        inner.clear()

    @rule(table=tables)
    def update(self, table: dict[str, Any]) -> None:
        self.state.update(copy_json(table))
        self.model.update(copy_json(table))

    @rule(table=tables, meta=texts)
    def merge(self, table: dict[str, Any], meta: dict[str, str]) -> None:
        other = State(table, meta)
        self.state.merge(other)
        self.model.update(copy_json(table))
        self.meta.update(meta)

    @rule(key=keys, text=st.sampled_from(["1", "2", ""]))
    def set_meta(self, key: str, text: str) -> None:
        self.state.meta[key] = text
        self.meta[key] = text

    @rule(key=keys)
    def remove_meta(self, key: str) -> None:
        assert self.state.meta.pop(key, None) == self.meta.pop(key, None)

    @rule()
    def go_on_with_a_clone(self) -> None:
        old, self.state = self.state, self.state.clone()
        old.clear()
        old.meta.clear()

    @precondition(lambda self: self.model)
    @rule()
    def clear(self) -> None:
        self.state.clear()
        self.model.clear()

    @rule()
    def take_a_fresh_state_as_the_new_one(self) -> None:
        patch = State(copy_json(self.model), self.meta).patch_to(self.scope)
        assert same(_applied(self.scope, patch), {"data": self.model, "meta": self.meta})

    @invariant()
    def reads_like_the_model(self) -> None:
        assert same(dict(self.state), self.model)
        assert len(self.state) == len(self.model)
        assert dict(self.state.meta) == self.meta
        assert len(self.state.meta) == len(self.meta)

    @invariant()
    def scope_is_untouched(self) -> None:
        assert same(entries_of(self.scope), self.before)

    @invariant()
    def patch_makes_the_model(self) -> None:
        patch = self.state.patch_to(self.scope)
        assert same(_applied(self.scope, patch), {"data": self.model, "meta": self.meta})

    @invariant()
    def patch_has_changes_only(self) -> None:
        patch = self.state.patch_to(self.scope)
        for key, value in patch.data.items():
            assert not same(self.before.get(key, MISSING), value)
            assert value is not REMOVED or key in self.before
        for key, text in (patch.meta or {}).items():
            assert self.before_meta.get(key) != text
            assert text is not REMOVED or key in self.before_meta


def _applied(scope: Scope, patch: Patch) -> dict[str, Any]:
    visible = Scope(entries_of(scope), {key: scope.lookup_meta(key) for key in scope.meta_keys()})
    visible.apply(patch)
    return settled(visible)


TestOverlayLikeADict = OverlayLikeADict.TestCase


# --- reading ---


def test_reading_gives_the_step_its_own_copy() -> None:
    """What a step does to a list it read is seen by itself and by nobody else until it is settled."""
    state, scope = over({"items": [[1], {"a": [2]}]})
    state["items"][1]["a"].append(3)
    assert state["items"] == [[1], {"a": [2, 3]}]
    assert scope.lookup("items") == [[1], {"a": [2]}]


def test_reading_alone_changes_nothing() -> None:
    """A step that only reads has an empty patch."""
    state, scope = over({"items": [1], "n": 1, "table": {"a": []}}, {"m": "x"})
    assert (state["items"], state["n"], state["table"], state.meta["m"]) == ([1], 1, {"a": []}, "x")
    patch = state.patch_to(scope)
    assert (patch.data, patch.meta) == ({}, None)


def test_missing_key_is_a_key_error() -> None:
    """A key that is not there, or was removed, raises KeyError as a dict does."""
    state, _ = over({"a": 1})
    del state["a"]
    for key in ("a", "b"):
        with pytest.raises(KeyError):
            state[key]
    assert state.get("b", 7) == 7


def test_only_text_can_be_a_key_in_it() -> None:
    """Asking for a key that is no text is answered with no."""
    assert 1 not in State({"1": 1})


def test_keys_come_oldest_first() -> None:
    """Keys are listed in the order in which they came to be; one that is removed and set again is new."""
    scope = Scope({"b": 1, "a": 2}, None, None)
    child = Scope({"c": 3, "b": REMOVED}, None, scope)
    state = State.over(child)
    state["b"] = 4
    assert list(state) == ["a", "c", "b"]
    assert list(State.over(child)) == ["a", "c"]


def test_iterating_while_reading_is_safe() -> None:
    """Reading lists while iterating does not disturb the iteration."""
    state, _ = over({"a": [1], "b": [2]})
    assert [state[key] for key in state] == [[1], [2]]


# --- setting ---


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (float("nan"), r"state\.k is the float nan"),
        (b"x", r"state\.k is a bytes"),
        ({"a": (1,)}, r"state\.k\.a is a tuple"),
        (2**63, r"state\.k is an int outside"),
        ("\ud800", r"state\.k is a str with a lone surrogate"),
        ([object], r"state\.k\[0\] is a type"),
    ],
)
def test_setting_what_is_not_json_is_refused_at_once(value: object, told: str) -> None:
    """A value that is not JSON is refused where it is set, naming the path; the state is as before."""
    state, _ = over({"k": 1})
    with pytest.raises(InvalidValueError, match=told):
        state["k"] = value
    assert state["k"] == 1


@pytest.mark.parametrize("key", [1, None, "k" * 257, "\ud800"])
def test_setting_a_bad_key_is_refused(key: Any) -> None:
    """A key that is no text, too long or not encodable is refused."""
    state, _ = over({})
    with pytest.raises(InvalidValueError):
        state[key] = 1
    assert len(state) == 0


def test_enums_are_kept_as_plain_values() -> None:
    """A number's or text's subclass is kept as the plain value at once."""
    state, scope = over({})
    state["grade"] = IntEnum("Grade", "TOP").TOP  # type: ignore[attr-defined]
    assert type(state["grade"]) is int
    assert state.patch_to(scope).data == {"grade": 1}


def test_what_is_set_can_be_changed_in_place() -> None:
    """A list set on the state is the list: what the handler adds to it later is kept too."""
    state, scope = over({})
    items: list[int] = []
    state["items"] = items
    items.append(1)
    assert state.patch_to(scope).data == {"items": [1]}


def test_patch_is_a_copy() -> None:
    """What a handler does to its objects after the step reaches nobody."""
    state, scope = over({})
    items = [[1]]
    state["items"] = items
    patch = state.patch_to(scope)
    items[0].append(2)
    assert patch.data == {"items": [[1]]}


def test_in_place_garbage_is_found_at_the_end_of_the_step() -> None:
    """What is put into a list in place is checked when the step ends, naming the path."""
    state, scope = over({"items": [1]})
    state["items"].append({1, 2})
    with pytest.raises(InvalidValueError, match=r"state\.items\[1\] is a set"):
        state.patch_to(scope)


def test_list_that_holds_itself_is_refused() -> None:
    """A list that was put into itself is refused by depth, with no recursion error."""
    state, scope = over({"items": [1]})
    state["items"].append(state["items"])
    with pytest.raises(InvalidValueError, match="nested deeper"):
        state.patch_to(scope)


def test_values_that_cannot_be_compared_are_changes() -> None:
    """A value whose comparison fails is taken as a change, and then refused by name."""

    class Evil:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("no")

        __hash__ = None  # type: ignore[assignment]

    state, scope = over({"items": [1]})
    state["items"][0] = Evil()
    with pytest.raises(InvalidValueError, match=r"state\.items\[0\] is an Evil"):
        state.patch_to(scope)


@pytest.mark.parametrize("set_all", ["many texts", "one text", "one list"])
def test_patch_over_the_size_limit_is_refused(set_all: str) -> None:
    """A step may not set more than 4 MiB, in one value or in many small ones."""
    state, scope = over({})
    if set_all == "many texts":
        for index in range(1100):
            state[f"k{index}"] = "x" * 4096
    else:
        state["k"] = "x" * (5 * 2**20) if set_all == "one text" else []
        if set_all == "one list":
            state["k"].extend(["x" * 2**20] * 5)
    with pytest.raises(InvalidValueError, match=r"bytes"):
        state.patch_to(scope)


def test_large_patch_with_removals_is_taken() -> None:
    """Removed keys do not disturb the check of a large patch."""
    state, scope = over({"old": 1})
    del state["old"]
    state["text"] = "x" * 5000
    assert state.patch_to(scope).data == {"old": REMOVED, "text": "x" * 5000}


# --- patches ---


@pytest.mark.parametrize("before", [1, 1.0, True, 0, False, 0.0])
@pytest.mark.parametrize("after", [1, 1.0, True, 0, False, 0.0])
def test_json_kinds_are_told_apart(before: object, after: object) -> None:
    """`1`, `1.0` and `true` are three values: setting one in place of another is a change."""
    for wrap in (lambda value: value, lambda value: [value], lambda value: {"k": [value]}):
        state, scope = over({"k": wrap(before)})
        state["k"] = wrap(after)
        is_changed = type(before) is not type(after) or before != after
        assert bool(state.patch_to(scope).data) == is_changed


@pytest.mark.parametrize("value", [OrderedDict(a=1), MappingProxyType({"a": 1})])
def test_equal_mapping_of_another_class_is_no_change(value: Any) -> None:
    """An entry equal to the value seen is no change, whatever its class."""
    state, scope = over({"k": {"a": 1}})
    state["k"] = value
    assert state.patch_to(scope).data == {}


def test_returned_state_is_the_whole_new_state() -> None:
    """A state made by itself is the new state: what it lacks is removed, what is equal is no change."""
    _, scope = over({"a": 1, "b": 2, "c": [3]}, {"m": "1", "n": "2"})
    patch = State({"b": 2, "c": [4], "d": 5}, {"m": "1", "o": "3"}).patch_to(scope)
    assert patch.data == {"a": REMOVED, "c": [4], "d": 5}
    assert patch.meta == {"n": REMOVED, "o": "3"}
    scope.apply(patch)
    assert settled(scope) == {"data": {"b": 2, "c": [4], "d": 5}, "meta": {"m": "1", "o": "3"}}


def test_clone_is_still_a_view() -> None:
    """A clone of a step's state changes only what was changed on it."""
    state, scope = over({"a": 1, "b": 2}, {"m": "1"})
    state.meta["n"] = "2"
    twin = state.clone()
    twin["a"] = 5
    patch = twin.patch_to(scope)
    assert (patch.data, patch.meta, state["a"]) == ({"a": 5}, {"n": "2"}, 1)


def test_clone_of_a_state_without_metadata() -> None:
    """A state whose metadata nobody looked at can be cloned."""
    state, scope = over({"a": 1}, {"m": "1"})
    twin = state.clone()
    assert (dict(twin), dict(twin.meta), twin.patch_to(scope).meta) == ({"a": 1}, {"m": "1"}, None)


def test_patch_values_leave_out_what_was_removed() -> None:
    """The values of a patch are copies of what was set, without removals."""
    patch = Patch({"a": [1], "b": REMOVED})
    patch.values()["a"].append(2)  # type: ignore[union-attr]
    assert patch.values() == {"a": [1]}


def test_removal_below_the_root_hides_what_is_above() -> None:
    """A key removed in a branch is gone there and still there for its siblings."""
    root = Scope({"a": 1}, {"m": "x"})
    branch = Scope({}, None, root)
    branch.apply(Patch({"a": REMOVED}, {"m": REMOVED}))
    assert (branch.lookup("a"), branch.lookup_meta("m")) == (MISSING, MISSING)
    assert (root.lookup("a"), root.lookup_meta("m")) == (1, "x")
    root.apply(branch.patch())
    assert settled(root) == {"data": {}, "meta": {}}


# --- metadata ---


@pytest.mark.parametrize(("key", "value"), [("k", 1), ("k", None), (1, "x"), ("k", "\ud800"), ("k" * 257, "x")])
def test_metadata_is_text(key: Any, value: Any) -> None:
    """Metadata keys and values are text; anything else is refused."""
    state, _ = over({})
    with pytest.raises(InvalidValueError, match=r"state\.meta"):
        state.meta[key] = value
    assert dict(state.meta) == {}


def test_removing_missing_metadata_is_a_key_error() -> None:
    """Metadata that is not there cannot be removed."""
    state, _ = over({}, {"m": "x"})
    del state.meta["m"]
    with pytest.raises(KeyError):
        del state.meta["m"]


def test_metadata_set_back_is_no_change() -> None:
    """Metadata that is as it was is not in the patch; nor is what was set and removed again."""
    state, scope = over({}, {"m": "x"})
    state.meta["m"] = "y"
    state.meta["m"] = "x"
    state.meta["n"] = "z"
    del state.meta["n"]
    assert state.patch_to(scope).meta is None


# --- as a value ---


def test_state_of_ones_own() -> None:
    """A state made from a mapping is a copy of it, and refuses what is not JSON."""
    data = {"items": [1]}
    state = State(data, {"m": "x"})
    data["items"].append(2)
    assert state.to_dict() == {"data": {"items": [1]}, "meta": {"m": "x"}}
    with pytest.raises(InvalidValueError, match=r"state\.a is a set"):
        State({"a": {1}})
    with pytest.raises(InvalidValueError, match="state is a list, not a mapping"):
        State([1])  # type: ignore[arg-type]


def test_equality_is_by_content() -> None:
    """States are equal when data and metadata are; a mapping is compared with the data."""
    assert State({"a": 1}) == State({"a": 1})
    assert State({"a": 1}, {"m": "x"}) != State({"a": 1})
    assert State({"a": 1}) == {"a": 1}
    assert State({"a": 1}) != 5


def test_state_is_shown_by_its_content() -> None:
    """The repr of a state and of its metadata shows their entries."""
    state = State({"a": 1}, {"m": "x"})
    assert (repr(state), repr(state.meta)) == ("State({'a': 1})", "{'m': 'x'}")
    assert (repr(MISSING), repr(REMOVED)) == ("MISSING", "REMOVED")


def test_merge_takes_a_mapping_too() -> None:
    """Merging sets every entry of the other; the other one wins, and what it holds stays its own."""
    state, other = State({"a": 1, "b": 2}), State({"b": [3]})
    state.merge(other)
    state["b"].append(4)
    state.merge({"c": 5})
    assert (dict(state), other["b"]) == ({"a": 1, "b": [3, 4], "c": 5}, [3])
