"""Limits: how much one run may record. A run that never ends by itself ends here, before nobody can read it any more.

What a run has come to is counted from its first record, whoever wrote it, so a run that is resumed or forked counts on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentflow.core.failure import failure_of
from agentflow.core.standing import Standing
from agentflow.engine.run import Run
from agentflow.errors import HistoryLimitError

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine

WARNED_AT = 5  # a run is warned of when it has come to a fifth


@dataclass(frozen=True, slots=True)
class Mark:
    """A length that a run's journal can come to: the number of its last record, and the bytes of all bodies; one is enough."""

    seq: int
    size: int

    def is_reached(self, standing: Standing) -> bool:
        """Say whether a run has come so far."""
        return standing.seq >= self.seq or standing.size >= self.size


class RunLimits:
    """How much each run of an engine may record.

    Args:
        max_records: how many records; a run that has so many fails.
        max_bytes: how many bytes their bodies may have together.
    """

    __slots__ = ("early", "most")

    def __init__(self, max_records: int = 50_000, max_bytes: int = 50_000_000) -> None:
        self.most = Mark(max_records - 1, max_bytes)
        self.early = Mark(max_records // WARNED_AT - 1, max_bytes // WARNED_AT)

    def ahead_of(self, standing: Standing) -> Mark:
        """Return the mark that a run comes to next; one that is beyond the first has been warned of, perhaps by another process."""
        return self.most if self.early.is_reached(standing) else self.early


class Growth:
    """Watches the journals of one engine's runs grow."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def is_over(self, run: Run) -> bool:
        """Say whether a run has come to its limit, where it is told to end; warn when it has come to a fifth of it."""
        journal = run.journal
        if journal is None:
            return False
        standing, mark = journal.standing, journal.mark
        if standing.seq < mark.seq and standing.size < mark.size:  # each step comes through here: `is_reached` without the call
            return False
        most = journal.shared.limits.most
        if mark is not most:
            journal.mark = most
            told = {"records": standing.seq + 1, "max_records": most.seq + 1, "bytes": standing.size, "max_run_bytes": most.size}
            self._engine.teller.say("history_grows", {"run_id": run.run_id, **told})
            if not most.is_reached(standing):
                return False
        # Not at once: whoever asks is in the midst of completing a step, or of waiting for one.
        self._engine.loop.call_soon(self._end, run)
        return True

    def _end(self, run: Run) -> None:
        """End a run as one whose time is up, unless it has ended meanwhile."""
        engine, journal = self._engine, run.journal
        if journal is None or run.parked is not None or run.walk.is_done:
            return
        try:
            engine.supervision.close(run, None, failure_of(_error(journal.standing, journal.mark)))
        except Exception as error:  # noqa: BLE001 - as with deadlines: a fault of ours ends the run, it must not hang it
            engine.supervision.crash(run, error)


def _error(standing: Standing, most: Mark) -> HistoryLimitError:
    if standing.seq >= most.seq:
        key, told = "max_records", f"{standing.seq + 1:,} records, and limits.max_records is {most.seq + 1:,}"
    else:
        key, told = "max_run_bytes", f"{standing.size:,} bytes of records, and limits.max_run_bytes is {most.size:,}"
    hint = f"divide its work over several events, keep large values outside the state, or raise {key} in [limits]"
    return HistoryLimitError(f"the run's journal has {told}", hint=hint)
