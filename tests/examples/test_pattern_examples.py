"""The five patterns, each in its small folder, and the patterns put together from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

Run = Callable[..., Any]


def test_first_file_runs_as_printed(run_cli: Run) -> None:
    """The first file, with the lists of three modes and an [llm] that nobody needs, runs its three collaborative agents."""
    outcome = run_cli("examples/first_file/agentflow.toml", "--handlers", "handlers:register", "--set", "dataset=Q4_sales_data.json")
    assert outcome.code == 0, outcome.stderr
    assert outcome.data["analysis"] == {"best_month": "2024-12", "growth_percent": 48.4}
    assert outcome.data["validation"] == {"is_valid": True, "wrong_rows": []}
    assert outcome.data["revenue_by_region"] == {"north": 13216.0, "south": 9135.5}
    assert list(outcome.result["outputs"]) == ["analyzer", "validator", "processor"]


def test_first_file_from_python(run_python: Run) -> None:
    """The program that registers the agents itself gets the same answers."""
    outcome = run_python("examples/first_file/main.py")
    assert outcome.code == 0, outcome.stderr
    status, outputs = outcome.stdout.split("\n", 1)
    assert status == "completed"
    assert json.loads(outputs)["analyzer"] == {"analysis": {"best_month": "2024-12", "growth_percent": 48.4}}


def test_route_takes_the_target(run_cli: Run) -> None:
    """Exactly the agent that the event is addressed to runs."""
    outcome = run_cli("examples/route", "--target", "processor", "--data", '{"values": [5, 3, 5, 1]}')
    assert outcome.data["processed"] == [1, 3, 5], outcome.stderr
    assert list(outcome.result["outputs"]) == ["processor"]


def test_route_of_three_events(run_cli: Run) -> None:
    """Of several events each goes its own way; `route` in the metadata goes before the target."""
    outcome = run_cli("examples/route", "--event", "examples/route/events.jsonl")
    assert [list(result["outputs"]) for result in outcome.result] == [["processor"], ["analyzer"], ["analyzer"]]


def test_collaborative_gathers_three_views(run_cli: Run) -> None:
    """All agents answer to the same event and their answers are merged."""
    outcome = run_cli("examples/collaborative", "--data", '{"values": [12, 15, 11, 14]}')
    assert outcome.result["status"] == "completed", outcome.stderr
    assert outcome.data["analysis"] == {"mean": 13, "median": 13.0, "deviation": 1.58}
    assert outcome.data["validation"]["is_valid"] is True
    assert outcome.data["processed"] == [0.25, 1.0, 0.0, 0.75]


def test_collaborative_goes_on_when_one_fails(run_cli: Run) -> None:
    """One of three agents failing is below the threshold: the event succeeds in part, and the error is kept by agent."""
    outcome = run_cli("examples/collaborative", "--data", '{"values": [12, "n/a", 11, 14]}')
    assert (outcome.code, outcome.result["status"]) == (0, "partial"), outcome.stderr
    assert outcome.data["validation"] == {"is_valid": False, "wrong_values": ["n/a"]}
    assert list(outcome.result["errors"]) == ["processor"]
    assert outcome.result["errors"]["processor"]["type"] == "TypeError"


def test_sequential_cleans_the_customers(run_cli: Run, tmp_path: Path) -> None:
    """Each step builds on the one before; the file holds the good records, the result the faults of the others."""
    outcome = run_cli("examples/sequential", "--set", f"output={tmp_path / 'customers.json'}")
    assert outcome.code == 0, outcome.stderr
    assert list(outcome.result["outputs"]) == ["collector", "processor", "validator", "publisher"]
    assert {row["customer_id"]: row["faults"] for row in outcome.data["validation_result"]["rejected"]} == {
        "1002": ["repeated customer_id"],
        "1005": ["no valid email"],
        "1006": ["no lifetime_value"],
        "1008": ["no name", "no signed_up"],
        "1010": ["unknown country ATLANTIS"],
    }
    customers = json.loads((tmp_path / "customers.json").read_text(encoding="utf-8"))
    assert [customer["customer_id"] for customer in customers] == ["1011", "1003", "1001", "1007", "1002", "1004", "1009"]
    assert customers[4] == {
        "customer_id": "1002",
        "name": "Björn Lindqvist",
        "email": "bjorn@example.org",
        "country": "SE",
        "signed_up": "2021-06-14",
        "lifetime_value": 920.0,
    }
    assert outcome.data["publish_result"]["lifetime_value"] == 10159.68
    assert (outcome.meta["stage"], outcome.data["pipeline_complete"]) == ("complete", True)
    assert "raw_data" not in outcome.data


def test_loop_improves_until_good(run_cli: Run) -> None:
    """The agent runs until it says that the text is good: five faults, five rounds, then the condition is met."""
    content = "this is  really a very very long draft , written in order to test."
    outcome = run_cli("examples/loop", "--set", f"content={content}")
    assert outcome.data["content"] == "This is a long draft, written to test.", outcome.stderr
    assert outcome.data["scores"] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert outcome.result["reason"] == "condition_met"
    assert outcome.meta["completion_reason"] == "quality_threshold_met"
    assert not {"iteration", "loop_complete"} & set(outcome.data)


def test_loop_stops_at_the_bound(run_cli: Run) -> None:
    """With fewer rounds than faults the loop ends at max_iterations, says so, and keeps what was reached."""
    content = "this is  really a very very long draft , written in order to test."
    outcome = run_cli("examples/loop", "--set", f"content={content}", environment={"AGENTFLOW__ORCHESTRATION__MAX_ITERATIONS": "2"})
    assert (outcome.result["status"], outcome.result["reason"]) == ("completed", "max_iterations"), outcome.stderr
    assert outcome.data["scores"] == [0.2, 0.4]


def test_quality_loop_ends_by_the_files_condition(run_cli: Run) -> None:
    """`until` in the file ends the loop as soon as the state fulfils it."""
    outcome = run_cli("examples/loop/quality_check.toml", "--set", "content=A very very good text .")
    assert outcome.result["reason"] == "condition_met", outcome.stderr
    assert outcome.data["scores"] == [0.6, 0.8]


def test_mixed_makes_one_summary(run_cli: Run) -> None:
    """Three agents at once, then three in turn, on what the first three found."""
    outcome = run_cli("examples/mixed")
    assert outcome.data["summary"] == (
        "Ratings went from 2.5 to 4.5.\nOf the households, 2 of 3 would buy.\nOf the companies, 2 of 4 would buy.\nConfidence: 86%."
    ), outcome.stderr
    assert outcome.meta["analyzer_complete"] == "true"


def test_conditional_picks_a_runner(run_python: Run) -> None:
    """Two runners in one process, each with its own file, handle the events that are theirs."""
    outcome = run_python("examples/conditional/main.py")
    assert outcome.stdout.splitlines() == [
        "simple: processed (agents: processor)",
        "complex: processed words=10 top_word=the (agents: counter, ranker, processor)",
        "unknown: processed (agents: processor)",
    ], outcome.stderr


@pytest.mark.parametrize(
    ("options", "agents", "pattern"),
    [
        (["--set", "size=10", "--target", "cleaner"], ["cleaner"], "route"),
        (["--set", "size=5000"], ["cleaner", "summarizer"], "collaborative"),
        (["--set", "size=10000"], ["loader", "cleaner", "summarizer"], "sequential"),
        ([], ["loader", "cleaner", "summarizer"], None),
        (["--set", "size=10", "--meta", "orchestration_override=panel"], ["cleaner", "summarizer"], "route"),
        (["--meta", "orchestration_override=collaborative"], ["cleaner", "summarizer"], None),
    ],
)
def test_dynamic_switching(run_cli: Run, options: list[str], agents: list[str], pattern: str | None) -> None:
    """The size of the data chooses the flow; the event's `orchestration_override` goes before it."""
    outcome = run_cli("examples/dynamic_switching", *options)
    assert (outcome.code, list(outcome.result["outputs"])) == (0, agents), outcome.stderr
    assert outcome.meta.get("suggested_pattern") == pattern


