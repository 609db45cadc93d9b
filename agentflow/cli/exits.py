"""Exit codes: what a command's end tells the shell."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The codes; of several the highest counts. APPROVAL is for runs that wait, BUDGET for those whose budget is used up."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    APPROVAL = 3
    BUDGET = 4
    TIMED_OUT = 5
    INTERRUPTED = 130
    TERMINATED = 143


def code_of(status: str, reason: str = "", *, is_strict: bool = False) -> Exit:
    """Return the code for a run's status and reason; with `is_strict` a partial run counts as failed."""
    if status == "completed":
        return Exit.DONE
    if status == "partial":
        return Exit.FAILED if is_strict else Exit.DONE
    if status == "timed_out":
        return Exit.TIMED_OUT
    return Exit.BUDGET if reason == "budget" else Exit.FAILED
