"""MemoryStore: journals in this process's memory, for tests and for `durability = "none"`."""

from __future__ import annotations

import asyncio
import os
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agentflow.core.append import Append
from agentflow.core.entry import Entry
from agentflow.core.reach import News, Reach
from agentflow.core.run_row import OPEN_STATES, TERMINAL_STATES, RunFilter, RunRow, behind, changed, taken_over
from agentflow.errors import AgentflowError, DuplicateEventError, FencedError, StoreError
from agentflow.stores.leases import Leases
from agentflow.stores.plans import NAMING, unnamed


@dataclass(slots=True)
class _Run:
    number: int
    row: RunRow
    entries: list[Entry] = field(default_factory=list)
    snapshot: tuple[int, bytes] | None = None


class MemoryStore:
    """Keeps the contract of `Store` in dicts; all of it is gone with the process, and an append is done at once."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}  # in order of acceptance
        self._events: dict[str, str] = {}
        self._plans: dict[str, bytes] = {}
        self._epochs: dict[str, int] = {}
        self._last_number = 0
        self._listener: Callable[[Sequence[Append]], None] | None = None
        self._leases = Leases()
        self._loop: AbstractEventLoop

    @property
    def url(self) -> str:
        """`memory:`."""
        return "memory:"

    @property
    def durability(self) -> str:
        """Always "none"."""
        return "none"

    async def open(self) -> None:
        """Nothing has to be made ready."""
        self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        """Nothing has to be let go: what was kept can still be read."""

    def append(self, append: Append) -> Future[None]:
        """Add entries to one run; the future is done at once. See `Store.append`."""
        done: Future[None] = self._loop.create_future()
        refusal = self._why_refused(append) or (self._why_others_refused(append) if append.also else None)
        if refusal is not None:
            done.set_exception(refusal)
            return done
        for part in (append, *append.also):
            self._take_in(part)
        done.set_result(None)
        if self._listener is not None:
            self._loop.call_soon(self._listener, (append, *append.also))
        return done

    def _take_in(self, append: Append) -> None:
        row = append.row
        if append.is_new and row is not None:
            self._last_number += 1
            self._runs[append.run_id] = _Run(self._last_number, row)
            self._events[row.event_id] = append.run_id
        run = self._runs[append.run_id]
        run.entries += append.entries
        if row is not None:
            kept = {name: getattr(run.row, name) for name in ("epoch", "owner", "event_id", "event_hash")}
            run.row = row if append.is_new else changed(row, kept)
        if append.plan is not None:
            self._plans.setdefault(*append.plan)
        if append.snapshot is not None:
            run.snapshot = append.snapshot

    def _why_others_refused(self, append: Append) -> AgentflowError | None:
        """Return why one of those that go with an append is refused, by the store or because of another one of them."""
        parts = (append, *append.also)
        if len({part.run_id for part in parts}) < len(parts):
            return FencedError(append.run_id, "its append names a run twice")
        begun: dict[str, RunRow] = {}
        for part in parts:
            refusal = self._why_refused(part)
            if refusal is not None:
                return refusal
            if part.is_new and part.row is not None:
                known = begun.setdefault(part.row.event_id, part.row)
                if known is not part.row:
                    return DuplicateEventError(known.event_id, run_id=known.run_id, is_same=known.event_hash == part.row.event_hash)
        return None

    def _why_refused(self, append: Append) -> AgentflowError | None:
        run_id, row = append.run_id, append.row
        run = self._runs.get(run_id)
        if append.is_new:
            if row is None or row.run_id != run_id:
                return StoreError(f"run {run_id} cannot be written: it is new and comes without its row")
            known = self._events.get(row.event_id)
            if known is not None:
                return DuplicateEventError(row.event_id, run_id=known, is_same=self._runs[known].row.event_hash == row.event_hash)
            if run is not None:
                return FencedError(run_id, "somebody else has written it")
            epoch, length = row.epoch, 0
        elif run is None:
            return FencedError(run_id, "there is no such run")
        else:
            epoch, length = run.row.epoch, len(run.entries)
        if epoch != append.epoch:
            return FencedError(run_id, f"epoch {append.epoch} is over, it is epoch {epoch} now")
        if length != append.expected_seq:
            return FencedError(run_id, f"its journal has {length} records, not {append.expected_seq}")
        for seq, entry in enumerate(append.entries, length):
            if entry.seq != seq:
                return StoreError(f"run {run_id}: an entry says seq {entry.seq} at the place of {seq}")
        return None

    async def take(self, owner: str, *, lease_s: float, run_ids: Collection[str] | None = None, limit: int | None = None) -> list[RunRow]:
        """Make `owner` alive and give it the open runs whose owner is dead, oldest first."""
        alive = self._leases.living(self._loop.time())
        self._leases.renew(owner, lease_s, self._loop.time())
        taken: list[RunRow] = []
        for run in self._runs.values():
            if limit is not None and len(taken) >= limit:
                break
            row = run.row
            if row.is_open and row.owner not in alive and (run_ids is None or row.run_id in run_ids):
                run.row = taken_over(row, owner)
                taken.append(run.row)
        return taken

    async def renew(self, owner: str, lease_s: float) -> None:
        """Keep `owner` alive for `lease_s` more seconds."""
        self._leases.renew(owner, lease_s, self._loop.time())

    async def release(self, owner: str) -> None:
        """End the owner's lease and its holds."""
        self._leases.release(owner)

    async def hold(self, name: str, owner: str, lease_s: float) -> int | None:
        """Hold a named lease and return its epoch, or None when another living owner holds it."""
        now = self._loop.time()
        if self._leases.is_held(name, owner, now):
            return None
        epoch = self._leases.prolong(name, owner, lease_s, now)
        if epoch is None:
            epoch = self._epochs[name] = self._epochs.get(name, 0) + 1
            self._leases.hold(name, owner, epoch, now + lease_s)
        return epoch

    async def row(self, run_id: str) -> RunRow | None:
        """Return the run's row."""
        run = self._runs.get(run_id)
        return None if run is None else run.row

    async def row_of_event(self, event_id: str) -> RunRow | None:
        """Return the row of the run that serves this event."""
        return await self.row(self._events.get(event_id, ""))

    async def rows(self, wanted: RunFilter) -> list[RunRow]:
        """Return the rows that fit."""
        rows = [run.row for run in self._runs.values()]
        if wanted.newest_first:
            rows.reverse()
        return [row for row in behind(rows, wanted.beyond) if wanted.fits(row)][: wanted.limit]

    async def entries(self, run_id: str, start: int = 0, stop: int | None = None) -> list[Entry]:
        """Return the run's entries from seq `start` to before `stop`."""
        run = self._runs.get(run_id)
        return run.entries[start:stop] if run else []

    async def snapshot(self, run_id: str) -> tuple[int, bytes] | None:
        """Return the run's newest snapshot as (seq, body)."""
        run = self._runs.get(run_id)
        return None if run is None else run.snapshot

    async def plan(self, plan_hash: str) -> bytes | None:
        """Return the plan kept under this hash."""
        return self._plans.get(plan_hash)

    async def delete(self, run_ids: Collection[str]) -> int:
        """Delete those of these runs that have ended; return how many it were."""
        ended = [run_id for run_id in dict.fromkeys(run_ids) if run_id in self._runs and not self._runs[run_id].row.is_open]
        for run_id in ended:
            del self._events[self._runs.pop(run_id).row.event_id]
        used = {run.row.plan_hash for run in self._runs.values()}
        named = (entry.body for run in self._runs.values() for entry in run.entries if entry.type in NAMING)
        for plan_hash in unnamed(self._plans.keys() - used, named):
            del self._plans[plan_hash]
        return len(ended)

    async def counts(self) -> dict[str, int]:
        """Return how many runs there are in each state, `runs` in all, and `records`; `bytes` is 0, for none are on disk."""
        counts = dict.fromkeys(sorted(OPEN_STATES | TERMINAL_STATES), 0)
        for run in self._runs.values():
            counts[run.row.state] += 1
        counts["runs"] = len(self._runs)
        counts["records"] = sum(len(run.entries) for run in self._runs.values())
        counts["bytes"] = 0
        return counts

    def listen(self, listener: Callable[[Sequence[Append]], None]) -> None:
        """Call `listener` with what each append has written. See `Feed.listen`."""
        self._listener = listener

    async def reach(self) -> Reach:
        """Return how far the journal goes."""
        journal = f"{os.getpid():x}{id(self):x}"  # nothing of it outlives the process
        return Reach(journal, self._last_number, {run.number: len(run.entries) for run in self._runs.values() if run.row.is_open})

    async def news(self, start: Reach, stop: Reach, *, most: int = 256, most_bytes: int = 262_144) -> list[News]:
        """Return the entries beyond `start` and not beyond `stop`. See `Feed.news`."""
        found: list[News] = []
        for run_id, run in self._runs.items():
            first, end = start.wanted(run.number), stop.next_seqs.get(run.number)
            if first is None or (run.number > stop.last and run.number not in start.next_seqs):
                continue
            for entry in run.entries[first:end]:
                found.append(News(run.number, run_id, entry))
                most_bytes -= len(entry.body)
                if len(found) >= most or most_bytes <= 0:
                    return found
        return found

    async def numbers(self, run_ids: Collection[str]) -> dict[str, int]:
        """Return the numbers of runs."""
        return {run_id: self._runs[run_id].number for run_id in run_ids if run_id in self._runs}

    async def backup(self, path: Path) -> None:
        """Refuse: there is nothing that would outlive the process.

        Raises:
            StoreError: always.
        """
        raise StoreError(f"a journal in memory cannot be copied to {path}", hint='set [journal] url = "sqlite:PATH"')
