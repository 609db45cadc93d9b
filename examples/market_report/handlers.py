"""Six agents that turn a table of monthly jobs into a published report.

Each reads what it needs from the event and the state and adds one key of its own, so the same
functions work under every mode; only `mode` in the file decides who runs and when.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from analysis import cycle_context, growth_analysis, quality_checks
from labor_data import DATASET, LaborTable, read_table
from report import findings, markdown, summary, watch_list

from agentflow import Event, Runner, State

REPORT = Path(__file__).parent / "out" / "report.md"
ANALYSES = {
    "analysis_result": growth_analysis,
    "validation_result": quality_checks,
    "enrichment_result": cycle_context,
}


def register(runner: Runner) -> None:
    """Give the six agents of agentflow.toml their functions."""
    runner.register_agent("analyzer", analyze)
    runner.register_agent("validator", validate)
    runner.register_agent("enricher", enrich)
    runner.register_agent("synthesizer", synthesize)
    runner.register_agent("formatter", format_report)
    runner.register_agent("publisher", publish)


def analyze(event: Event, state: State) -> State:
    """Find the trend, the deepest fall and the growth of every sector."""
    state["analysis_result"] = growth_analysis(_table(event))
    state.meta["analyzer_complete"] = "true"
    return state


def validate(event: Event, state: State) -> State:
    """Check rows, calendar and sums, and list the changes that stand out."""
    state["validation_result"] = quality_checks(_table(event))
    state.meta["validator_complete"] = "true"
    return state


def enrich(event: Event, state: State) -> State:
    """Put every sector into the context of the business cycle."""
    state["enrichment_result"] = cycle_context(_table(event))
    state.meta["enricher_complete"] = "true"
    return state


def synthesize(event: Event, state: State) -> State:
    """Draw findings from the three analyses, making those that no agent made before."""
    for key, analysis in ANALYSES.items():
        if key not in state:
            state[key] = analysis(_table(event))
    results = [state[key] for key in ANALYSES]
    state["executive_summary"] = summary(*results)
    state["synthesized_report"] = {
        "key_findings": findings(*results),
        "watch_list": watch_list(*results),
        "confidence": state["validation_result"]["quality_score"],
    }
    return state


def format_report(event: Event, state: State) -> dict[str, Any]:
    """Write findings and tables as one Markdown text."""
    if "synthesized_report" not in state:
        raise ValueError("nothing to format: synthesized_report is not in the state; run the synthesizer first")
    synthesis = {"executive_summary": state["executive_summary"], **state["synthesized_report"]}
    return {"report_markdown": markdown(synthesis, *(state[key] for key in ANALYSES))}


def publish(event: Event, state: State) -> State:
    """Write the report to its file and its path, relative to the working folder where it is below, to `report_path`.

    What the report says in full is taken out of the state, which then reads at a glance; `result.outputs` keeps it by agent.
    """
    if "report_markdown" not in state:
        raise ValueError("nothing to publish: report_markdown is not in the state; run the formatter first")
    text: str = state["report_markdown"]
    path = Path(event.data.get("report", REPORT)).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    for key in ("report_markdown", "synthesized_report", *ANALYSES):
        state.pop(key, None)
    state["report_path"] = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    state["report_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    return state


def _table(event: Event) -> LaborTable:
    return read_table(Path(event.data.get("dataset", DATASET)))
