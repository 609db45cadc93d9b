"""The journal against a plain list: whatever order of appends, takeovers, groups and restarts, both say the same."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from agentflow.core.append import Append
from agentflow.core.entry import Entry
from agentflow.core.run_row import RunRow
from agentflow.errors import DuplicateEventError, FencedError
from agentflow.stores.memory import MemoryStore
from agentflow.stores.sqlite import SqliteStore

RUNS = st.integers(0, 4)
IS_PROOF = bool(os.environ.get("AGENTFLOW_PROOF"))


class JournalMachine(RuleBasedStateMachine):
    """Five runs; the model of each is its epoch, whether it is open, and a list of entries."""

    is_durable = True

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.store: Any = None
        self.model: dict[int, list[Entry]] = {}
        self.epochs: dict[int, int] = {}
        self.ended: set[int] = set()
        self.takers = 0

    @initialize()
    def begin(self) -> None:
        """Open the first store."""
        self.store = SqliteStore(self.folder / "journal.db") if self.is_durable else MemoryStore()
        self.runner.run(self.store.open())

    def do(self, *appends: Append) -> list[object]:
        """Append together and return the outcomes."""

        async def work() -> list[object]:
            return await asyncio.gather(*[self.store.append(append) for append in appends], return_exceptions=True)

        return self.runner.run(work())

    def make(self, run: int, seq: int, epoch: int, count: int) -> Append:
        """Make an append that the model may or may not have to take."""
        entries = tuple(Entry(seq + n, epoch, 1.0, "StepCompleted", 1, os.urandom(4), os.urandom(16)) for n in range(count))
        return Append(f"r{run}", seq, epoch, entries)

    def row(self, run: int, state: str) -> RunRow:
        """Make the row of a run."""
        return RunRow(run_id=f"r{run}", event_id=f"e{run}", event_hash="h", state=state, epoch=self.epochs.get(run, 1))

    def expect(self, appends: list[tuple[int, Append]]) -> None:
        """Append together; the model says which ones are taken."""
        expected: list[type] = []
        for run, append in appends:
            if append.is_new:
                is_known = run in self.model
                expected.append(DuplicateEventError if is_known else type(None))
                if not is_known:
                    self.model[run], self.epochs[run] = list(append.entries), 1
            elif run in self.model and (len(self.model[run]), self.epochs[run]) == (append.expected_seq, append.epoch):
                self.model[run] += append.entries
                expected.append(type(None))
            else:
                expected.append(FencedError)
        outcomes = self.do(*[append for _, append in appends])
        assert expected == [type(outcome) for outcome in outcomes], (expected, outcomes)

    @rule(run=RUNS, count=st.integers(0, 3))
    def create(self, run: int, count: int) -> None:
        """Make a run, perhaps again."""
        append = self.make(run, 0, 1, count)
        self.expect([(run, replace(append, row=replace(self.row(run, "running"), epoch=1), is_new=True))])

    @rule(
        group=st.lists(
            st.tuples(RUNS, st.sampled_from([0, 0, 0, 0, -1, 1]), st.sampled_from([0, 0, 0, -1, 1]), st.integers(0, 3)), max_size=8
        )
    )
    def append(self, group: list[tuple[int, int, int, int]]) -> None:
        """Append a group, some of which are stale or leave a gap."""
        length = {run: len(entries) for run, entries in self.model.items()}
        appends = []
        for run, off, late, count in group:
            seq = max(0, length.get(run, 0) + off)
            appends.append((run, self.make(run, seq, self.epochs.get(run, 1) + late, count)))
            if run in length and (off, late) == (0, 0):
                length[run] += count
        self.expect(appends)

    @rule(run=RUNS)
    def end(self, run: int) -> None:
        """End a run."""
        if run in self.model:
            self.expect([(run, replace(self.make(run, len(self.model[run]), self.epochs[run], 1), row=self.row(run, "completed")))])
            self.ended.add(run)

    @rule()
    def take(self) -> None:
        """Let a new owner take what is open."""
        self.takers += 1
        taken = self.runner.run(self.store.take(f"t{self.takers}", lease_s=60))
        self.runner.run(self.store.release(f"t{self.takers}"))
        assert {f"r{run}" for run in self.model.keys() - self.ended} == {row.run_id for row in taken}
        for row in taken:
            self.epochs[int(row.run_id[1:])] += 1
            assert row.epoch == self.epochs[int(row.run_id[1:])]

    @rule(run=RUNS)
    def delete(self, run: int) -> None:
        """Delete a run, which works only when it has ended."""
        assert (run in self.ended) == self.runner.run(self.store.delete([f"r{run}"]))
        if run in self.ended:
            self.ended.discard(run)
            del self.model[run], self.epochs[run]

    @rule()
    def restart(self) -> None:
        """Close and open again; memory forgets, so there it does nothing."""
        if self.is_durable:
            self.runner.run(self.store.close())
            self.begin()

    @invariant()
    def says_the_same(self) -> None:
        """Each run's entries are the model's."""
        if self.store is not None:
            for run in range(5):
                assert self.model.get(run, []) == self.runner.run(self.store.entries(f"r{run}"))

    def teardown(self) -> None:
        """Close the store and remove its files."""
        if self.store is not None:
            self.runner.run(self.store.close())
        self.runner.close()
        shutil.rmtree(self.folder)


class MemoryMachine(JournalMachine):
    """The same for the store in memory."""

    is_durable = False


@pytest.mark.parametrize("machine", [JournalMachine, MemoryMachine])
def test_the_journal_says_what_a_list_says(machine: type[JournalMachine]) -> None:
    """Hypothesis finds no order of appends, takeovers, deletions and restarts in which journal and list differ."""
    examples = 500 if IS_PROOF else 20 if machine is JournalMachine else 50
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=30, deadline=None))  # type: ignore[arg-type]
