"""A circuit breaker: after too many failures, calls are refused for a while, then tried again with care."""

from __future__ import annotations

import time
from collections.abc import Callable


class CircuitOpenError(RuntimeError):
    """The circuit is open: the agent was not called."""


class CircuitBreaker:
    """Counts what one agent does: closed (all calls pass), open (none), half-open (on trial).

    Args:
        threshold: failures in a row that open the circuit.
        reset_seconds: how long it stays open before calls are tried again.
        successes_to_close: successes on trial that close it.
        clock: seconds, only ever rising; given by tests.
    """

    def __init__(
        self,
        threshold: int = 5,
        reset_seconds: float = 30.0,
        successes_to_close: int = 3,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = "closed"
        self._threshold = threshold
        self._reset_seconds = reset_seconds
        self._successes_to_close = successes_to_close
        self._clock = clock
        self._failures = 0
        self._successes = 0
        self._opened_at = 0.0

    def check(self) -> None:
        """Let a call pass, or raise CircuitOpenError."""
        if self.state != "open":
            return
        if self._clock() - self._opened_at < self._reset_seconds:
            raise CircuitOpenError("circuit breaker is open")
        self.state = "half-open"
        self._successes = 0

    def record_success(self) -> None:
        """Count a success; enough of them on trial close the circuit."""
        self._failures = 0
        if self.state == "half-open":
            self._successes += 1
            if self._successes >= self._successes_to_close:
                self.state = "closed"

    def record_failure(self) -> None:
        """Count a failure; too many, or one on trial, open the circuit."""
        self._failures += 1
        if self.state == "half-open" or self._failures >= self._threshold:
            self.state = "open"
            self._opened_at = self._clock()