def test_nested_flows(run_cli: Run) -> None:
    """A flow as an agent, with a loop in it: the outer pipeline goes on with all of their results."""
    outcome = run_cli("examples/nested", "--data", '{"numbers": [1, 3, 5, 7]}')
    assert outcome.data["published"] == "mean 4.0, root of the sum 4.00", outcome.stderr
    assert outcome.data["estimate_error"] < 0.01
    assert next(iter(outcome.result["outputs"])) == "collector"


def test_nested_runners(run_python: Run) -> None:
    """An agent may await another runner's result; nobody sleeps."""
    outcome = run_python("examples/nested/two_runners.py")
    assert outcome.stdout == "completed - mean 4.0, root of the sum 8.50\n", outcome.stderr


@pytest.mark.parametrize(
    ("request_text", "agents"),
    [
        ("I need help with a complex technical integration", ["analyzer", "specialist", "formatter"]),
        ("Where is my parcel", ["analyzer", "general", "formatter"]),
    ],
)
def test_simple_orchestrator(run_cli: Run, request_text: str, agents: list[str]) -> None:
    """The analyzer's word decides whether the specialist or the general agent runs, once; the formatter has the last word."""
    outcome = run_cli("examples/simple_orchestrator", "--target", "analyzer", "--set", f"request={request_text}")
    assert sorted(outcome.result["outputs"]) == sorted(agents), outcome.stderr
    assert outcome.result["usage"]["calls"] == 3
    assert outcome.data["final_response"].startswith("Dear customer,\n")


def test_data_processing_stops_at_the_failing_stage(run_cli: Run) -> None:
    """A stage that fails ends the pipeline: exit 1, the error names it, and what was done before is kept."""
    outcome = run_cli("examples/data_processing", "--data", '{"orders": [{"amount": 10, "currency": "JPY"}]}')
    assert (outcome.code, outcome.result["status"]) == (1, "failed"), outcome.stderr
    assert (outcome.result["error"]["agent"], outcome.result["error"]["type"]) == ("transformer", "KeyError")
    assert "valid_orders" in outcome.data
    assert "total" not in outcome.data


def test_data_processing(run_cli: Run) -> None:
    """Good input goes through all four stages."""
    orders = '{"orders": [{"amount": 10, "currency": "USD"}, {"amount": 5, "currency": "GBP"}]}'
    outcome = run_cli("examples/data_processing", "--data", orders)
    assert outcome.data["published"] == "2 orders, 15.00 EUR", outcome.stderr
