"""Journal: the records of one run on their way into the store, and what all journals of an engine share.

What is noted stays here until it is committed, so that records which belong together share one commit; while one is on its
way, what comes after it waits and goes with the next. A full store is tried again until there is room; any other refusal
means that the run is not this engine's any more, or that nobody knows how it stands: it is parked.
"""

from __future__ import annotations

import hashlib
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from agentflow.core.append import Append
from agentflow.core.codec import Written, dumps, encode, quoted, written
from agentflow.core.entry import Entry
from agentflow.core.event import PASSING, Event
from agentflow.core.frame import Frame
from agentflow.core.plan_codec import encode_plan, hash_of
from agentflow.core.records import Fact
from agentflow.core.run_row import RunRow, changed
from agentflow.core.snapshot import freeze_standing
from agentflow.core.standing import Standing
from agentflow.core.values import Json
from agentflow.engine.limits import Mark, RunLimits
from agentflow.engine.program import Program, ReadPlan
from agentflow.errors import StorageFullError
from agentflow.ports import Clock, Store

RETRY_S = 0.5  # between two attempts to write to a store that is full
Carried: TypeAlias = list[tuple[tuple[Append, ...], Future[None]]]


@dataclass
class Journals:
    """What all journals of an engine share.

    Attributes:
        store: where they are kept.
        owner: the name under which this engine takes runs.
        read_plan: makes a plan of the hash and the bytes that the store has kept.
        snapshot_every: after how many records a run's standing is kept, so that it need not be read from its beginning.
        handlers: by agent `{"handler": "module:name", "version": "..."}`.
        limits: how much each run may record.
        on_full: is called when the store has no room for what goes on; not again before it had some.
    """

    store: Store
    clock: Clock
    loop: AbstractEventLoop
    owner: str
    read_plan: ReadPlan
    snapshot_every: int = 100
    handlers: Mapping[str, Json] = field(default_factory=dict)
    limits: RunLimits = field(default_factory=RunLimits)
    on_full: Callable[[], None] = lambda: None
    is_full: bool = field(default=False, init=False)
    now: Callable[[], float] = field(init=False)  # the clock's time
    _plans: dict[int, tuple[Program, tuple[str, bytes]]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.now = self.clock.time
        self.handlers = written(self.handlers)  # once for all runs

    def plan_of(self, program: Program) -> tuple[str, bytes]:
        """Return the hash and the bytes of a program's plan."""
        known = self._plans.get(id(program))
        if known is None:
            body = encode_plan(program.plan)
            known = self._plans[id(program)] = program, (hash_of(body), body)
        return known[1]

    def forget_plans(self) -> None:
        """Keep the bytes of plans no longer; the next run of a program has them made again."""
        self._plans.clear()

    def new(self, event: Event, program: Program, standing: Standing) -> Journal:
        """Return the journal of a run that begins."""
        plan = self.plan_of(program)
        told, digest = recorded(event)
        row = RunRow(
            run_id=standing.run_id,
            event_id=event.id or "",
            event_hash=digest,
            state="running",
            pattern=program.flow.mode,
            session_id=event.session_id,
            plan_hash=plan[0],
            owner=self.owner,
            started_at=self.now(),
        )
        journal = Journal(self, standing, row)
        journal.plan = plan
        journal.event = told
        return journal


class Journal:
    """One run's records. `standing` is what they come to, `row` what the store lists of the run."""

    __slots__ = (
        "_append",
        "_behind",
        "_carried",
        "_epoch",
        "_is_given_up",
        "_is_new",
        "_kept_seq",
        "_kept_size",
        "_pending",
        "_refused",
        "_row",
        "_sent",
        "accepted",
        "carrier",
        "event",
        "mark",
        "plan",
        "row",
        "shared",
        "standing",
    )

    def __init__(self, shared: Journals, standing: Standing, row: RunRow) -> None:
        self.shared = shared
        self.standing = standing
        self.row = row
        self.mark: Mark = shared.limits.ahead_of(standing)  # the length at which something is done about it
        self.plan: tuple[str, bytes] | None = None  # to be stored with the next commit
        self.event: Written | None = None  # as the first record has it
        self.accepted: Future[None]  # the commit of the run's first record
        self.carrier: Journal | None = None  # of the run that brings this one forth: its next commit has the first records of this one
        self._carried: Carried | None = None  # what others begin with, for the next commit
        self._refused: list[Future[None]] = []  # who waits for what a full store has refused
        self._is_new = standing.seq < 0
        self._epoch = row.epoch
        self._row: RunRow | None = row if self._is_new else None  # as the store has it; None: it has none yet, or another
        self._pending: list[Entry] = []
        self._sent: Future[None] | None = None
        self._append: Append | None = None  # what was sent
        self._behind: Future[None] | None = None  # of what waits for `_sent`
        self._is_given_up = False
        self._kept_seq = standing.seq
        self._kept_size = 0

    def note(self, fact: Fact) -> int:
        """Add a record to the next commit and return its number."""
        standing = self.standing
        entry = encode(standing.run_id, standing.seq + 1, self._epoch, self.shared.now(), fact, standing.hash)
        standing.take(entry, fact)
        self._pending.append(entry)
        return entry.seq

    def change(self, **fields: Any) -> None:
        """Change the run's row with the next commit."""
        row = self.row
        for name, value in fields.items():
            if getattr(row, name) != value:
                self.row = changed(row, fields)
                return

    @property
    def has_news(self) -> bool:
        """Whether something waits to be committed."""
        return bool(self._pending) or self.row is not self._row

    @property
    def is_durable(self) -> bool:
        """Whether nothing waits to be committed, or is on its way."""
        return not self.has_news and self._behind is None and (self._sent is None or self._sent.done())

    def commit(self, *, is_awaited: bool = False) -> Future[None]:
        """Write what was noted; the future is done when it is durable.

        `is_awaited` says that the caller waits for it with `durable`, so that nothing else has to look at how it ends.

        Raises (through the future):
            StoreError: the run cannot be written any more.
        """
        sent = self._sent
        if sent is not None and self._behind is None:
            if not sent.done():
                self._behind = self.shared.loop.create_future()
                sent.add_done_callback(self._send_behind)
            elif sent.cancelled() or sent.exception() is not None:
                self._look(sent)
        if self._behind is not None:
            return self._behind
        sent = self._send()
        if not is_awaited:
            sent.add_done_callback(self._look)
        return sent

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
        """Send all that waits to be written."""
        standing, entries = self.standing, tuple(self._pending)
        self._pending.clear()
        row = None
        if self.row is not self._row or self._is_new:
            row = self._row = self.row
        append = Append(standing.run_id, standing.seq + 1 - len(entries), self._epoch, entries, row, self.plan, None, self._is_new)
        if standing.seq - self._kept_seq >= self.shared.snapshot_every and self._is_worth_keeping:
            body = freeze_standing(standing)
            append.snapshot = standing.seq, body
            self._kept_seq, self._kept_size = standing.seq, standing.size + len(body)
        carried, carrier = self._carried, self.carrier
        if carried is not None:
            append.also = tuple(part for parts, _ in carried for part in parts)
            self._carried = None
        self._append = append
        self._sent = sent = self.shared.store.append(append) if carrier is None else carrier.carry(append)
        self.carrier = None
        if carried is not None:
            sent.add_done_callback(partial(self._pass_on, append, [done for _, done in carried]))
        if self._is_new:
            self._is_new = False
            self.plan = None
            self.accepted = sent
        return sent

    def carry(self, append: Append) -> Future[None]:
        """Let the first append of another run share the fate of this run's next one; the future ends as that one's does."""
        done: Future[None] = self.shared.loop.create_future()
        parts, append.also = (append, *append.also), ()
        self._carried = [*(self._carried or []), (parts, done)]
        return done

    def _pass_on(self, append: Append, carried: list[Future[None]], sent: Future[None]) -> None:
        """Tell those that an append has carried how it ended, unless it is sent once more."""
        if not sent.cancelled() and self._is_for_later(append, sent.exception()):
            self._refused = carried
            return
        for done in carried:
            _pass_on(sent, done)

    def _is_for_later(self, append: Append, error: BaseException | None) -> bool:
        return isinstance(error, StorageFullError) and not append.is_new and not self._is_given_up

    @property
    def is_carrying(self) -> bool:
        """Whether the next commit has what other runs begin with."""
        return self._carried is not None

    @property
    def _is_worth_keeping(self) -> bool:
        """Whether the standing is one to be read from, and there are as many new bytes as it took the last time."""
        standing = self.standing
        return standing.size >= self._kept_size and standing.is_begun and standing.ended is None and not standing.walk.notes

    def _look(self, done: Future[None]) -> None:
        """See whether what was sent is to be sent once more, after a while: a full store has refused it."""
        if done is not self._sent or done.cancelled() or done.exception() is None:
            return
        append, error = self._append, done.exception()
        if append is not None and isinstance(error, StorageFullError) and self._is_for_later(append, error):
            if not self.shared.is_full:
                self.shared.is_full = True
                self.shared.on_full()
            self._sent = None  # so that it is looked at once
            if self._behind is None:
                self._behind = self.shared.loop.create_future()
            self.shared.loop.call_later(RETRY_S, self._send_again, append, error)

    def give_up(self) -> None:
        """Try no more what a full store refuses: nobody goes on with the run here."""
        self._is_given_up = True

    def _send_again(self, append: Append, error: StorageFullError) -> None:
        behind, carried = self._behind, self._refused
        self._refused = []
        if self._is_given_up and behind is not None:
            self._behind = None
            for done in (behind, *carried):
                done.set_exception(error)
                done.exception()  # nobody may wait for it
            return
        self._sent = sent = self.shared.store.append(append)
        sent.add_done_callback(self._send_behind)
        if carried:
            sent.add_done_callback(partial(self._pass_on, append, carried))

    def _send_behind(self, done: Future[None]) -> None:
        """Send what waits behind something that was written, or refused for good."""
        self._look(done)
        behind = self._behind
        if behind is None or done is not self._sent or done.cancelled():
            return
        self._behind = None
        self.shared.is_full = self.shared.is_full and done.exception() is not None
        if done.exception() is None and self.has_news:
            self._send().add_done_callback(partial(self._sent_behind, behind))
        else:
            _pass_on(done, behind)

    def _sent_behind(self, behind: Future[None], done: Future[None]) -> None:
        self._look(done)
        _pass_on(done, behind)

    async def durable(self, written: Future[None], *, is_own: bool = False) -> None:
        """Wait until what a commit wrote is durable, however often a full store refuses it.

        Others wait for the same commit, so who gives up waiting must not cancel it; `is_own` says that nobody cancels the caller.

        Raises:
            StoreError: it cannot be written.
        """
        while True:
            try:
                await (written if is_own or written.done() else self._beside(written))
            except StorageFullError:
                self._look(written)
                if self._behind is None:
                    raise
                written = self._behind
            else:
                self.let_go(written)
                return

    def let_go(self, written: Future[None]) -> None:
        """Forget what was sent, since it is durable: a run may wait for long, and what it has written may be large."""
        if written is self._sent:
            self._append = None

    def _beside(self, written: Future[None]) -> Future[None]:
        """Return a future that ends as another one does, and may be cancelled without it: `asyncio.shield` at half the cost."""
        beside = self.shared.loop.create_future()
        written.add_done_callback(partial(_pass_on, to=beside))
        return beside


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


def event_hash(event: Event) -> str:
    """Return a digest of what an event says, whatever its time: the same event emitted again has the same."""
    return recorded(event)[1]


def recorded(event: Event) -> tuple[Written, str]:
    """Return an event as records have it, its data written out once, and its digest."""
    told = Written(event.kept_dict())
    data = dumps(told["data"]).encode("utf-8", "replace")
    target, session_id = quoted(event.target), "null" if event.session_id is None else quoted(event.session_id)
    metadata = dumps(told["metadata"]) if told["metadata"] else "{}"
    asked = metadata  # but for what traces it, and who wants the answer
    if not event.kept_metadata.keys().isdisjoint(PASSING):
        asked = dumps({name: text for name, text in event.kept_metadata.items() if name not in PASSING})
    told_id, timestamp = dumps(told["id"]), dumps(told["timestamp"])
    rest = f'"id":{told_id},"target":{target},"metadata":{metadata},"session_id":{session_id},"timestamp":{timestamp}}}'
    told.pieces = b'{"data":', data, b",", rest.encode("utf-8", "replace")
    digest = hashlib.sha256(f"[{target},{asked},{session_id}]".encode("utf-8", "replace"))
    digest.update(data)
    return told, digest.hexdigest()[:32]
