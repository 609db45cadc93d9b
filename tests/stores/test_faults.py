"""The disk hurts: write and sync errors by call number, a full disk, a killed process. What was acknowledged is there."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

Workload = Any


def hurt(strace: str, workload: Workload, call: str, error: str, when: str) -> tuple[dict[str, int], int]:
    """Run a workload whose calls fail; return what it said and how many faults were fired."""
    command = workload.command("full", 4, 12)
    trace = workload.folder / "trace"
    # Calls are counted by thread, so what each opening does in a fresh one would fail every time: writes to -shm.
    suffixes = ("", "-wal", "-shm") if call == "ftruncate" else ("", "-wal")
    paths = [word for suffix in suffixes for word in ("-P", f"{workload.journal}{suffix}")]
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}"]
    done = subprocess.run(
        [strace, "-f", "-qq", "-o", str(trace), *paths, *inject, *command], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), trace.read_text().count("(INJECTED)")


@pytest.mark.parametrize(
    ("call", "error", "places"),
    [("fdatasync", "EIO", 40), ("pwrite64", "EIO", 120), ("pwrite64", "ENOSPC", 120), ("ftruncate", "EIO", 5)],
)
def test_a_failed_call_loses_and_repeats_nothing(
    strace: str, workload: Workload, call: str, error: str, places: int, is_proof: bool
) -> None:
    """Whichever call fails, once or again and again, the store heals, and all that it acknowledged is in the journal, once."""
    numbers = range(2, places + 1) if is_proof else sorted(random.Random(call + error).sample(range(2, places), min(places - 2, 6)))
    totals: dict[str, int] = {"cases": 0, "fired": 0}
    for number in numbers:
        for when in (str(number), f"{number}+97"):
            said, fired = hurt(strace, workload, call, error, when)
            acknowledged = workload.acknowledged()
            assert [] == workload.faults(workload.journal, acknowledged), (when, said)
            assert said["acks"] + said["found"] == 4 * 13, (when, said)
            for name, count in {**said, "cases": 1, "fired": fired}.items():
                totals[name] = totals.get(name, 0) + count
    print(f"{call} {error}: {totals}")
    assert totals["fired"] >= totals["cases"] // 2, totals
    if error == "ENOSPC":
        assert totals["full"] > 0, totals


def test_a_failed_sync_is_decided_by_reading_again(strace: str, workload: Workload) -> None:
    """After a failed sync the journal is opened anew: appends that are not in it fail, those that are in it succeed.

    With the one failed sync SQLite takes the commit back while it closes; where that fails too, the commit is found.
    """
    lost = found = 0
    for number in range(12, 18):
        for when in (f"{number}", f"{number}..{number + 1}"):
            said, fired = hurt(strace, workload, "fdatasync", "EIO", when)
            assert fired >= 1
            assert [] == workload.faults(workload.journal, workload.acknowledged())
            assert said["acks"] == 4 * 13
            lost += said["failed"] > 0
            found += said["failed"] == 0
    print(f"commits taken back in {lost} cases, found in {found}")
    assert lost > 0
    assert found > 0


def test_a_full_disk_acknowledges_nothing_and_goes_on_by_itself(workload: Workload, tmp_path: Path) -> None:
    """On a disk of 1 MB that fills up: appends are refused, reads work, and all goes on when there is room again."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    command = workload.command("full", 4, 150)
    disk = tmp_path / "disk"
    disk.mkdir()
    command[2] = str(disk / "journal.db")
    shown = ["sh", "-c", 'mount -t tmpfs -o size=1m none "$0" && "$@" && cp "$0"/journal.db* "$OUT"', str(disk), *command]
    done = subprocess.run(
        ["unshare", "-Urm", *shown, str(disk / "ballast")],
        env={**_environment(), "OUT": str(workload.folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"no small disk can be made here: {done.stderr.strip()[:200]}")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    print(said)
    assert said["full"] >= 20
    assert said["reads"] >= 1
    assert said["unknown"] + said["found"] == 0
    assert said["acks"] == 4 * 151
    assert [] == workload.faults(workload.journal, workload.acknowledged())


def test_a_killed_process_loses_nothing(workload: Workload, is_proof: bool) -> None:
    """SIGKILL at any moment: all that was acknowledged is there."""
    chance = random.Random(7)
    kills, acknowledged = (200 if is_proof else 12), 0
    for _ in range(kills):
        process = subprocess.Popen(workload.command("full", 8, 2000), stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 60
            while not (workload.ledger.exists() and workload.ledger.stat().st_size) and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(chance.random() * 0.1)
        finally:
            process.kill()
            process.wait()
        counts = workload.acknowledged()
        acknowledged += sum(counts.values())
        assert [] == workload.faults(workload.journal, counts)
    print(f"{kills} kills, {acknowledged} entries acknowledged")
    assert acknowledged >= 20 * kills


def _environment() -> dict[str, str]:
    import os

    return dict(os.environ)
