"""Reach: how far somebody has come in a journal of many runs that are written side by side."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from agentflow.core.entry import Entry

ENDINGS = frozenset({"WorkflowCompleted", "WorkflowFailed", "WorkflowCancelled"})  # nothing of a run comes after one of these


class News(NamedTuple):
    """An entry, and whose it is."""

    number: int
    run_id: str
    entry: Entry


@dataclass(slots=True)
class Reach:
    """All entries of all runs up to number `last`, but for those that follow in the runs that go on.

    Attributes:
        journal: the journal's id.
        last: the number of the newest run; runs are numbered as they are accepted.
        next_seqs: by number, the seq that comes next in each run that has not ended.
    """

    journal: str
    last: int = 0
    next_seqs: dict[int, int] = field(default_factory=dict)

    def wanted(self, number: int) -> int | None:
        """Return the seq that comes next in a run, None when nothing does."""
        return 0 if number > self.last else self.next_seqs.get(number)

    def take(self, number: int, entry: Entry) -> None:
        """Go on by one entry, which is the next one of its run; runs begin in the order of their numbers."""
        self.last = max(self.last, number)
        if entry.type in ENDINGS:
            self.next_seqs.pop(number, None)
        else:
            self.next_seqs[number] = entry.seq + 1

    def copy(self) -> Reach:
        """Return another one that stands here."""
        return Reach(self.journal, self.last, dict(self.next_seqs))
