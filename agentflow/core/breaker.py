"""Breaker: whether calls of an agent that keeps failing are let through. Its time is what it is given.

closed -> open              after `failure_threshold` failures in a row
open -> half_open           once `reset_s` are over, with the first call that asks
half_open -> closed         after `success_threshold` probes in a row that succeed; one probe at a time
half_open -> open           after a probe that fails
"""

from __future__ import annotations

from dataclasses import dataclass

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"


@dataclass(frozen=True, slots=True)
class BreakerView:
    """How a breaker stands.

    Attributes:
        state: closed, open or half_open.
        failures: failures in a row while it is closed; those that opened it while it is not.
        left_s: seconds until it lets a probe through; 0 unless it is open.
    """

    state: str
    failures: int
    left_s: float


class Breaker:
    """Counts what calls came to.

    What a call came to counts only in the turn it was let through in: whoever comes back late, after the breaker has
    opened, says nothing about the agent as it is now.

    Args:
        failure_threshold: failures in a row that open it.
        reset_s: how long it stays open, in seconds.
        success_threshold: probes in a row that have to succeed to close it.

    Attributes:
        state: closed, open or half_open.
    """

    def __init__(self, failure_threshold: int, reset_s: float, success_threshold: int) -> None:
        self._failure_threshold = failure_threshold
        self._reset_s = reset_s
        self._success_threshold = success_threshold
        self.state = CLOSED
        self._turn = 0  # raised by each change of state
        self._failures = 0
        self._successes = 0
        self._until = 0.0  # when an open one lets a probe through
        self._is_probed = False

    def enter(self, now: float) -> int | None:
        """Let a call through and return its turn, for `leave`; None when it is rejected."""
        if self.state == OPEN and now >= self._until:
            self._change(HALF_OPEN)
            self._successes = 0
        if self.state == OPEN or self._is_probed:
            return None
        self._is_probed = self.state == HALF_OPEN
        return self._turn

    def leave(self, turn: int, now: float, *, is_ok: bool | None) -> None:
        """Count what a call came to; None: that says nothing of the agent, e.g. because the call was cancelled."""
        if turn != self._turn:
            return
        self._is_probed = False
        if is_ok is None:
            return
        if self.state == HALF_OPEN:
            self._successes += is_ok
            if not is_ok:
                self._open(now)
            elif self._successes >= self._success_threshold:
                self._failures = 0
                self._change(CLOSED)
            return
        self._failures = 0 if is_ok else self._failures + 1
        if self._failures >= self._failure_threshold:
            self._open(now)

    def view(self, now: float) -> BreakerView:
        """Return how it stands: once its time is over an open one is as good as half open."""
        left_s = max(self._until - now, 0.0) if self.state == OPEN else 0.0
        return BreakerView(HALF_OPEN if self.state == OPEN and not left_s else self.state, self._failures, left_s)

    def _open(self, now: float) -> None:
        self._until = now + self._reset_s
        self._change(OPEN)

    def _change(self, state: str) -> None:
        self.state = state
        self._turn += 1
