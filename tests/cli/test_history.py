"""The commands that look at recorded runs, and the upkeep of a journal."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentflow.cli import upkeep, watching
from agentflow.core.failure import Failure
from agentflow.core.records import ApprovalRequested, WorkflowFailed, WorkflowPaused
from agentflow.core.rules import Rule
from agentflow.engine.history import History
from agentflow.stores.memory import MemoryStore
from agentflow.stores.sqlite import SqliteStore
from tests.cli.conftest import Call, environment
from tests.journals import BEGAN, Writer, done, retried, started

Work = Callable[[SqliteStore], Awaitable[None]]
Write = Callable[[Work], Path]


@pytest.fixture
def write(project: Path) -> Write:
    """Write into the project's journal; returns where it is."""
    path = project / ".agentflow" / "journal.db"

    def run(work: Work) -> Path:
        async def written() -> None:
            store = SqliteStore(path)
            await store.open()
            try:
                await work(store)
            finally:
                await store.close()

        asyncio.run(written())
        return path

    return run


async def _some_runs(store: SqliteStore) -> None:
    await (await Writer(store, "run-done").begin(data={"n": 1}, session_id="s1")).finish()
    waiting = await Writer(store, "run-waiting", began=BEGAN + 100).begin(started("0.0", "plan"), session_id="s2")
    await waiting.tell(retried("0.0", "plan", due_at=BEGAN))
    asked = ApprovalRequested("0.1.1", "draw", "d1", BEGAN + 200)
    await waiting.tell(started("0.0", "plan", 2), done("0.0", "plan", topic="tea\x1b[31m"), asked)
    pause = WorkflowPaused("approval", ("0.1.1",))
    await waiting.tell(pause, state="paused", reason="approval", waiting=("0.1.1",))
    await Writer(store, "run-behind", began=BEGAN + 300).begin(state="pending", session_id="s2")
    dead = await Writer(store, "run-dead", began=BEGAN + 400).begin(started("0.0", "plan"))
    end = WorkflowFailed("failed", "dead_letter", 1.0, Failure("the process died 3 times", "DeadLetter"), ("dead_lettered",))
    await dead.tell(end, state="failed", status="failed", reason="dead_letter", ended_at=BEGAN + 401, flags=("dead_lettered",))


@pytest.fixture
def journal(write: Write) -> Path:
    """A journal with a run that completed, one that waits, one behind it, and a dead letter."""
    return write(_some_runs)


# --- runs list ---


def test_runs_list_as_json(journal: Path, call: Call) -> None:
    """Each row has the run's id, state, status, pattern, session and times; the newest stands first."""
    rows = call("runs", "list", "--json").json
    assert [row["run_id"] for row in rows] == ["run-dead", "run-behind", "run-waiting", "run-done"]
    told = {
        "run_id": "run-done",
        "state": "completed",
        "status": "completed",
        "reason": "completed",
        "pattern": "mixed",
        "session_id": "s1",
        "started_at": BEGAN,
        "ended_at": BEGAN + 9,
        "flags": [],
        "waiting": [],
    }
    assert told == {key: rows[3][key] for key in told}
    assert (rows[2]["state"], rows[2]["status"], rows[2]["waiting"], rows[0]["flags"]) == ("paused", None, ["0.1.1"], ["dead_lettered"])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--state", "paused"], ["run-waiting"]),
        (["--status", "failed"], ["run-dead"]),
        (["--pattern", "mixed", "--limit", "2"], ["run-dead", "run-behind"]),
        (["--pattern", "loop"], []),
        (["--session", "s1"], ["run-done"]),
        (["--since", "1970-01-12T13:51:40"], ["run-dead", "run-behind"]),
        (["--since", "1970-01-12T13:51:40+00:00"], ["run-dead", "run-behind"]),
        (["--since", "2h"], []),
        (["--since", "99999d"], ["run-dead", "run-behind", "run-waiting", "run-done"]),
        (["--flag", "dead_lettered"], ["run-dead"]),
        (["--blocked", "--limit", "1"], ["run-behind"]),
    ],
)
def test_runs_list_filters(journal: Path, call: Call, options: list[str], expected: list[str]) -> None:
    """Filters narrow the list, all of those given."""
    assert [row["run_id"] for row in call("runs", "list", "--json", *options).json] == expected


