"""A (made-up) survey: three agents look at it at once, three more turn that into a summary."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

from agentflow import Event, State

DATA = Path(__file__).parent / "data"
SEGMENTS = {"A": "households", "B": "companies"}

Answer = dict[str, Any]


def analyze(event: Event, state: State) -> State:
    """Find how the mean rating moved from quarter to quarter."""
    ratings = defaultdict(list)
    for row in _answers(event):
        if row["rating"] is not None:
            ratings[row["quarter"]].append(row["rating"])
    means = [round(fmean(ratings[quarter]), 2) for quarter in sorted(ratings)]
    rising = means == sorted(means)
    state["analysis_result"] = {"mean_ratings": means, "trends": ["upward_trend"] if rising else []}
    state.meta["analyzer_complete"] = "true"
    return state


def validate(event: Event, state: State) -> Answer:
    """Say which share of the answers is complete."""
    rows = _answers(event)
    complete = sum(row["rating"] is not None for row in rows)
    return {"validation_result": {"answers": len(rows), "confidence": round(complete / len(rows), 2)}}


def enrich(event: Event, state: State) -> Answer:
    """Add the names of the segments and how many of each would buy."""
    buyers: dict[str, list[bool]] = defaultdict(list)
    for row in _answers(event):
        buyers[SEGMENTS[row["segment"]]].append(row["would_buy"])
    return {"enrichment_result": {name: f"{sum(answers)} of {len(answers)} would buy" for name, answers in buyers.items()}}


def synthesize(event: Event, state: State) -> Answer:
    """Bring the three results together."""
    analysis, validation = state["analysis_result"], state["validation_result"]
    first, last = analysis["mean_ratings"][0], analysis["mean_ratings"][-1]
    findings = [f"Ratings went from {first} to {last}."]
    findings += [f"Of the {name}, {buyers}." for name, buyers in state["enrichment_result"].items()]
    return {"synthesized_report": {"key_findings": findings, "confidence": validation["confidence"]}}


def format_summary(event: Event, state: State) -> Answer:
    """Write the findings as text."""
    report = state["synthesized_report"]
    return {"summary": "\n".join([*report["key_findings"], f"Confidence: {report['confidence']:.0%}."])}


def publish(event: Event, state: State) -> Answer:
    """Hand the summary to its reader: here, the result itself."""
    return {"published": event.data.get("output_format", "executive_summary")}


def _answers(event: Event) -> list[Answer]:
    name = event.data.get("dataset", "market_research_data.json")
    rows: list[Answer] = json.loads((DATA / name).read_text(encoding="utf-8"))
    return rows
