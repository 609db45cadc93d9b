"""Patterns of targets: what they match, and that nobody can make matching slow."""

from __future__ import annotations

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.core.plan import Call
from agentflow.core.subscription import Subscription, matches


@pytest.mark.parametrize(
    ("pattern", "target", "is_match"),
    [
        ("order.*", "order.paid", True),
        ("order.*", "order.", True),
        ("order.*", "order.paid.twice", True),
        ("order.*", "order", False),
        ("order.*", "reorder.paid", False),
        ("order.*", "Order.paid", False),
        ("order.?", "order.7", True),
        ("order.?", "order.77", False),
        ("order.?", "order.", False),
        ("*", "x", True),
        ("*.paid", "a.b.paid", True),
        ("*a*b*", "xxaxxbxx", True),
        ("*a*b*", "xxbxxaxx", False),
        ("order", "order", True),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        ("a.c", "abc", False),
        ("*\n*", "a\nb", True),
    ],
)
def test_a_pattern_stands_for_a_whole_target(pattern: str, target: str, is_match: bool) -> None:
    """`*` is any text, `?` one character, and nothing else has a meaning; case counts."""
    assert is_match == matches(pattern, target)


@given(st.text("ab?*.", max_size=12), st.text("ab.", max_size=12))
def test_patterns_mean_what_they_mean_elsewhere(pattern: str, target: str) -> None:
    """The standard library agrees, as far as it knows no more than `*` and `?`."""
    assert bool(re.match(fnmatch.translate(pattern), target)) == matches(pattern, target)


def test_no_target_is_slow_to_match() -> None:
    """What a regular expression would try for hours takes as many steps as both lengths multiplied."""
    assert not matches("*a" * 100 + "b", "a" * 4096)


def test_an_event_without_a_target_is_nobodys() -> None:
    """Not even those who subscribe to everything take it."""
    assert not Subscription(Call("a"), ("*", "")).takes("")
    assert Subscription(Call("a"), ("x", "*")).takes("y")
