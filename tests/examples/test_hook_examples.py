"""What is built around the agents: errors, breakers, measures, traces, limits, and tools to find faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]


def test_collaborative_error_hook_marks_and_goes_on(run_cli: Run) -> None:
    """The hook recovers the failed agent with a state that says so; the others' answers count."""
    outcome = run_cli("examples/hooks_error_handling/collaborative.toml")
    assert (outcome.code, outcome.result["status"]) == (0, "completed"), outcome.stderr
    assert outcome.data == {"steady_done": True}
    assert outcome.meta == {"fragile_failed": "true", "fragile_error": "the price service does not answer"}


def test_sequential_error_hook_stops_with_the_stage(run_cli: Run) -> None:
    """The pipeline stops; error and final state name the stage, and later stages do not run."""
    outcome = run_cli("examples/hooks_error_handling/sequential.toml")
    assert (outcome.code, outcome.result["status"]) == (1, "failed"), outcome.stderr
    assert outcome.result["error"]["message"] == "pipeline failed at stage fragile: the price service does not answer"
    assert outcome.result["error"]["type"] == "PipelineFailed"
    assert outcome.data == {"steady_done": True, "pipeline_failed": True, "failed_stage": "fragile"}


@pytest.mark.parametrize(("rounds_to_fail", "code", "retries"), [(0, 0, None), (2, 0, 2), (3, 0, 3), (9, 1, 3)])
def test_loop_error_hook_retries_three_times(run_cli: Run, rounds_to_fail: int, code: int, retries: int | None) -> None:
    """A failed round is tried again in the next one, three times at most."""
    outcome = run_cli("examples/hooks_error_handling/loop.toml", "--set", f"rounds_to_fail={rounds_to_fail}")
    assert outcome.code == code, outcome.stderr
    assert outcome.data.get("retry_count") == retries
    if code == 0:
        assert (outcome.result["reason"], outcome.data["price"]) == ("condition_met", 42)
    else:
        assert outcome.result["error"]["message"].startswith("loop failed after 3 retries: round 3")


def test_circuit_opens_for_the_events_of_one_run(run_cli: Run) -> None:
    """After three failures the agent is not called any more, though it would answer again."""
    outcome = run_cli("examples/circuit_breaker", "--event", "examples/circuit_breaker/events.jsonl")
    results = outcome.result
    assert [result["status"] for result in results] == ["completed", "failed", "failed", "failed", "failed"]
    assert results[3]["error"]["type"] == "ConnectionError"
    assert (results[4]["error"]["type"], results[4]["error"]["message"]) == ("CircuitOpenError", "circuit breaker is open")


def test_circuit_opens_half_opens_and_closes(run_python: Run) -> None:
    """Open for thirty seconds, then on trial, then closed after two successes."""
    outcome = run_python("examples/circuit_breaker/main.py")
    assert [line.split()[-1] for line in outcome.stdout.splitlines()] == [
        "closed",
        "closed",
        "closed",
        "open",
        "open",
        "half-open",
        "closed",
        "closed",
    ], outcome.stderr
    assert outcome.stdout.count("circuit breaker is open") == 1


def test_metrics_of_one_event(run_cli: Run) -> None:
    """The counters' hooks write into the result which agents took part and how long each took."""
    outcome = run_cli("examples/metrics", "--set", 'text="12.5"')
    assert outcome.meta["parser_participated"] == outcome.meta["checker_participated"] == "true", outcome.stderr
    assert outcome.meta["parser_duration"].endswith("ms")
    assert outcome.meta["events_processed"] == "1"


def test_metrics_of_many_events(run_python: Run) -> None:
    """Runs, errors and success rates are counted exactly."""
    outcome = run_python("examples/metrics/main.py")
    assert outcome.stdout.splitlines() == [
        "events 5, patterns {'collaborative': 5}",
        "checker: runs 5, errors 0, success rate 100%",
        "parser: runs 5, errors 1, success rate 80%",
    ], outcome.stderr


def test_tracing(run_cli: Run) -> None:
    """One trace id for the event, a span id for every agent, nested ones too; each span that starts also ends."""
    outcome = run_cli("examples/tracing")
    records = [json.loads(line) for line in outcome.stderr.splitlines() if line.startswith('{"message"')]
    assert {record["trace_id"] for record in records} == {outcome.meta["trace_id"]}
    started = {record["agent"]: record["span_id"] for record in records if record["message"] == "agent span started"}
    ended = {record["agent"]: record["span_id"] for record in records if record["message"] == "agent span completed"}
    assert started == ended
    assert started == {name: outcome.meta[f"{name}_span_id"] for name in ("collector", "left", "right")}
    assert len(set(started.values())) == 3


