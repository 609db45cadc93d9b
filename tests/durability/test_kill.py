"""kill -9 of a worker, at random instants and at chosen system calls, judged by what was written down outside of it.

What was acknowledged is there, what is recorded as done is never done again, and every run comes to the end it would have come to.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agentflow.core.codec import decode
from agentflow.core.records import EffectRecorded, StepCompleted, StepFailed, StepRetried, StepStarted, WorkflowRecovering
from agentflow.core.run_row import RunFilter
from agentflow.stores.sqlite import SqliteStore
from tests.durability import worker
from tests.durability.checker import faults_of, standing_of, state_of

WORKER = Path(worker.__file__)
ROOT = WORKER.parents[2]
PACE = 3  # events that each life may add


class Campaign:
    """One journal, one ledger, and the workers that are killed over them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        self.events = 0
        self.kills = 0
        self.ends = 0

    def _begin(self, before: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        command = [*before, sys.executable, str(WORKER), str(self.folder), str(self.events)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def lines(self, name: str) -> list[list[str]]:
        """Return what stands in `acks` or `ledger`, a line that the kill tore left out."""
        path = self.folder / name
        text = path.read_text() if path.exists() else ""
        return [line.split(" ", 6) for line in text[: text.rfind("\n") + 1].splitlines()]

    def _is_up(self, process: subprocess.Popen[bytes]) -> bool:
        ledger, mark = self.folder / "ledger", f"UP {process.pid}\n"
        while process.poll() is None:
            if ledger.exists() and mark in ledger.read_text():
                return True
            time.sleep(0.005)
        return False

    def kill_at_random(self) -> None:
        """Kill a worker some time after it began to work."""
        self.events += PACE
        process = self._begin()
        if self._is_up(process):
            time.sleep(self.chance.random() ** 2 * 0.12)
        process.send_signal(signal.SIGKILL)
        self._count(process)

    def kill_at_call(self, strace: str, call: str, number: int) -> None:
        """Kill a worker in a system call: in the `number`-th of its kind that one of its threads makes."""
        self.events += PACE
        inject = ("-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}")
        self._count(self._begin((strace, "-f", "-qq", "-o", "/dev/null", *inject)))

    def _count(self, process: subprocess.Popen[bytes]) -> None:
        _, said = process.communicate(timeout=60)
        if process.returncode == -signal.SIGKILL:
            self.kills += 1
        else:
            assert 0 == process.returncode, said.decode()
            self.ends += 1

    def finish(self) -> None:
        """Let a last worker do all that is left."""
        process = self._begin()
        _, said = process.communicate(timeout=120)
        assert (0, b"") == (process.returncode, said), said.decode()

    # --- what came of it ---

    def judge(self) -> Counter[str]:
        """Check everything, and return how much there was to check."""
        return asyncio.run(self._judge())

    async def _judge(self) -> Counter[str]:
        store = SqliteStore(self.folder / "journal.db", is_reader=True)
        await store.open()
        work: Counter[str] = Counter(kills=self.kills, ends=self.ends)
        try:
            rows = await store.rows(RunFilter(newest_first=False))
            entries = {row.run_id: await store.entries(row.run_id) for row in rows}
            plans = {row.plan_hash: await store.plan(row.plan_hash) for row in rows}
            counts = await store.counts()
        finally:
            await store.close()
        by_event = {row.event_id: row for row in rows}
        acks = self.lines("acks")
        work["acks"] = len(acks)
        lost = [told for told in acks if told[0] not in by_event or by_event[told[0]].run_id != told[1]]
        assert [] == lost, "acknowledged and lost, or under another run"
        assert {f"event-{number}" for number in range(self.events)} == by_event.keys()
        assert counts["runs"] == counts["completed"] == len(rows), "every run has ended, and well"
        ended = self._ended()
        expected = await self._expected(len(rows))
        for row in rows:
            facts = [decode(row.run_id, entry).fact for entry in entries[row.run_id]]
            assert [] == faults_of(row, entries[row.run_id], plans[row.plan_hash])
            standing = standing_of(row.run_id, entries[row.run_id], row.plan_hash, plans[row.plan_hash] or b"")
            assert expected[row.event_id] == state_of(standing)
            assert ended.get(row.event_id, expected[row.event_id]) == expected[row.event_id]
            work["recovered"] += sum(isinstance(fact, WorkflowRecovering) for fact in facts)
            work["mid-step"] += sum(isinstance(fact, WorkflowRecovering) and bool(fact.in_flight) for fact in facts)
            work["steps"] += sum(isinstance(fact, StepCompleted) for fact in facts)
        self._judge_ledger(work, {run_id: [decode(run_id, entry).fact for entry in told] for run_id, told in entries.items()})
        self._judge_sessions(rows, entries)
        return work

    def _ended(self) -> dict[str, Any]:
        """Return the states that workers saw at the end of runs."""
        path = self.folder / "ledger"
        told = [line.split(" ", 3) for line in path.read_text().splitlines() if line.startswith("END ")]
        assert {"completed"} == {status for _, _, status, _ in told}
        return {name: json.loads(state) for _, name, _, state in told}

    @staticmethod
    async def _expected(count: int) -> dict[str, Any]:
        """Return the states to which the events come when nobody is killed."""
        of_kind: dict[int, dict[str, Any]] = {}
        async with worker.build("memory:", lambda text: None, 0.0) as runner:
            for number, _ in enumerate(worker.TARGETS):
                of_kind[number] = dict((await runner.run(worker.event(number))).state)
        return {f"event-{number}": of_kind[number % len(worker.TARGETS)] | {"number": number} for number in range(count)}

    def _judge_ledger(self, work: Counter[str], facts: dict[str, list[Any]]) -> None:
        ledger = self.lines("ledger")
        started = {
            (run_id, fact.position, str(fact.attempt)) for run_id, told in facts.items() for fact in told if isinstance(fact, StepStarted)
        }
        done = {
            (run_id, fact.position): str(fact.attempts)
            for run_id, told in facts.items()
            for fact in told
            if isinstance(fact, StepCompleted | StepFailed)
        }
        keys: dict[tuple[str, str], str] = {}
        seen: set[tuple[str, str, str]] = set()
        for told in ledger:
            if told[0] != "S":
                continue
            _, run_id, position, _, attempt, key, _ = told
            work["calls"] += 1
            assert (run_id, position, attempt) in started, f"{told} began before its start was durable"
            assert (run_id, position, attempt) not in seen, f"{told} was done twice"
            assert int(attempt) <= int(done[run_id, position]), f"{told} was done again after it was recorded"
            assert keys.setdefault((run_id, position), key) == key, f"{told}: the key changed"
            seen.add((run_id, position, attempt))
        assert len(set(keys.values())) == len(keys), "two steps share a key"
        planned = sum(isinstance(fact, StepRetried) for told in facts.values() for fact in told)
        work["repeated"] = len(seen) - len(keys) - planned
        self._judge_effects(work, ledger, facts)

    @staticmethod
    def _judge_effects(work: Counter[str], ledger: list[list[str]], facts: dict[str, list[Any]]) -> None:
        recorded: dict[tuple[str, str], int] = {}
        for run_id, told in facts.items():
            attempts: dict[str, int] = {}
            for fact in told:
                if isinstance(fact, StepStarted):
                    attempts[fact.position] = fact.attempt
                elif isinstance(fact, EffectRecorded):
                    assert (run_id, fact.position) not in recorded, "an effect is recorded twice"
                    recorded[run_id, fact.position] = attempts[fact.position]
        for told in ledger:
            if told[0] == "E":
                _, run_id, position, attempt, _ = told
                work["effects"] += 1
                assert int(attempt) <= recorded[run_id, position], f"{told} was done again after it was recorded"

    @staticmethod
    def _judge_sessions(rows: list[Any], entries: dict[str, Any]) -> None:
        """See that the runs of a session went one after another, in the order of their acceptance."""
        last: dict[str, float] = {}
        for row in rows:
            if row.session_id is not None:
                begun = next(entry.at for entry in entries[row.run_id] if entry.type == "StepStarted")
                assert begun >= last.get(row.session_id, 0.0), f"{row.run_id} began before the run ahead of it had ended"
                last[row.session_id] = row.ended_at


@pytest.fixture
def campaign(tmp_path: Path, request: pytest.FixtureRequest) -> Campaign:
    """A fresh campaign; its seed is told when it fails."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"\nseed {seed} in {tmp_path}")
    return Campaign(tmp_path, seed)


@pytest.fixture
def strace() -> str:
    """The path of an strace that can inject faults, or a skip that says what is missing."""
    found = shutil.which("strace")
    if found is None:
        pytest.skip("strace is not installed")
    with tempfile.TemporaryDirectory() as folder:
        trial = [found, "-f", "-qq", "-o", f"{folder}/out", "-e", "trace=fsync", "-e", "inject=fsync:signal=KILL", "true"]
        done = subprocess.run(trial, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"strace cannot trace here: {done.stderr.strip()[:200]}")
    return found


def test_kill_at_random_instants(campaign: Campaign, is_proof: bool) -> None:
    """Nothing acknowledged is lost and nothing recorded is done again, wherever in time a worker is killed."""
    kills = 330 if is_proof else 25
    for _ in range(kills):
        campaign.kill_at_random()
    campaign.finish()
    work = campaign.judge()
    print(f"killed at random instants: {dict(work)}")
    assert work["kills"] >= kills * 0.8
    assert work["acks"] >= kills
    assert work["mid-step"] >= kills * 0.4
    assert work["repeated"] >= kills * 0.2


def test_kill_at_chosen_system_calls(campaign: Campaign, strace: str, is_proof: bool) -> None:
    """Nothing acknowledged is lost and nothing recorded is done again, at whichever write or sync a worker is killed."""
    kills, tries = 170 if is_proof else 15, 0
    while campaign.kills < kills and tries < 2 * kills:
        tries += 1
        call = campaign.chance.choice(["pwrite64", "fdatasync"])
        campaign.kill_at_call(strace, call, campaign.chance.randrange(1, 120 if call == "pwrite64" else 40))
    campaign.finish()
    work = campaign.judge()
    print(f"killed at system calls: {dict(work)}")
    assert work["kills"] >= kills
    assert work["acks"] >= kills
    assert work["recovered"] >= kills * 0.3
