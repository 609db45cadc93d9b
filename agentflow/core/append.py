"""Append: what goes into a store in one commit for one run, and for those it brings forth with it, all or nothing."""

from __future__ import annotations

from dataclasses import dataclass

from agentflow.core.entry import Entry
from agentflow.core.run_row import RunRow


@dataclass(slots=True)
class Append:
    """Entries for the end of one run's journal, with what changes beside them.

    A store takes it only where the run's journal ends just before `expected_seq` and its epoch is `epoch`.

    Attributes:
        run_id: the run.
        expected_seq: the seq of the first entry: how many entries the run has so far.
        epoch: the epoch under which the writer took the run.
        entries: the entries, in order; may be empty when only the row changes.
        row: the run's row where it is new or has changed; its `epoch` and `owner` count for a new run only.
        plan: hash and JSON of the run's plan; a store keeps one for each hash.
        snapshot: the state after a seq, as (seq, body); replaces the run's older one.
        is_new: the run begins with this append: its event must be new to the store.
        also: appends for other runs that are written with this one, or not at all; none of them has others of its own.
    """

    run_id: str
    expected_seq: int
    epoch: int
    entries: tuple[Entry, ...] = ()
    row: RunRow | None = None
    plan: tuple[str, bytes] | None = None
    snapshot: tuple[int, bytes] | None = None
    is_new: bool = False
    also: tuple[Append, ...] = ()
