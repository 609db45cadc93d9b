"""Category and severity: what sort of failure an exception is and how grave, by its code and its class, never by its words.

Classes are known by name, so that libraries that are not installed cost nothing: the first of the exception's class and its
bases that stands in a table decides.
"""

from __future__ import annotations

from collections.abc import Sequence

LOW, MEDIUM, HIGH, CRITICAL = "low", "medium", "high", "critical"
SEVERITIES = (LOW, MEDIUM, HIGH, CRITICAL)
INTERNAL = "internal"

_TIMEOUTS = ("TimeoutError", "Timeout", "TimeoutException", "APITimeoutError", "QueueTimeoutError", "DeadlineExceeded")
_NETWORK = ("ConnectionError", "gaierror", "herror", "URLError", "SSLError", "NetworkError", "TransportError", "APIConnectionError")
_LIMITS = ("RateLimited", "RateLimitError", "TooManyRequests", "TooManyRequestsError", "ThrottlingException")
_AUTH = ("PermissionError", "AuthenticationError", "PermissionDeniedError", "AuthorizationError", "Unauthorized", "Forbidden")
_BAD = ("ValueError", "TypeError", "ValidationError", "InvalidValueError", "InvalidEventError", "AgentAnswerError", "RoutingError")
_SCARCE = ("MemoryError", "RecursionError", "OSError", "QueueFullError", "WorkerPoolError", "CircuitOpenError", "ProcessDiedError")
_BOUNDS = ("HopLimitError", "MaxStepsError", "EventLimitError", "PoisonedStepError")
_ENDED = ("CancelledError", "CancelledRunError", "KeyboardInterrupt", "SystemExit", "GeneratorExit")

_TABLE: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("validation", MEDIUM, (*_BAD, "MergeError")),
    ("timeout", MEDIUM, (*_TIMEOUTS, "JoinClosedError")),
    ("network", MEDIUM, _NETWORK),
    ("rate_limit", LOW, _LIMITS),
    ("auth", HIGH, _AUTH),
    ("budget", HIGH, ("BudgetExceededError",)),
    ("resource", HIGH, (*_SCARCE, *_BOUNDS)),
    ("rejected", LOW, ("ApprovalRejectedError",)),
    ("cancelled", LOW, _ENDED),
    (INTERNAL, HIGH, ()),
)
CATEGORIES = tuple(name for name, _, _ in _TABLE)
_BY_KIND = {kind: name for name, _, kinds in _TABLE for kind in kinds}
_SEVERITY = {name: severity for name, severity, _ in _TABLE}
_CRITICAL = frozenset({"MemoryError", "PoisonedStepError", "StoreError", "JournalDamagedError"})


def category_of(code: str, kinds: Sequence[str]) -> str:
    """Return the category of a failure: its code where that names one, else what its class or the nearest base of it belongs to.

    Args:
        code: the failure's code.
        kinds: the names of the exception's class and its bases, nearest first.
    """
    if code in _SEVERITY:
        return code
    return next((_BY_KIND[kind] for kind in kinds if kind in _BY_KIND), INTERNAL)


def severity_of(category: str, kinds: Sequence[str]) -> str:
    """Return how grave a failure of this category and class is: low, medium, high or critical."""
    return CRITICAL if not _CRITICAL.isdisjoint(kinds) else _SEVERITY.get(category, MEDIUM)
