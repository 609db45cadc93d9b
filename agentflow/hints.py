"""Hints: what somebody who mistyped a name probably meant."""

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
