"""JSON Schemas: what of a mapping does not fit, and which schemas are refused when they are read."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from agentflow.core.contract import Schema
from agentflow.core.json_schema import compiled
from agentflow.errors import SchemaError

STATE = {
    "type": "object",
    "properties": {
        "score": {"type": "number", "maximum": 1},
        "tags": {"type": "array", "items": {"type": "string"}},
        "by": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"], "additionalProperties": False},
    },
    "patternProperties": {"^x_": {"type": "integer"}},
    "additionalProperties": False,
    "required": ["score"],
}


def schema(source: Any) -> Schema:
    return compiled(json.dumps(source))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"score": 0.5, "tags": [], "x_n": 3}, []),
        ({"score": 3}, [(".score", "3 is greater than the maximum of 1")]),
        ({"tags": ["a", 3]}, [(".tags[1]", "3 is not of type 'string'")]),
        ({"scor": 1}, [(".scor", "no such key is allowed; did you mean `score`?")]),
        ({"by": {}}, [(".by", "'name' is a required property")]),
        ({"by": {"name": "x", "zzz": 1}}, [(".by.zzz", "no such key is allowed")]),
        ({"x_n": "3"}, [(".x_n", "'3' is not of type 'integer'")]),
        ({"score": True}, [(".score", "True is not of type 'number'")]),
    ],
)
def test_each_misfit_has_its_place(value: Any, told: Any) -> None:
    """Of a mapping that may lack keys; what is required further down is required."""
    assert list(schema(STATE).check(value, True)) == told


def test_only_a_partial_check_lets_keys_be_missing() -> None:
    """The whole schema asks for what is required."""
    assert list(schema(STATE).check({}, True)) == []
    assert list(schema(STATE).check({}, False)) == [("", "'score' is a required property")]


def test_misfits_stand_in_the_order_of_their_places() -> None:
    """However the schema's keys are ordered: a plan that was recorded has them sorted."""
    turned = {**STATE, "properties": dict(reversed(STATE["properties"].items()))}  # type: ignore[attr-defined]
    value = {"tags": [1], "score": 3, "by": {}}
    assert schema(turned).check(value, True) == schema(STATE).check(value, True)
    assert [path for path, _ in schema(STATE).check(value, True)] == [".by", ".score", ".tags[0]"]


def test_what_is_told_of_a_value_is_short() -> None:
    """A value of a megabyte does not make an error of a megabyte."""
    [(_, told)] = schema({"properties": {"a": {"type": "integer"}}}).check({"a": "x" * 1_000_000}, True)
    assert len(told) < 400


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"type": "objekt"}, "it is no JSON Schema: `.type`"),
        ({"properties": {"a": {"pattern": "("}}}, "`.properties.a.pattern`"),
        ({"properties": []}, "`.properties`"),
        ({"$schema": "https://example.com/mine"}, "`$schema` names no draft that is known"),
        ({"$schema": 7}, "`$schema` names no draft that is known"),
        ({"$ref": "#"}, "refers to itself without end"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}}}, "`$ref` names something outside the schema, or nothing: #/$defs/b"),
        ({"properties": {"a": {"$ref": "other.json#/x"}}}, "outside the schema"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "outside the schema"),
        ({"items": {"$dynamicRef": "https://example.com/x"}}, "`$dynamicRef` names something outside"),
        (
            {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {"$ref": "http://localhost/x"}}},
            "outside the schema",
        ),
    ],
)
def test_what_cannot_be_checked_is_refused(source: Any, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No schema, an unknown draft, or a reference that leads out of it: and nothing is ever fetched."""
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("it went to the network"))
    with pytest.raises(SchemaError) as caught:
        schema(source)
    assert told in caught.value.message


@pytest.mark.parametrize(
    "source",
    [
        {"$defs": {"word": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/word"}}},
        {
            "$id": "https://example.com/s",
            "$defs": {"w": {"type": "string"}},
            "properties": {"a": {"$ref": "https://example.com/s#/$defs/w"}},
        },
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "definitions": {"w": {"type": "string"}},
            "properties": {"a": {"$ref": "#/definitions/w"}},
        },
        {"properties": {"a": {"type": "string"}, "$ref": {"type": "integer"}, "const": {"const": {"$ref": "https://example.com/x"}}}},
    ],
)
def test_references_inside_a_schema_are_followed(source: Any) -> None:
    """By place, by id, in older drafts; what only looks like a reference is none."""
    assert [path for path, _ in schema(source).check({"a": 1}, True)] == [".a"]


def test_a_tree_may_refer_to_itself() -> None:
    """Below a key."""
    tree = schema({"properties": {"left": {"$ref": "#"}, "n": {"type": "integer"}}})
    assert [path for path, _ in tree.check({"left": {"left": {"n": "x"}}}, True)] == [".left.left.n"]


@pytest.mark.parametrize(
    ("source", "keys"),
    [
        ({"additionalProperties": False, "properties": {"a": {}, "b": {}}}, {"a", "b"}),
        ({"additionalProperties": False}, set()),
        ({"properties": {"a": {}}}, None),
        ({"additionalProperties": {"type": "string"}, "properties": {"a": {}}}, None),
        ({"additionalProperties": False, "patternProperties": {"^x": {}}}, None),
    ],
)
def test_a_schema_knows_its_keys_where_it_allows_no_others(source: Any, keys: Any) -> None:
    """None where others are allowed."""
    assert Schema(source).keys == (None if keys is None else frozenset(keys))


def test_a_schema_that_is_only_shown_checks_nothing() -> None:
    """It says so, and takes nothing for good."""
    with pytest.raises(SchemaError, match="never compiled"):
        Schema({}).check({}, False)
