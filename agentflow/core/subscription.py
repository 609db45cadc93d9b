"""Subscription: which agents take an event because of its target, beside whoever it is meant for."""

from __future__ import annotations

from dataclasses import dataclass

from agentflow.core.plan import Call


@dataclass(frozen=True, slots=True)
class Subscription:
    """An agent's wish to be called for all events with certain targets.

    Attributes:
        call: the agent, with all its limits.
        patterns: one of them has to match the target.
    """

    call: Call
    patterns: tuple[str, ...]

    def takes(self, target: object) -> bool:
        """Say whether the agent wants events with this target; nobody subscribes to those that have none."""
        return isinstance(target, str) and bool(target) and any(matches(pattern, target) for pattern in self.patterns)


def matches(pattern: str, text: str) -> bool:
    """Say whether a whole text is what a pattern says: `*` stands for any characters, `?` for one, and all else for itself.

    Takes at most as many steps as the lengths of both multiplied: targets come from outside.
    """
    at = place = 0
    star, resumed = -1, 0  # the last `*`, and where what it stands for ends so far
    while at < len(text):
        told = pattern[place] if place < len(pattern) else ""
        if told == "*":
            star, resumed = place, at
            place += 1
        elif told and told in ("?", text[at]):
            at += 1
            place += 1
        elif star >= 0:
            resumed += 1
            at, place = resumed, star + 1
        else:
            return False
    return not pattern[place:].strip("*")
