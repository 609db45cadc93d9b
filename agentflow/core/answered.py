"""Answered: the answer of a step whose flow goes on with what the step said, not only with what it changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from agentflow.core.state import Patch
from agentflow.core.values import Json, copy_json

Message: TypeAlias = tuple[str, Json]  # to whom, and what


class Answered(Patch):
    """A patch with what its step has said beside it.

    Attributes:
        same: the entries that it returned, and that were there already: no change, and yet part of its output.
        sent: the messages to its peers, which are delivered once it is settled, in the order in which they were sent.
    """

    __slots__ = ("same", "sent")

    def __init__(self, patch: Patch, same: Mapping[str, Json], sent: tuple[Message, ...] = ()) -> None:
        super().__init__(patch.data, patch.meta, is_removing=True, route=patch.route)
        self.same = same
        self.sent = sent

    def values(self) -> dict[str, Json]:
        """Return a copy of all that the step returned, what was there already first."""
        return {**{key: copy_json(value) for key, value in self.same.items()}, **super().values()}


def like(before: Patch, patch: Patch) -> Patch:
    """Return a patch that comes in the place of an answer: with what that one has said beside it, where it still holds."""
    if not isinstance(before, Answered):
        return patch
    return Answered(patch, {key: value for key, value in before.same.items() if key not in patch.data}, before.sent)
