"""Power loss: a traced workload is replayed into disk images that lost, tore or kept writes which were not synced.

The journal in full mode loses nothing that was acknowledged. Relaxed mode and `synchronous = OFF` are the canaries: if no image
of theirs loses anything, the replay itself is blind.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agentflow.stores.sqlite import SqliteStore

Workload = Any

CALLS = "openat,pwrite64,write,fdatasync,fsync,ftruncate,unlink,close"
LINE = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)")
BEGUN = re.compile(r"^(\d+) +(.*) <unfinished \.\.\.>$")
RESUMED = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$")


@dataclass(frozen=True)
class Operation:
    """One call: `kind` is write, sync, cut (ftruncate), unlink or say (to the ledger)."""

    kind: str
    file: str
    offset: int = 0
    content: bytes = b""


@dataclass
class Disk:
    """Files as a disk has them: what was synced, and what still waits."""

    files: dict[str, bytearray] = field(default_factory=dict)
    waiting: list[Operation] = field(default_factory=list)
    ledger: bytes = b""

    def do(self, operation: Operation) -> None:
        """Do one call as the system would."""
        if operation.kind == "say":
            self.ledger += operation.content
        elif operation.kind == "unlink":
            self.files.pop(operation.file, None)
            self.waiting = [other for other in self.waiting if other.file != operation.file]
        elif operation.kind == "sync":
            for other in self.waiting:
                if other.file == operation.file:
                    self.reach(other)
            self.waiting = [other for other in self.waiting if other.file != operation.file]
        else:
            self.waiting.append(operation)

    def reach(self, operation: Operation) -> None:
        """Let a waiting write reach the disk."""
        content = self.files.setdefault(operation.file, bytearray())
        if operation.kind == "cut":
            del content[operation.offset :]
            return
        end = operation.offset + len(operation.content)
        if len(content) < end:
            content.extend(bytes(end - len(content)))
        content[operation.offset : end] = operation.content

    def lose_power(self, chance: random.Random, kept: float) -> None:
        """Drop what waits, but keep a share of it, some of that torn at a sector's edge."""
        for operation in self.waiting:
            if chance.random() < kept:
                if operation.kind == "write" and chance.random() < 0.3:
                    torn = operation.content[: chance.randrange(0, len(operation.content) + 1, 512)]
                    operation = Operation("write", operation.file, operation.offset, torn)
                self.reach(operation)


def operations(trace: Path, workload: Workload) -> list[Operation]:
    """Read a trace: the calls on the journal and its log, and the lines that went to the ledger."""
    names = {str(workload.journal): "journal.db", f"{workload.journal}-wal": "journal.db-wal", str(workload.ledger): "ledger"}
    opened: dict[str, str] = {}
    found: list[Operation] = []
    for name, words, returned in _calls(trace):
        if name == "openat":
            opened.pop(returned, None)
            path = _text(words[1]).decode()
            if path in names:
                opened[returned] = names[path]
        elif name == "unlink" and _text(words[0]).decode() in names:
            found.append(Operation("unlink", names[_text(words[0]).decode()]))
        elif name == "close":
            opened.pop(words[0], None)
        elif words[0] in opened:
            found.append(_operation(name, opened[words[0]], words))
    return found


def _operation(name: str, file: str, words: list[str]) -> Operation:
    if name == "pwrite64":
        return Operation("write", file, int(words[3]), _text(words[1]))
    if name == "write":
        assert file == "ledger"
        return Operation("say", file, content=_text(words[1]))
    if name == "ftruncate":
        return Operation("cut", file, int(words[1]))
    assert name in ("fdatasync", "fsync")
    return Operation("sync", file)


def _calls(trace: Path) -> Iterator[tuple[str, list[str], str]]:
    """Yield name, arguments and result of each call that succeeded; one that another thread interrupted stands at its end."""
    begun: dict[str, str] = {}
    for line in trace.read_text().splitlines():
        if first := BEGUN.match(line):
            begun[first[1]] = first[2]
            continue
        rest = RESUMED.match(line)
        call = LINE.match(f"{rest[1]} {begun.pop(rest[1])}{rest[2]}" if rest else line)
        if call is not None and not call[3].startswith("-"):
            yield call[1], call[2].split(", "), call[3]


def _text(word: str) -> bytes:
    return bytes.fromhex(word.strip('"').replace("\\x", ""))


@dataclass
class Losses:
    """What was counted over all images of one durability."""

    images: int = 0
    acknowledged: int = 0
    lost: int = 0
    corrupt: int = 0


def replay(strace: str, workload: Workload, durability: str, images: int) -> Losses:
    """Trace one workload and judge so many images of it."""
    command = workload.command(durability, 4, 40)
    trace = workload.folder / "trace"
    done = subprocess.run(
        [strace, "-f", "-qq", "-xx", "-s", "2000000", "-o", str(trace), "-e", f"trace={CALLS}", *command],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = operations(trace, workload)
    ready = next(place for place, operation in enumerate(found) if operation.content == b"READY\n")
    assert sum(operation.kind == "say" for operation in found) == 4 * 41 + 1
    chance = random.Random(1)
    losses = Losses(images)
    for number in range(images):
        disk = Disk()
        for operation in found[: chance.randrange(ready + 1, len(found) + 1)]:
            disk.do(operation)
        disk.lose_power(chance, chance.choice([0, 0.5, 0.9]))
        _judge(workload, disk, losses, number)
    print(f"{durability}: {len(found)} calls, {losses}")
    return losses


def _judge(workload: Workload, disk: Disk, losses: Losses, number: int) -> None:
    folder = workload.folder.parent / f"image-{number % 2}"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, content in disk.files.items():
        (folder / name).write_bytes(content)
    lines = [line.split() for line in disk.ledger.decode().splitlines() if line.startswith("ACK")]
    acknowledged = {run_id: int(count) for _, run_id, count in lines}
    losses.acknowledged += sum(acknowledged.values())
    faults = workload.faults(folder / "journal.db", acknowledged)
    losses.corrupt += any(fault.startswith("corrupt") for fault in faults)
    losses.lost += bool(faults) and not any(fault.startswith("corrupt") for fault in faults)


def test_power_loss_loses_nothing_that_was_acknowledged(strace: str, workload: Workload, is_proof: bool) -> None:
    """In full mode every image opens, is whole, and has all that was acknowledged."""
    images = 10_000 if is_proof else 400
    losses = replay(strace, workload, "full", images)
    assert (losses.lost, losses.corrupt) == (0, 0)
    assert losses.acknowledged >= 20 * images


@pytest.mark.parametrize("durability", ["relaxed", "off"])
def test_the_canaries_die(strace: str, workload: Workload, durability: str) -> None:
    """Relaxed mode loses acknowledged appends but stays whole; without any sync the file breaks. So the replay does see."""
    losses = replay(strace, workload, durability, 100)
    assert losses.lost + losses.corrupt > 10
    assert (losses.corrupt > 0) == (durability == "off")


async def test_an_image_opens_as_a_store(strace: str, workload: Workload) -> None:
    """What is left after a power loss is taken up by the store itself, and goes on."""
    replay(strace, workload, "full", 10)
    images = sorted(workload.folder.parent.glob("image-*"))
    for folder in images:
        (folder / "journal.db").chmod(0o600)
        store = SqliteStore(folder / "journal.db")
        await store.open()
        assert len(await store.take("new", lease_s=1)) + (await store.counts())["completed"] == 4
        await store.close()
    assert len(images) == 2