def test_runs_list_for_a_person(journal: Path, call: Call) -> None:
    """The table says where each run stands, since when, and what it waits for or is held up by."""
    done = call("runs", "list")
    assert (done.code, done.err) == (0, "")
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0] == ["RUN", "STATE", "PATTERN", "SESSION", "STARTED", "TOOK", "FLAGS", "WAITING"]
    assert lines[3][:3] == ["run-waiting", "paused", "(approval)"]
    assert lines[3][-1] == "0.1.1"
    assert "1970-01-12 13:46:40Z" in done.out
    assert call("runs", "list", "--blocked").out.splitlines()[1].endswith("run-waiting (paused: approval)")
    (behind,) = call("runs", "list", "--blocked", "--json").json
    assert (behind["run_id"], behind["blocked_by"], behind["blocked_by_state"]) == ("run-behind", "run-waiting", "paused")
    assert call("runs", "list", "--pattern", "loop").out == "no runs\n"


@pytest.mark.parametrize(
    ("options", "told"),
    [(["--since", "yesterday"], "AF0601"), (["--state", "dead"], "'dead' is not one of"), (["--limit", "0"], "--limit")],
)
def test_runs_list_refuses_what_it_cannot_read(journal: Path, call: Call, options: list[str], told: str) -> None:
    """An option that cannot be used ends the command with 2 and says why."""
    done = call("runs", "list", *options)
    assert done.code == 2
    assert told in done.err


# --- where the journal is ---


def test_no_journal_yet(call: Call) -> None:
    """Before the first run there is no journal: the commands say so, exit 2, and make none."""
    for words in (["runs", "list"], ["events", "x"], ["journal", "stats"], ["journal", "migrate"], ["runs", "gc"]):
        done = call(*words)
        assert (done.code, done.out) == (2, "")
        assert "there is no journal at" in done.err
    assert not Path(".agentflow").exists()


