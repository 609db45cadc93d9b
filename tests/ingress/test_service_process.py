"""`agentflow serve` as a process: schedules through kill -9, reloads by order, signal and file, and draining."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentflow import app
from agentflow.core.run_row import RunFilter
from agentflow.engine.due import event_id

CONFIG = """
[agent_flow]
entrypoint = "handlers"
[orchestration]
mode = "sequential"
sequential_agents = ["quick"]
[agents.quick]
[serve]
port = 0
"""
EACH_SECOND = '[[schedules]]\nname = "tick"\nevery = 1\ntarget = "quick"\n'
HANDLERS = """
import asyncio
from agentflow import agent

@agent("quick")
async def quick(event, state):
    return {"done": 1}

@agent("slow")
async def slow(event, state):
    await asyncio.sleep(1)
    return {"slow": 1}
"""
KILLS = 6


class Project:
    """A folder with a project, its process, and what the command line says to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "agentflow.toml"
        self.process: subprocess.Popen[str] | None = None
        self._starts = 0
        (folder / "handlers.py").write_text(HANDLERS, encoding="utf-8")
        self.write(CONFIG)

    def write(self, text: str) -> None:
        """Write the configuration."""
        self.file.write_text(text, encoding="utf-8")

    def serve(self) -> subprocess.Popen[str]:
        """Start the service, and return when it listens."""
        with (self.folder / "err.log").open("a") as log:
            command = [sys.executable, "-m", "agentflow", "serve"]
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=log, encoding="utf-8")
        self.until(lambda: self.told.count("serving at") > self._starts)
        self._starts += 1
        return self.process

    @property
    def told(self) -> str:
        """All that was said on stderr."""
        return (self.folder / "err.log").read_text(encoding="utf-8")

    def say(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Call the command line."""
        command = [sys.executable, "-m", "agentflow", *words]
        return subprocess.run(command, cwd=self.folder, capture_output=True, encoding="utf-8", check=False, timeout=60)

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds, at most 20 seconds."""
        limit = time.monotonic() + 20
        while not holds():
            assert self.process is None or self.process.poll() is None, self.told
            assert time.monotonic() < limit, self.told
            time.sleep(0.02)

    def events(self) -> list[str]:
        """Return the ids of the events that the journal has, in order of acceptance."""

        async def read() -> list[str]:
            store = app.store_of(app.load(self.file).journal("sqlite:.agentflow/journal.db"), is_reader=True)
            await store.open()
            try:
                return [row.event_id for row in await store.rows(RunFilter(newest_first=False))]
            finally:
                await store.close()

        return asyncio.run(read())


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project whose process is gone at the end."""
    made = Project(tmp_path)
    yield made
    if made.process is not None:
        made.process.kill()
        made.process.wait()


def test_each_due_time_has_one_record_however_often_the_process_is_killed_around_it(project: Project) -> None:
    """Killed at random moments near due times and started again, the journal has each second from the first to the last once."""
    project.write(CONFIG + EACH_SECOND)
    chance = random.Random(26)
    project.serve()
    project.until(lambda: bool(project.events()))
    for _ in range(KILLS):
        assert project.process is not None
        offset = chance.uniform(-0.05, 0.05)
        time.sleep(max(0.0, (time.time() // 1 + 2 + offset) - time.time()))
        project.process.send_signal(signal.SIGKILL)
        project.process.wait()
        project.serve()
    project.until(lambda: _lag(project) < 2)
    assert 0 == project.say("drain").returncode
    found = project.events()
    (schedule,) = app.load(project.file).config.schedules
    now = int(time.time())
    expected = [event_id(schedule, float(due)) for due in range(now - 120, now + 1)]
    first, last = expected.index(found[0]), expected.index(found[-1])
    assert len(found) >= KILLS * 2
    assert sorted(found) == sorted(expected[first : last + 1])


def _lag(project: Project) -> int:
    """Return how many seconds ago the last event was due."""
    (schedule,) = app.load(project.file).config.schedules
    known, now = set(project.events()), int(time.time())
    return next((ago for ago in range(120) if event_id(schedule, float(now - ago)) in known), 120)


def test_an_order_lets_a_file_take_over_or_says_why_not(project: Project) -> None:
    """`agentflow reload` prints what changed and exits 0, or prints the diagnostics and exits 2."""
    project.serve()
    project.write(CONFIG.replace('["quick"]', '["quick", "slow"]') + "[agents.slow]\n")
    done = project.say("reload", "--json")
    assert 0 == done.returncode, done.stderr
    told = json.loads(done.stdout)
    assert ["orchestration", "agents"] == told["changed"]
    assert told["plan"] != told["plan_before"]
    project.write(CONFIG.replace('"quick"]', '"quikc"]'))
    refused = project.say("reload")
    assert 2 == refused.returncode
    assert "quikc" in refused.stderr
    assert "agentflow.toml:6" in refused.stderr
    assert "the configuration from before goes on" in refused.stderr
    project.write(CONFIG.replace("port = 0", "port = 1"))
    assert "serve.port" in project.say("reload").stderr
    assert "AF0850" in project.told


def test_a_hangup_and_a_change_of_a_watched_file_reload_too(project: Project) -> None:
    """SIGHUP takes the file as it is; a watched one takes over by itself; an invalid one is told of, and the process lives."""
    project.write(CONFIG + "watch = true\n")
    process = project.serve()
    project.write(CONFIG + "watch = true\n[agents.slow]\n")
    project.until(lambda: "reloaded agents" in project.told)
    project.write(CONFIG + "watch = true\n[agents.slow\n")
    project.until(lambda: "reload_refused" in project.told)
    project.write(CONFIG + 'watch = true\n[agents.slow]\nrole = "x"\n')
    os.kill(process.pid, signal.SIGHUP)
    project.until(lambda: project.told.count("reloaded agents") == 2)
    assert process.poll() is None


def test_drain_takes_no_more_events_finishes_what_is_open_and_ends(project: Project) -> None:
    """The run that is open at the order ends by itself, nothing begins after it, and the process exits 0."""
    project.write(CONFIG.replace('["quick"]', '["slow"]') + "[agents.slow]\n" + EACH_SECOND)
    process = project.serve()
    project.until(lambda: bool(project.events()))
    drained = project.say("drain")
    assert 0 == drained.returncode, drained.stderr
    assert f"process {process.pid} has let go of the journal" in drained.stdout
    assert 0 == process.wait(timeout=10)
    with sqlite3.connect(project.folder / ".agentflow" / "journal.db") as database:
        assert [("completed",)] == database.execute("SELECT DISTINCT state FROM runs").fetchall()
    again = project.say("drain")
    assert (2, True) == (again.returncode, "AF0851" in again.stderr)


def test_schedules_are_listed_with_their_next_due_time(project: Project) -> None:
    """`agentflow schedules` needs no process, and says in the schedule's own time zone when it is due."""
    project.write(CONFIG + '[[schedules]]\nname = "early"\ncron = "30 2 * * *"\ntimezone = "Asia/Kathmandu"\ntarget = "quick"\n')
    rows = json.loads(project.say("schedules", "--json").stdout)
    assert [("early", "30 2 * * *", "skip")] == [(row["name"], row["cron"], row["missed"]) for row in rows]
    assert rows[0]["next"].endswith("T20:45:00Z")
    assert rows[0]["next_local"].endswith("T02:30:00+05:45")
    text = project.say("schedules").stdout
    assert "early" in text
    assert rows[0]["next_local"] in text
