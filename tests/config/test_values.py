"""Mappings from Python: what TOML could not hold is told by its key path."""

from typing import Any

import pytest

from agentflow.config import read
from agentflow.config.display import dotted


@pytest.mark.parametrize(
    ("mapping", "code", "path"),
    [
        ({"agents": {"a": {"role": {1}}}}, "AF0103", "agents.a.role"),
        ({"agents": {"a": {"role": b"x"}}}, "AF0103", "agents.a.role"),
        ({"agents": {"a": {"role": "\ud800"}}}, "AF0103", "agents.a.role"),
        ({"agents": {5: {}}}, "AF0103", "agents.5"),
        ({"agents": {"\ud800": {}}}, "AF0103", "agents.\"'\\\\ud800'\""),
        ({"orchestration": {"max_hops": 2**70}}, "AF0104", "orchestration.max_hops"),
        ({"orchestration": {"timeout_seconds": 10**400}}, "AF0104", "orchestration.timeout_seconds"),
        ({"orchestration": {"sequential_agents": ["a", None, object()]}}, "AF0103", "orchestration.sequential_agents[2]"),
    ],
)
def test_a_value_that_toml_could_not_hold_is_told(mapping: dict[str, Any], code: str, path: str) -> None:
    """The key path stands in the place of a file."""
    found = read(mapping, environ={}).diagnostics
    assert (code, path) in [(one.code, dotted(one.path)) for one in found]


def test_a_mapping_that_holds_itself_is_too_deep() -> None:
    """A circle ends at the bound on depth."""
    circle: dict[str, Any] = {}
    circle["options"] = circle
    assert ["AF0114"] == [one.code for one in read({"orchestration": {"options": circle}}, environ={}).diagnostics]


def test_a_mapping_that_grows_without_end_is_bounded() -> None:
    """Shared parts count each time they are reached."""
    wide: list[Any] = []
    for _ in range(40):
        wide = [wide, wide]
    found = read({"orchestration": {"options": {"a": wide}}}, environ={}).diagnostics
    assert ["AF0109"] == [one.code for one in found]


def test_none_is_not_given_and_a_tuple_is_an_array() -> None:
    """Python's own ways to say nothing and several are understood."""
    config = read({"orchestration": {"timeout_seconds": None, "sequential_agents": ("a", "b")}}, environ={}).config
    assert config is not None
    assert config.orchestration.sequential_agents == ["a", "b"]
    assert config.orchestration.given == {"sequential_agents"}


def test_the_mapping_is_not_changed() -> None:
    """What the caller holds stays as it was."""
    mapping = {"agnets": {"a": {"role": "${X:-x}"}}}
    assert read(mapping, environ={}).config is not None
    assert mapping == {"agnets": {"a": {"role": "${X:-x}"}}}
