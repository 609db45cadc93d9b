"""Templates of members' inputs: what they name, and what comes in its place."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.core.event import Event
from agentflow.core.facts import RunFacts
from agentflow.core.inputs import data_of, filled, places_in
from agentflow.core.part import Template
from agentflow.core.state import Patch, Scope
from agentflow.errors import RuleError, UnknownNameError

STATE = {"n": 3, "text": "a b", "list": [{"x": 1}, {"x": 2}], "deep": {"a-b": {"c": None}}, "yes": True}


def facts() -> RunFacts:
    scope = Scope(dict(STATE), {"who": "me"})
    scope.outputs = {"gather": Patch({"found": [1, 2]})}
    return RunFacts(Event("target", {"kind": "k"}, {"m": "1"}, id="e1"), scope, {"item": {"id": 7}})


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("{{ state.n }}", 3),
        ("{{state.n}}", 3),
        ("{{ state.list }}", STATE["list"]),
        ("{{ state.list.1.x }}", 2),
        ("{{ state.list[1].x }}", 2),
        ('{{ state.deep["a-b"].c }}', None),
        ("{{ state.deep.a-b.c }}", None),
        ("{{ meta.who }}", "me"),
        ("{{ event.id }}/{{ event.target }}", "e1/target"),
        ("{{ event.data.item.id }}", 7),
        ("{{ outputs.gather.found }}", [1, 2]),
        ("{{ outputs.gather }}", {"found": [1, 2]}),
        ("n is {{ state.n }}, {{ state.text }}: {{ state.list.0 }}, {{ state.yes }}", 'n is 3, a b: {"x": 1}, true'),
        ("no place { at } all", "no place { at } all"),
        ({"a": ["{{ state.n }}", 1, {"b": "{{ state.text }}"}]}, {"a": [3, 1, {"b": "a b"}]}),
        (5, 5),
    ],
)
def test_a_place_has_the_value_found_there(told: Any, expected: Any) -> None:
    """A string that is one place has its value, whatever its type; inside a longer one stands its text; all else stays."""
    assert filled(Template(told), facts()) == expected


def test_what_is_filled_in_is_a_copy() -> None:
    """A member that changes its input changes nothing of the state."""
    scope = Scope({"list": [1]})
    found = filled(Template("{{ state.list }}"), RunFacts(Event("a"), scope))
    assert isinstance(found, list)
    found.append(2)
    assert scope.entries == {"list": [1]}


ABSENT = ["{{ state.m }}", "{{ state.n.x }}", "{{ state.list.2 }}", "{{ outputs.other }}", "so {{ event.data.kind }}"]


@pytest.mark.parametrize("told", ABSENT)
def test_a_place_with_nothing_there_is_an_error_that_names_it(told: str) -> None:
    """What is not there is never filled in as nothing; a member's own event data stand in the place of the event's."""
    place = told[told.index("{{") :]
    with pytest.raises(UnknownNameError, match="is not there") as raised:
        filled(Template(told), facts())
    assert place in raised.value.message


UNREADABLE = [
    *("{{ stat.n }}", "{{ }}", "{{ state.n + 1 }}", "{{ state..n }}", "{{ 1 }}"),
    *("{{ state.n }", "so {{ state.n", "{{ state.n }} and {{"),
    *('{{ state["a }}', "{{ state[x] }}", r'{{ state["\q"] }}'),
]


@pytest.mark.parametrize("told", UNREADABLE)
def test_what_cannot_be_read_is_refused_at_load(told: str) -> None:
    """A place is a root and a path, no expression."""
    with pytest.raises(RuleError):
        list(places_in({"a": [told]}))


def test_the_places_of_a_template_are_found() -> None:
    """Checks at load see every place, in the order in which they stand."""
    told: Any = {"a": ["{{ state.x }} and {{ outputs.b.c }}"], "d": "{{ event.data.e }}"}
    assert list(places_in(told)) == [("state", ("x",)), ("outputs", ("b", "c")), ("event", ("data", "e"))]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (Template({"q": "{{ state.n }}"}), {"input": {"q": 3}}),
        (Template({"q": "{{ state.n }}"}, is_data=True), {"q": 3}),
        (Template("{{ state.deep }}", is_data=True), STATE["deep"]),
        (Template("{{ state.n }}", is_data=True), {"input": 3}),
    ],
)
def test_an_input_becomes_event_data(template: Template, expected: Any) -> None:
    """The data is `{"input": value}`; the first member of a pipeline has the value itself where it is a mapping."""
    assert data_of(template, facts()) == expected


@given(st.text(max_size=30), st.text(alphabet='{} stae.n[]"0', max_size=20))
def test_any_text_is_filled_or_refused(before: str, inside: str) -> None:
    """No text of a template brings forth anything but an answer or a coded error, and text without places stays as it is."""
    told = f"{before}{{{{{inside}}}}}"
    with suppress(RuleError):
        filled(Template(told), facts())
    if "{{" not in before:
        assert filled(Template(before), facts()) == before
