"""Retry: which failures are tried again, and after which wait."""

from __future__ import annotations

from agentflow.core.failure import Failure
from agentflow.core.plan import Retry

JITTER_SHARE = 0.1
BAD_INPUT = frozenset({"InvalidValueError", "InvalidEventError", "AgentAnswerError"})
NOT_TRIED = frozenset({"CircuitOpenError", "QueueTimeoutError", "WorkerPoolError", "BudgetExceededError"})  # an agent that was not asked


def is_retryable(policy: Retry, failure: Failure) -> bool:
    """Say whether a failure is tried again under a policy, leaving aside how often.

    Without a list everything is but bad input (a value that is not JSON, an answer of the wrong kind) and what is no
    `Exception`: SystemExit, KeyboardInterrupt, GeneratorExit, CancelledError. A list names class names, of the exception
    or of a base of it, or error codes.
    """
    names = {*failure.kinds, failure.code}
    if not names.isdisjoint(NOT_TRIED):
        return False
    if policy.retryable is not None:
        return not names.isdisjoint(policy.retryable)
    return "Exception" in names and names.isdisjoint(BAD_INPUT)


def is_correctable(failure: Failure) -> bool:
    """Say whether an agent that is told of this failure may do better: of its own ones, not of those that kept it from trying."""
    names = {*failure.kinds, failure.code}
    return "Exception" in names and names.isdisjoint(NOT_TRIED)


def wait_after(policy: Retry, attempt: int, chance: float) -> float:
    """Return the seconds to wait after attempt number `attempt` (from 1) failed; `chance` in [0, 1) places the jitter.

    Exponential back-off: initial_delay · factor^(attempt - 1), capped, then spread by ±10 %.
    """
    try:
        delay = policy.initial_delay_s * policy.factor ** (attempt - 1)
    except OverflowError:
        delay = policy.max_delay_s
    delay = min(delay, policy.max_delay_s)
    if policy.jitter:
        delay *= 1 + JITTER_SHARE * (2 * chance - 1)
    return delay
