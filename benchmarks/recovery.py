"""Measures W3r: how long it takes to be ready again after a crash that left many open runs in the journal.

The journal is made once: some runs are led to a step that does not return, each a little further than the one before, and
what they left is written down again and again under other ids, by the store and the codec of agentflow. So runs stand at
all distances from their last snapshot. Each measurement opens a fresh copy in a process of its own, which is what this
module is when it is started: `python -m benchmarks.recovery make|store|runner FOLDER`.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.driver import ROOT, Line, Settings, pinned

RUNS = 10_000
MODELS = 20  # the runs that the others are copies of
ROUNDS_A_MODEL = 5  # each is led so many rounds further, two records each: a hundred records a run on average
ROUNDS = 2  # copies of the whole journal that are recovered from
DATA = {"kind": "alpha", "i": 0, "doc": "x" * 512, "lines": [f"{line:064d}" for line in range(8)]}
LEASE_SECONDS = 60.0
MAKE_SECONDS = 300.0
OPEN_SECONDS = 120.0
BEGIN_SECONDS = 30.0  # to wait, after the clock, for the steps that were under way to run again
AT_ONCE = 500  # runs written in one go
LINES = {"store": "store", "agentflow_durable": "runner"}  # line of the table -> what its process does


@dataclass
class Recovery:
    """Holds what was measured: seconds until ready, of the store alone and of agentflow; and what the journal held."""

    lines: dict[str, Line] = field(default_factory=dict)
    runs: int = 0
    records: int = 0
    megabytes: float = 0.0
    failure: str = ""


def measure(settings: Settings) -> Recovery:
    """Make the journal, then recover from copies of it."""
    recovery = Recovery()
    with tempfile.TemporaryDirectory(dir=settings.journals) as folder:
        original, copy = Path(folder) / "original", Path(folder) / "copy"
        settings.say(f"W3r: making a journal of {RUNS:,} open runs")
        made = _child("make", original, settings.cpu, MAKE_SECONDS)
        if not made["ok"]:
            recovery.failure = made["error"]
            settings.say(f"W3r: {recovery.failure}")
            return recovery
        recovery.runs, recovery.records = made["runs"], made["records"]
        recovery.megabytes = sum(file.stat().st_size for file in original.iterdir()) / 2**20
        recovery.lines = {label: Line() for label in LINES}
        for number in range(min(ROUNDS, settings.rounds)):
            settings.say(f"W3r: round {number + 1} of {min(ROUNDS, settings.rounds)}")
            for label, line in recovery.lines.items():
                if line.failure:
                    continue
                shutil.copytree(original, copy)
                os.sync()  # so that the copy is not still being written meanwhile
                reply = _child(LINES[label], copy, settings.cpu, OPEN_SECONDS)
                shutil.rmtree(copy)
                if reply["ok"]:
                    line.add(reply["sample"])
                else:
                    line.failure = reply["error"]
                    settings.say(f"W3r: {label}: {line.failure}")
    return recovery


def _child(task: str, folder: Path, cpu: int | None, seconds: float) -> dict[str, Any]:
    """Do one task in a process of its own and return its answer."""
    command = [sys.executable, "-m", "benchmarks.recovery", task, str(folder)]
    with pinned(cpu):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return {"ok": False, "error": f"not done within {seconds:.0f} s"}
    lines = output.splitlines()
    return dict(json.loads(lines[-1])) if lines else {"ok": False, "error": f"its process ended with {process.returncode}"}


# --- in the process of its own ---


def config(folder: Path) -> dict[str, Any]:
    """Return the config of the runner whose runs are recovered: a loop whose last round does not return."""
    loop = {"mode": "loop", "loop_agent": "counter", "max_iterations": MODELS * ROUNDS_A_MODEL}
    return {"orchestration": loop, "agents": {"counter": {}}, "journal": {"url": f"sqlite:{folder / 'journal.db'}", "durability": "full"}}


class Counter:
    """The agent: counts up to what the event's data say, then waits for ever; tells when so many runs wait."""

    def __init__(self, wanted: int) -> None:
        self.waiting = 0
        self.is_reached = asyncio.Event()
        self.wanted = wanted

    async def __call__(self, event: Any, state: Any) -> Any:
        """Count one up, or wait."""
        if state["i"] < state["until"]:
            state["i"] = state["i"] + 1
            return state
        self.waiting += 1
        if self.waiting >= self.wanted:
            self.is_reached.set()
        await asyncio.Event().wait()
        return state


async def started(folder: Path, counter: Counter) -> Any:
    """Start a runner on the journal in a folder."""
    from agentflow import Runner

    async def count(event: Any, state: Any) -> Any:
        return await counter(event, state)

    runner: Any = Runner.from_dict(config(folder))
    runner.register_agent("counter", count)
    await runner.start()
    return runner


async def crash(folder: Path) -> None:
    """Lead the models to the step that does not return, and end the process there."""
    from agentflow import Event

    counter = Counter(MODELS)
    runner = await started(folder, counter)
    for number in range(MODELS):
        await runner.emit(Event("counter", {**DATA, "until": number * ROUNDS_A_MODEL + 2}))
    async with asyncio.timeout(BEGIN_SECONDS):
        await counter.is_reached.wait()
    os._exit(0)


