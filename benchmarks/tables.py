"""Puts measurements into the cells of Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from benchmarks.driver import Line, Results
from benchmarks.figures import ratio


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """Return a Markdown table whose columns after the first are numbers."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float | None, unit: str = "") -> str:
    """Return three significant digits or more, or a dash for what was not measured."""
    if value is None:
        return "–"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}{unit}"


def both(value: float | None, middle: float | None, unit: str = "") -> str:
    """Return the least value with the median beside it."""
    return "–" if value is None else f"{number(value, unit)} ({number(middle, unit)})"


def ordered(lines: dict[str, Line], name: str) -> list[tuple[str, Line]]:
    """Return the lines that hold measurements, the fastest first."""
    measured = [item for item in lines.items() if item[1].least(name) is not None]
    return sorted(measured, key=lambda item: item[1].least(name) or 0.0)


def over(lines: dict[str, Line], label: str, floor: str, name: str) -> str:
    """Return the ratio of one line to a floor, least over least and median over median."""
    if floor not in lines:
        return "–"
    line, below = lines[label], lines[floor]
    return both(ratio(line.least(name), below.least(name)), ratio(line.median(name), below.median(name)), "×")


def absent(lines: dict[str, Line]) -> str:
    """Say which contenders have no measurement, and why."""
    failures = [f"{label} ({line.failure[:120]})" for label, line in lines.items() if line.failure]
    return f"\n\nNot measured: {'; '.join(failures)}." if failures else ""


def least_of(name: str) -> Callable[[Line], float | None]:
    """Return the function that takes the least value of a name from a line."""
    return lambda line: line.least(name)


def median_of(name: str) -> Callable[[Line], float | None]:
    """Return the function that takes the median of a name from a line."""
    return lambda line: line.median(name)


def held(results: Results, ids: list[str], label: str, value: Callable[[Line], float | None]) -> list[float | None]:
    """Return one value of a contender from several workloads, None where it was not measured."""
    lines = [results.get(workload, {}).get(label) for workload in ids]
    return [value(line) if line else None for line in lines]


def all_absent(results: Results, workloads: list[str]) -> str:
    """Say the same of workloads that share a table."""
    return absent({f"{label} in {workload}": line for workload in workloads for label, line in results.get(workload, {}).items()})
