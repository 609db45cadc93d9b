"""Counting events, agents, failures and time with hooks alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from agentflow import AgentResult, Event, Hook, HookArgs, Runner, RunResult, State


@dataclass
class AgentMetrics:
    """What one agent did so far; times in seconds."""

    runs: int = 0
    errors: int = 0
    total_seconds: float = 0.0

    @property
    def success_rate(self) -> float:
        """Return the share of runs without an error, 0 to 1."""
        return (self.runs - self.errors) / self.runs

    @property
    def average_seconds(self) -> float:
        """Return the mean time of the runs that answered."""
        return self.total_seconds / max(1, self.runs - self.errors)


@dataclass
class OrchestrationMetrics:
    """What the runner did so far."""

    events: int = 0
    total_seconds: float = 0.0
    pattern_usage: Counter[str] = field(default_factory=Counter)
    agents: dict[str, AgentMetrics] = field(default_factory=lambda: defaultdict(AgentMetrics))


def register(runner: Runner) -> None:
    """Register the agents and the counters; what they counted is put into the metadata of each result."""
    runner.register_agent("parser", parse)
    runner.register_agent("checker", check)
    collect(runner, OrchestrationMetrics())


def collect(runner: Runner, metrics: OrchestrationMetrics) -> None:
    """Count everything the runner does into `metrics`."""

    async def record_run(args: HookArgs) -> None:
        assert isinstance(args.result, AgentResult)
        seconds = args.result.duration_s
        metrics.agents[args.agent].runs += 1
        metrics.agents[args.agent].total_seconds += seconds
        args.state.meta[f"{args.agent}_participated"] = "true"
        args.state.meta[f"{args.agent}_duration"] = f"{1000 * seconds:.3f}ms"

    async def record_error(args: HookArgs) -> None:
        metrics.agents[args.agent].runs += 1
        metrics.agents[args.agent].errors += 1

    async def record_event(args: HookArgs) -> None:
        assert isinstance(args.result, RunResult)
        metrics.events += 1
        metrics.total_seconds += args.result.timing.duration_s or 0.0
        metrics.pattern_usage[args.event.metadata.get("orchestration_mode", "collaborative")] += 1
        args.state.meta["events_processed"] = str(metrics.events)

    runner.register_callback(Hook.AFTER_AGENT_RUN, "agent-metrics-collector", record_run)
    runner.register_callback(Hook.AGENT_ERROR, "agent-error-collector", record_error)
    runner.register_callback(Hook.AFTER_EVENT_HANDLING, "metrics-collector", record_event)


async def parse(event: Event, state: State) -> dict[str, Any]:
    """Read the number in the text; raises ValueError when it is none."""
    return {"number": float(event.data["text"])}


async def check(event: Event, state: State) -> dict[str, Any]:
    """Say whether the text is short."""
    return {"is_short": len(event.data["text"]) < 10}
