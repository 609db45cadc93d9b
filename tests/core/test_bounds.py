"""Bounds: the worst case of a plan, counted without running it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from agentflow.core.bounds import (
    bounds_of,
    nodes_in,
    worst_case_calls,
    worst_case_hops,
    worst_case_seconds,
    worst_case_steps,
    worst_case_tokens,
)
from agentflow.core.ledger import Budget
from agentflow.core.plan import (
    AGENDA,
    DELEGATION,
    MAILBOX,
    OVER,
    REVISION,
    STEPS,
    TASKS,
    WAVES,
    Agenda,
    Branch,
    Call,
    Edge,
    ErrorRoutes,
    Flow,
    Loop,
    Map,
    Node,
    Par,
    Policy,
    Retry,
    Seq,
    Unread,
    agents_of,
)

ONCE = Call("once", timeout_s=10)
THRICE = Call("thrice", timeout_s=10, retry=Retry(max_retries=2, initial_delay_s=1, factor=3, max_delay_s=2, jitter=False))

UNDONE = replace(ONCE, policy=Policy(compensate=THRICE))


def route(*cases: Node, bound: int) -> Loop:
    """A hand-off loop over members."""
    return Loop(Branch(cases, routes={str(index): index for index in range(len(cases))}), bound, is_handoff=True)


def members(*cases: Node) -> Branch:
    """A branch by route over members."""
    return Branch(cases, routes={str(index): index for index in range(len(cases))})


def supervised(*cases: Node, rounds: int) -> Loop:
    """A supervisor's rounds: it is called in each, and names as many members as there are."""
    leader = Call("leader", timeout_s=1)
    delegated = Map(members(*cases), AGENDA, most=len(cases))
    return Loop(Seq((leader, delegated)), rounds, agenda=Agenda(DELEGATION, "leader", rounds * len(cases)))


def graph(*cases: Node, visits: int, bound: int | None = None) -> Loop:
    """A graph whose nodes all lead to the first one."""
    edges = tuple(Edge(str(index), "0") for index in range(len(cases)))
    return Loop(members(*cases), bound or len(cases) * visits, is_handoff=True, entry="0", edges=edges, max_visits=visits)


TREE = Loop(
    Branch((Branch((ONCE, THRICE), (Unread("x"),)), ONCE, THRICE), routes={"": 0, "once": 1, "thrice": 2}), 4, is_handoff=True, entry=""
)


