"""A disk that is full, seen from the command line."""

from __future__ import annotations

import json
import os
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
from agentflow import agent


@agent("first")
async def first(event, state):
    return {"first": "x" * 2000}


@agent("second")
async def second(event, state):
    return {"second": "x" * 2000}
"""
EVENTS = 700  # more than are in flight at once, so that some find the disk full when they come


def test_a_full_disk_stops_nothing_for_good(tmp_path: Path) -> None:
    """What finds no room is refused with a clear error and was not accepted; what was accepted waits, and `resume` completes it."""
    if not os.environ.get("AGENTFLOW_PROOF"):
        pytest.skip("when a real disk fills up is not repeatable yet: set AGENTFLOW_PROOF=1 to run it")
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    (tmp_path / "disk").mkdir()
    (tmp_path / "agentflow.toml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "handlers.py").write_text(HANDLERS, encoding="utf-8")
    (tmp_path / "events.jsonl").write_text("".join(f'{{"id": "e-{n}"}}\n' for n in range(EVENTS)), encoding="utf-8")
    command = ["unshare", "-Urm", sys.executable, str(DRIVER), str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, encoding="utf-8", timeout=120, check=False)
    if any(word in done.stderr for word in ("unshare:", "mount:")):
        pytest.skip(f"no small disk can be made here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    err = seen["err"]
    refused = len(re.findall(r"^error\[AF0710\]: events\.jsonl:\d+: there is no room left for the journal$", err, re.MULTILINE))
    accepted = re.findall(r"^(\S+)  accepted$", err, re.MULTILINE)
    completed = [row["run_id"] for row in map(json.loads, seen["out"].splitlines())]
    assert "Traceback" not in err + seen["single"][2]
    assert "help: make room; it goes on by itself" in err
    assert err.count("journal_full") == 1
    assert refused > 10
    assert 10 < len(accepted) < EVENTS
    assert sorted(accepted) == sorted(seen["listed"])
    assert seen["verified"].endswith("sound\n")
    assert seen["code"] == 143
    assert seen["single"][:2] == [2, ""]
    assert "no room left for the journal" in seen["single"][2]
    assert seen["resumed"] == ["completed"] * (len(accepted) - len(completed))
    assert seen["sound"].startswith(f"{len(accepted)} runs ")
    assert seen["sound"].endswith("sound\n")
    assert seen["unfinished"] == []
