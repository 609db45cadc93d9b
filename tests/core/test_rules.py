"""Conditions: what they may name, what is missing, and what they come to."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow.core.event import Event
from agentflow.core.facts import RunFacts
from agentflow.core.rules import Rule
from agentflow.core.state import Patch, Scope
from agentflow.errors import RuleError, UnknownNameError


class Asked:
    """Facts that note what was asked for."""

    def __init__(self, facts: RunFacts) -> None:
        self.facts = facts
        self.paths: list[tuple[str, ...]] = []

    def fact(self, root: str, path: tuple[str, ...]) -> object:
        self.paths.append((root, *path))
        return self.facts.fact(root, path)


def facts(data: dict[str, Any] | None = None, event: Event | None = None) -> RunFacts:
    scope = Scope(dict(data or {}), {"tone": "dry", "a-b": "x"})
    scope.outputs = {"writer": Patch({"pages": 3})}
    return RunFacts(event or Event("a", {"size": 10, "tags": ["x"]}, {"who": "me"}, id="e1"), scope)


def holds(source: str, data: dict[str, Any] | None = None) -> bool:
    return Rule(source).holds(facts(data))


@pytest.mark.parametrize(
    ("source", "data", "answer"),
    [
        ("true", {}, True),
        ("state.score >= 0.9", {"score": 0.95}, True),
        ("state.score >= 1", {"score": 0.5}, False),
        ("state.n > 1.5", {"n": 2}, True),
        ("state.flag", {"flag": True}, True),
        ("state.n == 1", {"n": True}, False),
        ("state.none == null", {"none": None}, True),
        ('state["a-b"] == 1', {"a-b": 1}, True),
        ("state['a-b']['c d'].e == 'é'", {"a-b": {"c d": {"e": "é"}}}, True),
        ('state["\\u00e9"] == 1', {"é": 1}, True),
        ("state.items[1].n == 2", {"items": [{"n": 1}, {"n": 2}]}, True),
        ("state.name.startsWith('ab') && state.name.size() == 3", {"name": "abc"}, True),
        ("state.size() == 2", {"a": 1, "b": 2}, True),
        ("size(state) == 1", {"a": 1}, True),
        ("state[state.key] == 5", {"key": "x", "x": 5}, True),
        ("state.a.b == 1 && size(state.a) == 1", {"a": {"b": 1}}, True),
        ("event.data.size < 1000 && event.target == 'a' && event.id == 'e1' && event.session_id == null", {}, True),
        ("event.metadata.who == 'me' && size(event.data) == 2", {}, True),
        ("size(event) > 0", {}, True),
        ("meta.tone == 'dry' && meta['a-b'] == 'x' && size(meta) == 2", {}, True),
        ("outputs.writer.pages == 3 && 'writer' in outputs", {}, True),
        ("'state.x' == 'state.x' // state.y", {}, True),
        ('"""state.x""" == "state.x"', {}, True),
    ],
)
def test_condition_asks_the_run(source: str, data: dict[str, Any], answer: bool) -> None:
    """A condition may ask for any value below state, meta, event and outputs."""
    assert holds(source, data) is answer


@pytest.mark.parametrize(
    ("source", "data", "answer"),
    [
        ("state.items.exists(i, i > 2)", {"items": [1, 3]}, True),
        ("state.items.all(item, item.done)", {"items": [{"done": True}, {"done": False}]}, False),
        ("state.items.filter(x, x > 1).map(y, y * 2) == [4, 6]", {"items": [1, 2, 3]}, True),
        ("state.items.exists_one(x, x == state.wanted)", {"items": [1, 2], "wanted": 2}, True),
        ("state.rows.exists(r, r.cells.exists(c, c == 2))", {"rows": [{"cells": [1, 2]}]}, True),
    ],
)
def test_comprehension_variables_are_no_unknown_names(source: str, data: dict[str, Any], answer: bool) -> None:
    """The variables that a macro binds are its own."""
    assert holds(source, data) is answer


@pytest.mark.parametrize(
    ("source", "data", "answer"),
    [
        ("has(state.a)", {}, False),
        ("has(state.a)", {"a": None}, True),
        ("has(state.a.b)", {"a": {}}, False),
        ("has(state.a.b)", {"a": {"c": 1}}, False),
        ("has(state.a.b.c)", {"a": {"b": {"x": 1}}}, False),
        ("has(state.a) && has(state.a.b)", {}, False),
        ("has(state.a.b) || state.a.c == 1", {"a": {"c": 1}}, True),
        ("has(state.a.b) || has(state.a.d)", {"a": {"d": 1}}, True),
        ("has(event.data.missing)", {}, False),
        ("has(event.data.size)", {}, True),
        ("has(meta.missing)", {}, False),
        ("has(outputs.reader)", {}, False),
        ("has(outputs.writer.lines)", {}, False),
        ("!has(state.a) || state.a.b == 1", {}, True),
        ("has(state.a) && state.a > 3", {}, False),
    ],
)
def test_has_asks_whether_a_value_is_there(source: str, data: dict[str, Any], answer: bool) -> None:
    """`has(...)` is false where the last part of a path is missing, so that it can guard a condition."""
    assert holds(source, data) is answer


@pytest.mark.parametrize(
    ("source", "data", "told"),
    [
        ("state.score > 1", {}, "`state.score` is not there"),
        ("state.a.b > 1", {"a": {}}, "`state.a.b` is not there"),
        ("state.a.b > 1", {"a": 5}, "`state.a.b` is not there"),
        ("state.a.b > 1 && state.a.c > 1", {"a": 5}, "`state.a.b, state.a.c` is not there"),
        ("event.data.x.y == 1", {}, "`event.data.x.y` is not there"),
        ("meta.missing == ''", {}, "`meta.missing` is not there"),
        ("outputs.reader.pages > 1", {}, "`outputs.reader.pages` is not there"),
        ("state['a-b'] == 1", {}, "`state.a-b` is not there"),
    ],
)
def test_missing_value_names_its_path(source: str, data: dict[str, Any], told: str) -> None:
    """A condition that needs a missing value has no answer; the error names condition and path, and how to guard it."""
    with pytest.raises(RuleError) as caught:
        holds(source, data)
    assert told in caught.value.message
    assert f"`{source}`" in caught.value.message
    assert "has(...)" in caught.value.hint


@pytest.mark.parametrize(
    ("source", "data"),
    [
        ("state.n / 0 == 1", {"n": 1}),
        ("state.n + 1 > 0", {"n": 2**63 - 1}),
        ("state.items[9] == 1", {"items": [1]}),
        ("state.text > 1", {"text": "a"}),
        ("state.text.matches('(')", {"text": "a"}),
        ("int(state.text) == 1", {"text": "x"}),
    ],
)
def test_condition_that_cannot_be_computed_has_no_answer(source: str, data: dict[str, Any]) -> None:
    """Arithmetic, indices and types that do not work are errors of the condition, never of the runner."""
    with pytest.raises(RuleError, match="has no answer"):
        holds(source, data)


@pytest.mark.parametrize(
    ("source", "data", "kind"), [("state.n", {"n": 1}, "int"), ("state.t + 'x'", {"t": "a"}, "str"), ("null", {}, "NoneType")]
)
def test_answer_must_be_true_or_false(source: str, data: dict[str, Any], kind: str) -> None:
    """A condition that comes to anything but true or false is an error that names the kind."""
    with pytest.raises(RuleError, match=f"is {kind}, not true or false"):
        holds(source, data)


@pytest.mark.parametrize(
    ("source", "told", "hint"),
    [
        ("stat.x > 1", "unknown name `stat`", "did you mean `state`?"),
        ("evnt.data.x > 1", "unknown name `evnt`", "did you mean `event`?"),
        ("quality > 1", "unknown name `quality`", "write state.quality"),
        ("state.items.exists(i, j > 1)", "unknown name `j`", "state.j"),
        ("event.dta.x > 1", "an event has no `dta`", "did you mean `data`?"),
        ("event['tagret'] == 'a'", "an event has no `tagret`", "did you mean `target`?"),
    ],
)
def test_unknown_name_is_found_when_it_is_compiled(source: str, told: str, hint: str) -> None:
    """A name that no condition can ask about is refused at load, with the likely one."""
    with pytest.raises(UnknownNameError) as caught:
        Rule(source)
    assert told in caught.value.message
    assert f"`{source}`" in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.code == "AF0211"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("state.x >", "at character 10"),
        ("", "cannot read ``"),
        ("state.x = 1", "cannot read"),
        ("(" * 500 + "true" + ")" * 500, "cannot read"),
        ("true || " * 600 + "true", "4,804 characters"),
        ("'unclosed", "cannot read"),
    ],
)
def test_expression_that_cannot_be_read_is_refused(source: str, told: str) -> None:
    """What does not parse is refused at load, with the place, and is of bounded length."""
    with pytest.raises(RuleError) as caught:
        Rule(source)
    assert told in caught.value.message
    assert (caught.value.code, bool(caught.value.hint)) == ("AF0210", True)


def test_only_what_is_named_is_asked_for() -> None:
    """A condition asks for the values it names and nothing else: a large state costs nothing."""
    asked = Asked(facts({"a": {"b": 1, "big": list(range(1000))}, "other": 1}))
    assert Rule("state.a.b == 1 && has(meta.tone) && state.a.b < 2").holds(asked)
    assert asked.paths == [("meta", "tone"), ("state", "a", "b")]


def test_rules_compare_by_their_text() -> None:
    """Two rules of one text are equal, and show that text."""
    assert Rule("true") == Rule("true")
    assert Rule("true") != Rule("false")
    assert Rule("true") != "true"
    assert len({Rule("true"), Rule("true")}) == 1
    assert repr(Rule("true")) == "Rule('true')"


def test_nested_macros_are_bounded() -> None:
    """An expression whose macros could multiply without bound is refused: nothing can interrupt an evaluation."""
    with pytest.raises(RuleError, match="at most 2"):
        Rule("state.l.all(a, state.l.all(b, state.l.all(c, a + b + c >= 0)))")
    assert Rule("state.l.all(a, state.l.exists(b, a == b))").source


@pytest.mark.parametrize(
    "source", ["state.a.map(x, state.a.map(y, state.a)).size() > 5", "state.a.map(x, state.a.filter(y, y > x)).size() > 1"]
)
def test_a_list_that_is_built_for_each_item_of_another_is_refused(source: str) -> None:
    """Its time grows with a high power of the list's length, and nothing can interrupt an evaluation."""
    with pytest.raises(RuleError, match="stands inside `map`"):
        Rule(source)


@pytest.mark.parametrize(
    "source", ["state.a.filter(x, x > 1).map(y, y * 2).size() > 0", "state.a.exists(x, state.a.exists(y, y == x))", "size(state.map) > 1"]
)
def test_lists_that_are_built_one_after_the_other_are_fine(source: str) -> None:
    """What is built once, or only asked, is bounded by the length of the lists."""
    assert Rule(source).source == source
