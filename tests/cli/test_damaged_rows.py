"""A row of the table of runs that cannot be read, seen from the command line: the others are listed, and go on."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.cli.durable import CONFIG, HANDLERS, ledger


@pytest.fixture
def runs(call: Call, project: Path) -> list[str]:
    """Three runs that wait for a person; the second one's row is damaged."""
    (project / "agentflow.toml").write_text(CONFIG, encoding="utf-8")
    (project / "handlers.py").write_text(HANDLERS, encoding="utf-8")
    for _ in range(3):
        assert call("run", "--quiet").code == 3
    runs = [row["run_id"] for row in reversed(call("runs", "list", "--json").json)]
    with closing(sqlite3.connect(project / ".agentflow" / "journal.db")) as journal, journal:
        journal.execute("UPDATE runs SET waiting = 'garbage' WHERE run_id = ?", (runs[1],))
    return runs


def test_a_damaged_row_is_listed_and_named(runs: list[str], call: Call) -> None:
    """`runs list` shows all runs, the damaged one with the flag `corrupt`, and warns on stderr how to look closer."""
    done = call("runs", "list", "--json")
    assert done.code == 0
    assert [(row["run_id"], row["flags"]) for row in done.json] == [(runs[2], []), (runs[1], ["corrupt"]), (runs[0], [])]
    assert done.err == f"warning: run {runs[1]} is damaged, and nothing goes on with it; what is wrong: agentflow runs verify {runs[1]}\n"
    assert [row["run_id"] for row in call("runs", "list", "--flag", "corrupt", "--json").json] == [runs[1]]
    told = call("runs", "verify", runs[1])
    assert (told.code, told.out) == (1, f"run {runs[1]}: the row of run {runs[1]} cannot be read: waiting\nrun {runs[1]}: 1 problem\n")
    assert call("journal", "verify").out.endswith("3 runs with 15 records: 1 problem\n")
    assert "waiting" in call("runs", "show", runs[1]).err
    assert call("events", runs[1], "--json").json[0]["type"] == "WorkflowCreated"


def test_the_others_go_on(runs: list[str], call: Call, project: Path) -> None:
    """`resume` leaves the damaged run as it is and says so with exit code 1; the others go on."""
    for run in (runs[0], runs[2]):
        assert call("runs", "approve", run).code == 0
    done = call("resume", "--json")
    assert done.code == 1
    assert f"the row of run {runs[1]} cannot be read" in done.err
    assert "Traceback" not in done.err
    assert {row["run_id"]: row["status"] for row in done.json} == {runs[0]: "completed", runs[2]: "completed"}
    assert ledger(project).count("tell") == 2
    with closing(sqlite3.connect(project / ".agentflow" / "journal.db")) as journal:
        row = journal.execute("SELECT waiting, flags, state FROM runs WHERE run_id = ?", (runs[1],)).fetchone()
    assert row == ("garbage", "[]", "paused")
    for words in (("resume", runs[1]), ("runs", "approve", runs[1]), ("runs", "cancel", runs[1])):
        refused = call(*words)
        assert refused.code in (1, 2)
        assert "cannot be read" in refused.err