async def make(folder: Path) -> dict[str, Any]:
    """Make the journal: copies of runs that crashed."""
    from agentflow.core.run_row import RunFilter
    from agentflow.stores.sqlite import SqliteStore

    template = folder.with_name("template")
    template.mkdir()
    reply = _child("crash", template, None, BEGIN_SECONDS * 2)
    if not (template / "journal.db").exists():
        raise RuntimeError(reply["error"])
    source, target = SqliteStore(template / "journal.db"), SqliteStore(folder / "journal.db")
    await source.open()
    models = [await model_of(source, row) for row in await source.rows(RunFilter())]
    await target.open()
    records = 0
    for first in range(0, RUNS, AT_ONCE):
        appends = [models[number % len(models)].copy(number) for number in range(first, first + AT_ONCE)]
        records += sum(len(append.entries) for append in appends)
        await asyncio.gather(*map(target.append, appends))
    await target.close()
    return {"runs": RUNS, "records": records}


async def model_of(store: Any, row: Any) -> Model:
    """Read a run that crashed."""
    from agentflow.core.codec import decode
    from agentflow.core.plan_codec import decode_plan
    from agentflow.core.replay import event_of
    from agentflow.core.snapshot import thaw_standing

    entries, encoded = await store.entries(row.run_id), await store.plan(row.plan_hash)
    facts: list[Any] = [decode(row.run_id, entry).fact for entry in entries]
    unneeded: Any = None  # conditions and merge functions: the plan has none
    model = Model(row, entries, facts, (row.plan_hash, encoded))
    if found := await store.snapshot(row.run_id):
        plan = decode_plan(row.plan_hash, encoded, unneeded, unneeded)
        model.snapshot_seq, body = found
        model.standing = thaw_standing(row.run_id, plan, event_of(row.run_id, facts[0]), body)
    return model


@dataclass
class Model:
    """Holds a run that others are made like: the same records and snapshot, chained anew under another id."""

    row: Any
    entries: list[Any]
    facts: list[Any]
    plan: tuple[str, bytes]
    snapshot_seq: int = -1
    standing: Any = None

    def copy(self, number: int) -> Any:
        """Return the append that writes all of one run."""
        from agentflow.core.append import Append
        from agentflow.core.codec import encode

        run_id, event_id = f"run-{number:05d}", f"event-{number:05d}"
        created, *others = self.facts
        root_id = run_id if created.root_id == self.row.run_id else created.root_id
        row = replace(self.row, run_id=run_id, event_id=event_id, root_id=root_id, owner="crashed")
        facts = [replace(created, event={**created.event, "id": event_id}, root_id=root_id), *others]
        entries = []
        previous = b""
        for old, fact in zip(self.entries, facts, strict=True):
            entry = encode(row.run_id, old.seq, old.epoch, old.at, fact, previous)
            previous = entry.hash
            entries.append(entry)
        return Append(row.run_id, 0, row.epoch, tuple(entries), row, self.plan, self._snapshot(run_id, entries), is_new=True)

    def _snapshot(self, run_id: str, entries: list[Any]) -> tuple[int, bytes] | None:
        from agentflow.core.snapshot import freeze_standing

        if self.standing is None:
            return None
        self.standing.run_id, self.standing.hash = run_id, entries[self.snapshot_seq].hash
        return self.snapshot_seq, freeze_standing(self.standing)


async def open_store(folder: Path) -> dict[str, Any]:
    """Open the store alone and take all open runs: the part of recovery that reads no records."""
    from agentflow.stores.sqlite import SqliteStore

    start = time.perf_counter()
    store = SqliteStore(folder / "journal.db")
    await store.open()
    rows = await store.take("benchmark", lease_s=LEASE_SECONDS)
    ready = time.perf_counter() - start
    expect_all(len(rows))
    return {"sample": {"ready": ready, "resident": resident_megabytes()}}


async def open_runner(folder: Path) -> dict[str, Any]:
    """Start a runner, let it take all runs over, and see afterwards that their last steps run again."""
    counter = Counter(RUNS)
    start = time.perf_counter()
    runner = await started(folder, counter)
    is_up = time.perf_counter() - start
    handles = await runner.resume()
    ready = time.perf_counter() - start
    sample = {"start": is_up, "ready": ready, "resident": resident_megabytes()}
    expect_all(len(handles))
    async with asyncio.timeout(BEGIN_SECONDS):
        await counter.is_reached.wait()
    sample["running"] = time.perf_counter() - start
    return {"sample": sample}


def expect_all(count: int) -> None:
    """Raise AssertionError when runs were left behind."""
    if count != RUNS:
        raise AssertionError(f"{count} of {RUNS} runs were taken over")


def resident_megabytes() -> float:
    """Return the most memory that this process has held."""
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest / (2**20 if sys.platform == "darwin" else 2**10)


TASKS: dict[str, Callable[[Path], Awaitable[Any]]] = {"make": make, "crash": crash, "store": open_store, "runner": open_runner}


async def answer(task: str, folder: Path) -> dict[str, Any]:
    """Do one task and say how it went."""
    try:
        return {"ok": True, **await TASKS[task](folder)}
    except BaseException as failure:
        traceback.print_exc()
        return {"ok": False, "error": f"{type(failure).__name__}: {failure}"[:300]}


async def serve(task: str, folder: Path) -> None:
    """Print the answer and end at once: what is open is meant to be left behind."""
    print(json.dumps(await answer(task, folder)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2])))
