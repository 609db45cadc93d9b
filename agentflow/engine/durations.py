"""Durations as event metadata writes them: `30`, `1.5s`, `250ms`, `2m`, `1h`."""

from __future__ import annotations

import re

from agentflow.errors import InvalidEventError

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


def step_limit_of(text: str) -> float:
    """Read the metadata `agent_timeout` as seconds.

    Raises:
        InvalidEventError: it is no duration, or not above 0.
    """
    found = _DURATION.fullmatch(text.strip())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if seconds <= 0:
        raise InvalidEventError(f"event.metadata.agent_timeout is {text[:40]!r}", hint="write seconds above 0, e.g. 30, 1.5s, 250ms, 2m")
    return seconds
