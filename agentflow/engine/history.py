"""History: what a store knows of runs, for whoever looks. It only reads, and runs nothing but conditions and merge functions."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from agentflow.core.codec import decode
from agentflow.core.contract import Schema
from agentflow.core.contract_codec import MakeSchema
from agentflow.core.diagram import COLOURS, mermaid
from agentflow.core.entry import Entry
from agentflow.core.plan import Node
from agentflow.core.plan_codec import FindFunction, MakeRule, decode_plan
from agentflow.core.records import PlanMoved, Record, WorkflowCreated
from agentflow.core.replay import event_of, replay
from agentflow.core.run_row import CORRUPT, RunFilter, RunRow
from agentflow.core.run_view import RunView, view_of
from agentflow.core.standing import Standing
from agentflow.core.tally import Tally
from agentflow.engine.program import ReadPlan, recorded_plan
from agentflow.engine.verification import Problem, Verification
from agentflow.errors import JournalDamagedError, JournalVersionError, RunNotFoundError, StoreDamagedError
from agentflow.ports import Store

MOST_NAMED = 5  # runs that an ambiguous prefix is told to begin
DEAD = "dead_lettered"
_KEPT = frozenset({DEAD, CORRUPT})


@dataclass(frozen=True, slots=True)
class Recorded:
    """All records of a run up to one of them, and the run's row as it was when they were read."""

    row: RunRow
    entries: list[Entry]
    records: list[Record]
    last_seq: int

    @property
    def created(self) -> WorkflowCreated:
        """How the run began.

        Raises:
            JournalDamagedError: its first record does not say so.
        """
        fact = self.records[0].fact
        if not isinstance(fact, WorkflowCreated):
            raise JournalDamagedError(self.row.run_id, 0, "does not say how the run began")
        return fact

    @property
    def moved_at(self) -> int:
        """The number of the record with which it went over to the plan that it walks, 0 when it has always walked it."""
        return max((record.seq or 0 for record in self.records if isinstance(record.fact, PlanMoved)), default=0)

    @property
    def plan_hash(self) -> str:
        """The plan that it walks after the last of these records.

        Raises:
            JournalDamagedError: see `created`.
        """
        fact = self.records[self.moved_at].fact
        return fact.plan_hash if isinstance(fact, PlanMoved) else self.created.plan_hash


@dataclass(slots=True)
class Counted:
    """What recorded runs come to.

    Attributes:
        tally: their records, counted.
        states: how many runs stand in each state.
        unread: the ids of runs whose records cannot be read; only their states are counted.
    """

    tally: Tally = field(default_factory=Tally)
    states: Counter[str] = field(default_factory=Counter)
    unread: list[str] = field(default_factory=list)


