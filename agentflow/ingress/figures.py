"""The runner's figures in the form that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

__all__ = ["CONTENT_TYPE", "exposition"]

_QUANTILES = {"p50": "0.5", "p95": "0.95", "p99": "0.99"}
_AGENT_COUNTS = ("calls", "completed", "failed", "retries", "fallbacks", "degraded", "reused", "abandoned")


def exposition(figures: Mapping[str, Any]) -> bytes:
    """Return the figures of `Runner.metrics` as text for Prometheus; names of agents and modes are its only labels."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(figures))
    return generate_latest(registry)


class _Figures(Collector):
    def __init__(self, figures: Mapping[str, Any]) -> None:
        self._told = figures

    def collect(self) -> Iterator[Metric]:
        told = self._told
        yield _counts("agentflow_events", "Events, by what became of them.", "outcome", told["events"])
        yield _quantiles("agentflow_run_seconds", "How long runs took.", (), {(): told["latency_seconds"]})
        yield from _of_agents(told["agents"])
        yield _counts("agentflow_usage", "Tokens, cost and calls.", "kind", told["usage"])
        yield _counts("agentflow_warnings", "What the log was warned of.", "kind", told["warnings"])
        open_runs = GaugeMetricFamily("agentflow_runs", "Runs that are open here, by state.", labels=("state",))
        for state in ("queued", "running", "paused"):
            open_runs.add_metric((state,), told["runs"][state])
        yield open_runs
        yield GaugeMetricFamily("agentflow_queue_depth", "Accepted events that have not begun.", value=told["queue_depth"])
        left = len(told["abandoned_handlers"]) + len(told["abandoned_threads"])
        yield GaugeMetricFamily("agentflow_abandoned", "Handlers and threads that do not end.", value=left)
        yield GaugeMetricFamily(
            "agentflow_loop_blocked_seconds", "For how long the loop is blocked now.", value=told["loop"]["blocked_seconds"]
        )
        yield CounterMetricFamily("agentflow_loop_blocks", "How often the loop was blocked.", value=told["loop"]["blocks"])


def _of_agents(agents: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    steps = CounterMetricFamily("agentflow_agent_steps", "Steps of each agent, by what became of them.", labels=("agent", "outcome"))
    for name, told in agents.items():
        for outcome in _AGENT_COUNTS:
            steps.add_metric((name, outcome), told[outcome])
    yield steps
    by_agent: dict[tuple[str, ...], Any] = {(name,): told["latency_seconds"] for name, told in agents.items()}
    yield _quantiles("agentflow_agent_seconds", "How long each agent's steps took.", ("agent",), by_agent)


def _counts(name: str, told: str, label: str, counts: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, told, labels=(label,))
    for kind, count in counts.items():
        family.add_metric((kind,), count)
    return family


def _quantiles(name: str, told: str, labels: tuple[str, ...], latencies: Mapping[tuple[str, ...], Mapping[str, Any]]) -> Metric:
    family = GaugeMetricFamily(name, told, labels=(*labels, "quantile"))
    for values, latency in latencies.items():
        for key, quantile in _QUANTILES.items():
            if latency.get(key) is not None:
                family.add_metric((*values, quantile), latency[key])
    return family
