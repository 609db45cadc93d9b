"""The command: `python -m benchmarks`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks import calls, recovery
from benchmarks.catalog import ENTRIES, Entry
from benchmarks.driver import Results, Settings, run_group
from benchmarks.figures import Durable
from benchmarks.report import report
from benchmarks.startup import Start, measure
from benchmarks.workloads import WORKLOADS, Workload

START = "W10"
RECOVERY = "W3r"
ALL = [*WORKLOADS, RECOVERY, START]
ALONE = ("rate", "journal")  # families whose workloads are measured one by one


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; unknown workloads and contenders end the program with exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure agentflow beside floors and peers, and print a Markdown report."
    )
    add = parser.add_argument
    add("--workloads", default=",".join(ALL), metavar="W1,W2,…", help="which to run (default: all)")
    add("--rounds", type=int, default=9, metavar="N", help="measurements of each contender (default 9)")
    add("--seconds", type=float, default=0.1, metavar="S", help="length of one measurement (default 0.1)")
    add("--only", default="", metavar="NAME,…", help="run these contenders alone")
    add("--cpu", type=int, metavar="N", help="the core to pin to (default: the last; -1: do not pin)")
    add("--peers", type=Path, metavar="DIR", help="folder of virtual environments, one a peer")
    add("--journals", type=Path, metavar="DIR", help="where durable workloads write (default: the system's folder for that)")
    add("--out", type=Path, metavar="FILE.md", help="write the report here as well")
    options = parser.parse_args(arguments)
    options.workloads = _chosen(parser, options.workloads, ALL)
    options.only = _chosen(parser, options.only, [entry.label for entry in ENTRIES])
    return options


def _chosen(parser: argparse.ArgumentParser, text: str, known: list[str]) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(known)}")
    return names


def groups(names: list[str]) -> list[list[Workload]]:
    """Return the workloads in groups that are measured together: a family, or one of W1 to W6 alone."""
    found: dict[str, list[Workload]] = {}
    for name in names:
        if name in WORKLOADS:
            workload = WORKLOADS[name]
            found.setdefault(name if workload.family in ALONE else workload.family, []).append(workload)
    return list(found.values())


def default_cpu() -> int | None:
    """Return the last core this process may run on, or None where processes cannot be pinned."""
    return max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def say(text: str) -> None:
    """Print progress."""
    print(text, file=sys.stderr, flush=True)


def measure_durable(names: list[str], entries: list[Entry], settings: Settings) -> Durable:
    """Measure what is told of durable runs beside the workloads."""
    durable = Durable()
    if calls.WORKLOAD in names:
        durable.traced = calls.count_calls(entries, settings)
    if RECOVERY in names and any(entry.label in recovery.LINES for entry in entries):
        durable.recovery = recovery.measure(settings)
    return durable


def main() -> None:
    """Measure what the command line asks for and print the report."""
    options = parse()
    cpu = default_cpu() if options.cpu is None else options.cpu
    settings = Settings(options.rounds, options.seconds, None if cpu == -1 else cpu, options.peers, say, options.journals)
    entries: list[Entry] = [entry for entry in ENTRIES if not options.only or entry.label in options.only]
    results: Results = {}
    starts: list[Start] = []
    for group in groups(options.workloads):
        results.update(run_group(group, entries, settings))
    durable = measure_durable(options.workloads, entries, settings)
    if START in options.workloads:
        starts = measure(entries, settings)
    text = report(results, starts, durable, settings)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
