"""Sessions across processes: an event waits behind what an earlier process left of its session, and the command says so."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import environment
from tests.cli.durable import CONFIG, HANDLERS, ledger, running, steps

Call = Callable[..., Any]
PLAIN = (*steps("write", "tell"), "--session", "s1")
SLOW = (*steps("write", "slow", "tell"), "--session", "s1")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose second step waits for approval."""
    (tmp_path / "agentflow.toml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "handlers.py").write_text(HANDLERS, encoding="utf-8")
    return tmp_path


@pytest.fixture
def killed(project: Path) -> str:
    """The id of a run of session s1 whose process was killed in its second step."""
    with running(project, *SLOW) as live:
        live.process.kill()
        live.process.wait()
    (project / "go").touch()
    return live.run_id


def states(call: Call) -> list[tuple[str, str]]:
    """Return the id and state of each run, in order of acceptance."""
    return [(row["run_id"], row["state"]) for row in reversed(call("runs", "list", "--json").json)]


def test_event_behind_a_killed_run_is_left_pending_and_resumed_in_order(start: Call, call: Call, project: Path, killed: str) -> None:
    """`run` exits 3, names the run ahead and both ways out, and begins nothing; `resume` then runs both, one after the other."""
    outcome = start("run", *PLAIN, "--json")
    waiting = outcome.json["run_id"]
    assert (outcome.code, outcome.json["state_name"]) == (3, "pending")
    told = outcome.err[outcome.err.index(f"{waiting} waits") :]
    assert told.splitlines() == [
        f"{waiting} waits behind {killed} (running) of session s1",
        "    to go on with both: agentflow resume",
        f"    to end {killed}: agentflow runs cancel {killed}; then: agentflow resume",
    ]
    assert ledger(project) == ["write", "slow"]
    assert states(call) == [(killed, "running"), (waiting, "pending")]
    (blocked,) = call("runs", "list", "--blocked", "--json").json
    assert (blocked["run_id"], blocked["blocked_by"], blocked["blocked_by_state"]) == (waiting, killed, "running")
    outcome = start("resume", "--json")
    assert outcome.code == 0, outcome.err
    assert [(row["run_id"], row["status"]) for row in outcome.json] == [(killed, "completed"), (waiting, "completed")]
    assert ledger(project) == ["write", "slow", "slow", "tell", "write", "tell"]
    assert call("runs", "list", "--blocked", "--json").json == []
    assert "sound" in call("runs", "verify").out


def test_event_goes_on_after_the_run_ahead_was_cancelled(start: Call, call: Call, project: Path, killed: str) -> None:
    """Once the run ahead is cancelled, `resume` takes up what waited behind it, and `run` begins at once."""
    waiting = start("run", *PLAIN, "--json").json["run_id"]
    assert call("runs", "cancel", killed).code == 0
    outcome = start("resume", "--json")
    assert (outcome.code, [row["run_id"] for row in outcome.json]) == (0, [waiting])
    assert start("run", *PLAIN).code == 0
    assert ledger(project) == ["write", "slow", "write", "tell", "write", "tell"]


def test_resuming_only_what_waits_does_not_begin_it(call: Call, project: Path, killed: str) -> None:
    """`resume RUN` of a run behind another one exits 3 and says what it waits for; events of other sessions run."""
    waiting = call("run", *PLAIN, "--json").json["run_id"]
    outcome = call("resume", waiting)
    assert (outcome.code, outcome.out) == (3, f"pending  {waiting}\n")
    assert f"{waiting} waits behind {killed} (running) of session s1\n" in outcome.err
    assert ledger(project) == ["write", "slow"]
    assert call("run", *steps("write", "tell"), "--session", "s2").code == 0
    assert call("run", *steps("write", "tell")).code == 0
    assert call("resume", killed).code == 0
    assert call("resume", waiting).code == 0
    assert ledger(project)[-4:] == ["slow", "tell", "write", "tell"]


@pytest.mark.parametrize("is_paused", [False, True])
def test_event_behind_a_run_that_rests_is_told_how_that_goes_on(call: Call, project: Path, is_paused: bool) -> None:
    """Behind a run that waits for a person, or that somebody has paused, the hint is the command that lets that run go on."""
    if is_paused:
        with running(project, *SLOW) as live:
            assert call("runs", "pause", live.run_id, "--reason", "lunch").code == 0
            (project / "go").touch()
            assert live.end()[0] == 3
            first, told, go_on = live.run_id, "paused: lunch", ("resume", live.run_id)
    else:
        first = call("run", "--session", "s1", "--json").json["run_id"]
        told, go_on = "paused: approval", ("runs", "approve", first, "--continue")
    outcome = call("run", *PLAIN, "--json")
    assert outcome.code == 3
    assert f"waits behind {first} ({told}) of session s1\n" in outcome.err
    assert f": agentflow {' '.join(go_on)}; then: agentflow resume\n" in outcome.err
    assert call(*go_on).code == 0
    before = ledger(project)
    assert call("resume").code == 0
    assert ledger(project) == [*before, "write", "tell"]


def test_cancelling_the_run_ahead_lets_a_live_process_go_on(call: Call, project: Path, killed: str) -> None:
    """A process that takes events begins what waited in it as soon as the run ahead, which nobody runs, is cancelled."""
    command = [sys.executable, "-m", "agentflow", "run", *steps("write", "tell"), "--event", "-", "--jsonl"]
    with subprocess.Popen(
        command, cwd=project, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    ) as process:
        process.stdin.write('{"session_id": "s1"}\n')
        process.stdin.flush()
        while "accepted" not in process.stderr.readline():
            pass
        assert ledger(project) == ["write", "slow"]
        assert call("runs", "cancel", killed).code == 0
        until = time.monotonic() + 10
        while ledger(project) != ["write", "slow", "write", "tell"]:
            assert time.monotonic() < until
            time.sleep(0.01)
        out, _ = process.communicate()
    assert (process.returncode, out.count('"completed"') > 0) == (0, True)
    assert [state for _, state in states(call)] == ["cancelled", "completed"]


def test_fork_of_an_open_run_waits_behind_it(call: Call, project: Path, killed: str) -> None:
    """A fork is of the session of the run that it was made of, so it begins when that has ended."""
    outcome = call("runs", "fork", killed)
    assert outcome.code == 3
    assert f"waits behind {killed} (running) of session s1\n" in outcome.err
    assert call("runs", "cancel", killed).code == 0
    assert call("resume").code == 0
    assert ledger(project) == ["write", "slow", "slow", "tell"]
