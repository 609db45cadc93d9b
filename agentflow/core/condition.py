"""Condition: a question about a run, and the facts it may ask about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from agentflow.errors import RuleError


class Facts(Protocol):
    """What a condition may ask about: the event, the state, metadata and outputs of the run so far."""

    def fact(self, root: str, path: tuple[str, ...]) -> object:
        """Return the value at a path below `state`, `meta`, `event` or `outputs`, or MISSING."""


class Condition(Protocol):
    """A compiled, total and side-effect free question about a run."""

    @property
    def source(self) -> str:
        """The expression as its author wrote it."""

    def holds(self, facts: Facts) -> bool:
        """Answer the question.

        Raises:
            RuleError: a name it needs is unknown, or the answer is no boolean.
        """


@dataclass(frozen=True, slots=True)
class Unread:
    """A condition as its author wrote it, in a plan that is not linked yet.

    `path` is where it stands in its flow's table, e.g. `("edges", 2, "when")`; () for the key that the mode is known to read.
    """

    source: str
    path: tuple[str | int, ...] = ()

    def holds(self, facts: Facts) -> bool:
        """Refuse to answer.

        Raises:
            RuleError: always; linking puts a compiled condition in its place.
        """
        raise RuleError(f"`{self.source}` was never compiled", hint="link the plan first")
