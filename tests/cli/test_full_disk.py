"""A disk that is full, seen from the command line."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import environment

DRIVER = Path(__file__).with_name("full_disk.py")
CONFIG = """
[agent_flow]
entrypoint = "handlers"

[orchestration]
mode = "sequential"
sequential_agents = ["first", "second"]

[runner]
drain_timeout_seconds = 1

[journal]
url = "sqlite:disk/journal.db"

[agents.first]
[agents.second]
"""
HANDLERS = """
import asyncio
from pathlib import Path

from agentflow import agent


@agent("first")
async def first(event, state):
    while not Path("go").exists():
        await asyncio.sleep(0.05)
    return {"first": "x" * 1_000_000}


@agent("second")
async def second(event, state):
    return {"second": "x" * 2000}
"""
EVENTS = 20  # before the disk is full, and as many after it


def test_a_full_disk_stops_nothing_for_good(tmp_path: Path) -> None:
    """What finds no room is refused with a clear error and was not accepted; what was accepted waits, and `resume` completes it."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    (tmp_path / "disk").mkdir()
    (tmp_path / "agentflow.toml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "handlers.py").write_text(HANDLERS, encoding="utf-8")
    command = ["unshare", "-Urm", sys.executable, str(DRIVER), str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, encoding="utf-8", timeout=120, check=False)
    if any(word in done.stderr for word in ("unshare:", "mount:")):
        pytest.skip(f"no small disk can be made here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    err = seen["err"]
    refused = len(re.findall(r"^error\[AF0710\]: .*:\d+: there is no room left for the journal$", err, re.MULTILINE))
    accepted = re.findall(r"^(\S+)  accepted$", err, re.MULTILINE)
    completed = [row["run_id"] for row in map(json.loads, seen["out"].splitlines())]
    assert "Traceback" not in err + seen["single"][2]
    assert "help: make room; it goes on by itself" in err
    assert err.count("journal_full") == 1
    assert (len(accepted), refused, completed) == (EVENTS, EVENTS, [])
    assert sorted(accepted) == sorted(seen["listed"])
    assert seen["verified"].endswith("sound\n")
    assert seen["code"] == 143
    assert seen["single"][:2] == [2, ""]
    assert "no room left for the journal" in seen["single"][2]
    assert seen["resumed"] == ["completed"] * EVENTS
    assert seen["sound"].startswith(f"{len(accepted)} runs ")
    assert seen["sound"].endswith("sound\n")
    assert seen["unfinished"] == []
