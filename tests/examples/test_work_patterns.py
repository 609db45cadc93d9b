"""The patterns that divide work: parallel steps, pipelines, map-reduce, orchestrator and workers, and the panel that judges it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]

RECEIPTS = {
    "2024-05-03 train SBB 88.00 CHF": "2024-05-03 SBB 92.40 EUR",
    "2024-05-03 hotel Astra 120.00 USD": "2024-05-03 Astra 108.00 EUR",
    "2024-05-04 meal Trattoria 31.50 EUR": "2024-05-04 Trattoria 31.50 EUR",
}


def test_parallel_order_waits_for_the_quotes_and_the_stock(run_cli: Run) -> None:
    """Each step gets its own input; the one that depends on the others orders what the stock lacks from the cheapest supplier."""
    outcome = run_cli("examples/parallel", "--data", '{"item": "chair", "count": 4}')
    assert outcome.code == 0, outcome.stderr
    assert [quote["supplier"] for quote in outcome.data["quotes"]] == ["north", "south"]
    assert outcome.data["ordered"] == {"supplier": "south", "pieces": 4, "total": 316.0}
    assert set(outcome.result["outputs"]) == {"north", "south", "stock", "order"}


def test_parallel_step_that_fails_is_named_by_its_id(run_cli: Run) -> None:
    """A supplier without a price is left out: its error stands under the step's id, and the order is made of what is left."""
    outcome = run_cli("examples/parallel", "--data", '{"item": "desk", "count": 2}')
    assert (outcome.code, outcome.result["status"]) == (0, "partial"), outcome.stderr
    assert outcome.result["errors"]["north"]["message"] == "north sells no desk"
    assert outcome.data["ordered"]["supplier"] == "south"


def test_parallel_order_is_not_made_without_any_quote(run_cli: Run) -> None:
    """Two of three failing are above the threshold: the step that depends on them does not run."""
    outcome = run_cli("examples/parallel", "--data", '{"item": "sofa", "count": 2}')
    assert (outcome.code, outcome.result["status"]) == (1, "failed"), outcome.stderr
    assert "order" not in outcome.result["outputs"]


@pytest.mark.parametrize("receipt", RECEIPTS)
def test_pipeline_books_a_receipt(run_cli: Run, receipt: str) -> None:
    """Each stage works on what the one before returned; the second takes the currency from its instruction."""
    outcome = run_cli("examples/pipeline", "--set", f"receipt={receipt}")
    assert outcome.data["line"] == RECEIPTS[receipt], outcome.stderr
    assert list(outcome.result["outputs"]) == ["read", "convert", "book"]


def test_pipeline_over_a_list_books_each_receipt(run_cli: Run) -> None:
    """Of a list the results are in its order; a receipt that cannot be read has none, and the others are booked."""
    outcome = run_cli("examples/pipeline/many.toml", "--data", json.dumps({"receipts": [*RECEIPTS, "torn"]}))
    assert outcome.result["status"] == "partial", outcome.stderr
    assert [result and result["line"] for result in outcome.data["results"]] == [*RECEIPTS.values(), None]
    assert outcome.result["usage"]["calls"] == 3 * 3 + 1


def test_map_reduce_adds_up_the_logs(run_cli: Run) -> None:
    """One call for each log, then one report on all of them."""
    outcome = run_cli("examples/map_reduce", "--data", '{"logs": ["web-1.log", "web-2.log", "web-3.log"]}')
    assert outcome.data["report"] == {"requests": 10, "errors": {"/orders": 2, "/report": 1}, "slow": ["/report"], "unread": []}
    assert outcome.result["usage"]["calls"] == 4


