"""The models: defaults as the rules state them, strict types, values that do not change."""

import pytest
from pydantic import ValidationError

from agentflow.config.model import AgentConfig, Config, FlowConfig, RetryConfig
from agentflow.config.policies import CircuitBreakerConfig, RateLimitConfig, WorkersConfig


def test_defaults_are_those_of_the_rules() -> None:
    """An empty file is a route flow with the documented bounds."""
    expected = {
        "mode": "route",
        "timeout_seconds": None,
        "max_iterations": 5,
        "max_concurrency": 10,
        "failure_threshold": 0.5,
        "retry_attempts": 0,
        "max_hops": 32,
        "max_process_deaths": 3,
        "max_total_attempts": 1000,
        "merge": "ordered",
        "on_error": "stop",
        "quorum": None,
        "fail_fast": False,
        "join_timeout_seconds": None,
        "budget": None,
        "on_busy": "queue",
        "collaborative_agents": None,
        "sequential_agents": None,
        "loop_agent": None,
        "until": None,
        "default_agent": None,
        "retry": None,
        "switch": [],
        "options": None,
        "steps": [],
        "map": None,
        "over": None,
        "reduce": None,
        "map_failures": "fail",
        "planner": None,
        "workers": None,
        "synthesizer": None,
        "max_tasks": 100,
        "supervisor": None,
        "agents": None,
        "max_rounds": 10,
        "max_depth": 5,
        "max_messages": 100,
        "replanner": None,
        "max_replans": 3,
        "branches": [],
        "nodes": [],
        "edges": [],
        "max_visits": None,
        "entry": None,
        "aggregate": None,
        "state_schema": None,
        "max_events": 100,
    }
    assert expected == Config().orchestration.model_dump()


def test_retries_and_the_runner_have_the_documented_defaults() -> None:
    """`max_retries` has none of its own: it is the flow's `retry_attempts`."""
    expected = {
        "max_retries": None,
        "initial_delay_seconds": 1.0,
        "max_delay_seconds": 30.0,
        "backoff_factor": 2.0,
        "jitter": True,
        "retryable_errors": None,
    }
    assert expected == RetryConfig().model_dump()
    runner = {
        "queue_size": 1000,
        "queue_wait_seconds": 1.0,
        "max_running": 10_000,
        "cancel_grace_seconds": 10.0,
        "drain_timeout_seconds": 30.0,
    }
    assert {**runner, "pythonpath": []} == Config().runner.model_dump()
    assert AgentConfig().enabled is True


def test_approvals_and_the_journal_have_the_documented_defaults() -> None:
    """No agent needs an approval; one that does waits a day for it. A run is kept for 30 days."""
    assert (AgentConfig().requires_approval, AgentConfig().approval_timeout_seconds) == (False, 24 * 3600)
    assert Config().journal.model_dump() == {"url": None, "durability": None, "retention_days": 30, "snapshot_every": 100}


def test_gates_have_the_documented_defaults() -> None:
    """An agent has no limits unless it says so; a breaker, and a pool, need no key at all."""
    agent = AgentConfig()
    assert (agent.rate_limit, agent.circuit_breaker, agent.queue_timeout_seconds) == (None, None, None)
    assert CircuitBreakerConfig().model_dump() == {"failure_threshold": 5, "reset_seconds": 30.0, "success_threshold": 1}
    assert RateLimitConfig(requests_per_second=5).burst == 1
    assert WorkersConfig().model_dump() == {"count": 1, "max": None, "max_failures": 3, "idle_drain_seconds": 120.0}
    assert (WorkersConfig(count=4).most, WorkersConfig(count=4, max=9).most) == (4, 9)


def test_the_limits_of_a_run_have_the_documented_defaults() -> None:
    """A run may come to 50,000 records and 50 MB."""
    assert Config().limits.model_dump() == {"max_records": 50_000, "max_run_bytes": 50_000_000}


def test_given_names_the_keys_that_were_set() -> None:
    """A default does not count, a value equal to it does."""
    assert FlowConfig(mode="route").given == {"mode"}


def test_a_model_does_not_change() -> None:
    """A configuration is a value."""
    with pytest.raises(ValidationError):
        FlowConfig().mode = "loop"  # type: ignore[misc]
