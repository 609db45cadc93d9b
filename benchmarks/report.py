"""Writes what was measured as Markdown."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime

from benchmarks.driver import Line, Results, Settings
from benchmarks.durable_report import durable_tables, place
from benchmarks.families import IN_FLIGHT
from benchmarks.figures import Durable, figures, ratio
from benchmarks.startup import ROUNDS, Start
from benchmarks.tables import absent, all_absent, both, held, least_of, median_of, number, ordered, over, table
from benchmarks.workloads import WORKLOADS

RATES = [workload for workload in WORKLOADS.values() if workload.family == "rate"]
LOOPS = [workload for workload in WORKLOADS.values() if workload.family == "rounds"]


def report(results: Results, starts: list[Start], durable: Durable, settings: Settings) -> str:
    """Return the whole report; tables of workloads that were not run are left out."""
    parts = [
        heading(settings) + (place(settings) if durable.recovery or any(WORKLOADS[name].is_durable for name in results) else ""),
        figure_table(results, starts, durable),
        *(rate_table(results, workload.id) for workload in RATES if workload.id in results),
        burst_table(results) if "W7" in results else "",
        step_table(results) if "W8s" in results or "W8l" in results else "",
        loop_table(results) if any(workload.id in results for workload in LOOPS) else "",
        *durable_tables(results, durable),
        start_table(starts) if starts else "",
        version_list(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def heading(settings: Settings) -> str:
    """Say where, when and how it was measured."""
    core = "not pinned" if settings.cpu is None else f"pinned to core {settings.cpu} of {os.cpu_count()}"
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"# Results of {datetime.now(UTC).date().isoformat()}\n\n"
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {core}; {settings.rounds} rounds, "
        f"contenders interleaved in a new order each round; load average at the end {load}.\n"
        "Times are the least of all rounds, medians in parentheses. Ratios are least over least, medians over medians in "
        "parentheses. Every answer that is timed comes from a contender whose work was verified."
    )


def figure_table(results: Results, starts: list[Start], durable: Durable) -> str:
    """Compare with the figures to reach; those that this run did not measure are left out."""
    measured = [figure for figure in figures(results, starts, durable) if figure.reached is not None]
    if not measured:
        return ""
    rows = [[figure.title, figure.wanted, number(figure.reached, figure.unit), figure.verdict] for figure in measured]
    return "## Figures to reach\n\n" + table(["agentflow", "wanted", "reached", "kept"], rows)


def rate_table(results: Results, workload: str) -> str:
    """Return the table of one of W1 to W5."""
    lines = results[workload]
    rows = [
        [
            label,
            both(line.least("event"), line.median("event")),
            over(lines, label, "bare", "event"),
            over(lines, label, "own_task", "event"),
        ]
        for label, line in ordered(lines, "event")
    ]
    head = ["contender", "µs an event", "over `bare`", "over `own_task`"]
    return f"## {workload}: {WORKLOADS[workload].title}\n\n" + table(head, rows) + absent(lines)


def burst_table(results: Results) -> str:
    """Return the table of W7."""
    lines = results["W7"]
    rows = [
        [
            label,
            both(ratio(line.least("burst"), 1000), ratio(line.median("burst"), 1000)),
            over(lines, label, "bare", "burst"),
            over(lines, label, "own_task", "burst"),
            number(line.memory.get("traced")),
            number(line.memory.get("resident")),
        ]
        for label, line in ordered(lines, "burst")
    ]
    head = ["contender", f"ms for {IN_FLIGHT:,}", "over `bare`", "over `own_task`", "KB an event, traced", "KB, resident"]
    note = "\n\nThe sleeps alone take 40 ms. Memory is the highest point over what was held before the events were emitted."
    return f"## W7: {WORKLOADS['W7'].title}\n\n" + table(head, rows) + note + absent(lines)


def step_table(results: Results) -> str:
    """Return the table of W8."""
    ids = ["W8s", "W8l"]
    lines = {label: line for workload in reversed(ids) for label, line in results.get(workload, {}).items()}

    def rest(line: Line) -> float | None:
        event, step = line.least("event"), line.least("step")
        return None if event is None or step is None else event - step * WORKLOADS["W8s"].agents

    def row(label: str) -> list[str]:
        least, middle = held(results, ids, label, least_of("step")), held(results, ids, label, median_of("step"))
        growth = both(ratio(least[1], least[0]), ratio(middle[1], middle[0]), "×")
        steps = [both(one, other) for one, other in zip(least, middle, strict=True)]
        return [label, *steps, growth, *map(number, held(results, ids, label, rest))]

    head = ["contender", "step at 1 KB", "step at 1 MB", "growth", "event besides, 1 KB", "event besides, 1 MB"]
    note = (
        "\n\nA step is the time from the start of one agent to the start of the next. Besides its steps an event is emitted "
        "and answered; there agentflow and `own_task` check its data once."
    )
    rows = [row(label) for label, _ in ordered(lines, "step")]
    return "## W8: the cost of a step as the state grows, in µs\n\n" + table(head, rows) + note + all_absent(results, ids)


def loop_table(results: Results) -> str:
    """Return the table of W9."""
    ids = [workload.id for workload in LOOPS]
    lines = {label: line for workload in reversed(ids) for label, line in results.get(workload, {}).items()}

    def row(label: str) -> list[str]:
        least, middle = held(results, ids, label, least_of("round")), held(results, ids, label, median_of("round"))
        growth = both(ratio(least[-1], least[0]), ratio(middle[-1], middle[0]), "×")
        traced = held(results, ids, label, lambda line: line.memory.get("traced"))
        resident = held(results, ids, label, lambda line: line.memory.get("resident"))[-1]
        times = [both(one, other) for one, other in zip(least, middle, strict=True)]
        return [label, *times, growth, " / ".join(map(number, traced)), number(resident)]

    head = ["contender", *(f"{workload.agents:,} rounds" for workload in LOOPS), "last over first"]
    rows = [row(label) for label, _ in ordered(lines, "round")]
    columns = [*head, "KB held at most, traced", "rise of resident KB at 10,000"]
    return "## W9: the cost of a round as a loop gets longer, in µs\n\n" + table(columns, rows) + all_absent(results, ids)


def start_table(starts: list[Start]) -> str:
    """Return the table of W10."""
    measured = sorted((start for start in starts if start.least is not None), key=lambda start: start.least or 0.0)
    least = {start.title: start.least for start in measured}
    rows = [
        [
            f"`{start.title}`",
            both(start.least, start.median),
            number(ratio(start.least, least.get("import asyncio")), "×"),
            "–" if start.distributions is None else str(start.distributions),
        ]
        for start in measured
    ]
    head = ["command", "CPU seconds", "over `import asyncio`", "distributions installed"]
    failures = [f"`{start.title}` ({start.failure})" for start in starts if start.failure]
    note = f"\n\nUser and system time of the whole process, least of {ROUNDS} (median)."
    return "## W10: what starting costs\n\n" + table(head, rows) + note + (f" Not measured: {'; '.join(failures)}." if failures else "")


def version_list(results: Results) -> str:
    """Name the versions that were measured."""
    versions = {name: held for lines in results.values() for line in lines.values() for name, held in line.versions.items()}
    if not versions:
        return ""
    return "Versions: " + ", ".join(f"{name} {held}" for name, held in sorted(versions.items())) + "."
