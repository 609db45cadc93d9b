"""Writes runs into a journal and tells a ledger what was acknowledged; run as a process, so that it can be killed or hurt.

Usage: workload.py JOURNAL LEDGER DURABILITY RUNS STEPS [BALLAST]. The ledger gets a line for each acknowledged append. With
BALLAST, a file of that name fills the disk in the middle. The last line of standard output is JSON: what happened.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import agentflow.stores.writer as writer
from agentflow.core.append import Append
from agentflow.core.entry import Entry
from agentflow.core.run_row import RunRow
from agentflow.errors import AgentflowError, DuplicateEventError, FencedError, StorageError, StorageFullError
from agentflow.stores.sqlite import SqliteStore

MOST_TRIES = 200


def chained(run_id: str, seq: int, previous: bytes) -> Entry:
    """Make an entry whose hash says that it follows the one before, and which is the same whenever it is made."""
    body = hashlib.sha256(f"{run_id} {seq}".encode()).hexdigest().encode() * 3
    return Entry(seq, 1, 1.0, "StepCompleted", 1, body, hashlib.blake2b(previous + body, digest_size=16).digest())


class Work:
    """The store, the ledger, and what was counted."""

    def __init__(self, journal: Path, ledger: Path, durability: str) -> None:
        self.store = SqliteStore(journal, durability="full" if durability == "full" else "relaxed")
        self.is_off = durability == "off"
        self.ledger = os.open(ledger, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        self.is_warm = asyncio.Event()
        self.said = dict.fromkeys(["acks", "full", "failed", "unknown", "found", "reads"], 0)

    async def open(self) -> None:
        """Open the store, trying again while the disk hurts."""
        for _ in range(MOST_TRIES):
            try:
                await self.store.open()
                break
            except AgentflowError as error:
                self.said["failed"] += 1
                told = error
        else:
            raise SystemExit(f"no way to open: {told}")
        if self.is_off:
            await self.store._writer.do(lambda tables: tables.connection.execute("PRAGMA synchronous = OFF"))  # type: ignore[union-attr]
        os.write(self.ledger, b"READY\n")

    async def append(self, append: Append) -> None:
        """Append until it is acknowledged, or found in the journal after an unknown outcome."""
        is_unknown = False
        for _ in range(MOST_TRIES):
            try:
                await self.store.append(append)
                break
            except StorageFullError:
                self.said["full"] += 1
                await asyncio.sleep(0.002)
            except StorageError as error:
                self.said["unknown" if error.is_unknown else "failed"] += 1
                is_unknown |= error.is_unknown
            except (FencedError, DuplicateEventError):
                assert is_unknown, "refused although its outcome was never unknown"
                self.said["found"] += 1
                return
        else:
            raise SystemExit(f"no way to append: {self.said}")
        self.said["acks"] += 1
        if self.said["acks"] == 40:
            self.is_warm.set()
        os.write(self.ledger, f"ACK {append.run_id} {append.expected_seq + len(append.entries)}\n".encode())

    async def run(self, run_id: str, steps: int) -> None:
        """Write one run from its beginning to its end."""
        entries = [chained(run_id, 0, b"")]
        row = RunRow(run_id=run_id, event_id=f"e-{run_id}", event_hash="h", state="running", started_at=1.0)
        await self.append(Append(run_id, 0, 1, tuple(entries), row=row, plan=("p", b"{}"), is_new=True))
        for step in range(steps):
            seq = len(entries)
            for n in (seq, seq + 1):
                entries.append(chained(run_id, n, entries[-1].hash))
            row_then = replace(row, state="completed", ended_at=2.0) if step == steps - 1 else None
            await self.append(Append(run_id, seq, 1, tuple(entries[seq:]), row=row_then))

    async def starve(self, ballast: Path) -> None:
        """Fill the disk, see that reading works and writing does not, and make room again."""
        await self.is_warm.wait()
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(b"\0" * 4096):
                    pass
            except OSError:
                os.write(self.ledger, b"FULL\n")
        before = self.said["full"]
        for _ in range(1000):
            self.said["reads"] += len(await self.store.entries("run-0")) > 0
            if self.said["full"] > before + 20:
                break
            await asyncio.sleep(0.002)
        ballast.unlink()


async def main(journal: str, ledger: str, durability: str, runs: str, steps: str, ballast: str = "") -> None:
    """Do the work and print what happened."""
    writer._BACKLOG = int(os.environ.get("WORKLOAD_BACKLOG", "60"))  # checkpoints are part of what is to be hurt
    work = Work(Path(journal), Path(ledger), durability)
    await work.open()
    starving = [work.starve(Path(ballast))] if ballast else []
    await asyncio.gather(*[work.run(f"run-{n}", int(steps)) for n in range(int(runs))], *starving)
    print(json.dumps(work.said), flush=True)
    if durability == "full":
        await work.store.close()
    os._exit(0)


asyncio.run(main(*sys.argv[1:]))