@pytest.mark.parametrize(("failures", "status", "unread"), [("skip", "partial", [1]), ("fail", "failed", None)])
def test_map_failures_decide_about_the_report(run_cli: Run, failures: str, status: str, unread: list[int] | None) -> None:
    """With "skip" the report names the log that could not be read; with "fail" there is none."""
    environment = {"AGENTFLOW__ORCHESTRATION__MAP_FAILURES": failures}
    outcome = run_cli("examples/map_reduce", "--data", '{"logs": ["web-1.log", "web-9.log", "web-3.log"]}', environment=environment)
    assert outcome.result["status"] == status, outcome.stderr
    assert outcome.data.get("report", {}).get("unread") == unread


def test_map_reduce_by_steps_has_two_reducers(run_cli: Run) -> None:
    """The first reducer gets its instruction and the results, the second what the first returned."""
    outcome = run_cli("examples/map_reduce/by_steps.toml")
    assert outcome.data["notice"] == "8 requests; errors: /orders 2, /report 1; slow: /report", outcome.stderr


def test_workers_take_the_tasks_of_their_trade(run_cli: Run) -> None:
    """The planner's tasks go to the worker with the specialty; the note is in the plan's order, the tasks not in the state."""
    outcome = run_cli("examples/orchestrator_workers", "--data", '{"files": ["feedback.txt", "orders.csv"]}')
    assert outcome.data["note"] == ["feedback.txt: great: 2, late: 2", "orders.csv: 3 rows, 260.00 in all"], outcome.stderr
    assert outcome.result["outputs"]["planner"]["tasks"][1] == {"id": "orders.csv", "specialty": "csv", "input": "orders.csv"}
    assert "tasks" not in outcome.data


def test_task_that_nobody_can_do_is_refused(run_cli: Run) -> None:
    """A specialty that no worker has ends the run before any task begins, and the error names those that there are."""
    outcome = run_cli("examples/orchestrator_workers", "--data", '{"files": ["orders.csv", "logo.png"]}')
    assert (outcome.code, outcome.result["usage"]["calls"]) == (1, 1), outcome.stderr
    assert "`png`" in outcome.result["error"]["message"]


ENTRIES = {
    "good": [{"kind": "train", "amount": 88.0, "receipt": "r-1"}],
    "over the limit": [{"kind": "meal", "amount": 52.5, "receipt": "r-2"}],
    "over the limit, no receipt": [{"kind": "meal", "amount": 52.5}],
    "no limit known": [{"kind": "taxi", "amount": 31.0, "receipt": "r-1"}],
}


@pytest.mark.parametrize(
    ("file", "claim", "status", "verdict"),
    [
        ("agentflow.toml", "good", "completed", "accept"),
        ("agentflow.toml", "over the limit", "completed", "accept"),
        ("agentflow.toml", "over the limit, no receipt", "completed", "reject"),
        ("agentflow.toml", "no limit known", "partial", "reject"),
        ("strict.toml", "good", "completed", "accept"),
        ("strict.toml", "over the limit", "completed", "reject"),
        ("strict.toml", "no limit known", "failed", "reject"),
    ],
)
def test_panel_gives_one_verdict(run_cli: Run, file: str, claim: str, status: str, verdict: str) -> None:
    """Most reviewers decide, of a tie the first; the strict panel wants all of them to answer and nobody against it."""
    outcome = run_cli(f"examples/verification_panel/{file}", "--data", json.dumps({"entries": ENTRIES[claim]}))
    assert (outcome.result["status"], outcome.data["verdict"]) == (status, verdict), outcome.stderr
    assert ("clerk" in outcome.result["outputs"]) == (status != "failed")


def test_panel_keeps_what_each_reviewer_said(run_cli: Run) -> None:
    """The outvoted reviewer's own answer stays in the outputs."""
    outcome = run_cli("examples/verification_panel", "--data", "@examples/verification_panel/claim.json")
    verdicts = {name: outcome.result["outputs"][name]["verdict"] for name in ("policy", "receipts", "limits")}
    assert verdicts == {"policy": "accept", "receipts": "accept", "limits": "reject"}, outcome.stderr
    assert (outcome.data["verdict"], outcome.data["paid"]) == ("accept", 140.5)
