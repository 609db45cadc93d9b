"""The circuit breaker: when calls are let through, and what counts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentflow.core.breaker import CLOSED, HALF_OPEN, OPEN, Breaker


def made(failures: int = 3, reset_s: float = 10.0, successes: int = 2) -> Breaker:
    """Return a fresh breaker."""
    return Breaker(failures, reset_s, successes)


def call(breaker: Breaker, now: float, *, is_ok: bool | None) -> bool:
    """Make one call that ends at once; say whether it was let through."""
    turn = breaker.enter(now)
    if turn is not None:
        breaker.leave(turn, now, is_ok=is_ok)
    return turn is not None


def opened(now: float = 0.0) -> Breaker:
    """Return a breaker that three failures have just opened."""
    breaker = made()
    for _ in range(3):
        call(breaker, now, is_ok=False)
    return breaker


def test_failures_in_a_row_open_it() -> None:
    """Only failures in a row count: a success in between begins the count anew."""
    breaker = made()
    for is_ok in (False, False, True, False, False):
        assert call(breaker, 0.0, is_ok=is_ok)
    assert (breaker.state, breaker.view(0.0).failures) == (CLOSED, 2)
    call(breaker, 0.0, is_ok=False)
    assert breaker.state == OPEN


def test_open_one_rejects_until_its_time_is_over() -> None:
    """It rejects every call for `reset_s`, and says how long that still is."""
    breaker = opened(now=5.0)
    assert not call(breaker, 14.999, is_ok=True)
    assert (breaker.view(12.0).state, breaker.view(12.0).left_s) == (OPEN, 3.0)
    assert (breaker.view(15.0).state, breaker.view(15.0).left_s) == (HALF_OPEN, 0.0)
    assert breaker.enter(15.0) is not None


def test_one_probe_at_a_time() -> None:
    """Half open it lets one call through and rejects the others until that one has ended."""
    breaker = opened()
    turn = breaker.enter(10.0)
    assert turn is not None
    assert [breaker.enter(10.0) for _ in range(50)] == [None] * 50
    breaker.leave(turn, 11.0, is_ok=True)
    assert (breaker.state, breaker.enter(11.0)) == (HALF_OPEN, turn)


def test_probes_that_succeed_close_it() -> None:
    """`success_threshold` probes in a row close it, and the count of failures begins anew."""
    breaker = opened()
    assert call(breaker, 10.0, is_ok=True)
    assert breaker.state == HALF_OPEN
    assert call(breaker, 10.0, is_ok=True)
    assert breaker.state == CLOSED
    call(breaker, 10.0, is_ok=False)
    assert breaker.state == CLOSED


def test_probe_that_fails_opens_it_again() -> None:
    """One failure while it is half open opens it for the whole time, and the probes are counted from the start."""
    breaker = opened()
    call(breaker, 10.0, is_ok=True)
    call(breaker, 10.0, is_ok=False)
    assert (breaker.state, breaker.view(10.0).left_s) == (OPEN, 10.0)
    call(breaker, 20.0, is_ok=True)
    assert breaker.state == HALF_OPEN


def test_probe_that_says_nothing_gives_its_place_back() -> None:
    """A probe that was cancelled neither closes nor opens it; the next call is the probe."""
    breaker = opened()
    call(breaker, 10.0, is_ok=None)
    assert breaker.state == HALF_OPEN
    assert call(breaker, 10.0, is_ok=True)


def test_calls_of_an_earlier_turn_do_not_count() -> None:
    """What was let through before it opened says nothing later: neither its failure nor its success changes anything."""
    breaker = made()
    turns = [breaker.enter(0.0) for _ in range(6)]
    for turn in turns[:3]:
        breaker.leave(turn or 0, 1.0, is_ok=False)
    assert breaker.state == OPEN
    breaker.leave(turns[3] or 0, 5.0, is_ok=False)
    assert breaker.view(5.0).left_s == 6.0
    probe = breaker.enter(11.0)
    breaker.leave(turns[4] or 0, 11.0, is_ok=False)
    breaker.leave(turns[5] or 0, 11.0, is_ok=True)
    assert (breaker.state, breaker.enter(11.0)) == (HALF_OPEN, None)
    breaker.leave(probe or 0, 11.0, is_ok=True)
    assert breaker.state == HALF_OPEN


@given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from([True, False, None])), max_size=60), st.integers(1, 4), st.integers(1, 3))
def test_it_rejects_nothing_but_after_failures(calls: list[tuple[float, bool | None]], failures: int, successes: int) -> None:
    """Whatever comes: it rejects only while open, and is open only in the `reset_s` after a failure."""
    breaker, now, failed_at = Breaker(failures, 10.0, successes), 0.0, -100.0
    for wait_s, is_ok in calls:
        now += wait_s
        before = breaker.view(now).state
        is_through = call(breaker, now, is_ok=is_ok)
        assert is_through == (before != OPEN)
        assert before != OPEN or now < failed_at + 10.0
        if is_through and is_ok is False:
            failed_at = now
