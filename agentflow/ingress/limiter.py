"""How often one client may fail to say the token, before its failures are answered at the least cost."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

BURST = 1000.0  # failures that a client has at once
PER_S = 5.0  # and how many come back each second
MOST_CLIENTS = 10_000  # that are remembered; the one that failed longest ago is forgotten first


class FailureLimiter:
    """Counts failures by client. The right token is let in however often its client failed: nobody can lock another one out."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # failures left, and as of when

    def is_over(self, client: str) -> bool:
        """Count one more failure of a client, and say whether it has had too many."""
        now = self._monotonic()
        left, at = self._left.pop(client, (BURST, now))
        left = min(BURST, left + (now - at) * PER_S) - 1
        self._left[client] = max(left, -1.0), now
        if len(self._left) > MOST_CLIENTS:
            self._left.popitem(last=False)
        return left < 0
