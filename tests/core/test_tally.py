"""Counting records: events by outcome and pattern, calls by agent, what was used."""

from __future__ import annotations

import json
from typing import Any

from agentflow.core import records as facts
from agentflow.core.failure import Failure
from agentflow.core.state import Patch
from agentflow.core.tally import EVENTS, Tally

FAILURE = Failure("no", "ValueError")


def counted(*told: facts.Fact, run_id: str = "r", every_s: float = 1.0, tally: Tally | None = None) -> Tally:
    """Count the records of one run, a second apart."""
    tally = tally or Tally()
    for seq, fact in enumerate(told):
        tally.follow(facts.Record(run_id, seq * every_s, fact, seq))
    return tally


def created(pattern: str = "mixed") -> facts.WorkflowCreated:
    """A run is accepted."""
    return facts.WorkflowCreated({}, pattern)


def done(agent: str, duration_s: float = 0.5, usage: dict[str, Any] | None = None) -> facts.StepCompleted:
    """A step completes."""
    return facts.StepCompleted("0", agent, 1, duration_s, Patch({}), None, usage)


def test_each_outcome_of_a_run_is_counted_under_its_status_and_by_its_pattern() -> None:
    """accepted, completed, partial, failed, timed_out and cancelled; a dead letter counts as failed, too."""
    tally = Tally()
    endings: list[facts.Fact] = [
        facts.WorkflowCompleted("completed", "completed", 1.0),
        facts.WorkflowCompleted("partial", "completed", 1.0),
        facts.WorkflowFailed("failed", "error", 1.0),
        facts.WorkflowFailed("timed_out", "timeout", 1.0),
        facts.WorkflowCancelled("cancelled", 1.0),
        facts.WorkflowFailed("failed", "error", 1.0, flags=("dead_lettered",)),
    ]
    for number, ending in enumerate(endings):
        counted(created("loop" if number else "route"), ending, run_id=f"r{number}", tally=tally)
    expected = {"accepted": 6, "completed": 1, "partial": 1, "failed": 2, "timed_out": 1, "cancelled": 1, "dead_lettered": 1}
    assert expected == tally.events
    assert {"route", "loop"} == set(tally.patterns)
    assert {**dict.fromkeys(EVENTS, 0), "accepted": 1, "completed": 1} == tally.patterns["route"]
    assert {**expected, "accepted": 5, "completed": 0} == tally.patterns["loop"]


def test_a_run_that_was_accepted_before_counting_began_is_counted_when_it_ends() -> None:
    """Nobody knows its pattern then."""
    tally = counted(facts.WorkflowCompleted("completed", "completed", 2.0))
    assert (0, 1, {}) == (tally.events["accepted"], tally.events["completed"], tally.patterns)


def test_the_latency_of_a_run_is_what_it_measured_and_of_one_that_was_taken_over_its_age() -> None:
    """The process that ended it does not know how long it had run before; one that never began has no latency."""
    ending = facts.WorkflowCompleted("completed", "completed", 0.25)
    assert 0.25 == counted(created(), ending).latency.longest
    assert 20.0 == counted(created(), facts.WorkflowRecovering(2, "o"), ending, every_s=10.0).latency.longest
    assert 0 == counted(created(), facts.WorkflowCancelled("cancelled", None)).latency.count


def test_an_agent_s_calls_are_its_attempts_and_its_rate_is_that_of_its_steps() -> None:
    """Two steps of three attempts in all, one of which failed for good: two thirds are not the rate, one half is."""
    told = [
        created(),
        facts.StepStarted("0", "a"),
        facts.StepRetried("0", "a", 1, 1.0, FAILURE),
        facts.StepStarted("0", "a", 2),
        done("a", 3.0),
        facts.StepStarted("1", "a"),
        facts.StepFailed("1", "a", 1, 5.0, FAILURE),
    ]
    agent = counted(*told).agents["a"]
    assert (3, 1, 1, 1) == (agent.calls, agent.completed, agent.failed, agent.retries)
    assert 0.5 == agent.success_rate
    assert (2, 5.0) == (agent.latency.count, agent.latency.longest)


def test_an_agent_of_which_no_step_has_ended_has_no_rate() -> None:
    """None stands for it; zero would say that all had failed."""
    assert counted(facts.StepStarted("0", "a")).agents["a"].success_rate is None


def test_a_step_that_was_refused_before_its_first_attempt_has_no_latency() -> None:
    """Else rejections would make a slow agent look quick."""
    agent = counted(facts.StepFailed("0", "a", 0, 0.0, FAILURE)).agents["a"]
    assert (1, 0) == (agent.failed, agent.latency.count)


def test_what_stood_in_for_an_agent_is_counted_on_both_sides() -> None:
    """Fallbacks and degraded answers with the agent that failed, stand-ins with the one that was tried; so are reuse and abandonment."""
    told = [
        facts.FallbackTaken("0", "a", "b", 1, 1, FAILURE),
        facts.StepDegraded("0", "a", FAILURE),
        facts.AnswerReused("0", "a"),
        facts.StepAbandoned("0", "a"),
    ]
    agents = counted(*told).agents
    assert (1, 0, 1, 1, 1) == tuple(getattr(agents["a"], name) for name in ("fallbacks", "stand_ins", "degraded", "reused", "abandoned"))
    assert (0, 1) == (agents["b"].fallbacks, agents["b"].stand_ins)


def test_usage_is_that_of_all_attempts_and_exhausted_budgets_are_counted() -> None:
    """Also of attempts that failed."""
    told = [
        done("a", usage={"total_tokens": 5, "cost_usd": 0.25}),
        facts.StepRetried("0", "a", 1, 1.0, FAILURE, usage={"input_tokens": 3, "total_tokens": 3}),
        facts.StepFailed("0", "a", 1, 1.0, FAILURE, {"total_tokens": 2, "seconds": 1.0}),
        facts.BudgetExhausted("", "tokens", 10, 10),
    ]
    tally = counted(*told)
    assert {"input_tokens": 3, "output_tokens": 0, "total_tokens": 10, "cost_usd": 0.25} == tally.usage
    assert 1 == tally.exhausted


def test_the_figures_are_plain_json() -> None:
    """Whoever prints or sends them needs to know nothing of ours."""
    told = counted(created(), facts.StepStarted("0", "a"), done("a"), facts.WorkflowCompleted("completed", "completed", 1.0)).to_dict()
    assert told == json.loads(json.dumps(told))
    assert {"events", "patterns", "latency_seconds", "agents", "usage", "budgets_exhausted"} == set(told)


def test_every_kind_of_fact_can_be_counted() -> None:
    """What says nothing to the figures changes none of them."""
    before = Tally().to_dict()
    for fact in (facts.EventPatched("before", Patch({})), facts.BranchTaken("0", 0, "a"), facts.WorkflowPaused("approval")):
        assert before == counted(fact).to_dict()