class History:
    """Reads runs back from a store that is open.

    Args:
        store: where they are.
        rule: compiles a condition.
        function: finds the merge function `module:function`.
        schema: compiles a JSON Schema.
    """

    def __init__(self, store: Store, rule: MakeRule, function: FindFunction, schema: MakeSchema = Schema) -> None:
        self._store = store
        self._rule = rule
        self._schema = schema
        self._function = function
        self._plans: dict[str, Node] = {}

    async def runs(self, wanted: RunFilter) -> list[RunRow]:
        """Return the rows that fit."""
        return await self._store.rows(wanted)

    async def find(self, run_id: str) -> RunRow:
        """Return the row of a run, named by its id or by a beginning that no other id has.

        Raises:
            RunNotFoundError: there is none, or more than one.
        """
        row: RunRow | None = None
        with suppress(StoreDamagedError):  # its records may be whole, and what is left of it stands in the list
            row = await self._store.row(run_id)
        if row is not None:
            return row
        found = [row for row in await self._store.rows(RunFilter()) if row.run_id.startswith(run_id)] if run_id else []
        for row in found:
            if len(found) == 1 or row.run_id == run_id:
                return row
        hint = ""
        if found:
            more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
            hint = f"{', '.join(row.run_id for row in found[:MOST_NAMED])}{more} begin so"
        raise RunNotFoundError(run_id, where=self._store.url, hint=hint)

    async def row(self, run_id: str) -> RunRow:
        """Return the row of the run that has exactly this id; one that is damaged has the flag `corrupt`.

        Raises:
            RunNotFoundError: there is none.
        """
        try:
            row = await self._store.row(run_id)
        except StoreDamagedError:
            return await self.find(run_id)
        if row is None:
            raise RunNotFoundError(run_id, where=self._store.url)
        return row

    async def diagram(self, run_id: str) -> str:
        """Return the plan that a run walks as a Mermaid flowchart, its steps coloured by how they stand.

        Raises:
            RunNotFoundError, JournalDamagedError, JournalVersionError, StoreDamagedError: as `view`.
        """
        recorded = await self.recorded(run_id)
        standing = await self.standing(recorded)
        steps = view_of(recorded.row, standing, recorded.records, recorded.last_seq).steps
        return mermaid(standing.walk.plan, {step.position: step.status for step in steps if step.status in COLOURS})

    async def view(self, run_id: str, at: int | None = None) -> RunView:
        """Return a run as it stands, or as it stood after its record number `at`.

        Raises:
            RunNotFoundError: there is no such run, or it has no such record.
            JournalDamagedError, StoreDamagedError: its journal cannot be read.
            JournalVersionError: a later release wrote it.
        """
        recorded = await self.recorded(run_id, at)
        standing = await self.standing(recorded)
        return view_of(recorded.row, standing, recorded.records, recorded.last_seq)

    async def events(self, run_id: str, start: int = 0) -> list[Record]:
        """Return a run's records from number `start` on.

        Raises:
            RunNotFoundError: there is no such run.
            JournalDamagedError, StoreDamagedError: one of them cannot be read.
            JournalVersionError: a later release wrote it.
        """
        row = await self.find(run_id)
        return [decode(row.run_id, entry) for entry in await self._store.entries(row.run_id, start)]

    async def blocked(self) -> dict[str, RunRow]:
        """Return the runs that wait behind another one of their session, by id, each with the one whose turn it is."""
        holders: dict[str | None, RunRow] = {}
        found: dict[str, RunRow] = {}
        for row in await self.holders():
            holder = holders.setdefault(row.session_id, row)
            if holder is not row and row.state in ("pending", "recovering"):  # else it is part of that one's turn, or goes on beside it
                found[row.run_id] = holder
        return found

    async def holders(self) -> list[RunRow]:
        """Return the runs that have a place in a session, in order of acceptance."""
        rows = await self._store.rows(RunFilter(is_open=True, has_session=True, newest_first=False))
        return [row for row in rows if row.holds_session]

    async def expired(self, before: float) -> list[RunRow]:
        """Return the runs that ended before a time, in seconds since the epoch, for which nobody will ask any more.

        Dead letters and damaged ones are kept, and what belongs to a run that is kept: a workflow asks for its steps.
        """
        rows = await self._store.rows(RunFilter(is_open=False, newest_first=False))
        old = [row for row in rows if row.ended_at is not None and row.ended_at < before and not _KEPT.intersection(row.flags)]
        roots = {row.root_id for row in old if row.root_id is not None} - {row.run_id for row in old}
        kept = {row.run_id for row in await self._store.rows(RunFilter()) if row.run_id in roots} if roots else set()
        return [row for row in old if row.root_id not in kept]

    async def counted(self, wanted: RunFilter) -> Counted:
        """Count the runs that fit, and all their records."""
        counted = Counted()
        for row in await self._store.rows(wanted):
            counted.states[row.state] += 1
            try:
                records = [decode(row.run_id, entry) for entry in await self._store.entries(row.run_id)]
            except (StoreDamagedError, JournalDamagedError, JournalVersionError):
                counted.unread.append(row.run_id)
                continue
            for record in records:
                counted.tally.follow(record)
        return counted

    async def verify(self, run_id: str | None = None) -> list[Problem]:
        """Return all that is wrong with one run, or with the whole journal; [] when nothing is.

        Each record's checksum and place in the chain, whether the records replay, whether the row and the snapshot say the
        same as they do, and for the whole journal whether every accepted run is in exactly one state.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return await Verification(self._store, self).problems(run_id)

    async def recorded(self, run_id: str, at: int | None = None) -> Recorded:
        """Return a run's records, to its last one or to number `at`; they were not checked.

        Raises:
            RunNotFoundError: there is no such run, or it has no such record.
            JournalDamagedError, JournalVersionError, StoreDamagedError: as `view`.
        """
        row = await self.find(run_id)
        entries = await self._store.entries(row.run_id)
        while (again := await self._store.row(row.run_id)) is not None and again != row:
            row, entries = again, await self._store.entries(row.run_id)  # somebody wrote meanwhile: the two go together
        last_seq = len(entries) - 1
        if not entries:
            raise JournalDamagedError(row.run_id, 0, "is missing")
        if at is not None and not 0 <= at <= last_seq:
            hint = f"it has the records 0 to {last_seq}"
            raise RunNotFoundError(f"{row.run_id}, record {at}", where=self._store.url, hint=hint)
        entries = entries if at is None else entries[: at + 1]
        return Recorded(row, entries, [decode(row.run_id, entry) for entry in entries], last_seq)

    async def standing(self, recorded: Recorded, *, is_whole: bool = False) -> Standing:
        """Return what records come to, from a snapshot where one helps; with `is_whole` from the first record on.

        Raises:
            JournalDamagedError, JournalVersionError, StoreDamagedError: as `view`.
        """
        run_id, entries = recorded.row.run_id, recorded.entries
        plan = await self._plan(run_id, recorded.plan_hash)
        event = event_of(run_id, recorded.created)
        snapshot = None if is_whole else await self._store.snapshot(run_id)
        if snapshot is not None and recorded.moved_at <= snapshot[0] < len(entries):
            try:
                return replay(run_id, plan, event, entries[snapshot[0] + 1 :], snapshot[1])
            except (JournalDamagedError, JournalVersionError) as error:
                if error.seq is not None:
                    raise  # a record; a snapshot that cannot be read is no loss: all records are there
        return replay(run_id, plan, event, entries)

    async def _plan(self, run_id: str, plan_hash: str) -> Node:
        plan = self._plans.get(plan_hash)
        if plan is None:
            read: ReadPlan = lambda found, body: decode_plan(found, body, self._rule, self._function, self._schema)  # noqa: E731 - of this history
            plan = self._plans[plan_hash] = await recorded_plan(self._store, run_id, plan_hash, read)
        return plan
