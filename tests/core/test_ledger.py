"""Ledgers: what is used and what is reserved, together never beyond the limit."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.core.ledger import NAMES, Budget, Figures, Ledger

_orders = st.lists(st.tuples(st.booleans(), st.integers(0, 49), st.integers(0, 100), st.integers(0, 100)), max_size=300)


@given(tokens=st.integers(1, 500), calls=st.integers(1, 60), orders=_orders)
def test_fifty_attempts_at_once_never_exceed_a_budget(tokens: int, calls: int, orders: list[tuple[bool, int, int, int]]) -> None:
    """Whoever reserves before it begins, and uses no more than that, keeps used and reserved within the limit at any moment."""
    ledger = Ledger(Budget(tokens=tokens, calls=calls))
    open_: dict[int, Figures] = {}
    begun, used = 0, 0
    for is_begin, who, reserved, share in orders:
        wanted = Figures(tokens=reserved, calls=1)
        if is_begin and who not in open_:
            lacking = ledger.lacks(wanted)
            taken = ledger.used + ledger.reserved
            assert bool(lacking) == (
                taken.tokens >= tokens or taken.tokens + reserved > tokens or taken.calls >= calls or taken.calls + 1 > calls
            )
            if not lacking:
                ledger.reserve(wanted)
                open_[who] = wanted
                begun += 1
        elif not is_begin and who in open_:
            wanted = open_.pop(who)
            spent = wanted.tokens * share // 100
            used += spent
            ledger.settle(wanted, Figures(tokens=spent, calls=1))
        snapshot = ledger.snapshot()
        assert snapshot.consumed["tokens"] + snapshot.reserved["tokens"] <= tokens
        assert snapshot.consumed["calls"] + snapshot.reserved["calls"] == begun <= calls
        assert snapshot.consumed["tokens"] == used
        assert snapshot.reserved["tokens"] == sum(figures.tokens for figures in open_.values())
        assert snapshot.remaining["tokens"] == tokens - used - snapshot.reserved["tokens"]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_begins_once_a_figure_is_used_up(name: str) -> None:
    """Each figure is one to run out of, exactly at its limit, and the ledger says which."""
    ledger = Ledger(Budget(**{name: 4}))  # type: ignore[arg-type] # any of them
    for _ in range(4):
        assert ledger.lacks(Figures()) == ""
        ledger.settle(Figures(), Figures(**{name: 1}))
    assert ledger.lacks(Figures()) == name
    assert ledger.snapshot().exhausted == name


def test_what_is_reserved_counts_as_used() -> None:
    """Nothing else begins on it; what is given back can be had again."""
    ledger = Ledger(Budget(calls=1))
    ledger.reserve(Figures(calls=1))
    assert ledger.lacks(Figures(calls=1)) == "calls"
    ledger.settle(Figures(calls=1), Figures())
    assert ledger.lacks(Figures(calls=1)) == ""


def test_an_attempt_overshoots_by_itself_at_most() -> None:
    """What it used beyond its reservation is used all the same, and nothing is left."""
    ledger = Ledger(Budget(tokens=10))
    ledger.reserve(Figures(tokens=10))
    ledger.settle(Figures(tokens=10), Figures(tokens=25))
    assert (ledger.snapshot().consumed["tokens"], ledger.snapshot().remaining["tokens"]) == (25, 0)


@given(steps=st.lists(st.integers(0, 30), max_size=40), warn_at=st.floats(0.01, 1.0))
def test_a_warning_comes_once(steps: list[int], warn_at: float) -> None:
    """At the attempt that passes the mark, and never again."""
    ledger = Ledger(Budget(tokens=100, warn_at=warn_at))
    totals, told = [0], []
    for tokens in steps:
        told.append(ledger.settle(Figures(), Figures(tokens=tokens)))
        totals.append(totals[-1] + tokens)
    assert told == [sooner < 100 * warn_at <= later for sooner, later in pairwise(totals)]


def test_a_limit_that_is_not_given_is_none() -> None:
    """A figure without one never runs out."""
    ledger = Ledger(Budget(calls=5))
    ledger.settle(Figures(), Figures(tokens=10**9, cost_usd=1e9, seconds=1e9))
    assert ledger.lacks(Figures(tokens=10**9)) == ""
    assert ledger.snapshot().remaining == {"tokens": None, "cost_usd": None, "seconds": None, "calls": 5}
    assert ledger.snapshot().to_dict()["limit"] == {"tokens": None, "cost_usd": None, "seconds": None, "calls": 5}
