"""Journal: the records of one run on their way into the store, and what all journals of an engine share.

What is noted stays here until it is committed, so that records which belong together share one commit; while one is on its
way, what comes after it waits and goes with the next. A full store is tried again until there is room; any other refusal
means that the run is not this engine's any more, or that nobody knows how it stands: it is parked.
"""

from __future__ import annotations

import hashlib
from asyncio import AbstractEventLoop, Future, shield
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agentflow.core.append import Append
from agentflow.core.codec import Written, dumps, encode
from agentflow.core.entry import Entry
from agentflow.core.event import Event
from agentflow.core.frame import Frame
from agentflow.core.plan import Node
from agentflow.core.plan_codec import encode_plan, hash_of
from agentflow.core.records import Fact
from agentflow.core.run_row import RunRow
from agentflow.core.snapshot import freeze_standing
from agentflow.core.standing import Standing
from agentflow.core.values import Json
from agentflow.engine.program import Program
from agentflow.errors import StorageFullError
from agentflow.ports import Clock, Store

RETRY_S = 0.5  # between two attempts to write to a store that is full


@dataclass
class Journals:
    """What all journals of an engine share.

    Attributes:
        store: where they are kept.
        owner: the name under which this engine takes runs.
        decode_plan: makes a plan of the hash and the bytes that a store has kept.
        snapshot_every: after how many records a run's standing is kept, so that it need not be read from its beginning.
        handlers: by agent `{"handler": "module:name", "version": "..."}`.
    """

    store: Store
    clock: Clock
    loop: AbstractEventLoop
    owner: str
    decode_plan: Callable[[str, bytes], Node]
    snapshot_every: int = 100
    handlers: Mapping[str, Json] = field(default_factory=dict)
    _plans: dict[int, tuple[Program, tuple[str, bytes]]] = field(default_factory=dict, init=False)

    def plan_of(self, program: Program) -> tuple[str, bytes]:
        """Return the hash and the bytes of a program's plan."""
        known = self._plans.get(id(program))
        if known is None:
            body = encode_plan(program.plan)
            known = self._plans[id(program)] = program, (hash_of(body), body)
        return known[1]

    def new(self, event: Event, program: Program, standing: Standing) -> Journal:
        """Return the journal of a run that begins."""
        plan = self.plan_of(program)
        told, digest = written(event)
        row = RunRow(
            run_id=standing.run_id,
            event_id=event.id or "",
            event_hash=digest,
            state="running",
            pattern=program.flow.mode,
            session_id=event.session_id,
            plan_hash=plan[0],
            owner=self.owner,
            started_at=self.clock.time(),
        )
        journal = Journal(self, standing, row)
        journal.plan = plan
        journal.event = told
        return journal


