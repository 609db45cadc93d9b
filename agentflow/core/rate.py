"""Rate: a token bucket, kept as the one time at which it would be full again. Its time is what it is given."""

from __future__ import annotations

from math import inf

EARLY_S = 1e-6  # a timer may fire a little before the time it was set to


class TokenBucket:
    """Lets `burst` calls through at once, and `per_second` in the long run.

    The times at which tokens come stand on a grid that late callers do not shift, so the rate is kept to the last digit.

    Args:
        per_second: tokens that come in each second.
        burst: tokens that it holds when it is full, at least 1.
    """

    def __init__(self, per_second: float, burst: int) -> None:
        self._interval_s = 1 / per_second
        self._depth_s = (burst - 1) * self._interval_s
        self._full_at = -inf

    @property
    def due(self) -> float:
        """When the next token is there; it may be in the past."""
        return self._full_at - self._depth_s

    def has_token(self, now: float) -> bool:
        """Say whether a call may go."""
        return now + EARLY_S >= self.due

    def take(self, now: float) -> None:
        """Take a token."""
        self._full_at = max(self._full_at, now) + self._interval_s

    def put_back(self) -> None:
        """Give back a token that was taken for nothing."""
        self._full_at -= self._interval_s
