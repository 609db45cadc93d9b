"""Repeated: what a step returned that was there already. It changes nothing, and is part of the output that others go on with."""

from __future__ import annotations

from collections.abc import Mapping

from agentflow.core.answered import Answered
from agentflow.core.result import AgentResult
from agentflow.core.state import REMOVED, Patch, State
from agentflow.core.values import adopt_mapping
from agentflow.engine.step import Step

_SCALARS = (str, int, float, bool, type(None))


def with_repeated(step: Step, returned: object, patch: Patch) -> Patch:
    """Return a step's patch with the entries that it returned, or set, as they were: where its output is handed on.

    A list or dict that a handler has only read stands among what it set: without being returned it does not count.

    Raises:
        InvalidValueError: one of them was changed in place to what is not JSON.
    """
    frame = step.frame
    if frame is None or not frame.hands_on:
        return patch
    told = returned.state if isinstance(returned, AgentResult) else returned
    keys = set(told) if isinstance(told, Mapping) and not isinstance(told, State) else set()
    seen = told if isinstance(told, State) else step.state
    own = seen._own  # noqa: SLF001 - what was set there, and not what it shows of the scope below
    same = {key: own[key] for key in own if key not in patch.data and (key in keys or isinstance(own[key], _SCALARS))}
    kept = {key: value for key, value in same.items() if value is not REMOVED}
    return Answered(patch, adopt_mapping(kept, "state")) if kept else patch
