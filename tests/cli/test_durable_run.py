"""`agentflow run` records what it does, and `agentflow resume` goes on with what it left."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.durable import CONFIG, HANDLERS, ledger, running, steps

Call = Callable[..., Any]
PLAIN = steps("write", "tell")
SLOW = steps("write", "slow", "tell")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose second step waits for approval."""
    (tmp_path / "agentflow.toml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "handlers.py").write_text(HANDLERS, encoding="utf-8")
    return tmp_path


def rows(call: Call) -> Any:
    """Return the recorded runs, the newest first."""
    return call("runs", "list", "--json").json


def test_runs_are_recorded_beside_the_configuration(call: Call, project: Path) -> None:
    """Without [journal] a run is in .agentflow/journal.db, which is its owner's alone, and stderr says its id."""
    outcome = call("run", *PLAIN, "--json")
    (row,) = rows(call)
    assert (outcome.code, row["run_id"], row["state"]) == (0, outcome.json["run_id"], "completed")
    assert f"{row['run_id']}  accepted" in outcome.err
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (project / ".agentflow").iterdir()}
    assert stat.S_IMODE((project / ".agentflow").stat().st_mode) == 0o700
    assert set(modes.values()) == {0o600}
    assert "journal.db.sock" not in modes


def test_configuration_in_another_folder_has_its_journal_there(call: Call, project: Path, tmp_path: Path) -> None:
    """The journal lies beside the file that was named, wherever the command is called."""
    inner = tmp_path / "inner"
    inner.mkdir()
    for name in ("agentflow.toml", "handlers.py"):
        (inner / name).write_text((project / name).read_text(encoding="utf-8"), encoding="utf-8")
    assert call("run", "inner", *PLAIN).code == 0
    assert (inner / ".agentflow" / "journal.db").exists()
    assert not (project / ".agentflow").exists()


def test_another_journal_can_be_named(call: Call, project: Path) -> None:
    """`--journal PATH` records there, from the current folder, and resume finds it with the same option."""
    assert call("run", "--journal", "other.db").code == 3
    assert not (project / ".agentflow").exists()
    assert call("resume", "--journal", "other.db").code == 3
    assert len(call("runs", "list", "--json", "--journal", "other.db").json) == 1


def test_waiting_run_ends_the_command_with_3_and_says_how_to_approve(call: Call) -> None:
    """A run that waits for a person exits 3; stdout has where it stands, stderr the command that lets it go on."""
    outcome = call("run", "--json")
    told = outcome.json
    assert (outcome.code, told["state_name"], told["status"], told["waiting"]) == (3, "paused", None, ["0.1"])
    assert f"agentflow runs approve {told['run_id']} 0.1" in outcome.err
    text = call("run")
    assert text.out.startswith("paused (approval)  run-")
    assert "waits: 0.1  publish" in text.out


def test_waiting_run_in_memory_is_told_to_be_lost(call: Call) -> None:
    """With `url = "memory:"` nothing can be approved later, and nobody is told to."""
    outcome = call("run", "--config-set", "journal.url=memory:")
    assert outcome.code == 3
    assert "given up: its journal is in memory" in outcome.err
    assert "agentflow runs approve" not in outcome.err


def test_unfinished_runs_are_told_of_and_left_alone(call: Call, project: Path) -> None:
    """`run` starts its own event only, and says how many runs `resume` would take."""
    call("run")
    call("run")
    outcome = call("run", *PLAIN)
    assert "2 unfinished runs are recorded from before; `agentflow resume`" in outcome.err
    assert ledger(project) == ["write", "write", "write", "tell"]
    assert "unfinished" not in call("run", *PLAIN, "--quiet").err


def test_event_behind_a_paused_run_of_its_session_waits_too(call: Call, project: Path) -> None:
    """A paused run holds its session: what stands behind it does not begin, and does not hold up the command."""
    (project / "events.jsonl").write_text('{"session_id": "s"}\n{"session_id": "s"}\n{}\n', encoding="utf-8")
    outcome = call("run", "--event", "events.jsonl", "--jsonl")
    assert outcome.code == 3
    assert sorted(row["state_name"] for row in outcome.rows) == ["paused", "paused", "pending"]
    first, second = (row["run_id"] for row in outcome.rows[:2])
    assert f"{second} waits behind {first} (paused: approval) of session s\n" in outcome.err
    assert ledger(project) == ["write", "write"]