class Journal:
    """One run's records. `standing` is what they come to, `row` what the store lists of the run."""

    __slots__ = (
        "_behind",
        "_epoch",
        "_is_new",
        "_kept_seq",
        "_kept_size",
        "_pending",
        "_row",
        "_sent",
        "accepted",
        "event",
        "plan",
        "row",
        "shared",
        "standing",
    )

    def __init__(self, shared: Journals, standing: Standing, row: RunRow) -> None:
        self.shared = shared
        self.standing = standing
        self.row = row
        self.plan: tuple[str, bytes] | None = None  # to be stored with the next commit
        self.event: Written | None = None  # as the first record has it
        self.accepted: Future[None]  # the commit of the run's first record
        self._is_new = standing.seq < 0
        self._epoch = row.epoch
        self._row: RunRow | None = row if self._is_new else None  # as the store has it; None: it has none yet, or another
        self._pending: list[Entry] = []
        self._sent: Future[None] | None = None
        self._behind: Future[None] | None = None  # of what waits for `_sent`
        self._kept_seq = standing.seq
        self._kept_size = 0

    def note(self, fact: Fact) -> int:
        """Add a record to the next commit and return its number."""
        standing = self.standing
        entry = encode(standing.run_id, standing.seq + 1, self._epoch, self.shared.clock.time(), fact, standing.hash)
        standing.take(entry, fact)
        self._pending.append(entry)
        return entry.seq

    def change(self, **fields: Any) -> None:
        """Change the run's row with the next commit."""
        if any(getattr(self.row, name) != value for name, value in fields.items()):
            self.row = replace(self.row, **fields)

    @property
    def has_news(self) -> bool:
        """Whether something waits to be committed."""
        return bool(self._pending) or self.row is not self._row

    @property
    def is_durable(self) -> bool:
        """Whether nothing waits to be committed, or is on its way."""
        return not self.has_news and (self._sent is None or self._sent.done())

    def commit(self) -> Future[None]:
        """Write what was noted; the future is done when it is durable.

        Raises (through the future):
            StoreError: the run cannot be written any more.
        """
        if self._behind is not None:
            return self._behind
        if self._sent is not None and not self._sent.done():
            self._behind = self.shared.loop.create_future()
            self._sent.add_done_callback(self._send_behind)
            return self._behind
        return self._send()

    def begin_walk(self, ready: list[Frame]) -> None:
        """Note that the walk has begun: what was recorded as begun ahead of event hooks, and is not ready, was not begun."""
        standing = self.standing
        standing.is_begun = True
        places = {frame.position for frame in ready}
        for position in [position for position in standing.steps if position not in places]:
            del standing.steps[position]

    def is_ahead_of(self, ready: list[Frame]) -> bool:
        """Say whether all these calls are recorded as begun already."""
        return all((step := self.standing.steps.get(frame.position)) is not None and step.is_in_flight for frame in ready)

    def _send(self) -> Future[None]:
        append = self._append()
        self._sent = sent = self.shared.store.append(append)
        if append.is_new:
            self.accepted = sent
        if sent.done():  # refused at once: whoever waits for it must find what it goes on with
            self._look(sent, append)
        else:
            sent.add_done_callback(lambda done: self._look(done, append))
        return sent

    def _append(self) -> Append:
        entries, self._pending = tuple(self._pending), []
        first = entries[0].seq if entries else self.standing.seq + 1
        append = Append(self.standing.run_id, first, self._epoch, entries, plan=self.plan, is_new=self._is_new)
        if self._is_new or self.row is not self._row:
            append.row = self._row = self.row
        if self._is_due and self.standing.ended is None:
            body = freeze_standing(self.standing)
            append.snapshot = self.standing.seq, body
            self._kept_seq, self._kept_size = self.standing.seq, self.standing.size + len(body)
        self.plan = None
        self._is_new = False
        return append

    @property
    def _is_due(self) -> bool:
        """Whether the standing is to be kept: after so many records, and as many bytes as the last time it took."""
        standing = self.standing
        is_old = standing.seq - self._kept_seq >= self.shared.snapshot_every
        return is_old and standing.size >= self._kept_size and standing.is_begun and not standing.walk.notes

    def _look(self, done: Future[None], append: Append) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if isinstance(error, StorageFullError) and not append.is_new:
            if self._behind is None:
                self._behind = self.shared.loop.create_future()
            self.shared.loop.call_later(RETRY_S, self._send_again, append)

    def _send_again(self, append: Append) -> None:
        self._sent = sent = self.shared.store.append(append)
        sent.add_done_callback(lambda done: self._look(done, append))
        sent.add_done_callback(self._send_behind)

    def _send_behind(self, done: Future[None]) -> None:
        behind = self._behind
        if behind is None or done.cancelled() or isinstance(done.exception(), StorageFullError):
            return
        self._behind = None
        error = done.exception()
        if error is None and self.has_news:
            self._send().add_done_callback(lambda sent: _pass_on(sent, behind))
        else:
            _pass_on(done, behind)

    async def durable(self, written: Future[None], *, is_own: bool = False) -> None:
        """Wait until what a commit wrote is durable, however often a full store refuses it.

        Others wait for the same commit, so who gives up waiting must not cancel it; `is_own` says that nobody cancels the caller.

        Raises:
            StoreError: it cannot be written.
        """
        while True:
            try:
                await (written if is_own or written.done() else shield(written))
            except StorageFullError:
                if self._behind is None:
                    raise
                written = self._behind
            else:
                return


def _pass_on(done: Future[None], to: Future[None]) -> None:
    if to.done():
        return
    if done.cancelled():
        to.cancel()
        return
    error = done.exception()
    if error is None:
        to.set_result(None)
    else:
        to.set_exception(error)
        to.exception()  # nobody may wait for it: the run is parked by whoever wants to write next


def event_hash(event: Event, data: str | None = None) -> str:
    """Return a digest of what an event says, whatever its time: the same event emitted again has the same.

    `data` is the event's data as JSON text, where it is at hand.
    """
    told = dumps([event.target, dict(event.kept_metadata), event.session_id])
    digest = hashlib.sha256(told.encode("utf-8", "replace"))
    digest.update((dumps(event.kept_data) if data is None else data).encode("utf-8", "replace"))
    return digest.hexdigest()[:32]


def written(event: Event) -> tuple[Written, str]:
    """Return an event as records have it, its data written out once, and its digest."""
    row = event.kept_dict()
    data = dumps(row["data"])
    told = Written(row)
    rest = {name: value for name, value in row.items() if name != "data"}
    told.text = f'{{"data":{data},{dumps(rest)[1:]}'
    return told, event_hash(event, data)
