"""`on_busy` at the command line: what `agentflow run --session` does when the session is busy, and with which exit code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.durable import CONFIG, HANDLERS, ledger, running, steps

Call = Callable[..., Any]
SLOW = (*steps("write", "slow", "tell"), "--session", "s1")


def plain(on_busy: str) -> tuple[str, ...]:
    """Return the options of a run of session s1."""
    return (*steps("write", "tell"), "--session", "s1", "--config-set", f"orchestration.on_busy={on_busy}")


@pytest.fixture
def killed(tmp_path: Path) -> str:
    """The id of a run of session s1 whose process was killed in its second step."""
    (tmp_path / "agentflow.toml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "handlers.py").write_text(HANDLERS, encoding="utf-8")
    with running(tmp_path, *SLOW) as live:
        live.process.kill()
        live.process.wait()
    (tmp_path / "go").touch()
    return live.run_id


def states(call: Call) -> list[str]:
    """Return the state of each run, in order of acceptance."""
    return [row["state"] for row in reversed(call("runs", "list", "--json").json)]


def test_a_rejected_event_is_an_error_of_the_command(call: Call, tmp_path: Path, killed: str) -> None:
    """Exit code 1, the code and both ways out on stderr, nothing on stdout, and nothing recorded."""
    outcome = call("run", *plain("reject"))
    assert (outcome.code, outcome.out) == (1, "")
    assert f"error[AF0514]: session 's1' is busy: run {killed} is open, left by an earlier process\nhelp: " in outcome.err
    assert f"`agentflow resume {killed}`" in outcome.err
    assert ["running"] == states(call)
    assert call("runs", "cancel", killed).code == 0
    assert call("run", *plain("reject")).code == 0


def test_an_event_that_interrupts_ends_what_was_left(call: Call, tmp_path: Path, killed: str) -> None:
    """The new event runs at once, and the journal says what became of the old one, and why."""
    assert call("run", *plain("interrupt")).code == 0
    assert ["cancelled", "completed"] == states(call)
    assert "interrupted" in call("runs", "show", killed).out
    assert ["write", "slow", "write", "tell"] == ledger(tmp_path)
    assert "sound" in call("runs", "verify").out


def test_an_event_in_parallel_leaves_what_was_left_alone(call: Call, tmp_path: Path, killed: str) -> None:
    """Nothing waits, and nothing is listed as waiting: not even a fork of what was left, which is of its session."""
    file = tmp_path / "agentflow.toml"
    file.write_text(file.read_text(encoding="utf-8").replace("[orchestration]", '[orchestration]\non_busy = "parallel"'), encoding="utf-8")
    assert call("run", *plain("parallel")).code == 0
    assert call("runs", "fork", killed).code == 0
    assert ["running", "completed", "completed"] == states(call)
    assert [] == call("runs", "list", "--blocked", "--json").json
    assert ["write", "slow", "write", "tell", "slow", "tell"] == ledger(tmp_path)


def test_events_of_one_stream_share_a_session_in_parallel(call: Call, tmp_path: Path, killed: str) -> None:
    """Also behind one that waits for a person: only that one counts as waiting, which the exit code says."""
    lines = ['{"id": "e1", "session_id": "s2"}', '{"id": "e2", "session_id": "s2", "metadata": {"orchestration_override": "quick"}}']
    (tmp_path / "events.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with (tmp_path / "agentflow.toml").open("a", encoding="utf-8") as file:
        file.write('[flows.quick]\nmode = "sequential"\nsequential_agents = ["write"]\n')
    outcome = call("run", "--event", "events.jsonl", "--config-set", "orchestration.on_busy=parallel", "--json")
    assert (3, ["paused", "completed"]) == (outcome.code, states(call)[1:])
