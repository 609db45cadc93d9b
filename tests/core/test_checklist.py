"""The checklist: each question with a tick or a reason."""

from __future__ import annotations

import pytest

from agentflow.core.checklist import (
    MOST_CAPABILITIES,
    AgentTraits,
    Check,
    Surroundings,
    checklist_of,
    unknown_tokens_in,
    unreached_in,
)
from agentflow.core.ledger import Budget
from agentflow.core.plan import AGENDA, DELEGATION, TASKS, Agenda, Branch, Call, ErrorRoutes, Flow, Loop, Map, Node, Policy, Retry, Seq

A, B = Call("a"), Call("b")
KNOWN = AgentTraits(tokens=100)


def around(**told: object) -> Surroundings:
    """Return surroundings in which all is well, but for what is told."""
    return Surroundings(**{"agents": {"a": KNOWN, "b": KNOWN}, **told})  # type: ignore[arg-type]


def asked(item: str, plan: Node = A, surroundings: Surroundings | None = None) -> Check:
    """Return the answer to one question."""
    (one,) = [check for check in checklist_of(plan, surroundings or around()) if item in check.item]
    return one


def members(*cases: Node) -> Branch:
    """A branch by route."""
    return Branch(cases, routes={str(index): index for index in range(len(cases))})


def test_all_is_well_where_nothing_is_wrong() -> None:
    """Each question is met, and says why."""
    plan = Seq((Call("a", retry=Retry(2)), Loop(Call("b", policy=Policy(fallback=(A,))), 2)), Flow("main", "sequential", 60.0))
    assert [(one.is_met, one.reason) for one in checklist_of(plan, around())] == [
        (True, "1 loop, each with a stop condition and a cap"),
        (True, "at most 7 attempts of 3 steps, 4 of them after failures"),
        (True, "each step is retried, or has somebody in its place"),
        (True, 'each step\'s start, retries and end are in the journal, and with logging.level = "debug" lines of the log'),
        (True, "each step is on disk before the next one begins"),
        (True, "time: 60 s; tokens: 700"),
        (True, "2 agents for at most 3 steps"),
        (True, f"none has more than {MOST_CAPABILITIES} capabilities"),
    ]
    assert asked("termination").reason == "nothing repeats"
    assert asked("iterations").reason == "at most 1 attempt of 1 step"


def test_what_becomes_of_failures_is_told() -> None:
    """Of steps that have neither a retry nor somebody in their place, in each of the ways there are."""
    going = Seq((A,), Flow("going", "sequential", on_error="continue"))
    saved = Seq((Call("a"),), Flow("saved", "sequential", rescue=B))
    plan = Seq((B, going, saved), Flow("main", "sequential", errors=ErrorRoutes(B)))
    told = "3 steps without a retry or fallback: a failure ends its flow, is passed over, is routed on, an error handler is called"
    assert asked("errors", plan) == Check("errors are handled at each step", True, told)


@pytest.mark.parametrize(
    ("level", "durability", "is_met"),
    [("info", "full", True), ("info", "none", False), ("debug", "none", True), ("error", "relaxed", True)],
)
def test_steps_are_seen_in_the_journal_or_the_log(level: str, durability: str, is_met: bool) -> None:
    """One of them is enough."""
    assert asked("progress", surroundings=around(log_level=level, durability=durability)).is_met is is_met


def test_state_that_is_not_on_disk_cannot_be_recovered() -> None:
    """And where nobody has chosen a journal only the command line keeps one."""
    assert not asked("recovered", surroundings=around(durability="none")).is_met
    assert "power cut" in asked("recovered", surroundings=around(durability="relaxed")).reason
    assert asked("recovered", surroundings=around(is_journal_chosen=False)).reason.endswith(
        "run from Python, only with a section [journal]"
    )


def test_tokens_are_limited_by_a_budget_or_by_each_agent() -> None:
    """Without either nothing bounds them, which is no fault where no model answers; nor is time, in a loop beyond all numbers."""
    silent = {"agents": {}, "has_model": True}
    assert asked("resources", Seq((A, B)), around(**silent)) == Check(
        "resources are limited", False, "time: 600 s; tokens: nothing bounds those of a, b"
    )
    assert asked("resources", Seq((A, B)), around(agents={})).is_met
    budget = Seq((A, B), Flow("main", "any", budget=Budget(tokens=5000)))
    assert asked("resources", budget, around(**silent)).reason == "time: 600 s; tokens: a budget of 5,000"
    endless = asked("resources", Loop(A, 10**400))
    assert (endless.is_met, endless.reason.split(";")[0]) == (False, "no limit of time")
    many = Seq(tuple(Call(f"a{number}") for number in range(7)))
    assert asked("resources", many, around(**silent)).reason.endswith("of a0, a1, a2, a3, a4 and 2 more")
    assert unknown_tokens_in(Seq((A, Call("c"))), around()) == ("c",)


def test_more_agents_than_can_be_called_are_too_many() -> None:
    """Members of a leader beyond what it may ever call, and agents beyond twice the steps."""
    body = members(*(Call(f"a{number}") for number in range(4)))
    small = Loop(Map(body, AGENDA, most=4), 3, agenda=Agenda(DELEGATION, "boss", 3), flow=Flow("team", "supervisor"))
    assert asked("delegation", small) == Check(
        "delegation is in proportion", False, "flow `team` has 4 members, of whom at most 3 are ever called"
    )
    assert not asked("delegation", Map(body, TASKS, most=2)).is_met
    assert asked("delegation", Map(body, TASKS, most=4)).is_met
    assert asked("delegation", Loop(A, 9, agenda=Agenda(DELEGATION, "boss", 9))).is_met
    crowd = around(agents={f"a{number}": KNOWN for number in range(3)})
    assert asked("delegation", A, crowd).reason == "3 agents for at most 1 step"
    assert not asked("delegation", A, crowd).is_met


def test_an_agent_that_can_do_everything_is_to_be_split() -> None:
    """Only those that the plan reaches count."""
    crowded = around(agents={"a": AgentTraits(capabilities=MOST_CAPABILITIES + 1)})
    assert "in one agent: a" in asked("everything", A, crowded).reason
    assert not asked("everything", A, crowded).is_met
    assert asked("everything", B, crowded).is_met


def test_agents_that_no_path_reaches_are_named() -> None:
    """But for those that take events by themselves, and those that may only stand in for others."""
    agents = {"a": KNOWN, "spare": KNOWN, "listener": AgentTraits(is_called_by_events=True), "idle": KNOWN}
    plan = Call("a", policy=Policy(fallback=(Call("spare"),)))
    assert unreached_in(plan, around(agents=agents)) == ("idle",)