def test_second_run_on_a_journal_is_refused(call: Call, project: Path) -> None:
    """While a process has the journal, another `run` exits 2 and names its id and the way out."""
    with running(project, *SLOW) as first:
        outcome = call("run", *PLAIN)
        assert outcome.code == 2
        assert f"in use by process {first.process.pid}" in outcome.err
        assert "--journal PATH" in outcome.err
        assert call("resume").code == 2
        assert call("run", *PLAIN, "--journal", "other.db").code == 0
        (project / "go").touch()
        assert first.end()[0] == 0


def test_folder_that_cannot_be_made_is_told(call: Call, project: Path) -> None:
    """Where there can be no journal the command exits 2, says why, and how to take another place."""
    (project / ".agentflow").write_text("in the way", encoding="utf-8")
    (project / ".agentflow").chmod(0o600)
    outcome = call("run", *PLAIN)
    assert (outcome.code, ledger(project)) == (2, [])
    assert ".agentflow" in outcome.err
    assert "--journal PATH" in outcome.err
    assert "Traceback" not in outcome.err


def test_killed_run_goes_on_where_it_was(start: Call, project: Path) -> None:
    """After kill -9 in its second step `resume` makes that step again, the first one not, and exits 0."""
    with running(project, *SLOW) as killed:
        killed.process.kill()
        killed.process.wait()
    assert (project / ".agentflow" / "journal.db.sock").exists()
    (project / "go").touch()
    outcome = start("resume", "--json")
    (result,) = outcome.json
    assert (outcome.code, result["run_id"], result["status"]) == (0, killed.run_id, "completed")
    assert result["state"]["data"] == {"text": "tea", "slept": True, "told": True}
    assert ledger(project) == ["write", "slow", "slow", "tell"]
    again = start("resume", "--json")
    assert (again.code, again.json) == (0, [])
    assert "nothing is unfinished" in again.err
    assert "sound" in start("runs", "verify").out


def test_killed_while_another_step_waits_for_approval(start: Call, project: Path) -> None:
    """A step that waited for approval when the process died still waits after `resume`; it does not begin by itself."""
    with running(project, *steps("slow", "publish", mode="collaborative")) as killed:
        killed.process.kill()
        killed.process.wait()
    (project / "go").touch()
    outcome = start("resume", killed.run_id[:-1])
    assert outcome.code == 3, outcome.err
    assert ledger(project) == ["slow", "slow"]


@pytest.mark.parametrize(
    ("words", "code"), [((), 3), (("--set", "is_failing=true", *PLAIN), 1), (PLAIN, 1)], ids=["waiting", "failed", "completed"]
)
def test_resume_of_one_run_exits_as_it_stands(call: Call, words: tuple[str, ...], code: int) -> None:
    """Naming a run: 3 when it waits for approval, 1 when it has ended, with the reason."""
    run_id = call("run", *words, "--json").json["run_id"]
    outcome = call("resume", run_id)
    assert outcome.code == code
    if code == 1:
        assert f"cannot resume run {run_id}" in outcome.err


def test_resumed_run_that_fails_exits_1(call: Call, project: Path) -> None:
    """A run that fails after it was resumed exits 1, and its result is printed."""
    run_id = call("run", "--json", "--set", "is_failing=true").json["run_id"]
    outcome = call("runs", "approve", run_id, "--continue", "--json")
    assert (outcome.code, outcome.json["status"]) == (1, "failed")
    assert ledger(project) == ["write", "publish", "tell"]


def test_resume_refuses_what_it_cannot_do(call: Call) -> None:
    """An unknown run, and options that say nothing alone, exit 2."""
    call("run", *PLAIN)
    assert "no run 'nobody'" in call("resume", "nobody").err
    for words in (("nobody",), ("--plan", "current"), ("run-1", "--accept")):
        assert call("resume", *words).code == 2


def test_resume_without_any_journal_has_nothing_to_do(call: Call) -> None:
    """Where nothing was ever recorded, nothing is unfinished: exit 0."""
    outcome = call("resume")
    assert (outcome.code, outcome.out) == (0, "")
    assert "nothing is unfinished" in outcome.err


def test_event_that_was_run_before_is_not_run_again(call: Call, project: Path) -> None:
    """The same event id gives the run that it had; another event under that id is refused."""
    (project / "event.json").write_text(json.dumps({"id": "order-1", "data": {"n": 1}}), encoding="utf-8")
    first = call("run", *PLAIN, "--event", "event.json", "--json").json
    second = call("run", *PLAIN, "--event", "event.json", "--json")
    assert (second.code, second.json["run_id"]) == (0, first["run_id"])
    assert ledger(project) == ["write", "tell"]
    (project / "event.json").write_text(json.dumps({"id": "order-1", "data": {"n": 2}}), encoding="utf-8")
    assert call("run", *PLAIN, "--event", "event.json").code == 2