def test_slow_agent_is_stopped(run_cli: Run) -> None:
    """An agent over its own time fails with a timeout, and the quick one's answer counts."""
    outcome = run_cli("examples/timeouts")
    assert (outcome.code, outcome.result["status"]) == (0, "partial"), outcome.stderr
    assert outcome.result["errors"]["slow"]["code"] == "timeout"
    assert outcome.data == {"answered": True}


def test_event_may_shorten_the_time_of_its_agents(run_cli: Run) -> None:
    """`agent_timeout` in the metadata shortens every step's time; a step that answers in time is not touched."""
    outcome = run_cli("examples/timeouts/whole_event.toml", "--meta", "agent_timeout=0.05")
    assert outcome.result["error"]["agent"] == "slow", outcome.stderr
    assert outcome.result["error"]["code"] == "timeout"
    assert outcome.result["status"] == "timed_out"


def test_whole_event_has_a_deadline(run_cli: Run) -> None:
    """Past the flow's time the run ends as timed out (exit 5), with what was done until then."""
    outcome = run_cli("examples/timeouts/whole_event.toml")
    assert (outcome.code, outcome.result["status"]) == (5, "timed_out"), outcome.stderr
    assert outcome.data == {"answered": True}
    assert "never" not in outcome.result["outputs"]


def test_state_compression(run_cli: Run) -> None:
    """The last stage sees only the essential keys, and so does the result."""
    outcome = run_cli("examples/state_compression", "--set", "rows=1000")
    assert outcome.data["seen_by_publisher"] == ["processed_data", "session_info"], outcome.stderr
    assert set(outcome.data) == {"processed_data", "published", "session_info", "seen_by_publisher"}
    assert outcome.data["processed_data"] == {"rows": 1000, "total": 499500}


@pytest.mark.parametrize(("failures", "code", "attempts"), [(0, 0, 1), (3, 0, 4), (4, 1, 4)])
def test_retry(run_cli: Run, failures: int, code: int, attempts: int) -> None:
    """Connection errors are retried three times: four attempts in all."""
    outcome = run_cli("examples/retry", "--set", f"failures={failures}")
    assert outcome.code == code, outcome.stderr
    if code == 0:
        assert outcome.data["report"] == f"fetched at attempt {attempts}"
    else:
        assert (outcome.result["error"]["type"], outcome.result["error"]["attempts"]) == ("ConnectionError", attempts)


def test_retry_is_not_for_mistakes(run_cli: Run) -> None:
    """An error that the policy does not list fails at once."""
    outcome = run_cli("examples/retry", "--data", '{"failures": 0, "has_bad_input": true}')
    assert (outcome.result["error"]["type"], outcome.result["error"]["attempts"]) == ("ValueError", 1), outcome.stderr


def test_testing_patterns_pass(run_python: Run) -> None:
    """The example's own table-driven tests pass when run as its README says."""
    outcome = run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", "examples/testing_patterns")
    assert outcome.code == 0, outcome.stdout
    assert "2 passed" in outcome.stdout


def test_debugging(run_python: Run) -> None:
    """The broken file's three mistakes are told in one pass; the watchers report what agents saw and that the event was slow."""
    outcome = run_python("examples/debugging/main.py")
    assert outcome.code == 0, outcome.stderr
    assert "agentflow.toml: configuration loaded" in outcome.stdout
    assert "did you mean `max_iterations`?" in outcome.stdout
    assert "did you mean `reporter`?" in outcome.stdout
    assert "timeout_seconds" in outcome.stdout
    assert "DEBUG agent loader is given []" in outcome.stdout
    assert "DEBUG agent reporter is given ['rows']" in outcome.stdout
    assert "WARNING slow orchestration: event debugged took" in outcome.stdout
    assert outcome.stdout.endswith("2 rows\n")


def test_debugging_from_the_command_line(run_cli: Run) -> None:
    """The broken file is refused with exit 2 and its place, without a traceback."""
    outcome = run_cli("examples/debugging/broken.toml")
    assert outcome.code == 2
    assert "broken.toml:6:" in outcome.stderr
    assert "Traceback" not in outcome.stderr
