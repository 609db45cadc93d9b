"""The errors agentflow raises: each has a stable code, says what is wrong, and how to cure it.

`agentflow explain CODE` prints the long form of every code used here.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_MANY_NAMES = 20


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "did you mean `x`?" for the closest known name, else a list of what is known."""
    names = sorted(set(known))
    close = get_close_matches(name, names, n=1)
    if close:
        return f"did you mean `{close[0]}`?"
    if len(names) > _MANY_NAMES:
        return f"known: {', '.join(names[:_MANY_NAMES])} and {len(names) - _MANY_NAMES} more"
    return f"known: {', '.join(names)}" if names else "none is known"


class AgentflowError(Exception):
    """The root of all errors that agentflow raises on purpose.

    `message` says what is wrong and where, `hint` the likely cure ("" when there is none).
    """

    code = "AF0500"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.message = message
        self.hint = hint


class InvalidValueError(AgentflowError):
    """A value is not JSON, or is larger than the limits allow; the message names its path and type."""

    code = "AF0301"


class InvalidEventError(AgentflowError):
    """An event cannot be accepted: its data, metadata, target, id or session is not valid."""

    code = "AF0302"


class AgentAnswerError(AgentflowError):
    """A handler returned something that is not a State, a mapping, an AgentResult or None."""

    code = "AF0303"


class MergeError(AgentflowError):
    """Patches of parallel branches cannot be merged under the flow's merge policy."""

    code = "AF0304"


class RuleError(AgentflowError):
    """A condition cannot be read, or has no answer for the state at hand."""

    code = "AF0210"


class UnknownNameError(RuleError):
    """A condition names something that no condition can ask about."""

    code = "AF0211"


class RegistrationError(AgentflowError):
    """A handler, hook or mode is refused when it is registered."""

    code = "AF0401"


class MissingHandlerError(AgentflowError):
    """Agents that the chosen flow reaches have no handler."""

    code = "AF0402"


class EntrypointError(AgentflowError):
    """The entrypoint or a `handler = "module:function"` cannot be loaded."""

    code = "AF0403"


class RunnerStateError(AgentflowError):
    """The runner is not in a state that allows the call: not started, already started, stopped."""

    code = "AF0501"


class QueueFullError(AgentflowError):
    """The queue is full: no place came free within `queue_wait_seconds`."""

    code = "AF0502"


class RoutingError(AgentflowError):
    """An event or a result names no target, or one that the flow does not have."""

    code = "AF0503"


class HopLimitError(AgentflowError):
    """A route flow handed on more often than `max_hops` allows."""

    code = "AF0504"


class JoinError(AgentflowError):
    """More branches of a parallel flow failed than `failure_threshold` allows."""

    code = "AF0505"


class StepTimeoutError(AgentflowError, TimeoutError):
    """A step did not answer within its time."""

    code = "timeout"


class EventTimeoutError(AgentflowError, TimeoutError):
    """A flow did not end within its `timeout_seconds`."""

    code = "timeout"


class CancelledRunError(AgentflowError):
    """The run was cancelled from outside."""

    code = "cancelled"


class EventLimitError(AgentflowError):
    """Callbacks emitted more events on behalf of one than are allowed."""

    code = "AF0507"


class RunFailedError(AgentflowError):
    """Raised by `RunResult.raise_for_status()` for a run that did not complete."""

    code = "AF0506"
