"""Orders on recorded runs: carried out here where nobody has the journal, else by the process that has it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import environment
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


@pytest.fixture
def waiting(call: Call) -> str:
    """The id of a run that waits for approval, and that nobody runs."""
    run_id: str = call("run", "--json").json["run_id"]
    return run_id


def types(call: Call, run_id: str) -> list[str]:
    """Return the types of a run's records."""
    return [record["type"] for record in call("events", run_id, "--json").json]


def test_approved_run_waits_for_resume(call: Call, waiting: str, project: Path) -> None:
    """Without an owner `approve` records the grant and prints the command that goes on; that one completes the run."""
    outcome = call("runs", "approve", waiting, "0.1", "--by", "bo", "--note", "fine")
    assert (outcome.code, outcome.out.splitlines()) == (
        0,
        [f"approved {waiting} at 0.1", f"to go on: agentflow resume {waiting}"],
    )
    assert ledger(project) == ["write"]
    granted = next(record for record in call("events", waiting, "--json").json if record["type"] == "ApprovalGranted")
    assert (granted["by"], granted["note"]) == ("bo", "fine")
    assert "sound" in call("runs", "verify").out
    assert call("resume", waiting).code == 0
    assert ledger(project) == ["write", "publish", "tell"]


def test_second_answer_is_refused_and_not_recorded(call: Call, waiting: str) -> None:
    """Whoever answers second is told so and gets exit 1, whatever they say; nothing is recorded."""
    assert call("runs", "approve", waiting, "publish").code == 0
    before = types(call, waiting)
    for verb in ("approve", "reject"):
        outcome = call("runs", verb, waiting, "0.1", "--json")
        assert (outcome.code, outcome.json["is_recorded"]) == (1, False)
        assert "already answered" in outcome.err
    assert types(call, waiting) == before


def test_rejected_run_fails(call: Call, waiting: str, project: Path) -> None:
    """`reject` records the step's failure, and the run fails when it goes on; the step has not run."""
    outcome = call("runs", "reject", waiting, "--by", "bo", "--reason", "not today")
    assert outcome.code == 0
    assert call("runs", "show", waiting, "--json").json["steps"][-1]["status"] == "failed"
    outcome = call("resume", waiting, "--json")
    assert (outcome.code, outcome.json["status"]) == (1, "failed")
    assert outcome.json["error"]["message"] == "step 0.1 was rejected by bo: not today"
    assert ledger(project) == ["write"]
    assert "sound" in call("runs", "verify").out


def test_approval_is_of_what_was_seen(call: Call, waiting: str) -> None:
    """With `--digest` another thing than the one that waits is not approved."""
    before = types(call, waiting)
    outcome = call("runs", "approve", waiting, "--digest", "00")
    assert (outcome.code, types(call, waiting)) == (1, before)
    digest = call("runs", "show", waiting, "--json").json["approvals"][0]["digest"]
    assert digest in outcome.err
    assert call("runs", "approve", waiting, "--digest", digest, "--continue").code == 0


def test_one_of_several_steps_has_to_be_named(call: Call, project: Path) -> None:
    """Where two steps wait, an answer names one; the other goes on waiting."""
    words = ("--config-set", "agents.tell.requires_approval=true", *steps("publish", "tell", mode="collaborative"))
    run_id = call("run", *words, "--json").json["run_id"]
    outcome = call("runs", "approve", run_id)
    assert outcome.code == 1
    assert "0.0, 0.1" in outcome.err
    outcome = call("runs", "approve", run_id, "tell", "--continue", "--json")
    assert (outcome.code, outcome.json["waiting"]) == (3, ["0.0"])
    assert ledger(project) == ["tell"]
    assert call("runs", "approve", run_id, "--continue").code == 0
    assert ledger(project) == ["tell", "publish"]


def test_run_is_paused_while_it_sleeps_in_a_handler(call: Call, project: Path) -> None:
    """`pause` reaches the process that has the run: the step in flight ends, no other begins, the command exits 3."""
    with running(project, *SLOW) as live:
        outcome = call("runs", "pause", live.run_id, "--reason", "lunch", "--json")
        assert (outcome.code, outcome.json["is_live"], outcome.json["next"]) == (0, True, None)
        (project / "go").touch()
        code, out, err = live.end()
    assert (code, out.splitlines()[0]) == (3, f"paused (lunch)  {live.run_id}")
    assert f"agentflow resume {live.run_id}" in err
    assert ledger(project) == ["write", "slow"]
    assert call("resume").code == 3
    assert call("runs", "resume", live.run_id, "--by", "bo", "--continue").code == 0
    assert ledger(project) == ["write", "slow", "tell"]


