"""Failure policies on the command line: exit codes, what is shown of them, and dead letters from the list to the replay."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]

CONFIG = """
[agent_flow]
name = "desk"
entrypoint = "handlers"

[orchestration]
mode = "route"

[flows.pair]
mode = "collaborative"
collaborative_agents = ["good", "also"]

[agents.good]
[agents.also]
[agents.ill]
[agents.covered]
fallback = ["ill"]
default_output = { text = "none" }
[agents.served]
fallback = ["good"]
"""

HANDLERS = """
from pathlib import Path

from agentflow import agent


@agent("good")
async def good(event, state, ctx):
    ctx.record_usage(tokens=7)
    return {"good": True}


@agent("also")
async def also(event, state):
    return {"also": True}


@agent("ill")
async def ill(event, state):
    if Path("cured").exists():
        return {"cured": True}
    raise ConnectionError("refused")


@agent("covered")
async def covered(event, state):
    return await ill(event, state)


@agent("served")
async def served(event, state):
    return await ill(event, state)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with agents that fail."""
    (tmp_path / "agentflow.toml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "handlers.py").write_text(HANDLERS, encoding="utf-8")
    return tmp_path


def types(call: Call, run_id: str) -> list[str]:
    return [record["type"] for record in call("events", run_id, "--json").json]


PAIR = ("--config-set", "orchestration.mode=collaborative", "--config-set", 'orchestration.collaborative_agents=["good", "also"]')


def test_a_run_that_uses_up_its_budget_exits_with_4(call: Call) -> None:
    """One of two agents runs, its result is kept, the run is failed for its budget, and the records say which limit."""
    outcome = call("run", "--json", *PAIR, "--config-set", "orchestration.budget={ calls = 1 }")
    assert outcome.code == 4
    run = outcome.json
    assert (run["status"], run["reason"], run["error"]["code"]) == ("failed", "budget", "budget")
    assert run["state"]["data"] == {"good": True}
    (exhausted,) = [record for record in call("events", run["run_id"], "--json").json if record["type"] == "BudgetExhausted"]
    assert (exhausted["scope"], exhausted["figure"], exhausted["limit"]) == ("", "calls", 1)
    assert "budget" in call("runs", "show", run["run_id"]).out
    assert call("explain", "budget").code == 0
    assert call("run", *PAIR, "--config-set", "orchestration.budget={ calls = 2 }").code == 0


def test_the_bound_on_attempts_is_a_key_and_has_an_explanation(call: Call) -> None:
    """It ends what would be tried again, with exit code 1."""
    many = ("--config-set", "orchestration.max_total_attempts=2", "--config-set", "orchestration.retry_attempts=50")
    at_once = ("--config-set", "orchestration.retry={ initial_delay_seconds = 0.001, max_delay_seconds = 0.001 }")
    outcome = call("run", "--target", "ill", "--json", *many, *at_once)
    assert (outcome.code, outcome.json["reason"], outcome.json["error"]["attempts"]) == (1, "attempt_limit", 3)
    assert "refused" in outcome.json["error"]["message"]
    assert call("explain", "attempt_limit").code == 0


def test_a_degraded_run_exits_with_0_and_says_so(call: Call) -> None:
    """The mark is in the result, in the list and in the records; the error that was covered is kept."""
    outcome = call("run", "--target", "covered", "--json")
    run = outcome.json
    assert (outcome.code, run["status"], run["reason"], run["flags"]) == (0, "completed", "degraded", ["degraded"])
    assert (run["error"], run["errors"]["covered"]["code"]) == (None, "ConnectionError")
    assert [row["run_id"] for row in call("runs", "list", "--flag", "degraded", "--json").json] == [run["run_id"]]
    told = types(call, run["run_id"])
    assert [told.count(name) for name in ("FallbackTaken", "StepDegraded", "StepCompleted", "StepFailed")] == [1, 1, 1, 0]
    assert call("dead-letters", "list", "--json").json == []


def test_a_fallback_leaves_a_run_whole(call: Call) -> None:
    """It completes without a mark, and the records say who stood in."""
    outcome = call("run", "--target", "served", "--json")
    assert (outcome.code, outcome.json["reason"], outcome.json["flags"]) == (0, "completed", [])
    (taken,) = [record for record in call("events", outcome.json["run_id"], "--json").json if record["type"] == "FallbackTaken"]
    assert (taken["agent"], taken["to"], taken["failure"]["message"]) == ("served", "good", "refused")


def test_a_dead_letter_is_listed_shown_and_replayed(call: Call, project: Path) -> None:
    """What failed and nobody handled is kept with its event; a replay of it, once its cause is cured, is a run of its own."""
    run_id = call("run", "--target", "ill", "--data", '{"n": 1}', "--json").json["run_id"]
    assert call("run", "--target", "good").code == 0
    (letter,) = call("dead-letters", "list", "--json").json
    assert (letter["run_id"], letter["flags"], letter["status"]) == (run_id, ["dead_lettered"], "failed")
    assert run_id in call("dead-letters", "list").out
    shown = call("dead-letters", "show", run_id)
    assert shown.code == 0
    assert "refused" in shown.out
    (project / "cured").touch()
    assert call("dead-letters", "replay", run_id).code == 0
    assert call("resume").code == 0
    rows = call("runs", "list", "--json").json
    again = json.loads(json.dumps(next(row for row in rows if row["event_id"].endswith("replay-1"))))
    assert (again["status"], again["flags"]) == ("completed", [])
    assert [row["run_id"] for row in call("dead-letters", "list", "--json").json] == [run_id]


def test_fallbacks_are_seen_as_they_happen(call: Call) -> None:
    """The lines on stderr, and the trace, say which agent takes another one's place."""
    outcome = call("run", "--target", "served")
    assert "served  attempt 1 failed, good takes its place: ConnectionError: refused" in outcome.err
    assert "its default output is the answer" in call("run", "--target", "covered").err
    run_id = call("runs", "list", "--json").json[1]["run_id"]
    told = call("trace", run_id).out
    assert ["served", "good"] == [row["agent"] for row in call("trace", run_id, "--json").json]
    assert "replaced" in told


def test_a_command_leaves_the_threads_of_others_alone(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that was there before the command began, e.g. another runner's, does not make it end the process."""
    left: list[int] = []
    monkeypatch.setattr("agentflow.cli.terminal.leave", left.append)
    release = threading.Event()
    other = threading.Thread(target=release.wait, name="agentflow_0")
    other.start()
    try:
        assert (call("run", "--target", "good").code, left) == (0, [])
    finally:
        release.set()
        other.join()
