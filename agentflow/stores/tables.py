"""Tables: what one writing connection does to a journal. All of it happens in the writer's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from agentflow.core.append import Append
from agentflow.core.run_row import CORRUPT, RunRow, taken_over
from agentflow.errors import AgentflowError, DuplicateEventError, FencedError, StoreDamagedError, StoreError
from agentflow.stores.columns import MOST_ENTRIES, OPEN_ROWS, Column, columns_of, first_key, number_of
from agentflow.stores.salvage import Found, found_singly, found_together
from agentflow.stores.staging import Staged

Result = TypeVar("Result")
Outcome = AgentflowError | None

PAGE = 2048  # bytes
_MOST_HEADS = 100_000  # what is known by heart of open runs; beyond that it is read again
_FEW = 4  # records that go into the tables by one statement
_INSERT_FEW = tuple(
    f"INSERT INTO records SELECT * FROM (VALUES {', '.join(['(?, ?, ?, ?, ?, ?, ?)'] * count)})"  # noqa: S608 - constants
    " WHERE EXISTS (SELECT 1 FROM runs WHERE number = ? AND run_id = ? AND epoch = ?)"
    for count in range(1, _FEW + 1)
)
_TAKE_RUN = "UPDATE runs SET epoch = ?, owner = ?, state = ? WHERE number = ?"
_HEAD = "SELECT number, epoch FROM runs WHERE run_id = ?"
_LAST_KEY = "SELECT max(key) FROM records WHERE key >= ? AND key < ?"
_SAME_HASHES = "SELECT hash FROM records WHERE key >= ? AND key < ? ORDER BY key"
_HOLD = "INSERT INTO holds VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET epoch = epoch + 1 RETURNING epoch"
_DELETE_RUN = (
    "DELETE FROM records WHERE key >= ? AND key < ?",
    "DELETE FROM snapshots WHERE number = ?",
    "DELETE FROM runs WHERE number = ?",
)
_DELETE_PLAN = "DELETE FROM plans WHERE hash = ? AND hash NOT IN (SELECT plan_hash FROM runs)"

_OWN_FAULTS = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError)  # of what is bound, not of the file
_ABOUT_ONE = (sqlite3.Error, OverflowError, TypeError, ValueError)
_TAKEN = (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID)


@dataclass(slots=True)
class _Head:
    """Where a run's journal ends, and under which epoch."""

    number: int
    epoch: int
    next_seq: int


