"""Writes what was measured of durable runs as Markdown."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

from benchmarks.driver import Line, Results, Settings
from benchmarks.families import IN_FLIGHT
from benchmarks.figures import Durable, ratio
from benchmarks.recovery import Recovery
from benchmarks.tables import absent, all_absent, both, held, least_of, median_of, number, ordered, over, table
from benchmarks.workloads import KILOBYTE, MEGABYTE, WORKLOADS

MOUNTS = Path("/proc/mounts")
UNSYNCED = ("tmpfs", "ramfs")
THREAD, DELTA, GROUP, GROUP_INPUT = "sqlite_full_thread", "sqlite_full_input_delta", "sqlite_full_group", "sqlite_full_group_input"


def durable_tables(results: Results, durable: Durable) -> list[str]:
    """Return the tables of durable runs; those of workloads that were not run are empty."""
    return [
        step_table(results, durable) if "W6" in results else "",
        burst_table(results) if "W7d" in results else "",
        size_table(results) if "W8ds" in results or "W8dl" in results else "",
        loop_table(results) if "W9da" in results or "W9dc" in results else "",
        recovery_table(durable.recovery) if durable.recovery else "",
    ]


def place(settings: Settings) -> str:
    """Say where the journals were, and on what kind of file system."""
    folder = (settings.journals or Path(tempfile.gettempdir())).resolve()
    kind = filesystem(folder)
    warning = " Nothing is durable there: **the durable figures of this run mean nothing**." if kind in UNSYNCED else ""
    return f"\nJournals were on {kind or 'an unknown file system'}, written by SQLite {sqlite3.sqlite_version}.{warning}"


def filesystem(folder: Path) -> str:
    """Return the kind of file system that a folder is on, "" where the system does not tell."""
    if not MOUNTS.exists():
        return ""
    found = {Path(fields[1]): fields[2] for line in MOUNTS.read_text().splitlines() if len(fields := line.split()) > 2}
    return next((found[parent] for parent in (folder, *folder.parents) if parent in found), "")


def kilobytes(line: Line | None, name: str) -> str:
    """Return the median of a number of bytes, in KB."""
    return number(ratio(line.median(name), KILOBYTE)) if line else "–"


def step_table(results: Results, durable: Durable) -> str:
    """Return the table of W6."""
    lines = results["W6"]
    traced = durable.traced.lines

    def counted(label: str) -> list[str]:
        calls = traced.get(label)
        return ["–", "–"] if calls is None or calls.failure else [number(calls.syncs), number(calls.written / KILOBYTE)]

    rows = [
        [
            label,
            both(line.least("event"), line.median("event")),
            over(lines, label, THREAD, "event"),
            over(lines, label, DELTA, "event"),
            *counted(label),
            kilobytes(line, "written"),
        ]
        for label, line in ordered(lines, "event")
    ]
    head = ["contender", "µs an event", f"over `{THREAD}`", f"over `{DELTA}`", "fsyncs an event", "KB a step, traced", "KB a step"]
    note = "\n\nTraced: syncs and bytes into the journal's folder under strace, of a journal too short for a checkpoint; the last "
    note += "column counts all bytes that the process wrote meanwhile, checkpoints included."
    failures = [f"{label} ({calls.failure})" for label, calls in traced.items() if calls.failure]
    untraced = durable.traced.reason or "; ".join(failures)
    note += f" Not traced: {untraced}." if untraced else ""
    return f"## W6: {WORKLOADS['W6'].title}\n\n" + table(head, rows) + note + absent(lines)


def burst_table(results: Results) -> str:
    """Return the table of W7d."""
    lines = results["W7d"]
    rows = [
        [
            label,
            both(ratio(line.least("burst"), 1000), ratio(line.median("burst"), 1000)),
            over(lines, label, GROUP, "burst"),
            over(lines, label, GROUP_INPUT, "burst"),
            kilobytes(line, "written"),
        ]
        for label, line in ordered(lines, "burst")
    ]
    head = ["contender", f"ms for {IN_FLIGHT:,}", f"over `{GROUP}`", f"over `{GROUP_INPUT}`", "KB written a step"]
    return f"## W7d: {WORKLOADS['W7d'].title}\n\n" + table(head, rows) + absent(lines)


def size_table(results: Results) -> str:
    """Return the table of W8d."""
    ids = ["W8ds", "W8dl"]
    lines = {label: line for workload in ids for label, line in results.get(workload, {}).items()}

    def row(label: str) -> list[str]:
        least, middle = held(results, ids, label, least_of("event")), held(results, ids, label, median_of("event"))
        growth = both(ratio(least[1], least[0]), ratio(middle[1], middle[0]), "×")
        written = held(results, ids, label, median_of("written"))[1]
        floor = over(results["W8dl"], label, DELTA, "event") if label in results.get("W8dl", {}) else "–"
        times = [both(one, other) for one, other in zip(least, middle, strict=True)]
        return [label, *times, growth, floor, number(ratio(written, MEGABYTE))]

    head = ["contender", "event at 1 KB", "event at 1 MB", "growth", f"over `{DELTA}` at 1 MB", "MB written a step at 1 MB"]
    rows = [row(label) for label, _ in ordered(lines, "event")]
    return "## W8d: a durable event of 4 steps as the state grows, in µs\n\n" + table(head, rows) + all_absent(results, ids)


def loop_table(results: Results) -> str:
    """Return the table of W9d."""
    ids = ["W9da", "W9dc"]
    lines = {label: line for workload in reversed(ids) for label, line in results.get(workload, {}).items()}

    def row(label: str) -> list[str]:
        least, middle = held(results, ids, label, least_of("round")), held(results, ids, label, median_of("round"))
        growth = both(ratio(least[1], least[0]), ratio(middle[1], middle[0]), "×")
        times = [both(one, other) for one, other in zip(least, middle, strict=True)]
        volumes = [held(results, ids, label, median_of(name)) for name in ("written", "kept")]
        return [label, *times, growth, *(" / ".join(map(number, volume)) for volume in volumes)]

    head = ["contender", "100 rounds", "10,000 rounds", "last over first", "bytes written a round", "bytes kept of a round"]
    rows = [row(label) for label, _ in ordered(lines, "round")]
    note = "\n\nEach measurement is of 10,000 rounds, of 100 events or of one. Kept is how far the journal has grown."
    title = "## W9d: the cost of a durable round as a loop gets longer, in µs\n\n"
    return title + table(head, rows) + note + all_absent(results, ids)


def recovery_table(recovery: Recovery) -> str:
    """Return the table of W3r."""
    title = "## W3r: ready again after a crash\n\n"
    if recovery.failure:
        return f"{title}Not measured: {recovery.failure}."
    rows = [
        [
            label,
            both(line.least("start"), line.median("start")),
            both(line.least("ready"), line.median("ready")),
            both(line.least("running"), line.median("running")),
            number(line.least("resident")),
        ]
        for label, line in ordered(recovery.lines, "ready")
    ]
    head = ["line", "started", "ready", "all steps running", "MB resident"]
    note = (
        f"\n\nSeconds from opening a journal of {recovery.runs:,} open runs, {recovery.records:,} records and "
        f"{number(recovery.megabytes)} MB, its files in the cache of the system. `store` opens it and takes the runs over, "
        "and reads no records."
    )
    return title + table(head, rows) + note + absent(recovery.lines)
