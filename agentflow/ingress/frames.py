"""Frames: what is written on a live stream."""

from __future__ import annotations

from agentflow.core.codec import decode, dumps
from agentflow.core.entry import Entry
from agentflow.core.reach import ENDINGS
from agentflow.core.records import WorkflowCancelled, WorkflowCompleted, WorkflowFailed

MEDIA_TYPE = "text/event-stream"


def event(name: str, **told: object) -> bytes:
    """Return an event that is no record."""
    return f"event: {name}\ndata: {dumps(told)}\n\n".encode("utf-8", "replace")


def frame_of(run_id: str, entry: Entry, cursor: str) -> bytes:
    """Return a record as an event; `cursor` is from where on a reader goes on that has read it.

    Raises:
        JournalVersionError, JournalDamagedError: it cannot be read.
    """
    told = dumps(decode(run_id, entry).to_dict())
    return f"id: {cursor}\ndata: {told}\n\n".encode("utf-8", "replace")


def ending_of(run_id: str, entry: Entry) -> bytes:
    """Return the event that follows a run's last record, b"" where this is not the last one.

    Raises:
        JournalVersionError, JournalDamagedError: it cannot be read.
    """
    if entry.type not in ENDINGS:
        return b""
    match decode(run_id, entry).fact:
        case WorkflowCompleted(status=status):
            return end_of(run_id, "completed", status)
        case WorkflowFailed(status=status):
            return end_of(run_id, "failed", status)
        case WorkflowCancelled():
            return end_of(run_id, "cancelled", "cancelled")
        case _:
            return b""


def end_of(run_id: str, state: str, status: str | None) -> bytes:
    """Return the last event of a run's stream."""
    return event("end", run_id=run_id, state=state, status=status)