class Tables:
    """The tables of one journal, as the one that writes them sees them.

    What it knows by heart (where each open run's journal ends) is as good as the tables: nobody else writes them while the
    lock is held. Should somebody all the same, SQLite's `data_version` says so inside the transaction, and all is read again.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._execute = connection.execute
        self._heads: dict[str, _Head] = {}
        self._plans: set[str] = set()
        self._next_number = 0
        self._seen_version = -1
        self.bytes = 0  # of what has been written since somebody has set it to 0

    def write(self, appends: Sequence[Append]) -> list[Outcome]:
        """Write appends in one transaction and return the outcome of each: None, or why it was refused.

        Raises:
            sqlite3.Error: the transaction failed as a whole.
        """
        try:
            if len(appends) == 1 and self._is_written_at_once(appends[0]):
                return [None]
            return self._transaction(self._write_together, appends)
        except _ABOUT_ONE as error:
            if not _is_about_one(error):
                raise
        try:
            return self._transaction(self._write_singly, appends)  # one of them spoils the rest: find out which
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
        return [self._write_alone(append) for append in appends]  # a damaged page spoils its whole transaction

    def _is_written_at_once(self, append: Append) -> bool:
        """Write a few records that come alone, as those of most steps do, by one statement; False where it takes more.

        The statement compares what a stranger could have changed: whose run it is, its epoch, and that none of the keys is taken.
        """
        head, count, seq = self._heads.get(append.run_id), len(append.entries), append.expected_seq
        if head is None or not 0 < count <= _FEW or append.row is not None or append.snapshot is not None or append.plan is not None:
            return False
        if append.also:
            return False
        if head.epoch != append.epoch or head.next_seq != seq or seq + count > MOST_ENTRIES:
            return False
        key = first_key(head.number) + seq
        values: list[Column] = []
        for entry in append.entries:
            if entry.seq != seq:
                return False
            values += key, entry.epoch, entry.at, entry.type, entry.version, entry.body, entry.hash
            key += 1
            seq += 1
            self.bytes += len(entry.body)
        values += head.number, append.run_id, head.epoch
        try:
            is_written = self._execute(_INSERT_FEW[count - 1], values).rowcount == count
        except BaseException:
            self._forget()
            raise
        if is_written:
            head.next_seq = seq
        else:
            self._forget()
        return is_written

    def _transaction(self, work: Callable[[Sequence[Append]], Result], appends: Sequence[Append]) -> Result:
        self._begin()
        try:
            result = work(appends)
            self._execute("COMMIT")
        except BaseException:
            self._forget()
            if self.connection.in_transaction:
                self._execute("ROLLBACK")
            raise
        return result

    def _begin(self) -> None:
        self._execute("BEGIN IMMEDIATE")
        (version,) = self._execute("PRAGMA data_version").fetchone()
        if version != self._seen_version or len(self._heads) > _MOST_HEADS:
            self._forget()
            self._seen_version = version

    def _forget(self) -> None:
        self._heads.clear()
        self._plans.clear()
        self._next_number = 0

    def _write_together(self, appends: Sequence[Append]) -> list[Outcome]:
        staged = Staged()
        stage = self._stage
        outcomes: list[Outcome] = []
        for append in appends:
            if append.also:
                staged.insert(self.connection)  # what comes before it: it may have to be taken back by itself
                staged = Staged()
                outcomes.append(self._write_one(append))
            else:
                outcomes.append(stage(append, staged))
        staged.insert(self.connection)
        return outcomes

    def _write_singly(self, appends: Sequence[Append]) -> list[Outcome]:
        return [self._write_one(append) for append in appends]

    def _write_one(self, append: Append) -> Outcome:
        self._execute("SAVEPOINT one")
        outcome: Outcome
        try:
            staged = Staged()
            outcome = self._stage_together(append, staged)
            staged.insert(self.connection)
        except _ABOUT_ONE as error:
            if not _is_about_one(error) or _is_damage(error):
                raise
            self._execute("ROLLBACK TO one")
            self._forget()
            outcome = self._why_one_refused(append, error)
        self._execute("RELEASE one")
        return outcome

    def _stage_together(self, append: Append, staged: Staged) -> Outcome:
        """Put the rows of an append, and of those that share its fate, where they belong; or return why one is refused."""
        outcome = self._stage(append, staged)
        for part in append.also if outcome is None else ():
            outcome = self._stage(part, staged)
            if outcome is not None:
                self._forget()  # of those before it the journals seem longer than they are
                staged.clear()
                break
        return outcome

    def _write_alone(self, append: Append) -> Outcome:
        try:
            return self._transaction(self._write_singly, (append,))[0]
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            return StoreDamagedError(f"run {append.run_id} cannot be written: {error}", run_id=append.run_id)

    def _stage(self, append: Append, staged: Staged) -> Outcome:
        """Put an append's rows where they belong, or return why it is refused and leave no trace of it."""
        run_id, is_new = append.run_id, append.is_new
        head = self._heads.get(run_id)
        if head is None:
            head = self._new_head(append) if is_new else self._read_head(run_id)
            if head is None:
                return FencedError(run_id, "there is no such run")
        elif is_new:
            raise sqlite3.IntegrityError("the run is known")  # told apart when the appends are written one by one
        seq = append.expected_seq
        if head.epoch != append.epoch:
            return FencedError(run_id, f"epoch {append.epoch} is over, it is epoch {head.epoch} now")
        if head.next_seq != seq:
            return FencedError(run_id, f"its journal has {head.next_seq} records, not {seq}")
        if seq + len(append.entries) > MOST_ENTRIES:
            return StoreError(f"run {run_id} has {seq} records; a journal holds no more of one run")
        key = first_key(head.number)
        records = staged.records
        for entry in append.entries:
            if entry.seq != seq:
                del records[len(records) - (seq - append.expected_seq) :]
                return StoreError(f"run {run_id}: an entry says seq {entry.seq} at the place of {seq}")
            records.append((key + seq, entry.epoch, entry.at, entry.type, entry.version, entry.body, entry.hash))
            seq += 1
            self.bytes += len(entry.body)
        head.next_seq = seq
        if is_new:
            self._stage_run(append, head, staged)
        if append.row is not None or append.plan is not None or append.snapshot is not None:
            self._stage_rest(append, head, staged)
        return None

    def _stage_rest(self, append: Append, head: _Head, staged: Staged) -> None:
        if append.plan is not None and append.plan[0] not in self._plans:
            staged.plans.append(append.plan)
            self._plans.add(append.plan[0])
        row = append.row
        if row is not None and not append.is_new:
            values = columns_of(row)
            staged.changes.append((*values[3:10], *values[12:], head.number))
            if not row.is_open:
                del self._heads[append.run_id]  # it will hardly be written again
        if append.snapshot is not None:
            staged.snapshots.append((head.number, *append.snapshot))
            self.bytes += len(append.snapshot[1])

    def _new_head(self, append: Append) -> _Head:
        if append.row is None or append.row.run_id != append.run_id:
            raise ValueError(f"run {append.run_id} is new and comes without its row")
        if not self._next_number:
            (last,) = self._execute("SELECT max(number) FROM runs").fetchone()
            self._next_number = (last or 0) + 1
        return _Head(self._next_number, append.row.epoch, 0)

    def _stage_run(self, append: Append, head: _Head, staged: Staged) -> None:
        if append.row is not None:
            self._heads[append.run_id] = head
            self._next_number += 1
            staged.runs.append((head.number, *columns_of(append.row)))

    def _read_head(self, run_id: str) -> _Head | None:
        found = self._execute(_HEAD, (run_id,)).fetchone()
        if found is None:
            return None
        number, epoch = found
        (last,) = self._execute(_LAST_KEY, (first_key(number), first_key(number + 1))).fetchone()
        head = self._heads[run_id] = _Head(number, epoch, 0 if last is None else last - first_key(number) + 1)
        return head

    def _why_one_refused(self, append: Append, error: Exception) -> AgentflowError:
        """Say which of the appends that share a fate is refused, as far as that can be told."""
        told = [self._why_refused(part, error) for part in (append, *append.also)]
        return next((one for one in told if isinstance(one, DuplicateEventError)), told[0])

    def _why_refused(self, append: Append, error: Exception) -> AgentflowError:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CONSTRAINT_UNIQUE) not in _TAKEN or not isinstance(error, sqlite3.Error):
            return StoreError(f"run {append.run_id} cannot be written: {error}")
        if append.is_new and append.row is not None:
            event = append.row.event_id
            found = self._execute("SELECT run_id, event_hash FROM runs WHERE event_id = ?", (event,)).fetchone()
            if found is not None:
                return DuplicateEventError(event, run_id=found[0], is_same=found[1] == append.row.event_hash)
        return FencedError(append.run_id, "somebody else has written it")

    def holds(self, append: Append) -> bool:
        """Say whether all of an append is in the tables; those that share its fate are where it is."""
        number = number_of(self.connection, append.run_id)
        if number is None:
            return False
        first = first_key(number) + append.expected_seq
        hashes = [found[0] for found in self._execute(_SAME_HASHES, (first, first + len(append.entries)))]
        return bool(hashes) and hashes == [entry.hash for entry in append.entries]

    def take(self, owner: str, alive: frozenset[str], run_ids: Collection[str] | None, limit: int | None) -> list[RunRow]:
        """Give `owner` the open runs of owners that are not alive; return their rows with the new epoch, damaged ones as they are."""
        wanted = None if run_ids is None else frozenset(run_ids)
        try:
            return self._transaction(lambda _: self._taken(self._untaken(alive, wanted, limit), owner), ())
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
        rows: list[RunRow] = []  # a damaged page spoils its whole transaction
        for one in self._untaken(alive, wanted, limit):
            try:
                rows += self._transaction(lambda _, one=one: self._taken([one], owner), ())  # type: ignore[misc] # of this round
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                rows.append(replace(one.row, flags=(*one.row.flags, CORRUPT)))
        return rows

    def _untaken(self, alive: frozenset[str], wanted: frozenset[str] | None, limit: int | None) -> list[Found]:
        """Return the open runs whose owner is not alive, oldest first; damaged ones do not count for the limit."""
        found = found_together(self.connection, OPEN_ROWS)
        untaken: list[Found] = []
        for one in found_singly(self.connection) if found is None else found:
            if limit is not None and limit <= 0:
                break
            row = one.row
            if row.is_open and row.owner not in alive and (wanted is None or row.run_id in wanted):
                untaken.append(one)
                if limit is not None and not one.is_damaged:
                    limit -= 1
        return untaken

    def _taken(self, found: Sequence[Found], owner: str) -> list[RunRow]:
        """Write that `owner` has these runs, and return their rows; damaged ones are not touched."""
        rows = [one.row if one.is_damaged else taken_over(one.row, owner) for one in found]
        changes = [(row.epoch, owner, row.state, one.number) for one, row in zip(found, rows, strict=True) if not one.is_damaged]
        for row in rows:
            self._heads.pop(row.run_id, None)
        self.connection.executemany(_TAKE_RUN, changes)
        return rows

    def hold(self, name: str) -> int:
        """Raise the epoch of a named lease and return it."""
        return self._transaction(lambda _: int(self._execute(_HOLD, (name,)).fetchone()[0]), ())

    def delete(self, run_ids: Sequence[str]) -> int:
        """Delete those runs that have ended and return how many it were."""

        def work(_: Sequence[Append]) -> int:
            count = 0
            for run_id in run_ids:
                found = self._execute(
                    "SELECT number FROM runs WHERE run_id = ? AND state IN ('completed', 'failed', 'cancelled')", (run_id,)
                ).fetchone()
                if found is not None:
                    (number,) = found
                    self._execute(_DELETE_RUN[0], (first_key(number), first_key(number + 1)))
                    self._execute(_DELETE_RUN[1], (number,))
                    self._execute(_DELETE_RUN[2], (number,))
                    count += 1
            self._forget()
            return count

        return self._transaction(work, ())

    def drop_plans(self, plan_hashes: Collection[str]) -> None:
        """Delete those of these plans that no run walks now."""

        def work(_: Sequence[Append]) -> None:
            self.connection.executemany(_DELETE_PLAN, [(plan_hash,) for plan_hash in plan_hashes])
            self._forget()

        self._transaction(work, ())


def _is_about_one(error: Exception) -> bool:
    """Say whether an error is about one append's data or place, and not about the file as a whole."""
    return not isinstance(error, sqlite3.DatabaseError) or type(error) in _OWN_FAULTS or _is_damage(error)


def _is_damage(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT
