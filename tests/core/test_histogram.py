"""Durations in buckets: what they are told as, against the sorted list of all."""

from __future__ import annotations

from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from agentflow.core.histogram import Histogram

DURATIONS = st.lists(st.floats(0.0, 1e7), min_size=1, max_size=200)


def filled(durations: list[float]) -> Histogram:
    """Return a histogram of these."""
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    return histogram


@given(DURATIONS, st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 1.0]))
def test_a_percentile_is_off_by_at_most_five_percent(durations: list[float], share: float) -> None:
    """It is the nearest rank of the sorted list, within 5 % of it, or within a microsecond where that is more."""
    exact = sorted(durations)[max(1, ceil(share * len(durations))) - 1]
    told = filled(durations).percentile(share)
    assert told is not None
    assert abs(told - exact) <= max(0.05 * exact, 1e-6)


@given(DURATIONS)
def test_percentiles_grow_with_the_share_and_stay_between_the_shortest_and_the_longest(durations: list[float]) -> None:
    """p50 <= p95 <= p99 <= max, and none of them is outside of what was counted."""
    histogram = filled(durations)
    told = [histogram.percentile(share) or 0.0 for share in (0.0, 0.5, 0.95, 0.99, 1.0)]
    assert [min(durations), *sorted(told), max(durations)] == sorted([min(durations), *told, max(durations)])
    assert told == sorted(told)
    assert min(durations) <= told[0]
    assert told[-1] <= max(durations)


@given(DURATIONS)
def test_count_mean_and_longest_are_exact(durations: list[float]) -> None:
    """Only percentiles are estimates."""
    told = filled(durations).to_dict()
    assert len(durations) == told["count"]
    assert round(max(durations), 7) == told["max"]
    assert abs(float(str(told["mean"])) - sum(durations) / len(durations)) <= 1e-6 * max(durations) + 1e-7


def test_a_histogram_of_nothing_has_no_figures_but_its_count() -> None:
    """None stands for what nobody can say; a zero would be a claim."""
    assert {"count": 0, "p50": None, "p95": None, "p99": None, "max": None, "mean": None} == Histogram().to_dict()
    assert None is Histogram().percentile(0.5)


def test_a_clock_that_goes_back_counts_as_no_time() -> None:
    """A negative duration is counted, as zero."""
    assert {"count": 1, "p50": 0.0, "p95": 0.0, "p99": 0.0, "max": 0.0, "mean": 0.0} == filled([-3600.0]).to_dict()


def test_what_is_longer_than_all_buckets_is_counted_in_the_last_one() -> None:
    """The largest figures are no fault, and the longest is told as it is."""
    histogram = filled([1.0, 1e300])
    assert 1e300 == histogram.longest
    assert (histogram.percentile(1.0) or 0.0) > 1e10


def test_a_million_durations_take_no_more_room_than_a_thousand() -> None:
    """The number of buckets is bounded, whatever was counted."""
    histogram = filled([10**exponent * factor for exponent in range(-9, 30) for factor in (1, 1.5, 2, 3, 5, 7)])
    assert len(histogram._buckets) <= 402
