"""Histogram: how long things took, in buckets whose width grows with the value, so that a million figures cost what a hundred do."""

from __future__ import annotations

from math import ceil, log, sqrt

from agentflow.core.values import Json

GROWTH = 1.1  # of a bucket over the one before: a figure is told with an error of at most sqrt(1.1) - 1, less than 5 %
LEAST_S = 1e-6  # what is shorter is told as this
LAST = 400  # the bucket of all that is longer than some 3e10 s

_SCALE = 1 / log(GROWTH)
_PER_LEAST = 1 / LEAST_S
_MIDDLE = sqrt(GROWTH)
_SHARES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


class Histogram:
    """Durations in seconds: `count` of them, `total` together, the longest `longest`."""

    __slots__ = ("_buckets", "count", "longest", "shortest", "total")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count = 0
        self.total = 0.0
        self.shortest = 0.0
        self.longest = 0.0

    def add(self, duration_s: float) -> None:
        """Count a duration; one that a clock has made negative counts as none."""
        if duration_s < 0.0:
            duration_s = 0.0
        if duration_s > self.longest:
            self.longest = duration_s
        if not self.count or duration_s < self.shortest:
            self.shortest = duration_s
        self.count += 1
        self.total += duration_s
        bucket = int(log(duration_s * _PER_LEAST) * _SCALE) if duration_s > LEAST_S else -1
        if bucket > LAST:
            bucket = LAST
        buckets = self._buckets
        buckets[bucket] = buckets.get(bucket, 0) + 1

    def percentile(self, share: float) -> float | None:
        """Return the duration that `share` (0 to 1) of them do not exceed; None while there are none.

        It is off by less than 5 % of itself, and never outside of what was counted; below a microsecond by that at most.
        """
        if not self.count:
            return None
        left = max(1, ceil(share * self.count))
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                middle = LEAST_S * _MIDDLE * float(GROWTH**bucket) if bucket >= 0 else LEAST_S
                return min(max(middle, self.shortest), self.longest)
        return self.longest

    def to_dict(self) -> dict[str, Json]:
        """Return `count`, `p50`, `p95`, `p99`, `max` and `mean`, in seconds; all but the count are None while there are none."""
        told: dict[str, Json] = {"count": self.count}
        told |= {name: _rounded(self.percentile(share)) for name, share in _SHARES}
        told["max"] = _rounded(self.longest) if self.count else None
        told["mean"] = _rounded(self.total / self.count) if self.count else None
        return told


def _rounded(duration_s: float | None) -> float | None:
    return None if duration_s is None else round(duration_s, 7)
