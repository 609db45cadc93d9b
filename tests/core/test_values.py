"""What JSON is taken, copied and refused, with the path and the cure in each refusal."""

from __future__ import annotations

import json
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.core.values import MAX_BYTES, MAX_DEPTH, MAX_KEY_CHARS, MAX_NODES, adopt, adopt_mapping, check_key, copy_json, same
from agentflow.errors import InvalidValueError

keys = st.text(max_size=8)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
plain = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3) | st.datetimes() | st.fractions(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.none(), inner, max_size=3)
        | st.tuples(inner)
        | st.builds(lambda value: {repr(value)}, inner)
    ),
    max_leaves=8,
)


class Tone(StrEnum):
    DRY = "dry"


class Grade(IntEnum):
    TOP = 1


def nested(levels: int, kind: str = "list") -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value] if kind == "list" else {"k": value}
    return value


def refusal(value: object, path: str = "event.data") -> InvalidValueError:
    with pytest.raises(InvalidValueError) as caught:
        adopt(value, path)
    return caught.value


def is_json(value: Any) -> bool:
    """Say whether JSON text keeps the value as it is, and every number fits in 64 bits."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
        return same(json.loads(text, parse_int=lambda digits: _whole(int(digits))), value)
    except (TypeError, ValueError):
        return False


def _whole(number: int) -> int:
    if not -(2**63) <= number < 2**63:
        raise ValueError(number)
    return number


# --- what is taken ---


@given(plain)
def test_json_is_taken_as_it_is(value: Any) -> None:
    """A JSON value comes back the same, down to the types of its numbers."""
    assert same(adopt(value, "x"), value)


@given(anything)
def test_taken_is_what_json_keeps(value: Any) -> None:
    """A value is taken when JSON text would keep it exactly, and refused when not."""
    try:
        taken = adopt(value, "x")
    except InvalidValueError:
        assert not is_json(value)
    else:
        assert is_json(value)
        assert same(taken, value)


@given(plain)
def test_copy_shares_nothing_that_changes(value: Any) -> None:
    """No list or dict of the copy is one of the original's."""

    def containers(item: Any) -> list[int]:
        inner = item if isinstance(item, list) else list(item.values()) if isinstance(item, dict) else []
        return ([id(item)] if isinstance(item, (list, dict)) else []) + [found for each in inner for found in containers(each)]

    for copy in (adopt(value, "x"), copy_json(value)):
        assert same(copy, value)
        assert not set(containers(copy)) & set(containers(value))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Tone.DRY, "dry"),
        (Grade.TOP, 1),
        (OrderedDict(a=[1]), {"a": [1]}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (type("Items", (list,), {})([1, Tone.DRY]), [1, "dry"]),
        (type("Ratio", (float,), {})(0.5), 0.5),
        ({"tone": Tone.DRY, "n": [Grade.TOP]}, {"tone": "dry", "n": [1]}),
    ],
)
def test_kin_of_json_become_plain(value: object, expected: object) -> None:
    """Subclasses of the JSON types are taken as the plain value they stand for."""
    assert same(adopt(value, "x"), expected)


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_64_levels_are_taken(kind: str) -> None:
    """Depth 64 is the deepest that is taken."""
    value = nested(MAX_DEPTH, kind)
    assert adopt(value, "x") == value


