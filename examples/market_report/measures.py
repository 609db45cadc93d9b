"""The arithmetic of the report: plain functions over lists of numbers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate, pairwise
from statistics import correlation, covariance, fmean, linear_regression, median, variance

OUTLIER_SCORE = 3.5
REVERSAL_MONTHS = 4
REVERSAL_SHARE = 0.8


def changes(values: Sequence[float]) -> list[float]:
    """Return each value minus the one before it: one element fewer."""
    return [after - before for before, after in pairwise(values)]


def percent_changes(values: Sequence[float]) -> list[float]:
    """Return each change in percent of the value before it: one element fewer."""
    return [100 * (after / before - 1) for before, after in pairwise(values)]


def annual_growth(first: float, last: float, months: int) -> float:
    """Return the compound growth in percent a year that leads from first to last."""
    return 100 * math.expm1(math.log(last / first) * 12 / months)


def moving_average(values: Sequence[float], window: int) -> list[float]:
    """Return the mean of each full window: `window - 1` elements fewer."""
    return [fmean(values[end - window : end]) for end in range(window, len(values) + 1)]


def deepest_fall(values: Sequence[float]) -> tuple[int, int]:
    """Return where the largest fall in percent began and ended; equal places when there is none."""
    peak, best = 0, (0, 0)
    deepest = 0.0
    for place, value in enumerate(values):
        if value > values[peak]:
            peak = place
        fall = 1 - value / values[peak]
        if fall > deepest:
            deepest, best = fall, (peak, place)
    return best


def first_above(values: Sequence[float], level: float, start: int) -> int | None:
    """Return the first place from `start` on whose value is above the level."""
    return next((place for place in range(start, len(values)) if values[place] > level), None)


def straight_line(values: Sequence[float]) -> tuple[float, float]:
    """Return slope per step and the share of variance that the line explains."""
    steps = range(len(values))
    slope = linear_regression(steps, values).slope
    return slope, correlation(steps, values) ** 2


def calendar_effect(months: Sequence[int], values: Sequence[float]) -> tuple[float, float]:
    """Return the share of variance explained by the calendar month, and the share chance would give."""
    groups: dict[int, list[float]] = defaultdict(list)
    for month, value in zip(months, values, strict=True):
        groups[month].append(value)
    mean = fmean(values)
    total = sum((value - mean) ** 2 for value in values)
    between = sum(len(group) * (fmean(group) - mean) ** 2 for group in groups.values())
    return between / total, (len(groups) - 1) / (len(values) - 1)


def sensitivity(sector: Sequence[float], total: Sequence[float]) -> tuple[float, float]:
    """Return correlation and beta of a sector's changes against those of the total."""
    return correlation(sector, total), covariance(sector, total) / variance(total)


def modified_scores(values: Sequence[float]) -> list[float]:
    """Return each value's distance from the median, in scaled median deviations (Iglewicz, Hoaglin)."""
    middle = median(values)
    deviation = median(abs(value - middle) for value in values)
    if deviation == 0:
        return [0.0 for _ in values]
    return [0.6745 * (value - middle) / deviation for value in values]


def outliers(values: Sequence[float]) -> list[tuple[int, float, str]]:
    """Return (place, score, kind) of the changes that stand out.

    Kind is "one-off" when the next four changes undo four fifths of it (a strike, a census),
    "rebound" when it is what undoes one, else "sustained" (a recession).
    """
    found: list[tuple[int, float, str]] = []
    for place, score in enumerate(modified_scores(values)):
        if abs(score) <= OUTLIER_SCORE:
            continue
        kind = "one-off" if _is_undone(values, place) else "sustained"
        for earlier, earlier_score, earlier_kind in found:
            near = place - earlier <= REVERSAL_MONTHS
            if near and earlier_kind == "one-off" and score * earlier_score < 0:
                kind = "rebound"
        found.append((place, score, kind))
    return found


def _is_undone(values: Sequence[float], place: int) -> bool:
    following = accumulate(values[place + 1 : place + 1 + REVERSAL_MONTHS])
    return any(-undone / values[place] >= REVERSAL_SHARE for undone in following)


def concentration(values: Sequence[float]) -> float:
    """Return the Herfindahl index of the shares: 1/n when all are equal, 1 when one has all."""
    total = sum(values)
    return sum((value / total) ** 2 for value in values)