@pytest.mark.parametrize(
    ("plan", "calls", "steps", "hops", "seconds"),
    [
        pytest.param(ONCE, 1, 1, 0, 10, id="a call"),
        pytest.param(THRICE, 3, 1, 0, 33, id="retries: three attempts, waits of 1 and 2 s"),
        pytest.param(Seq((ONCE, THRICE)), 4, 2, 0, 43, id="Seq: the sum"),
        pytest.param(Par((ONCE, THRICE), concurrency=2), 4, 2, 0, 33, id="Par: calls add, the slowest counts"),
        pytest.param(Par((ONCE,) * 5, concurrency=2), 5, 5, 0, 30, id="Par: five branches, two at once, are three waves"),
        pytest.param(Loop(THRICE, 4), 12, 4, 0, 132, id="Loop: the bound times its body"),
        pytest.param(Branch((ONCE, THRICE), (Unread("x"),)), 3, 1, 0, 33, id="Branch: the costliest case"),
        pytest.param(route(ONCE, THRICE, bound=33), 99, 33, 32, 33 * 33, id="route: a first call and max_hops hand-offs"),
        pytest.param(
            replace(ONCE, policy=Policy(fallback=(ONCE, THRICE))), 5, 1, 0, 53, id="fallbacks: all of them are tried, in one step"
        ),
        pytest.param(replace(THRICE, policy=Policy(self_correct=2)), 5, 1, 0, 53, id="corrections come before the retries"),
        pytest.param(Seq((ONCE, ONCE), Flow("f", "any", rescue=THRICE)), 5, 3, 0, 53, id="on_error: one more step"),
        pytest.param(Loop(ONCE, 3, flow=Flow("f", "any", rescue=ONCE)), 4, 4, 0, 40, id="on_error of a loop: once, after the rounds"),
        pytest.param(
            Seq((ONCE,), Flow("f", "any", errors=ErrorRoutes(ONCE, {"x": THRICE}))), 4, 2, 0, 43, id="handlers: the costliest of them, once"
        ),
        pytest.param(Par((UNDONE, UNDONE), 2), 8, 4, 0, 10 + 66, id="compensation: one after another, each step's"),
        pytest.param(Loop(Branch((UNDONE, ONCE), (Unread("x"),)), 3), 12, 6, 0, 30 + 99, id="compensation: each round's"),
        pytest.param(Seq((UNDONE,), Flow("f", "any", 5.0)), 4, 2, 0, 5 + 33, id="compensation: beyond the flow's time limit"),
        pytest.param(Par((ONCE, THRICE), 2, join_timeout_s=15.0), 4, 2, 0, 15, id="a join's deadline cuts its branches"),
        pytest.param(Loop(route(ONCE, bound=3), 5), 15, 15, 10, 150, id="hops of a nested flow count in each round"),
        pytest.param(Map(THRICE, OVER, "files", most=5, concurrency=2), 15, 5, 0, 99, id="Map: the most items, in waves"),
        pytest.param(Map(members(ONCE, THRICE), TASKS, most=4, concurrency=4), 12, 4, 0, 33, id="Map: each item the costliest case"),
        pytest.param(Map(members(ONCE, THRICE), STEPS, concurrency=1), 4, 2, 0, 66, id="Map over steps: each case once"),
        pytest.param(Map(Seq((ONCE, route(ONCE, bound=3))), TASKS, most=2), 8, 8, 4, 40, id="Map: hops of each item"),
        pytest.param(supervised(ONCE, THRICE, rounds=3), 3 + 6 * 3, 3 + 6, 0, 3 + 3 * 33, id="delegation: the supervisor, and all members"),
        pytest.param(
            Loop(Map(members(ONCE, ONCE), AGENDA, most=2), 5, agenda=Agenda(MAILBOX, "", 5)),
            5,
            5,
            0,
            50,
            id="messages: not more than the cap",
        ),
        pytest.param(
            Loop(
                Seq((Map(members(ONCE), AGENDA, most=6, concurrency=2), Map(THRICE, REVISION, most=1))),
                6,
                agenda=Agenda(WAVES, "planner", 6, most_replans=2),
            ),
            *(6 + 18, 6 + 6, 0, 60 + 6 * 33),
            id="waves: each step once, the replanner after each wave",
        ),
        pytest.param(
            Loop(Seq((ONCE, Map(ONCE, AGENDA, most=3))), 2, agenda=Agenda(DELEGATION, "once", 100)),
            8,
            8,
            0,
            40,
            id="agenda: rounds cap it, too",
        ),
        pytest.param(
            Loop(Seq((Seq((Map(ONCE, AGENDA, most=3),)),)), 2, agenda=Agenda(DELEGATION, "x", 4)),
            6,
            6,
            0,
            20,
            id="agenda: deeper down each round",
        ),
        pytest.param(graph(ONCE, THRICE, visits=2), 8, 4, 3, 86, id="graph: each node as often as it may be visited"),
        pytest.param(graph(ONCE, THRICE, visits=3, bound=4), 10, 4, 3, 109, id="graph: the costliest visits within the bound"),
        pytest.param(TREE, 12, 4, 3, 4 * 33, id="decision tree: the questions once, then hand-offs"),
        pytest.param(
            replace(TREE, body=replace(TREE.body, cases=(THRICE, ONCE, ONCE))), 6, 4, 3, 63, id="decision tree: its root comes up once"
        ),
        pytest.param(Seq((THRICE, THRICE), Flow("f", "any", budget=Budget(calls=4))), 4, 2, 0, 66, id="a budget of calls caps attempts"),
        pytest.param(
            Seq((THRICE, THRICE), Flow("f", "any", rescue=THRICE, budget=Budget(calls=4))), 7, 3, 0, 99, id="on_error beyond the budget"
        ),
        pytest.param(
            Seq((THRICE, UNDONE), Flow("f", "any", max_total_attempts=1)),
            3 + 1,
            3,
            0,
            33 + 10 + 33,
            id="attempts after failures are capped",
        ),
    ],
)
def test_worst_case(plan: Node, calls: int, steps: int, hops: int, seconds: float) -> None:
    """Each kind of node counts as it runs at worst."""
    assert (worst_case_calls(plan), worst_case_steps(plan), worst_case_hops(plan)) == (calls, steps, hops)
    assert worst_case_seconds(plan) == pytest.approx(seconds)
    worst = bounds_of(plan)
    assert (worst.calls, worst.steps, worst.hops, worst.wall_s) == (calls, steps, hops, worst_case_seconds(plan))


