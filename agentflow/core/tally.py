"""Tally: what records come to when they are counted: events by what became of them, calls by agent, and how long both took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agentflow.core import records as facts
from agentflow.core.histogram import Histogram
from agentflow.core.values import Json

DEAD = "dead_lettered"
EVENTS = ("accepted", "completed", "partial", "failed", "timed_out", "cancelled", DEAD)
FIGURES = ("input_tokens", "output_tokens", "total_tokens", "cost_usd")


class AgentTally:
    """What became of one agent's calls.

    Attributes:
        calls: attempts that were begun.
        completed, failed: steps that ended so.
        retries: attempts that failed and were made again.
        fallbacks: how often another agent was tried in its place.
        stand_ins: how often it was tried in another's place; what came of that is counted there.
        degraded: how often its `default_output` was the answer.
        reused: how often an earlier answer was, and nobody was called.
        abandoned: handlers that did not end although they were cancelled.
        latency: how long its steps took, the waits between attempts included.
    """

    __slots__ = ("abandoned", "calls", "completed", "degraded", "failed", "fallbacks", "latency", "retries", "reused", "stand_ins")

    def __init__(self) -> None:
        self.calls = self.completed = self.failed = self.retries = 0
        self.fallbacks = self.stand_ins = self.degraded = self.reused = self.abandoned = 0
        self.latency = Histogram()

    @property
    def success_rate(self) -> float | None:
        """The share of its ended steps that completed, 0 to 1; None while none has ended."""
        ended = self.completed + self.failed
        return round(self.completed / ended, 6) if ended else None

    def to_dict(self) -> dict[str, Json]:
        """Return the figures as JSON."""
        counts: dict[str, Json] = {name: getattr(self, name) for name in _COUNTS}
        return {**counts, "success_rate": self.success_rate, "latency_seconds": self.latency.to_dict()}


_COUNTS = ("calls", "completed", "failed", "retries", "fallbacks", "stand_ins", "degraded", "reused", "abandoned")


@dataclass(slots=True)
class _Open:
    """A run that has not ended, as `Tally.follow` knows it."""

    pattern: str
    accepted_at: float
    is_taken_over: bool = False


class Tally:
    """Counts facts. All figures begin at 0 and only grow.

    Attributes:
        events: runs by what became of them, under the names in EVENTS; a dead letter counts as failed, too.
        patterns: the same, by the mode of the main flow.
        agents: the figures of each agent, by name.
        latency: how long runs took, from their turn to their end; of those that another process went on with, from acceptance on.
        usage: what all steps have used, under the names in FIGURES.
        exhausted: how often a budget did not suffice for one more attempt.
    """

    def __init__(self) -> None:
        self.events: dict[str, int] = dict.fromkeys(EVENTS, 0)
        self.patterns: dict[str, dict[str, int]] = {}
        self.agents: dict[str, AgentTally] = {}
        self.latency = Histogram()
        self.usage: dict[str, float] = dict.fromkeys(FIGURES, 0)
        self.exhausted = 0
        self._open: dict[str, _Open] = {}

    def follow(self, record: facts.Record) -> None:
        """Count one record. Those of a run come in their order; several runs may take turns."""
        fact, taken_s = record.fact, None
        if isinstance(fact, facts.WorkflowCreated):
            self._open[record.run_id] = _Open(fact.pattern, record.at)
        run = self._open.get(record.run_id)
        if run is not None and isinstance(fact, facts.WorkflowRecovering):
            run.is_taken_over = True
        elif run is not None and isinstance(fact, _ENDINGS):
            del self._open[record.run_id]
            taken_s = record.at - run.accepted_at if run.is_taken_over else None
        self.take(fact, "" if run is None else run.pattern, taken_s)

    def take(self, fact: facts.Fact, pattern: str, taken_s: float | None = None) -> None:
        """Count one fact.

        Args:
            fact: what happened.
            pattern: the mode of the run's main flow, "" where nobody knows.
            taken_s: of an ending: how long the run took, where the fact does not know, in seconds.
        """
        if type(fact) is facts.StepStarted:  # these are most facts, and a match asks isinstance of one kind after another
            (self.agents.get(fact.agent) or self._agent(fact.agent)).calls += 1
            return
        if type(fact) is facts.StepCompleted:
            agent = self.agents.get(fact.agent) or self._agent(fact.agent)
            agent.completed += 1
            agent.latency.add(fact.duration_s)
            if fact.usage is not None:
                self._use(fact.usage)
            return
        match fact:
            case facts.StepFailed() | facts.StepRetried() | facts.FallbackTaken():
                self._take_failure(fact)
            case facts.WorkflowCreated():
                self._count("accepted", pattern)
            case facts.WorkflowCompleted() | facts.WorkflowFailed() | facts.WorkflowCancelled():
                self._take_ending(fact, pattern, fact.duration_s if taken_s is None else taken_s)
            case facts.StepDegraded():
                self._agent(fact.agent).degraded += 1
            case facts.AnswerReused():
                self._agent(fact.agent).reused += 1
            case facts.StepAbandoned():
                self._agent(fact.agent).abandoned += 1
            case facts.BudgetExhausted():
                self.exhausted += 1
            case _:
                pass

    def _agent(self, name: str) -> AgentTally:
        agent = self.agents.get(name)
        if agent is None:
            agent = self.agents[name] = AgentTally()
        return agent

    def _take_failure(self, fact: facts.StepFailed | facts.StepRetried | facts.FallbackTaken) -> None:
        agent = self._agent(fact.agent)
        match fact:
            case facts.StepFailed():
                agent.failed += 1
                if fact.attempts:  # else nobody was called: it was refused before
                    agent.latency.add(fact.duration_s)
            case facts.StepRetried():
                agent.retries += 1
            case facts.FallbackTaken():
                agent.fallbacks += 1
                self._agent(fact.to).stand_ins += 1
        if fact.usage is not None:
            self._use(fact.usage)

    def _use(self, usage: Mapping[str, Json]) -> None:
        for name in FIGURES:
            used = usage.get(name)
            if isinstance(used, int | float):
                self.usage[name] += used

    def _take_ending(self, fact: facts.Ending, pattern: str, duration_s: float | None) -> None:
        self._count("cancelled" if isinstance(fact, facts.WorkflowCancelled) else fact.status, pattern)
        if DEAD in fact.flags:
            self._count(DEAD, pattern)
        if duration_s is not None:
            self.latency.add(duration_s)

    def _count(self, name: str, pattern: str) -> None:
        self.events[name] = self.events.get(name, 0) + 1
        if pattern:
            counts = self.patterns.get(pattern)
            if counts is None:
                counts = self.patterns[pattern] = dict.fromkeys(EVENTS, 0)
            counts[name] = counts.get(name, 0) + 1

    def to_dict(self) -> dict[str, Json]:
        """Return the figures as JSON: events, patterns, latency_seconds, agents, usage, budgets_exhausted."""
        return {
            "events": dict(self.events),
            "patterns": {name: dict(counts) for name, counts in sorted(self.patterns.items())},
            "latency_seconds": self.latency.to_dict(),
            "agents": {name: agent.to_dict() for name, agent in sorted(self.agents.items())},
            "usage": {name: round(figure, 9) for name, figure in self.usage.items()},
            "budgets_exhausted": self.exhausted,
        }


_ENDINGS = (facts.WorkflowCompleted, facts.WorkflowFailed, facts.WorkflowCancelled)
