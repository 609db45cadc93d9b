"""The patterns in which somebody, or some condition, says while it runs who is next, each in its small folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]


def test_supervisor_asks_by_name_by_capability_and_with_a_task(run_cli: Run) -> None:
    """The adjuster asks one specialist, then two at once, and the writer is told what all of them found."""
    outcome = run_cli("examples/supervisor", "--data", '{"policy": "P-1", "damaged": ["door", "mirror"]}')
    assert outcome.data["letter"] == "We pay 340 of 840.", outcome.stderr
    assert list(outcome.result["outputs"]) == ["adjuster", "policies", "garage", "fraud", "writer"]
    assert not {"next", "done", "parts"} & set(outcome.data)


def test_supervisor_may_be_done_early(run_cli: Run) -> None:
    """Who says `done` after the first answer ends the rounds: nobody else works."""
    outcome = run_cli("examples/supervisor", "--data", '{"policy": "P-9", "damaged": ["door"]}')
    assert outcome.data["letter"] == "There is no such policy.", outcome.stderr
    assert outcome.result["usage"]["calls"] == 4


def test_supervisor_is_cut_off_at_the_bound(run_cli: Run) -> None:
    """A supervisor that is not done after its rounds is not asked again; the synthesizer makes do with what there is."""
    options = ("--data", '{"policy": "P-1", "damaged": ["door"]}', "--config-set", "orchestration.max_rounds=2")
    outcome = run_cli("examples/supervisor", *options)
    assert outcome.data["letter"] == "We pay 220 of 720.", outcome.stderr
    assert outcome.result["usage"]["calls"] == 6


def test_hierarchical_goes_three_levels_down_and_back(run_cli: Run) -> None:
    """A task goes from chief to editor to checkers, what they found comes back, and each level keeps to its own members."""
    outcome = run_cli("examples/hierarchical", "--set", "topic=The bridge")
    assert outcome.data["page"] == "THE BRIDGE: THE BRIDGE OPENED IN 1932, THE BRIDGE WAS PAINTED LAST WEEK.", outcome.stderr
    assert {"chief", "news_desk", "layout"} <= set(outcome.result["outputs"])


def test_hierarchical_deeper_than_allowed_is_refused(agentflow: Run) -> None:
    """A level too many is found before anything runs."""
    outcome = agentflow("validate", "examples/hierarchical", "--config-set", "orchestration.max_depth=2")
    assert (outcome.code, "AF0239" in outcome.stdout) == (2, True), outcome.stderr


@pytest.mark.parametrize(
    ("options", "reason", "price"),
    [
        (["--data", '{"kg": 5, "budget": 95}'], "consensus", 75),
        (["--data", '{"kg": 5, "budget": 70}'], "quiet", None),
        (["--data", '{"kg": 5, "budget": 95}', "--config-set", "orchestration.max_messages=4"], "max_messages", None),
    ],
)
def test_peers_end_in_one_of_three_ways(run_cli: Run, options: list[str], reason: str, price: int | None) -> None:
    """They agree, nobody writes any more, or there were enough messages; the reason says which, and none is a failure."""
    outcome = run_cli("examples/peer_to_peer", *options)
    assert (outcome.result["status"], outcome.result["reason"], outcome.data.get("price")) == ("completed", reason, price), outcome.stderr


def test_plan_is_revised_and_what_is_done_stays_done(run_cli: Run) -> None:
    """A step that fails is replaced by the replanner: the event succeeds in part, and nothing is booked twice."""
    outcome = run_cli("examples/plan_execute", "--set", "city=Oslo", "--set", "bed=hotel")
    assert (outcome.code, outcome.result["status"], outcome.data["total"]) == (0, "partial", 145), outcome.stderr
    assert {"train", "fun", "cheap_bed", "note"} <= set(outcome.result["outputs"])
    assert outcome.result["errors"]["bed"]["type"] == "LookupError"
    assert "plan" not in outcome.data


def test_plan_without_another_way_fails(run_cli: Run) -> None:
    """A failed step that nobody replaces ends the run; what was done is kept."""
    outcome = run_cli("examples/plan_execute", "--set", "city=Rome", "--set", "bed=hostel")
    assert (outcome.code, outcome.result["status"], outcome.data["price of museum"]) == (1, "failed", 15), outcome.stderr
    assert "note" not in outcome.data


@pytest.mark.parametrize(
    ("parcel", "agents"),
    [
        ('{"kg": 40}', ["freight"]),
        ('{"kg": 2, "country": "DE"}', ["post"]),
        ('{"kg": 0.2, "country": "FR"}', ["letter"]),
        ('{"kg": 2, "country": "FR", "value": 20}', ["courier"]),
        ('{"kg": 2, "country": "FR", "value": 2000}', ["customs", "courier"]),
    ],
)
def test_decision_tree_has_a_way_for_each_parcel(run_cli: Run, parcel: str, agents: list[str]) -> None:
    """Three questions deep; a leaf may hand on."""
    outcome = run_cli("examples/decision_tree", "--data", parcel)
    assert list(outcome.result["outputs"]) == agents, outcome.stderr


def test_decision_tree_names_what_is_missing(run_cli: Run) -> None:
    """A question about a field that is not there fails the run and names the field."""
    outcome = run_cli("examples/decision_tree", "--data", '{"kg": 2, "country": "FR"}')
    assert outcome.code == 1
    assert "`event.data.value` is not there" in outcome.result["error"]["message"]


def test_graph_goes_round_until_good(run_cli: Run) -> None:
    """The reviser gets the analyzer's score as its input, round after round, and then the article is published."""
    outcome = run_cli("examples/graph", "--set", "title=Plans", "--set", "text=it is really a very good plan")
    assert (outcome.data["published"], outcome.data["scores"]) == ("Plans: it is a good plan", [0.71, 0.83]), outcome.stderr