def test_time_limit_of_a_flow_cuts_its_body() -> None:
    """A flow takes no longer than its own limit, and a limit that is longer than its body changes nothing."""
    assert worst_case_seconds(Loop(ONCE, 100, flow=Flow("f", "loop", 60.0))) == 60
    assert worst_case_seconds(Seq((ONCE,), Flow("f", "sequential", 60.0))) == 10
    assert worst_case_seconds(Seq((Loop(ONCE, 100, flow=Flow("f", "loop", 60.0)), ONCE))) == 70


def test_jitter_lengthens_waits_by_a_tenth() -> None:
    """With jitter a wait may be a tenth longer."""
    assert bounds_of(Call("a", 10, approval_timeout_s=86_400.0)) == bounds_of(Call("a", 10))
    assert worst_case_seconds(Call("a", 10, Retry(max_retries=1, initial_delay_s=1))) == pytest.approx(21.1)


def test_time_beyond_every_number_is_none() -> None:
    """A plan of nested loops whose time no number holds has no bound in seconds; its calls are counted all the same."""
    plan: Node = ONCE
    for _ in range(20):
        plan = Loop(plan, 2**63 - 1)
    assert worst_case_seconds(plan) is None
    assert worst_case_calls(plan) == (2**63 - 1) ** 20
    assert worst_case_seconds(Loop(ONCE, 10**400)) is None


def test_shared_flows_are_counted_in_each_place_and_folded_once() -> None:
    """A flow that stands ten times in each of twelve levels makes 10^12 calls, counted at once."""
    plan: Node = ONCE
    for _ in range(12):
        plan = Seq((plan,) * 10)
    assert worst_case_calls(plan) == 10**12
    assert nodes_in(plan) == sum(10**level for level in range(13))
    assert agents_of(plan) == ("once",)


def test_empty_parts_cost_nothing() -> None:
    """A Par and a Branch without members are no calls."""
    plan = Seq((Par(()), Branch(())))
    assert bounds_of(plan) == type(bounds_of(plan))(0, 0, 0, 0.0)


def test_compensation_of_a_huge_plan_has_no_bound_in_seconds() -> None:
    """What no number can hold is None there, too."""
    plan: Node = UNDONE
    for _ in range(20):
        plan = Loop(plan, 2**63 - 1)
    assert worst_case_seconds(plan) is None
    assert worst_case_calls(plan) == 4 * (2**63 - 1) ** 20


def test_items_of_an_agenda_take_longest_where_they_come_one_by_one() -> None:
    """However so many items are spread over rounds, they take no longer than is said; and some spread takes just that long."""
    for rounds, most, total, at_once in product(range(1, 4), range(1, 4), range(1, 8), range(1, 4)):
        plan = Loop(Map(ONCE, AGENDA, most=most, concurrency=at_once), rounds, agenda=Agenda(WAVES, "", total))
        spreads = [spread for spread in product(range(most + 1), repeat=rounds) if sum(spread) <= total]
        assert worst_case_calls(plan) == max(map(sum, spreads))
        slowest = max(sum(-(-items // at_once) for items in spread) for spread in spreads)
        assert worst_case_seconds(plan) == 10 * slowest


def test_tokens_are_those_of_each_attempt() -> None:
    """Of every agent that may answer, with retries and fallbacks; unknown where one of them says nothing."""
    plan = Seq((replace(THRICE, policy=Policy(fallback=(ONCE,), self_correct=1)), UNDONE))
    assert worst_case_tokens(plan, {"once": 100, "thrice": 7}) == 4 * 7 + 100 + 100 + 3 * 7
    assert worst_case_tokens(plan, {"once": 100}) is None
    assert worst_case_tokens(Loop(Branch(()), 2, is_handoff=True), {}) == 0
    assert worst_case_hops(Loop(Branch(()), 2, is_handoff=True)) == 0
