"""Entry: a record as a store keeps it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)  # not frozen: that would make it five times as dear to make, and there is one for each record
class Entry:
    """One record of a run's journal, encoded; what it says is in `body`, and `hash` chains it to the one before. Never changed.

    Attributes:
        seq: its number in its run: 0, 1, 2 ... without gaps.
        epoch: the epoch of the owner that wrote it.
        at: when, in seconds since the epoch.
        type: the name of the fact, e.g. "StepCompleted".
        version: the version of that type's body.
        body: compact UTF-8 JSON.
        hash: 16 bytes over the previous entry's hash, the run's id and everything above.
    """

    seq: int
    epoch: int
    at: float
    type: str
    version: int
    body: bytes
    hash: bytes
