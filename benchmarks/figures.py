"""Compares what was measured with the figures that agentflow has to reach."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.calls import Traced
from benchmarks.catalog import peers_among
from benchmarks.driver import Results
from benchmarks.recovery import Recovery
from benchmarks.startup import Start
from benchmarks.workloads import KILOBYTE

DURABLE = "agentflow_durable"


@dataclass
class Durable:
    """Holds what is measured of durable runs beside the workloads: calls of the kernel, and recovery."""

    traced: Traced = field(default_factory=Traced)
    recovery: Recovery | None = None


@dataclass(frozen=True)
class Figure:
    """States one figure: what it is, the value reached (None: not measured), and the limit it is held against.

    Without a limit it is only told; `exactly` holds it to two decimals: one call too many in all events that were traced is seen.
    """

    title: str
    reached: float | None
    limit: float | None
    unit: str = "×"
    at_least: bool = False
    exactly: bool = False

    @property
    def verdict(self) -> str:
        """Whether the limit is kept: yes, no, or not measured."""
        if self.reached is None:
            return "not measured"
        if self.limit is None:
            return "–"
        if self.exactly:
            return "yes" if round(self.reached, 2) == self.limit else "**no**"
        kept = self.reached >= self.limit if self.at_least else self.reached <= self.limit
        return "yes" if kept else "**no**"

    @property
    def wanted(self) -> str:
        """The limit in words."""
        sign = "=" if self.exactly else "≥" if self.at_least else "≤"
        return "–" if self.limit is None else f"{sign} {self.limit:g}{self.unit}"


def figures(results: Results, starts: list[Start], durable: Durable) -> list[Figure]:
    """Return all figures, the measured ones with their values; ratios are least over least of one run."""
    memory = [*_ahead(results), *_overhead(results), *_burst(results), *_growth(results)]
    return [*memory, *_durable(results, durable), *_durable_growth(results), *_recovery(durable), *_start(starts)]


def ratio(numerator: float | None, denominator: float | None) -> float | None:
    """Divide where both were measured."""
    return numerator / denominator if numerator is not None and denominator else None


def least(results: Results, workload: str, label: str, name: str = "event") -> float | None:
    """Return the smallest measurement of a contender on a workload."""
    line = results.get(workload, {}).get(label)
    return line.least(name) if line else None


def middle(results: Results, workload: str, label: str, name: str) -> float | None:
    """Return the median measurement, for what is not disturbed by other programs: the least may have missed a checkpoint."""
    line = results.get(workload, {}).get(label)
    return line.median(name) if line else None


def best_peer(results: Results, workload: str) -> tuple[str, float | None]:
    """Return the fastest peer of a workload and its time."""
    labels = peers_among(list(results.get(workload, {})))
    times = {label: value for label in labels if (value := least(results, workload, label)) is not None}
    return min(times.items(), key=lambda item: item[1]) if times else ("none", None)


def _ahead(results: Results) -> list[Figure]:
    """Return how far ahead of the peers agentflow is."""
    rows = []
    for workload, limit in {"W1": 10, "W2": 8, "W3": 10, "W4": 10, "W5": 10}.items():
        label, time = best_peer(results, workload)
        reached = ratio(time, least(results, workload, "agentflow"))
        rows.append(Figure(f"{workload}: ahead of the best peer ({label})", reached, limit, at_least=True))
    for workload in ("W1", "W2"):
        reached = ratio(least(results, workload, "langgraph"), least(results, workload, "agentflow"))
        rows.append(Figure(f"{workload}: ahead of LangGraph", reached, 40, at_least=True))
    return rows


def _overhead(results: Results) -> list[Figure]:
    """Return what agentflow costs over the floors."""
    limits = {"W1": ("own_task", 1.5), "W2": ("own_task", 1.7), "W3": ("bare", 1.8), "W4": ("own_task", 2.0)}
    rows = []
    for workload, (floor, limit) in {**limits, "W5": ("bare", 2.0)}.items():
        reached = ratio(least(results, workload, "agentflow"), least(results, workload, floor))
        rows.append(Figure(f"{workload}: over `{floor}`", reached, limit))
    return rows


def _burst(results: Results) -> list[Figure]:
    """Return the figures of many events in flight."""
    times = [least(results, "W7", label, "burst") for label in ("agentflow", "bare")]
    line = results.get("W7", {}).get("agentflow")
    return [
        Figure("W7: over `bare`, 1,000 events in flight", ratio(*times), 1.5),
        Figure("W7: memory of an event (traced)", line.memory.get("traced") if line else None, 6, " KB"),
    ]


def _growth(results: Results) -> list[Figure]:
    """Return the figures of large states and long loops."""
    large, small = (least(results, workload, "agentflow", "step") for workload in ("W8l", "W8s"))
    rounds = [least(results, workload, "agentflow", "round") for workload in ("W9c", "W9a")]
    lines = [results.get(workload, {}).get("agentflow") for workload in ("W9c", "W9a")]
    traced = [line.memory.get("traced") if line else None for line in lines]
    return [
        Figure("W8: a step on 1 MB of state over one on 1 KB", ratio(large, small), 1.5),
        Figure("W9: a round of 10,000 over a round of 100", ratio(*rounds), 1.05),
        Figure("W9: memory of 10,000 rounds over that of 100 (traced)", ratio(*traced), 1.1),
    ]


def _durable(results: Results, durable: Durable) -> list[Figure]:
    """Return what a durable step costs."""

    def over(workload: str, floor: str, name: str = "event") -> float | None:
        return ratio(least(results, workload, DURABLE, name), least(results, workload, floor, name))

    def ahead(peer: str) -> float | None:
        return ratio(least(results, "W7d", peer, "burst"), least(results, "W7d", DURABLE, "burst"))

    calls = durable.traced.lines.get(DURABLE)
    counted = calls if calls and not calls.failure else None
    return [
        Figure("W6: over `sqlite_full_thread`, the same five commits", over("W6", "sqlite_full_thread"), 1.25),
        Figure("W6: over `sqlite_full_input_delta`, four commits", over("W6", "sqlite_full_input_delta"), None),
        Figure("W6: fsyncs an event of 4 steps", counted.syncs if counted else None, 5.0, "", exactly=True),
        Figure("W6: written a step (traced)", ratio(counted.written, KILOBYTE) if counted else None, 9, " KB"),
        Figure("W6: written a step, checkpoints included", ratio(middle(results, "W6", DURABLE, "written"), KILOBYTE), 9, " KB"),
        Figure("W7d: over `sqlite_full_group`, 1,000 in flight", over("W7d", "sqlite_full_group", "burst"), 1.5),
        Figure("W7d: over `sqlite_full_group_input`", over("W7d", "sqlite_full_group_input", "burst"), None),
        Figure("W7d: ahead of Burr", ahead("burr_sqlite"), 9, at_least=True),
        Figure("W7d: ahead of LangGraph, sync", ahead("langgraph_sqlite_sync"), 60, at_least=True),
        Figure("W8d: 1 MB of state, over `sqlite_full_input_delta`", over("W8dl", "sqlite_full_input_delta"), 1.2),
    ]


def _durable_growth(results: Results) -> list[Figure]:
    """Return the figures of long durable loops."""
    sorts = [("round", "µs a round", least), ("written", "bytes written a round", middle), ("kept", "bytes kept of a round", middle)]
    rows = []
    for name, title, value in sorts:
        reached = ratio(value(results, "W9dc", DURABLE, name), value(results, "W9da", DURABLE, name))
        rows.append(Figure(f"W9d: {title}, 10,000 over 100", reached, 1.05))
    return rows


def _recovery(durable: Durable) -> list[Figure]:
    """Return the figure of starting after a crash."""
    line = durable.recovery.lines.get(DURABLE) if durable.recovery else None
    return [Figure("W3r: ready again with 10,000 open runs and 1 M records", line.least("ready") if line else None, 5, " s")]


def _start(starts: list[Start]) -> list[Figure]:
    """Return the figures of starting."""
    found = {start.title: start for start in starts}

    def cost(title: str) -> float | None:
        return found[title].least if title in found else None

    everything = "from agentflow import Runner, Event"
    count = found[everything].distributions if everything in found else None
    return [
        Figure("W10: `import agentflow` over `import asyncio`", ratio(cost("import agentflow"), cost("import asyncio")), 1.3),
        Figure(f"W10: `{everything}`", cost(everything), 0.30, " s"),
        Figure("W10: `agentflow version`", cost("agentflow version"), 0.10, " s"),
        Figure("W10: `agentflow --help`", cost("agentflow --help"), 0.15, " s"),
        Figure("W10: distributions of a core install", count, 24, ""),
    ]
