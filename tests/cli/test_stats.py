"""`agentflow stats`: what is recorded, counted; and how the process that runs the project stands."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentflow import Event, Runner
from agentflow.core.failure import Failure
from agentflow.core.records import StepAbandoned, WorkflowFailed
from agentflow.stores.sqlite import SqliteStore
from tests.cli.durable import CONFIG, HANDLERS, running, steps
from tests.journals import BEGAN, Writer, failed, retried, started

Call = Callable[..., Any]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose handler may be held up."""
    (tmp_path / "agentflow.toml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "handlers.py").write_text(HANDLERS, encoding="utf-8")
    return tmp_path


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal with a run that completed, one that goes on, and one that failed a week later."""
    path = tmp_path / "other.db"

    async def write() -> None:
        store = SqliteStore(path)
        await store.open()
        await (await Writer(store, "run-done").begin()).finish()
        await Writer(store, "run-open").begin(started("0.0", "plan"))
        late = await Writer(store, "run-late", began=BEGAN + 7 * 86_400).begin(started("0.0", "plan"))
        await late.tell(
            retried("0.0", "plan"),
            started("0.0", "plan", 2),
            StepAbandoned("0.0", "plan"),
            failed("0.0", "plan"),
            WorkflowFailed("failed", "error", 4.0, Failure("no", "ValueError"), ("dead_lettered",)),
            state="failed",
            status="failed",
            flags=("dead_lettered",),
        )
        await store.close()

    asyncio.run(write())
    return path


def test_all_that_is_recorded_is_counted(journal: Path, call: Call) -> None:
    """Events by outcome and mode, calls by agent, latencies and usage, as JSON; exit 0."""
    outcome = call("stats", "--journal", str(journal), "--json")
    told = outcome.json
    assert (0, f"sqlite:{journal}", None, None, []) == (outcome.code, told["journal"], told["since"], told["live"], told["unread"])
    assert {"completed": 1, "failed": 1, "running": 1} == told["runs"]
    assert {"accepted": 3, "completed": 1, "failed": 1, "dead_lettered": 1} == {name: n for name, n in told["events"].items() if n}
    assert told["events"] == told["patterns"]["mixed"]
    assert (2, 8.0) == (told["latency_seconds"]["count"], told["latency_seconds"]["max"])
    plan = told["agents"]["plan"]
    assert (4, 1, 1, 1, 1, 0.5) == tuple(plan[name] for name in ("calls", "completed", "failed", "retries", "abandoned", "success_rate"))
    assert {"plan", "write", "draw", "check"} == set(told["agents"])
    assert 8 == told["usage"]["total_tokens"]


def test_since_counts_only_runs_that_were_started_since(journal: Path, call: Call) -> None:
    """As `runs list --since` does; a time that is none is refused."""
    told = call("stats", "--journal", str(journal), "--since", "1970-01-14", "--json").json
    assert (1, 1, {"failed": 1}) == (told["events"]["accepted"], told["events"]["failed"], told["runs"])
    wrong = call("stats", "--journal", str(journal), "--since", "soon")
    assert (2, True) == (wrong.code, "is no time" in wrong.err)


def test_a_person_reads_a_line_of_events_and_a_row_for_each_agent(journal: Path, call: Call) -> None:
    """Without a process that has the journal nothing is said of the present."""
    lines = call("stats", "--journal", str(journal)).out.splitlines()
    assert "3 events accepted: 1 completed, 1 failed, 1 dead lettered; 1 open" == lines[0]
    assert lines[1].startswith("latency: p50 4")
    (row,) = [line for line in lines if line.startswith("plan ")]
    assert ["plan", "4", "1", "1", "1", "0", "1", "50.0%"] == row.split()[:8]
    assert [] == [line for line in lines if line.startswith("now:")]


def test_an_empty_journal_has_figures_of_nothing(call: Call, tmp_path: Path) -> None:
    """A journal that is missing is an error, as for all who read."""

    async def make() -> None:
        store = SqliteStore(tmp_path / "empty.db")
        await store.open()
        await store.close()

    asyncio.run(make())
    assert "0 events accepted: none has ended; 0 open\n" == call("stats", "--journal", str(tmp_path / "empty.db")).out
    assert 2 == call("stats", "--journal", str(tmp_path / "missing.db")).code


def test_a_run_that_cannot_be_read_is_left_out_and_told(journal: Path, call: Call) -> None:
    """The others are counted all the same, and the exit code is 0."""
    with closing(sqlite3.connect(journal)) as connection, connection:
        connection.execute("UPDATE records SET body = x'00' WHERE key = (SELECT max(key) FROM records)")
    outcome = call("stats", "--journal", str(journal), "--json")
    assert (0, 1, 2) == (outcome.code, len(outcome.json["unread"]), outcome.json["events"]["accepted"])
    assert "1 run cannot be read" in outcome.err


def test_the_process_that_has_the_journal_tells_how_it_stands(project: Path, call: Call) -> None:
    """Over its control socket: open runs, queue, breakers, pools, budgets, and what only its log was told of."""
    (project / "agentflow.toml").write_text(f"{CONFIG}\n[workers.slow]\ncount = 2\n", encoding="utf-8")
    with running(project, *steps("write", "slow")) as process:
        live = call("stats", "--json").json["live"]
        lines = call("stats").out.splitlines()
        (project / "go").touch()
        process.end()
    assert ({"open": 1, "running": 1, "paused": 0, "queued": 0}, 0) == (live["runs"], live["queue_depth"])
    assert [("slow", 1)] == [(pool["specialty"], pool["busy"]) for pool in live["workers"]]
    assert {"open_breakers": [], "budgets": [], "warnings": {}}.items() <= live.items()
    assert "now: 1 running, 0 paused, 0 queued" in lines
    assert "workers of slow: 1 busy, 1 idle, 0 failed, 0 waiting" in lines
    assert None is call("stats", "--json").json["live"]


async def answer(event: Event, state: Any) -> None:
    """Do nothing."""


async def fail(event: Event, state: Any) -> None:
    """Fail."""
    raise ValueError("no")


def test_open_breakers_of_the_process_are_named(project: Path, call: Call) -> None:
    """With what is left until a probe is let through; many agents make no difference to the answer's way."""
    agents = {f"agent-{number}-{'x' * 40}": {"circuit_breaker": {}} for number in range(700)}
    tables = agents | {"bad": {"circuit_breaker": {"failure_threshold": 1, "reset_seconds": 60}}}
    journal = project / ".agentflow" / "journal.db"
    told: list[str] = []

    async def go() -> None:
        runner = Runner.from_dict({"agents": tables, "journal": {"url": f"sqlite:{journal}"}}, environ={})
        runner.register_agent("bad", fail)
        for name in agents:
            runner.register_agent(name, answer)
        async with runner:
            await runner.run(Event("bad"))
            told.append(await asyncio.to_thread(lambda: call("stats").out))

    asyncio.run(go())
    (line,) = [line for line in told[0].splitlines() if line.startswith("circuit of")]
    assert re.fullmatch(r"circuit of bad: open after 1 failures, [56]\d\.\d s left", line)


def test_what_is_told_of_the_present_is_plain_json(project: Path, call: Call) -> None:
    """It goes over a socket as one line."""
    with running(project, *steps("slow")):
        live = call("stats", "--json").json["live"]
    assert live == json.loads(json.dumps(live))