@pytest.mark.parametrize(
    ("text", "status", "last"),
    [("it is a good plan", "partial", "shelf"), ("very very quite really just just good", "completed", "shelf")],
)
def test_graph_has_a_way_for_errors_and_an_else(run_cli: Run, text: str, status: str, last: str) -> None:
    """A node that fails may lead to another one, and an edge without a condition is taken when no other is."""
    outcome = run_cli("examples/graph", "--set", f"text={text}")
    assert (outcome.result["status"], list(outcome.result["outputs"])[-1]) == (status, last), outcome.stderr
    assert outcome.data["shelved"] is True


def test_graph_stops_at_the_bound(run_cli: Run) -> None:
    """A circle that is not left in time fails, and the error shows the way."""
    outcome = run_cli("examples/graph", "--set", "title=x", "--set", "text=a very really just good and quite nice little plan")
    assert (outcome.code, outcome.result["reason"]) == (1, "hop_limit"), outcome.stderr
    assert "analyzer -> reviser -> analyzer" in outcome.result["error"]["message"]


def test_events_bring_forth_events(run_cli: Run) -> None:
    """Each subscriber takes the event in a run of its own, what it emits goes to others, and one that fails fails alone."""
    outcome = run_cli("examples/event_driven", "--target", "order.placed", "--data", '{"item": "lamp"}')
    assert outcome.result["status"] == "completed", outcome.stderr
    told = [(agent, child["status"]) for child in outcome.result["children"] for agent in [*child["outputs"], *child["errors"]]]
    assert sorted(told) == [
        ("buyer", "completed"),
        ("ledger", "failed"),
        ("mailer", "completed"),
        ("mailer", "completed"),
        ("till", "completed"),
        ("warehouse", "completed"),
    ]


def test_background_steps_are_runs_of_their_own(run_cli: Run) -> None:
    """The event's own result does not have what they set."""
    outcome = run_cli("examples/event_driven", "--target", "desk", "--data", '{"item": "chair", "price": 3}')
    assert "visits" not in outcome.data, outcome.stderr
    assert [child["state"]["data"]["visits"] for child in outcome.result["children"] if "counter" in child["outputs"]] == [1]


def test_own_mode_runs_like_the_others(run_cli: Run) -> None:
    """Every agent is followed by all checkers, flows among them included, and their refusal ends it."""
    good = run_cli("examples/own_mode", "--data", '{"amount": 10}')
    assert (good.data["seen"], good.result["usage"]["calls"]) == (["prepared", "paid"], 7), good.stderr
    bad = run_cli("examples/own_mode", "--data", '{"amount": 1001}')
    assert (bad.code, bad.data["step"], list(bad.result["errors"])) == (1, "prepared", ["audit"]), bad.stderr