def test_run_is_approved_while_another_branch_goes_on(call: Call, project: Path) -> None:
    """An approval reaches the process that has the run, which goes on with it; a second one is refused there too."""
    with running(project, *steps("slow", "publish", mode="collaborative")) as live:
        outcome = call("runs", "approve", live.run_id, "publish", "--continue")
        assert (outcome.code, outcome.out) == (0, f"approved {live.run_id} at 0.1\n")
        assert call("runs", "approve", live.run_id, "publish").code == 1
        (project / "go").touch()
        assert live.end()[0] == 0
    assert sorted(ledger(project)) == ["publish", "slow"]


def test_run_is_approved_as_soon_as_it_waits(call: Call, project: Path) -> None:
    """Whoever answers while the process is about to end, because its run waits, is neither refused nor lost."""
    command = [sys.executable, "-m", "agentflow", "run"]
    with subprocess.Popen(command, cwd=project, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        line = b""
        while b"waits for approval" not in line:
            line = process.stderr.readline()
        run_id = line.split()[0].decode()
        outcome = call("runs", "approve", run_id, "0.1", "--json")
        process.stderr.read()
    assert outcome.code == 0, outcome.err
    if process.returncode == 3:
        assert call("resume", run_id).code == 0
    assert ledger(project) == ["write", "publish", "tell"]


def test_run_is_cancelled_where_it_goes_on(call: Call, project: Path) -> None:
    """`cancel` ends a run that another process has: its handlers are cancelled, and that command exits 1."""
    with running(project, *SLOW) as live:
        assert call("runs", "cancel", live.run_id, "--reason", "enough").code == 0
        code, out, _ = live.end()
    assert (code, out.splitlines()[0].split("  ")[0]) == (1, "cancelled (enough)")
    assert call("runs", "list", "--json").json[0]["status"] == "cancelled"


def test_order_on_a_run_that_nobody_runs_goes_to_whoever_has_the_journal(call: Call, waiting: str, project: Path) -> None:
    """The owner of the journal records an order on a run that it does not run, and does not begin it."""
    with running(project, *SLOW) as live:
        outcome = call("runs", "approve", waiting, "--json")
        assert (outcome.code, outcome.json["is_live"], outcome.json["next"]) == (0, False, f"agentflow resume {waiting}")
        assert call("runs", "pause", "run-nobody").code == 2
        (project / "go").touch()
        assert live.end()[0] == 0
    assert "publish" not in ledger(project)
    assert call("resume", waiting).code == 0
    assert "sound" in call("runs", "verify").out


def test_cancelled_run_has_ended_at_once_when_nobody_runs_it(call: Call, waiting: str) -> None:
    """Where nothing has to be ended first, the end is recorded with the order."""
    assert call("runs", "cancel", waiting, "--reason", "enough").code == 0
    row = call("runs", "show", waiting, "--json").json
    assert (row["state_name"], row["status"], row["reason"], row["waiting"]) == ("cancelled", "cancelled", "enough", [])
    assert call("resume").code == 0
    assert "sound" in call("runs", "verify").out


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel", "approve"])
def test_order_that_the_state_does_not_allow_records_nothing(call: Call, verb: str) -> None:
    """An order on a run that has ended exits 1, and its journal stays as it is."""
    run_id = call("run", *PLAIN, "--json").json["run_id"]
    before = types(call, run_id)
    outcome = call("runs", verb, run_id)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("error")
    assert types(call, run_id) == before


def test_resume_is_not_for_a_run_that_waits_for_people(call: Call, waiting: str) -> None:
    """`runs resume` lifts a person's pause only; who has to answer is named instead."""
    outcome = call("runs", "resume", waiting)
    assert outcome.code == 1
    assert "approve" in outcome.err


def test_runs_are_named_by_a_beginning(call: Call, waiting: str) -> None:
    """An id may be shortened as long as no other begins so; an unknown one exits 2, and so does a folder without a journal."""
    outcome = call("runs", "cancel", waiting[:8])
    assert (outcome.code, outcome.out) == (0, f"cancelled {waiting}\n")
    assert call("runs", "cancel", "run-nobody").code == 2
    assert call("runs", "cancel", waiting, "--journal", "nowhere.db").code == 2


def test_retry_is_a_new_run_of_the_same_event(call: Call, project: Path) -> None:
    """`retry` records a run of the event under an id made of its own, and names the old run; it may be asked for again."""
    old = call("run", *PLAIN, "--set", "is_failing=true", "--json").json["run_id"]
    outcome = call("runs", "retry", old, "--json")
    new = outcome.json["run_id"]
    assert (outcome.code, outcome.json["next"]) == (0, f"agentflow resume {new}")
    created, first = (call("events", run, "--json").json[0] for run in (new, old))
    assert created["forked_from"] == old
    assert created["event"]["id"] == f"{first['event']['id']}.retry-1"
    assert created["event"]["data"] == {"is_failing": True}
    assert call("runs", "retry", new).code == 1  # it has not ended
    assert call("resume", new).code == 1
    assert call("runs", "retry", old, "--continue").code == 1
    assert ledger(project) == ["write", "tell"] * 3


def test_dead_letter_is_replayed_once_unless_asked_for_again(call: Call, start: Call) -> None:
    """`replay` begins a dead letter's event anew; a second time it needs `--again`, and other runs are refused."""
    assert start("run", *steps("deadly"), "--config-set", "orchestration.max_process_deaths=1").code < 0
    outcome = start("resume", "--json")
    (dead,) = outcome.json
    assert (outcome.code, dead["flags"]) == (1, ["dead_lettered"])
    assert call("dead-letters", "replay", dead["run_id"]).code == 0
    outcome = call("dead-letters", "replay", dead["run_id"])
    assert outcome.code == 1
    assert "--again" in outcome.err
    new = call("dead-letters", "replay", dead["run_id"], "--again", "--json").json["run_id"]
    assert call("events", new, "--json").json[0]["event"]["id"].endswith(".replay-2")
    plain = call("run", *PLAIN, "--json").json["run_id"]
    assert call("dead-letters", "replay", plain).code == 1


def test_owner_that_takes_no_orders_is_named(call: Call, waiting: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the process that has the journal does not listen, the command gives up in time and exits 2 with its id."""
    monkeypatch.setattr("agentflow.cli.orders.WAIT_S", 0.1)
    holder = "import fcntl, sys; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, fcntl.LOCK_EX); print('has it', flush=True); sys.stdin.read()"
    lock = str(project / ".agentflow" / "journal.db.lock")
    with subprocess.Popen([sys.executable, "-c", holder, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        outcome = call("runs", "cancel", waiting)
        process.stdin.close()
    assert outcome.code == 2
    assert "is in use by process" in outcome.err


def test_hints_repeat_the_options(call: Call) -> None:
    """The command that comes next leads to the same configuration and journal."""
    run_id = call("run", "agentflow.toml", "--journal", "a b.db", "--json").json["run_id"]
    outcome = call("runs", "approve", run_id, "--config", "agentflow.toml", "--journal", "a b.db")
    assert outcome.out.splitlines()[-1] == f"to go on: agentflow resume {run_id} --config agentflow.toml --journal 'a b.db'"


def seq_of(call: Call, run_id: str, fact: str, position: str) -> str:
    """Return the number of a step's record."""
    rows = call("events", run_id, "--json").json
    return str(next(row["seq"] for row in rows if row["type"] == fact and row["position"] == position))


def test_fork_does_again_what_came_after_a_record(call: Call, project: Path) -> None:
    """`fork --at` is a new run with the steps done until then and the keys that were set; the old run stays as it is."""
    old = call("run", *PLAIN, "--set", "is_failing=true", "--json").json["run_id"]
    before = call("events", old, "--json").json
    seq = seq_of(call, old, "StepCompleted", "0.0")
    outcome = call("runs", "fork", old[:-1], "--at", seq, "--set", "is_failing=false", "--set", 'who={"name": "bo"}', "--json")
    new = outcome.json
    assert (outcome.code, new["status"]) == (0, "completed")
    assert new["state"]["data"] == {"is_failing": False, "who": {"name": "bo"}, "text": "tea", "told": True}
    assert f"{new['run_id']}  forked from {old}\n" in outcome.err
    assert ledger(project) == ["write", "tell", "tell"]
    assert call("events", new["run_id"], "--json").json[0]["forked_from"] == old
    assert call("events", old, "--json").json == before
    assert "sound" in call("runs", "verify").out
    last = str(before[-1]["seq"])
    assert call("runs", "fork", old, "--at", last).code == 1  # as it stood then: its step has failed
    assert ledger(project) == ["write", "tell", "tell"]


def test_fork_of_a_failed_run_begins_again_at_the_failed_step(call: Call, project: Path) -> None:
    """Without `--at` what was done stays done, and the step that failed is made again."""
    old = call("run", *PLAIN, "--set", "is_failing=true", "--json").json["run_id"]
    outcome = call("runs", "fork", old, "--set", "is_failing=false", "--json")
    assert (outcome.code, outcome.json["state"]["data"]) == (0, {"is_failing": False, "text": "tea", "told": True})
    assert ledger(project) == ["write", "tell", "tell"]
    assert "sound" in call("runs", "verify").out


def test_fork_of_a_waiting_run_waits_by_itself(call: Call, waiting: str, project: Path) -> None:
    """A fork that comes to a step for a person exits 3 and names the command that lets it, and not the old run, go on."""
    outcome = call("runs", "fork", waiting, "--json", "--config", "agentflow.toml")
    new = outcome.json["run_id"]
    assert (outcome.code, outcome.json["waiting"]) == (3, ["0.1"])
    assert f"agentflow runs approve {new} 0.1 --continue --config agentflow.toml" in outcome.err
    assert call("runs", "approve", new, "--continue").code == 0
    assert ledger(project) == ["write", "publish", "tell"]
    assert call("runs", "show", waiting, "--json").json["waiting"] == ["0.1"]


def test_fork_walks_the_plan_of_another_file(call: Call, project: Path) -> None:
    """`--plan-from` takes the plan of another configuration; one that does not fit what was done is refused, and nothing begins."""
    old = call("run", *PLAIN, "--json").json["run_id"]
    at = ("--at", seq_of(call, old, "StepCompleted", "0.0"))
    other = CONFIG.replace('["write", "publish", "tell"]', '["write", "tell", "tell"]')
    (project / "other.toml").write_text(other, encoding="utf-8")
    assert call("runs", "fork", old, *at, "--plan-from", "other.toml").code == 0
    assert ledger(project) == ["write", "tell", "tell", "tell"]
    (project / "other.toml").write_text(other.replace('["write", ', '["tell", '), encoding="utf-8")
    outcome = call("runs", "fork", old, *at, "--plan-from", "other.toml")
    assert (outcome.code, outcome.out) == (2, "")
    assert "0.0" in outcome.err
    assert call("runs", "fork", old, "--plan-from", "nowhere.toml").code == 2
    assert len(call("runs", "list", "--json").json) == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [(["--set", "who=bo"], "not JSON"), (["--set", "who"], "KEY=VALUE"), (["--at", "99"], "record 99"), (["--journal", "nowhere.db"], "")],
)
def test_fork_that_cannot_be_asked_for_records_nothing(call: Call, waiting: str, words: list[str], told: str) -> None:
    """A value that is no JSON, a record or a journal that is not there exit 2; no run is recorded."""
    outcome = call("runs", "fork", waiting, *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert told in outcome.err
    assert len(call("runs", "list", "--json").json) == 1


def test_what_only_looks_leaves_a_journal_in_use_alone(call: Call, project: Path) -> None:
    """`--handlers` checks beside the process that has the journal, while `fork` needs its lock; without one, none is made."""
    (project / "agentflow.toml").write_text(CONFIG + '[journal]\nurl = "sqlite:kept.db"\n', encoding="utf-8")
    assert call("validate", "--handlers").code == 0
    assert not (project / "kept.db").exists()
    with running(project, *SLOW) as live:
        for command in ("validate", "plan", "visualize"):
            outcome = call(command, "--handlers")
            assert (outcome.code, outcome.err) == (0, "")
        outcome = call("runs", "fork", live.run_id)
        assert outcome.code == 2
        assert "in use by process" in outcome.err
        (project / "go").touch()
        assert live.end()[0] == 0
    (project / "agentflow.toml").write_text(CONFIG + '[agents.lost]\n[journal]\ndurability = "full"\n', encoding="utf-8")
    assert call("validate", "--handlers", *steps("lost")).code == 2
    assert not (project / ".agentflow").exists()