@pytest.mark.parametrize(
    "value",
    [
        {"k" * MAX_KEY_CHARS: 1},
        {"é" * MAX_KEY_CHARS: 1},
        [0] * MAX_NODES,
        [[0] * (MAX_NODES // 2), [0.5] * (MAX_NODES // 2 - 2)],
        {str(index): float(index) for index in range(60_000)} | {"last": []},
        ["x" * 1000] * 4000,
        "é" * (MAX_BYTES // 2 - 2),
        [2**63 - 1, -(2**63)],
        ["\U0001f600", "é"],
        {"tags": ["\U0001f600", "é"]},
        {"k" * 200: 1, "l" * 200: 2},
    ],
    ids=["key", "wide key", "nodes", "nodes in lists", "nodes in a dict", "bytes", "wide bytes", "integers", "text", "texts", "keys"],
)
def test_what_stands_at_the_limit_is_taken(value: object) -> None:
    """A value at a limit is still within it."""
    assert adopt(value, "x") == value


# --- what is refused ---


def text_below_the_last_level() -> Any:
    value: Any = {"tags": ["x"]}
    for _ in range(MAX_DEPTH - 1):
        value = {"k": value}
    return value


def holding_itself() -> Any:
    loop: dict[str, Any] = {"a": []}
    loop["a"].append(loop)
    return loop


@pytest.mark.parametrize(
    ("value", "told", "cure"),
    [
        ({"a": [1, float("nan")]}, "event.data.a[1] is the float nan", "None"),
        ({"a": float("inf")}, "event.data.a is the float inf", "None"),
        (float("-inf"), "event.data is the float -inf", "None"),
        ({"raw": b"x"}, "event.data.raw is a bytes: b'x'", "base64"),
        ({"raw": bytearray(b"x")}, "event.data.raw is a bytearray", "base64"),
        ({"tags": {1}}, "event.data.tags is a set: {1}", "list"),
        ({"pair": (1, 2)}, "event.data.pair is a tuple: (1, 2)", "list"),
        ([Fraction(1, 2)], "event.data[0] is a Fraction", "JSON has"),
        ({"at": datetime(2026, 1, 1, tzinfo=UTC)}, "event.data.at is a datetime", "JSON has"),
        ({"o": object}, "event.data.o is a type", "JSON has"),
        ({"n": 2**70}, "event.data.n is an int outside ±2^63", "string"),
        ([1, -(2**63) - 1], "event.data[1] is an int outside", "string"),
        ({"n": type("Big", (int,), {})(2**64)}, "event.data.n is an int outside", "string"),
        (2**63, "event.data is an int outside", "string"),
        ({"t": "a\ud800"}, "event.data.t is a str with a lone surrogate (U+D800) at character 1", "UTF-8"),
        (["ok", "\udfff"], "event.data[1] is a str with a lone surrogate", "UTF-8"),
        ("\ud800", "event.data is a str with a lone surrogate", "UTF-8"),
        ({"tags": ["ok", "\udfff"]}, "event.data.tags[1] is a str with a lone surrogate", "UTF-8"),
        ({"a\ud800": 1}, "a key of event.data is a str with a lone surrogate", "UTF-8"),
        ({1: "x"}, "event.data has a key that is an int: 1", "strings"),
        ({"a": {None: 1}}, "event.data.a has a key that is a NoneType", "strings"),
        ({"k" * 257: 1}, "event.data has a key of 257 characters", "256"),
        ({"é" * 257: 1}, "event.data has a key of 257 characters", "256"),
        ([0] * (MAX_NODES + 1), "event.data has more than 100,000 values", "reference"),
        ({"tags": ["x"] * MAX_NODES}, "event.data has more than 100,000 values", "reference"),
        ([[0] * MAX_NODES, []], "has more than 100,000 values", "reference"),
        ("x" * (5 * 1024 * 1024), "event.data is 5,242,880 bytes; the limit is 4,194,304", "reference"),
        ({"a": ["é" * (MAX_BYTES // 2)]}, "event.data is 4,194,321 bytes", "reference"),
    ],
)
def test_refusal_names_path_type_and_cure(value: object, told: str, cure: str) -> None:
    """What JSON does not have is refused with its path, its type and what to do."""
    error = refusal(value)
    assert told in error.message
    assert cure in error.hint
    assert error.code == "AF0301"


@pytest.mark.parametrize(
    "make", [lambda: nested(65), lambda: nested(65, "dict"), lambda: nested(100_000), holding_itself, text_below_the_last_level]
)
def test_too_deep_is_refused_without_recursion(make: Callable[[], Any]) -> None:
    """Depth 65, a value that holds itself, and absurd depths are refused by their depth."""
    error = refusal(make())
    assert "nested deeper than 64 levels" in error.message
    assert len(error.message) < 300


def test_long_values_are_shown_short() -> None:
    """The value in a refusal is cut to a line."""
    assert len(refusal({"x": b"y" * 10_000}).message) < 120


def test_value_whose_repr_raises_is_refused_all_the_same() -> None:
    """A refusal does not depend on the value's own `__repr__`."""

    class Evil:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert "whose repr raises" in refusal([Evil()]).message


@pytest.mark.parametrize("value", [[("a", 1)], "text", None, 5])
def test_only_mappings_are_mappings(value: object) -> None:
    """Where a mapping is wanted nothing else is taken, not even what dict() would make one of."""
    with pytest.raises(InvalidValueError, match=r"event\.data is a\w* \w+, not a mapping"):
        adopt_mapping(value, "event.data")


def test_mapping_of_another_class_becomes_a_dict() -> None:
    """A mapping that is no dict is taken as a dict."""
    taken = adopt_mapping(MappingProxyType({"a": {"b": 1}}), "x")
    assert (type(taken), taken) == (dict, {"a": {"b": 1}})


def test_check_key_wants_text() -> None:
    """A key that is no string is refused by name and type."""
    with pytest.raises(InvalidValueError, match="state has a key that is an int: 3"):
        check_key(3, "state")


# --- sameness ---


@pytest.mark.parametrize(
    ("left", "right", "is_same"),
    [
        (1, 1, True),
        (1, 1.0, False),
        (1, True, False),
        (0, False, False),
        (1.0, True, False),
        ([1, [2]], [1, [2]], True),
        ([1], [1.0], False),
        ([1], [1, 1], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": [1]}, {"a": [True]}, False),
        ({"a": 1}, {"b": 1}, False),
        (None, False, False),
        ("1", 1, False),
        (None, None, True),
    ],
)
def test_sameness_tells_json_kinds_apart(left: object, right: object, is_same: bool) -> None:
    """`1`, `1.0` and `true` are three values; key order is none."""
    assert same(left, right) is is_same


def test_shared_lists_count_each_time_they_are_met() -> None:
    """A list that stands in many places counts in each, so a small object cannot grow into a huge copy."""
    with pytest.raises(InvalidValueError, match="more than 100,000 values"):
        adopt({f"k{number}": ["x"] * 60_000 for number in range(2)}, "event.data")
