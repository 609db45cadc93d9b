"""The token bucket: how many calls go, and when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.core.rate import TokenBucket


def starts(bucket: TokenBucket, arrivals: list[float]) -> list[float]:
    """Return when calls that arrive at these times go, first come, first served."""
    found: list[float] = []
    for arrival in arrivals:
        now = max(arrival, found[-1] if found else 0.0)
        if not bucket.has_token(now):
            now = bucket.due
        bucket.take(now)
        found.append(now)
    return found


def test_burst_goes_at_once_and_then_one_an_interval() -> None:
    """Ten calls at rate 2 with a burst of 4: four at once, then one every half second."""
    assert [0, 0, 0, 0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0] == pytest.approx(starts(TokenBucket(2.0, 4), [0.0] * 10))


def test_rest_fills_the_bucket_to_the_burst_and_no_further() -> None:
    """After a long rest the burst is there again, once."""
    bucket = TokenBucket(1.0, 3)
    starts(bucket, [0.0] * 3)
    assert [1000, 1000, 1000, 1001] == pytest.approx(starts(bucket, [1000.0] * 4))


def test_token_given_back_can_be_taken_again() -> None:
    """A token that was taken for nothing delays nobody."""
    bucket = TokenBucket(1.0, 1)
    bucket.take(5.0)
    bucket.put_back()
    assert bucket.has_token(5.0)


@given(
    st.lists(st.floats(0, 3), min_size=1, max_size=80),
    st.floats(0.1, 50),
    st.integers(1, 10),
    st.floats(0, 1e6),
)
def test_no_window_has_more_than_its_share(waits: list[float], rate: float, burst: int, begin: float) -> None:
    """However calls arrive: from any start on, n calls take at least (n - burst) / rate seconds; and none waits without need."""
    arrivals, now = [], begin
    for wait_s in waits:
        now += wait_s
        arrivals.append(now)
    found = starts(TokenBucket(rate, burst), arrivals)
    for first in range(len(found)):
        for last in range(first + burst, len(found)):
            assert found[last] - found[first] >= (last - first + 1 - burst) / rate - 1e-5
    assert all(start == pytest.approx(arrival) for start, arrival in zip(found[:burst], arrivals[:burst], strict=True))
