"""`agentflow doctor`: each thing that can be wrong is named with what to do, and looking changes nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentflow.cli import doctor
from agentflow.cli.checks import journal as journal_checks
from agentflow.cli.checks import machine
from agentflow.cli.checks import service as service_checks
from agentflow.config.mqtt import MqttConfig
from agentflow.core.records import WorkflowPaused
from agentflow.ingress.readiness import LOW_WATER_BYTES
from agentflow.stores import checkup as checkups
from agentflow.stores.checkup import checkup
from agentflow.stores.sqlite import SqliteStore
from agentflow.system import SystemClock
from tests.cli.durable import CONFIG, HANDLERS, ledger, running, steps
from tests.journals import Writer

Call = Callable[..., Any]
Told = list[dict[str, Any]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose second step waits for a person."""
    (tmp_path / "agentflow.toml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "handlers.py").write_text(HANDLERS, encoding="utf-8")
    return tmp_path


def look(call: Call, *words: str, code: int) -> Told:
    """Return what the doctor finds, but for what is as it should be."""
    outcome = call("doctor", "--json", *words)
    assert code == outcome.code, outcome.out + outcome.err
    return [row for row in outcome.json if row["level"] != "ok" and not row["message"].startswith("SQLite")]


def only(found: Told) -> dict[str, Any]:
    """Return the one finding that there is."""
    (row,) = found
    return row


def write(path: Path, began: float, **row: Any) -> None:
    """Write a journal with one run."""

    async def work() -> None:
        store = SqliteStore(path)
        await store.open()
        await Writer(store, "run-one", began=began).begin(**row)
        await store.close()

    asyncio.run(work())


def test_a_project_that_is_well_has_no_findings_and_is_not_changed(call: Call, project: Path) -> None:
    """Exit 0, every check says ok, and nothing is made: no journal, no token, no folder."""
    before = sorted(project.rglob("*"))
    assert [] == look(call, code=0)
    outcome = call("doctor")
    assert (0, "") == (outcome.code, outcome.err)
    assert outcome.out.splitlines()[-1].startswith("0 problems, ")
    assert before == sorted(project.rglob("*"))


def test_each_mistake_of_the_configuration_is_a_problem(call: Call, project: Path) -> None:
    """With its place and its code; the rest is looked at all the same."""
    with (project / "agentflow.toml").open("a") as file:
        file.write('[agents.tell2]\nrole = 3\n[nonsense]\nx = "y"\n')
    found = look(call, code=1)
    assert {"configuration"} == {row["check"] for row in found}
    assert [True, True] == ["agentflow.toml" in row["message"] and "[AF" in row["message"] for row in found if row["level"] == "problem"]
    assert "journal" in {row["check"] for row in call("doctor", "--json").json}


def test_a_configuration_that_cannot_be_read_hides_the_journal(call: Call, project: Path) -> None:
    """What could not be looked at is said."""
    (project / "agentflow.toml").write_text("[agents", encoding="utf-8")
    found = look(call, code=1)
    assert ["configuration", "journal"] == [row["check"] for row in found]
    assert "not looked at" in found[1]["message"]


def test_bad_usage_exits_2(call: Call, project: Path) -> None:
    """A configuration that is not there is nothing to look at, and an unknown option is none."""
    assert 2 == call("doctor", "--config", "nowhere.toml").code
    assert 2 == call("doctor", "--nonsense").code
    (project / "agentflow.toml").unlink()
    assert 2 == call("doctor").code


def test_handlers_are_imported_only_when_asked_for(call: Call, project: Path) -> None:
    """Importing runs user code, so `--handlers` says so; a handler that is missing is a problem then."""
    (project / "handlers.py").write_text("from pathlib import Path\nPath('imported').touch()\n", encoding="utf-8")
    assert [] == look(call, code=0)
    assert not (project / "imported").exists()
    found = only(look(call, "--handlers", code=1))
    assert (project / "imported").exists()
    assert ("configuration", True) == (found["check"], "write" in found["message"])


def test_a_run_that_waits_is_told_with_since_when_and_whom_it_holds_up(call: Call, project: Path) -> None:
    """Approvals say agent, position and both times; a run behind it in its session is named with the one whose turn it is."""
    for _ in range(2):
        call("run", "--quiet", "--session", "desk\n\x1b[31m")
    waiting, blocked = look(call, code=0)
    first, second = (row["run_id"] for row in reversed(call("runs", "list", "--json").json))
    assert (["runs", "advice", [first]], ["sessions", "advice", [first, second]]) == tuple(
        [row[key] for key in ("check", "level", "run_ids")] for row in (waiting, blocked)
    )
    assert f"run {first} waits for approval of publish at 0.1 since 2" in waiting["message"]
    assert ", until 2" in waiting["message"]
    assert f"agentflow runs approve {first} 0.1" in waiting["help"]
    assert f"holds up 1 run: {second}" in blocked["message"]
    assert f"agentflow runs cancel {first}" in blocked["help"]
    lines = call("doctor").out.splitlines()
    assert [] == [line for line in lines if line and not line.startswith(("ok ", "advice ", "problem ", "  ", "0 problems"))]
    assert "\x1b" not in "".join(lines)


def test_a_run_that_nobody_goes_on_with_is_a_problem(call: Call, project: Path) -> None:
    """After its process was killed; the help line is the command that goes on with it."""
    with running(project, *steps("slow")) as process:
        assert [] == look(call, code=0)
        process.process.kill()
        process.process.communicate()
        found = only(look(call, code=1))
    assert ("runs", "problem", [process.run_id]) == (found["check"], found["level"], found["run_ids"])
    assert "agentflow resume" in found["help"]


def test_a_process_that_leaves_other_runs_alone_is_told(call: Call, project: Path) -> None:
    """`agentflow run` has the journal and goes on with its own run only: what another one left is unfinished."""
    with running(project, *steps("slow")) as dead:
        dead.process.kill()
        dead.process.communicate()
    (project / "ledger").unlink()
    with running(project, *steps("slow")) as process:
        found = only(look(call, code=1))
        (project / "go").touch()
        process.end()
    assert ([dead.run_id], True) == (found["run_ids"], "once that process has ended" in found["help"])


def test_a_process_that_does_not_answer_is_a_problem(call: Call, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the lock and stands still; the doctor does not wait for it for long, and does not blame its runs."""
    monkeypatch.setattr(doctor, "ANSWER_S", 0.2)
    with running(project, *steps("slow")) as process:
        os.kill(process.process.pid, signal.SIGSTOP)
        try:
            found = only(look(call, code=1))
        finally:
            os.kill(process.process.pid, signal.SIGCONT)
        assert ("owner", "problem") == (found["check"], found["level"])
        assert f"process {process.process.pid} has the journal" in found["message"]
        assert ["slow"] == ledger(project)


def test_dead_letters_and_damaged_runs_are_told(call: Call, project: Path) -> None:
    """A dead letter is something to look at, a damaged run a problem."""
    call("run", "--quiet", "--set", "is_failing=true", *steps("tell"))
    found = only(look(call, code=0))
    assert ("dead letters", "advice", "agentflow dead-letters list") == (found["check"], found["level"], found["help"])
    call("run", "--quiet")
    with closing(sqlite3.connect(project / ".agentflow" / "journal.db")) as journal, journal:
        journal.execute("UPDATE runs SET waiting = 'garbage' WHERE state = 'paused'")
    damaged, _ = look(call, code=1)
    assert ("runs", "problem", True) == (damaged["check"], damaged["level"], "damaged" in damaged["message"])


def test_a_run_that_lacks_its_agent_and_one_that_somebody_paused_are_told_apart(call: Call, tmp_path: Path) -> None:
    """The first cannot go on by itself; the second waits for whoever paused it."""
    path = tmp_path / "other.db"
    for run_id, reason in (("run-lacks", "missing_agent: draw"), ("run-held", "operator")):

        async def work(run_id: str = run_id, reason: str = reason) -> None:
            store = SqliteStore(path)
            await store.open()
            writer = await Writer(store, run_id).begin()
            await writer.tell(WorkflowPaused(reason), state="paused", reason=reason)
            await store.close()

        asyncio.run(work())
    lacks, held = look(call, "--journal", str(path), code=1)
    assert ("problem", ["run-lacks"], "advice", ["run-held"]) == (lacks["level"], lacks["run_ids"], held["level"], held["run_ids"])
    assert "since 1970-01-12 13:46:41Z" in held["message"]


def test_a_clock_that_went_back_is_a_problem(call: Call, tmp_path: Path) -> None:
    """Where the journal has a run of later than now, deadlines come late."""
    path = tmp_path / "other.db"
    write(path, SystemClock().time() + 3600)
    found = [row for row in look(call, "--journal", str(path), code=1) if row["check"] == "clock"]
    assert ("problem", True) == (only(found)["level"], "set back" in only(found)["message"])


def test_files_that_others_may_read_are_named_with_the_chmod(call: Call, project: Path) -> None:
    """Also the folder, the token and the marker, each with the mode that it should have."""
    call("run", "--quiet", *steps("write"))
    folder = project / ".agentflow"
    (folder / "token").write_text("0123456789abcdef0123456789abcdef")
    for path, mode in ((folder, 0o755), (folder / "journal.db", 0o644), (folder / "token", 0o640)):
        path.chmod(mode)
    told = {row["help"] for row in look(call, code=1)}
    assert {f"chmod 700 {folder}", f"chmod 600 {folder / 'journal.db'}"} < told
    assert [True] == [advice.startswith(f"chmod 600 {folder / 'token'}, and replace") for advice in told if "token" in advice]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(b"not a database" * 500), "is no SQLite file"),
        (lambda path: path.unlink(), "is gone"),
        (lambda path: _version(path, 99), "schema 99"),
    ],
)
def test_a_journal_that_cannot_be_opened_is_a_problem(call: Call, project: Path, spoil: Callable[[Path], None], said: str) -> None:
    """A foreign file, a journal that is gone while its marker is there, a schema of a later release."""
    call("run", "--quiet", *steps("write"))
    spoil(project / ".agentflow" / "journal.db")
    found = only(look(call, code=1))
    assert ("journal", "problem", True) == (found["check"], found["level"], said in found["message"])
    assert found["help"]


def _version(path: Path, number: int) -> None:
    with closing(sqlite3.connect(path)) as journal:
        journal.execute(f"PRAGMA user_version = {number}")


def test_damaged_pages_are_found_and_a_large_journal_does_not_take_for_ever(
    call: Call, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's quick check says where; when its time is over, that is said instead."""
    call("run", "--quiet", *steps("write"))
    path = project / ".agentflow" / "journal.db"
    with monkeypatch.context() as patched:
        patched.setattr(checkups, "_STEP", 1)
        assert "advice" == journal_checks.integrity(checkup(path), iter(range(10**6)).__next__, 5.0).level
    content = path.read_bytes()
    path.write_bytes(content[:4096] + bytes(b ^ 0xFF for b in content[4096:8192]) + content[8192:])
    levels = {row["check"]: row["level"] for row in look(call, code=1)}
    assert "problem" == levels["integrity"]


def test_a_disk_that_is_nearly_full_is_told(tmp_path: Path) -> None:
    """Below what the service asks for it is a problem, a little above it something to look at; a long log too."""
    write(tmp_path / "journal.db", 0.0)
    seen = checkup(tmp_path / "journal.db")
    levels = {
        room: [row.level for row in journal_checks.file(replace(seen, free_bytes=room)) if row.check == "disk"]
        for room in (LOW_WATER_BYTES - 1, LOW_WATER_BYTES, 2**40)
    }
    assert [["problem"], ["advice"], ["ok"]] == [*levels.values()]
    assert ["advice"] == [row.level for row in journal_checks.file(replace(seen, wal_bytes=2**30)) if "log" in row.message]
    told = [row.message for row in journal_checks.file(replace(seen, is_writable=False, network="nfs")) if row.level == "problem"]
    assert [True, True] == ["cannot be written" in told[0], "network filesystem (nfs)" in told[1]]


def test_the_service_is_told_what_it_lacks(call: Call, project: Path) -> None:
    """An address that others reach without token and TLS, a token that is no good, a certificate that is not there."""
    config = project / "agentflow.toml"
    config.write_text(CONFIG + '[serve]\nhost = "0.0.0.0"\n', encoding="utf-8")
    assert ["address", "address"] == [row["check"] for row in look(call, code=1)]
    config.write_text(CONFIG + '[serve]\ntoken_file = "token"\ntls_cert = "c.pem"\ntls_key = "k.pem"\n', encoding="utf-8")
    assert ["token", "tls"] == [row["check"] for row in look(call, code=1)]
    (project / "token").write_text("short")
    assert "no token of at least" in look(call, code=1)[0]["message"]
    (project / "token").write_text("0123456789abcdef0123456789abcdef")
    (project / "token").chmod(0o644)
    assert ("advice", "tls") == (look(call, code=1)[0]["level"], look(call, code=1)[1]["check"])


def test_secrets_and_the_broker_are_looked_for(call: Call, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that is not there, or lies open, is told without its value; a broker that takes connections is well."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        mqtt = f'[mqtt]\nurl = "mqtt://127.0.0.1:{port}"\nuser = "me"\ntopics = {{ "a/b" = "write" }}\n'
        (project / "agentflow.toml").write_text(CONFIG + mqtt + 'password = { env = "BROKER_PASSWORD" }\n', encoding="utf-8")
        found = only(look(call, code=1))
        assert ("secrets", "mqtt.password: the environment variable BROKER_PASSWORD is not set") == (found["check"], found["message"])
        monkeypatch.setenv("BROKER_PASSWORD", "hunter2-canary")
        assert [] == look(call, code=0)
        (project / "agentflow.toml").write_text(CONFIG + mqtt + 'password = { file = "password" }\n', encoding="utf-8")
        (project / "password").write_text("hunter2-canary")
        (project / "password").chmod(0o644)
        outcome = call("doctor", "--json")
        assert (0, False) == (outcome.code, "hunter2" in outcome.out)
        assert ["secrets"] == [row["check"] for row in outcome.json if row["level"] == "advice" and "secret" in row["message"]]
    (project / "password").chmod(0o600)
    found = only(look(call, code=1))
    assert ("broker", "problem", True) == (found["check"], found["level"], f"127.0.0.1 port {port}" in found["message"])


async def test_a_broker_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that does not come about is given up after some seconds."""

    async def hang(host: str, port: int) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(asyncio, "open_connection", hang)
    config = MqttConfig.model_validate({"url": "mqtt://127.0.0.1", "topics": {"a": "b"}})
    assert "has not answered for 0.05 s" in (await service_checks.broker(config, 0.05)).message


def test_an_extra_that_is_asked_for_and_missing_is_named(call: Call, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it; what nothing asks for is not missed."""
    monkeypatch.setattr(machine, "find_spec", lambda name: None)
    assert [] == look(call, code=0)
    (project / "agentflow.toml").write_text(CONFIG + "[serve]\nport = 0\n", encoding="utf-8")
    found = only(look(call, code=1))
    assert ("extras", "pip install 'agentflow[server]'") == (found["check"], found["help"])


def test_a_journal_in_memory_is_nothing_to_look_at(call: Call, project: Path) -> None:
    """It is gone with its process."""
    (project / "agentflow.toml").write_text(CONFIG + '[journal]\nurl = "memory:"\n', encoding="utf-8")
    assert [] == look(call, code=0)
    assert "kept in memory" in call("doctor").out