def test_another_journal(journal: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--journal takes the place of the configuration's, and says all where there is no configuration."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert call("runs", "list", "--config", str(tmp_path), "--json").json
    monkeypatch.chdir(elsewhere)
    assert len(call("runs", "list", "--journal", str(journal), "--json").json) == 4
    assert call("runs", "show", "run-done", "--journal", "../.agentflow/journal.db").code == 0
    assert call("runs", "list").code == 2
    (elsewhere / "agentflow.toml").write_text('[journal]\nurl = "memory:"\n', encoding="utf-8")
    assert "memory:" in call("runs", "list").err
    assert call("runs", "list", "--journal", str(journal)).code == 0


def test_reading_takes_no_lock(journal: Path, call: Call) -> None:
    """While another process writes the journal, every reading command works, and gc says who has it."""

    async def held() -> list[int]:
        store = SqliteStore(journal)
        await store.open()
        try:
            commands = (
                ["runs", "list"],
                ["runs", "show", "run-done"],
                ["events", "run-done"],
                ["trace", "run-done"],
                ["journal", "verify"],
            )
            codes = [await asyncio.to_thread(lambda words=words: call(*words).code) for words in commands]
            return [*codes, await asyncio.to_thread(lambda: call("runs", "gc").code)]
        finally:
            await store.close()

    assert asyncio.run(held()) == [0, 0, 0, 0, 0, 2]


# --- runs show ---


def test_runs_show_as_json(journal: Path, call: Call) -> None:
    """The object has the row, the state, outputs, steps, approvals and usage."""
    shown = call("runs", "show", "run-w", "--json").json
    assert (shown["run_id"], shown["state_name"], shown["status"], shown["reason"]) == ("run-waiting", "paused", None, "approval")
    assert shown["state"]["data"] == {"topic": "tea\x1b[31m"}
    assert [(step["position"], step["status"], step["retry_count"]) for step in shown["steps"]] == [
        ("0.0", "completed", 1),
        ("0.1.1", "waiting", 0),
        ("0.1.0", "pending", 0),
    ]
    assert shown["approvals"] == [{"position": "0.1.1", "agent": "draw", "digest": "d1", "deadline_at": BEGAN + 200}]
    assert (shown["usage"]["calls"], shown["seq"], shown["last_seq"]) == (2, 6, 6)


def test_runs_show_at_a_record(journal: Path, call: Call) -> None:
    """--at shows the state, the steps and where the run stood after that record."""
    shown = call("runs", "show", "run-done", "--at", "2", "--json").json
    assert (shown["state"]["data"], shown["state_name"], shown["seq"], shown["last_seq"]) == ({"n": 1, "topic": "tea"}, "running", 2, 9)
    assert "as it stood after record 2 of 9" in call("runs", "show", "run-done", "--at", "2").out
    done = call("runs", "show", "run-done", "--at", "10")
    assert done.code == 2
    assert "it has the records 0 to 9" in done.err


def test_runs_show_for_a_person(journal: Path, call: Call) -> None:
    """A person reads where it stands, the state, the steps and what waits until when; nothing moves the cursor."""
    out = call("runs", "show", "run-waiting").out
    assert out.startswith("paused (approval)  mixed  run-waiting\nstarted 1970-01-12 13:48:20Z, session s2; 2 calls, 2 tokens\n")
    assert "waits for approval until 1970-01-12 13:50:00Z: 0.1.1  draw  d1" in out
    assert "\x1b" not in out
    assert "  0.0       plan   completed  1         500.0 ms" in out
    dead = call("runs", "show", "run-dead").out
    assert "flags: dead_lettered\nerror: DeadLetter: the process died 3 times" in dead
    assert "ended 1970-01-12" in dead


def test_runs_show_before_the_first_step(write: Write, call: Call) -> None:
    """A run whose event hooks have not answered yet has no steps."""

    async def work(store: SqliteStore) -> None:
        await Writer(store, "run-1").begin(is_hooked=True, data={"n": 1})

    write(work)
    assert call("runs", "show", "run-1").out.endswith("0 calls, 0 tokens\nstate\n  n = 1\n")


@pytest.mark.parametrize(
    "words", [["runs", "show"], ["events"], ["trace"], ["runs", "watch"], ["runs", "verify"], ["dead-letters", "show"]]
)
def test_an_unknown_run(journal: Path, call: Call, words: list[str]) -> None:
    """A run that is not there, and a beginning that several have, exit 2 and say so."""
    for name, told in (("nowhere", "no run 'nowhere' in sqlite:"), ("run-d", "run-dead, run-done begin so")):
        done = call(*words, name)
        assert (done.code, done.out) == (2, "")
        assert told in done.err


# --- events, watch, trace ---


def test_events(journal: Path, call: Call) -> None:
    """Every record stands on a line with its number and time; as JSON with all it says."""
    lines = call("events", "run-waiting").out.splitlines()
    assert len(lines) == 7
    assert lines[2].split() == [
        "2",
        "+2.000",
        "s",
        "0.0",
        "plan",
        "attempt",
        "1",
        "failed,",
        "again",
        "in",
        "2.00",
        "s:",
        "OSError:",
        "busy",
    ]
    rows = call("events", "run-waiting", "--json").json
    assert [row["seq"] for row in rows] == list(range(7))
    assert (rows[4]["type"], rows[4]["patch"], rows[5]["digest"]) == ("StepCompleted", {"data": {"topic": "tea\x1b[31m"}}, "d1")


def test_events_of_a_run_that_has_ended_are_not_followed_for_ever(journal: Path, call: Call) -> None:
    """Following a run that has ended prints its records, one object a line with --json, and ends."""
    assert len(call("events", "run-done", "--follow").out.splitlines()) == 10
    rows = call("events", "run-done", "-f", "--json").rows
    assert rows[-1]["type"] == "WorkflowCompleted"
    assert call("runs", "watch", "run-done").code == 0
    assert call("runs", "watch", "run-dead", "--json").code == 1


def test_following_a_run_that_goes_on(write: Write, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another one writes meanwhile is printed when it comes, until the run ends."""
    monkeypatch.setattr(watching, "POLL_S", 0.01)

    is_waiting = threading.Event()
    events = History.events

    async def watched(history: History, run_id: str, start: int = 0) -> list[Any]:
        found = await events(history, run_id, start)
        if not found:
            is_waiting.set()
        return found

    monkeypatch.setattr(History, "events", watched)

    async def work(store: SqliteStore) -> None:
        writer = await Writer(store, "run-1").begin()
        followed = asyncio.create_task(asyncio.to_thread(call, "events", "run-1", "--follow", "--json"))
        assert await asyncio.to_thread(is_waiting.wait, 10)
        await writer.finish()
        assert [row["seq"] for row in (await followed).rows] == list(range(10))

    write(work)


async def test_watching_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is open is told first, then each run that is new or changes, also one that began and ended in between; none twice."""
    monkeypatch.setattr(watching, "POLL_S", 0.0)
    monkeypatch.setattr(watching, "NEWEST", 2)
    store = MemoryStore()
    await store.open()
    old = await Writer(store, "run-1").begin()
    gone = await Writer(store, "run-2").begin()
    await (await Writer(store, "run-3").begin()).finish()
    history = History(store, Rule, lambda reference: lambda before, values: before)
    found = watching.changes(history)
    assert [(await anext(found)).run_id for _ in range(2)] == ["run-1", "run-2"]
    await (await Writer(store, "run-4").begin()).finish()
    await (await Writer(store, "run-5").begin()).finish()
    assert [(row.run_id, row.status) for row in [await anext(found) for _ in range(2)]] == [("run-4", "completed"), ("run-5", "completed")]
    await old.finish()
    assert [(row.run_id, row.status) for row in [await anext(found)]] == [("run-1", "completed")]
    await gone.finish()
    await store.delete(["run-2"])
    await Writer(store, "run-6").begin()
    assert (await anext(found)).run_id == "run-6"
    await found.aclose()


def test_watching_ends_with_ctrl_c(journal: Path, project: Path) -> None:
    """`runs watch` alone prints what is open and goes on until it is interrupted."""
    command = [sys.executable, "-m", "agentflow", "runs", "watch", "--json"]
    process = subprocess.Popen(
        command,
        cwd=project,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # whoever runs the tests may have it ignored, e.g. nohup
    )
    assert process.stdout is not None
    rows = [json.loads(process.stdout.readline()) for _ in range(2)]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert ([row["run_id"] for row in rows], process.returncode, out, err) == (["run-waiting", "run-behind"], 130, "", "")


def test_watching_for_a_person(journal: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line names the run, its mode and where it stands."""

    async def two(history: Any) -> Any:
        for name in ("run-waiting", "run-done"):
            yield await history.find(name)

    monkeypatch.setattr(watching, "changes", two)
    assert call("runs", "watch").out == "run-waiting  mixed  paused (approval)\nrun-done  mixed  completed\n"


def test_trace(journal: Path, call: Call) -> None:
    """The table has each attempt with its start, end and how long it took; --agent narrows it."""
    lines = [line.split() for line in call("trace", "run-waiting").out.splitlines()]
    assert lines[0] == ["SEQ", "START", "POSITION", "AGENT", "ATTEMPT", "OUTCOME", "TOOK", "WHAT"]
    assert lines[1] == ["1", "+1.000", "s", "0.0", "plan", "1", "retried", "1.00", "s", "OSError:", "busy"]
    assert lines[2][:7] == ["3", "+3.000", "s", "0.0", "plan", "2", "completed"]
    rows = call("trace", "run-done", "--json").json
    assert [(row["agent"], row["outcome"], row["duration_seconds"], row["keys"]) for row in rows] == [
        ("plan", "completed", 0.5, ["topic"]),
        ("write", "completed", 0.5, ["text"]),
        ("draw", "completed", 0.5, ["image"]),
        ("check", "completed", 0.5, ["ok"]),
    ]
    assert [row["agent"] for row in call("trace", "run-done", "--json", "--agent", "draw").json] == ["draw"]


def test_trace_of_the_flow_only(journal: Path, call: Call) -> None:
    """--flow-only tells which way the run went, and no times."""
    assert call("trace", "run-done", "--flow-only").out == "0.0    plan\n0.1.0  write\n0.1.1  draw\n0.2    check\n"
    assert call("trace", "run-done", "--flow-only", "--json", "--agent", "draw").json == [{"position": "0.1.1", "name": "draw"}]
    assert call("trace", "run-behind", "--flow-only").out == "\n"


def test_trace_as_a_sequence_diagram(journal: Path, call: Call) -> None:
    """--sequence prints Mermaid."""
    out = call("trace", "run-done", "--sequence").out
    assert out.startswith("sequenceDiagram\n    participant run as mixed\n")
    assert call("trace", "run-done", "--sequence", "--json").json == {"diagram": out}
    assert "participant agent0 as draw" in call("trace", "run-done", "--sequence", "--agent", "draw").out


# --- dead letters ---


def test_dead_letters(journal: Path, call: Call) -> None:
    """Dead letters are listed, and shown with their event and history; another run is none."""
    assert [row["run_id"] for row in call("dead-letters", "list", "--json").json] == ["run-dead"]
    shown = call("dead-letters", "show", "run-dead", "--json").json
    assert (shown["flags"], shown["event"]["id"], len(shown["records"])) == (["dead_lettered"], "event-run-dead", 3)
    out = call("dead-letters", "show", "run-dead").out
    assert 'event: {"id":"event-run-dead"' in out
    assert out.splitlines()[-1].endswith("failed (dead_letter) in 1.00 s")
    done = call("dead-letters", "show", "run-done")
    assert done.code == 2
    assert "is no dead letter" in done.err


# --- upkeep ---


def test_verifying_a_sound_journal(journal: Path, call: Call) -> None:
    """A sound journal exits 0 and says how much was looked at."""
    assert call("journal", "verify").out == "4 runs with 21 records: sound\n"
    assert call("runs", "verify", "--json").json == {"runs": 4, "records": 21, "problems": []}
    assert call("runs", "verify", "run-done").out == "run run-done: sound\n"


def test_verifying_a_damaged_journal(journal: Path, call: Call) -> None:
    """Damage exits 1 and names run and record; a run that is not hit is sound."""
    with closing(sqlite3.connect(journal)) as connection, connection:
        connection.execute("UPDATE records SET body = CAST('{}' AS BLOB) WHERE key = ?", ((1 << 24) + 2,))
    done = call("journal", "verify")
    assert done.code == 1
    assert done.out.splitlines() == [
        "run run-done, record 2: does not have the checksum it was written with",
        "4 runs with 21 records: 1 problem",
    ]
    told = call("runs", "verify", "run-done", "--json")
    assert (told.code, told.json["run_id"], told.json["problems"][0]["seq"]) == (1, "run-done", 2)
    assert call("runs", "verify", "run-waiting").code == 0
    assert call("runs", "show", "run-waiting").code == 0
    assert "record 2" in call("runs", "show", "run-done").err


def test_backup(journal: Path, call: Call, tmp_path: Path) -> None:
    """A backup is a journal that verifies, and never replaces a file."""
    copy = tmp_path / "copy.db"
    assert call("journal", "backup", str(copy)).out == f"wrote {copy}\n"
    assert call("journal", "verify", "--journal", str(copy)).out == "4 runs with 21 records: sound\n"
    assert copy.stat().st_mode & 0o777 == 0o600
    again = call("journal", "backup", str(copy))
    assert again.code == 2
    assert "exists" in again.err
    assert call("journal", "backup", str(tmp_path / "other.db"), "--json").json == {"path": str(tmp_path / "other.db")}


def test_migrate(journal: Path, call: Call) -> None:
    """A journal of this release is up to date; one of a later release is refused; an older one is brought up to date."""
    assert call("journal", "migrate").out == f"sqlite:{journal} is up to date\n"
    assert call("journal", "migrate", "--json").json == {"url": f"sqlite:{journal}", "is_migrated": False, "from_schema": None}
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("PRAGMA user_version = 99")
    done = call("journal", "migrate")
    assert done.code == 2
    assert "AF0703" in done.err


def test_migrating_an_older_journal(journal: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older journal is migrated, and the copy of before is named."""
    from agentflow.stores import journal_file, migrations

    newer = [*migrations.scripts(), "CREATE TABLE extra (x);\nPRAGMA user_version = 2;\n"]
    monkeypatch.setattr(journal_file, "scripts", lambda: newer)
    monkeypatch.setattr(migrations, "scripts", lambda: newer)
    assert "AF0703" in call("runs", "list").err
    assert call("journal", "migrate").out == f"sqlite:{journal} is up to date now; its copy of before: {journal}.schema-1\n"
    assert Path(f"{journal}.schema-1").exists()
    assert call("runs", "list").code == 0


def test_stats(journal: Path, call: Call) -> None:
    """Stats count runs by state, records and bytes."""
    told = call("journal", "stats", "--json").json
    assert told["bytes"] > 0
    assert {key: told[key] for key in ("url", "durability", "runs", "records", "completed", "paused", "running")} == {
        "url": f"sqlite:{journal}",
        "durability": "full",
        "runs": 4,
        "records": 21,
        "completed": 1,
        "paused": 1,
        "running": 0,
    }
    lines = call("journal", "stats").out.splitlines()
    assert lines[1] == "4 runs: 1 completed, 1 failed, 1 paused, 1 pending"
    assert lines[2].startswith("21 records, ")


def test_gc(journal: Path, call: Call, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """gc deletes what ended before retention_days, with --dry-run it only says so; dead letters and open runs stay."""
    dry = call("runs", "gc", "--dry-run")
    assert dry.out.splitlines()[0] == "run-done"
    assert dry.out.splitlines()[1].startswith("would delete 1 run that ended before 20")
    assert len(call("runs", "list", "--json").json) == 4
    told = call("runs", "gc", "--json").json
    assert (told["run_ids"], told["deleted"], told["is_dry_run"]) == (["run-done"], 1, False)
    assert [row["run_id"] for row in call("runs", "list", "--json").json] == ["run-dead", "run-behind", "run-waiting"]
    assert call("runs", "gc").out.startswith("deleted 0 runs")
    assert call("journal", "verify").code == 0


def test_gc_keeps_as_long_as_the_configuration_says(journal: Path, call: Call, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """retention_days of [journal] is how long ended runs are kept."""

    class Then:
        def time(self) -> float:
            return BEGAN + 9 + 2.5 * upkeep.DAY_S

    monkeypatch.setattr(upkeep, "SystemClock", Then)
    config = (project / "agentflow.toml").read_text(encoding="utf-8")
    for days, expected in ((3, []), (2, ["run-done"])):
        (project / "agentflow.toml").write_text(f"[journal]\nretention_days = {days}\n{config}", encoding="utf-8")
        assert call("runs", "gc", "--dry-run", "--json").json["run_ids"] == expected


def test_a_merge_function_is_taken_from_the_configuration(write: Write, call: Call, project: Path) -> None:
    """A plan that merges with user code is replayed with that code; what its import prints goes to stderr."""
    from agentflow.core.merge import Merge
    from agentflow.core.plan import Call as Step
    from agentflow.core.plan import Flow, Par

    (project / "merging.py").write_text("print('imported')\ndef add(before, values):\n    return sum(values)\n", encoding="utf-8")
    merge = Merge("ordered", {"n": "merging:add"}, {"merging:add": lambda before, values: before})
    plan = Par((Step("a"), Step("b")), merge=merge, flow=Flow("main", "collaborative"))

    async def work(store: SqliteStore) -> None:
        writer = await Writer(store, "run-1", plan=plan).begin(started("0.0", "a"), started("0.1", "b"))
        await writer.tell(done("0.0", "a", n=2), done("0.1", "b", n=3))

    journal = write(work)
    shown = call("runs", "show", "run-1", "--json")
    assert (shown.json["state"]["data"], shown.err) == ({"n": 5}, "imported\n")
    (project / "agentflow.toml").rename(project / "other.toml")
    alone = call("runs", "show", "run-1", "--journal", str(journal))
    assert (alone.code, "add --config FILE" in alone.err) == (2, True)
