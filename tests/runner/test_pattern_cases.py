"""What the documents ask of each pattern beyond its plain course (test_patterns.py). Case numbers are those of the feature list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from agentflow import AgentResult, ConfigError, Event, Runner, State
from agentflow.core.condition import Unread
from agentflow.core.part import REDUCE, Results
from agentflow.core.plan import AGENDA, DELEGATION, OVER, Agenda, Branch, Call, Loop, Map, Node, Part, Seq
from agentflow.core.records import LoopEnded, PlanCreated, PlanRevised, StepStarted
from agentflow.core.result import RunResult
from agentflow.testing import StubCalls, stub_agents

PEERS = {"mode": "peer_to_peer", "agents": ["a", "b", "c"]}
LED = {"mode": "supervisor", "supervisor": "s", "agents": ["a", "b"]}
PLANNED = {"mode": "plan_execute", "planner": "p", "agents": ["a"]}
TASKED = {"mode": "orchestrator_workers", "planner": "p", "workers": ["a"]}


async def ran(
    flow: Mapping[str, Any], names: str, answers: Mapping[str, Any] | None = None, event: Event | None = None, **more: Any
) -> Any:
    """Run a flow with stubs for its agents; return the result, the calls, and the records."""
    tables = {name: {} for name in names.split()} | more.pop("agents", {})
    runner = Runner.from_dict({"orchestration": dict(flow), "agents": tables, **more}, environ={})
    calls = stub_agents(runner, answers)
    facts: list[Any] = []
    runner.observe(lambda record: facts.append(record.fact))
    async with runner:
        return await runner.run(event or Event()), calls, facts


def resting(rests: Mapping[Any, float], key: str, log: list[Any] | None = None) -> Callable[..., Any]:
    """Return a handler that takes its time by its event's data, and notes when it began and ended."""

    async def handler(event: Event, state: State) -> dict[str, Any]:
        told = event.data.get(key)
        if log is not None:
            log.append(("begins", told))
        await asyncio.sleep(rests.get(told, 1.0))
        if log is not None:
            log.append(("ends", told))
        return {"done": told}

    return handler


def most_at_once(log: list[Any]) -> int:
    """Return how many were at work at once at most."""
    open_now = peak = 0
    for what, _ in log:
        open_now += 1 if what == "begins" else -1
        peak = max(peak, open_now)
    return peak


def began(facts: list[Any]) -> list[str]:
    return [fact.agent for fact in facts if isinstance(fact, StepStarted)]


# --- side by side ---

STEPS = [{"id": f"s{number}", "agent": "a", "input": number} for number in range(6)]
MANY: dict[str, dict[str, Any]] = {
    "parallel": {"mode": "parallel", "steps": STEPS},
    "map_reduce": {"mode": "map_reduce", "map": "a", "over": "items", "reduce": "z"},
    "steps of map_reduce": {
        "mode": "map_reduce",
        "steps": [*({**step, "phase": "map"} for step in STEPS), {"agent": "z", "phase": "reduce"}],
    },
    "orchestrator_workers": {**TASKED, "synthesizer": "z"},
    "plan_execute": {**PLANNED, "synthesizer": "z"},
    "pipeline": {"mode": "pipeline", "over": "items", "sequential_agents": ["a"]},
}


@pytest.mark.parametrize("pattern", MANY)
async def test_case_17_never_more_at_once_than_allowed(pattern: str) -> None:
    """Six pieces of work, at most two at once: there are two at some time, and never three."""
    log: list[Any] = []
    tasks = [{"id": f"t{number}", "input": number} for number in range(6)]
    answers = {"a": resting({}, "input", log), "p": {"tasks": tasks, "plan": tasks}}
    result, _, _ = await ran({**MANY[pattern], "max_concurrency": 2}, "a p z", answers, Event("", {"items": [1, 2, 3, 4, 5, 6]}))
    assert ("completed", 12, 2) == (result.status, len(log), most_at_once(log))


@pytest.mark.parametrize("pattern", ["map_reduce", "pipeline", "orchestrator_workers", "plan_execute"])
async def test_case_20_nothing_to_do_is_done_at_once(pattern: str) -> None:
    """An empty list, no tasks, and a plan without steps call nobody, and who comes next is told that there are no results."""
    result, calls, _ = await ran(MANY[pattern], "a p z", {"p": {"tasks": [], "plan": []}}, Event("", {"items": []}))
    assert "completed" == result.status
    assert [] == calls.of("a")
    assert [[]] * (pattern != "pipeline") == [call.event.data["results"] for call in calls.of("z")]
    assert pattern != "pipeline" or result.state["results"] == []


async def test_case_18_each_failure_has_the_id_of_its_own_step() -> None:
    """[ok, fails, crashes, ok]: the others are done, and errors are told by the steps' ids with type and message."""

    def answer(event: Event, state: State) -> dict[str, int]:
        if event.data["input"] in {1, 2}:
            raise (ValueError("bad") if event.data["input"] == 1 else ZeroDivisionError("crash"))
        return {"n": event.data["input"]}

    result, _, _ = await ran({"mode": "parallel", "steps": STEPS[:4]}, "a", {"a": answer})
    assert ("partial", ["s0", "s3"]) == (result.status, list(result.outputs))
    assert {"s1": ("ValueError", "bad"), "s2": ("ZeroDivisionError", "crash")} == {
        name: (failure.type, failure.message) for name, failure in result.errors.items()
    }


async def test_case_21_each_item_of_a_pipeline_has_its_own_line() -> None:
    """Two items and two stages: the second stage is given what the first made of its own item."""
    answers = {
        "first": lambda event, state: {"n": event.data["item"] * 10 + event.data["index"]},
        "second": lambda event, state: {"m": event.data["n"] + 1},
    }
    flow = {"mode": "pipeline", "over": "items", "sequential_agents": ["first", "second"]}
    result, calls, _ = await ran(flow, "first second", answers, Event("", {"items": [1, 2]}))
    assert [{"n": 10}, {"n": 21}] == sorted((call.event.data for call in calls.of("second")), key=str)
    assert [{"m": 11}, {"m": 22}] == [{"m": row["m"]} for row in result.state["results"]]


async def test_case_23_a_line_that_breaks_leaves_the_others_alone() -> None:
    """An item that fails in the first stage does not come to the second; the others do, and results say where one is missing."""

    def first(event: Event, state: State) -> dict[str, int]:
        return {"n": 10 // event.data["item"]}

    flow = {"mode": "pipeline", "over": "items", "sequential_agents": ["first", "second"]}
    result, calls, _ = await ran(flow, "first second", {"first": first, "second": {"ok": True}}, Event("", {"items": [1, 0, 2]}))
    assert ("partial", 2) == (result.status, len(calls.of("second")))
    assert [True, False, True] == [row is not None for row in result.state["results"]]


async def test_tasks_are_leased_to_the_pool_of_one_worker() -> None:
    """A single worker with a pool of two takes all tasks, two at a time, and each lease is counted."""
    log: list[Any] = []
    tasks = [{"id": f"t{number}", "input": number} for number in range(5)]
    runner = Runner.from_dict(
        {"orchestration": {**TASKED, "workers": "a"}, "agents": {"a": {}, "p": {}}, "workers": {"a": {"count": 2}}}, environ={}
    )
    stub_agents(runner, {"p": {"tasks": tasks}, "a": resting({}, "input", log)})
    async with runner:
        result = await runner.run(Event())
        done = [worker.completed_tasks for worker in runner.workers.status()]
    assert ("completed", 10, 2) == (result.status, len(log), most_at_once(log))
    assert (5, 2) == (sum(done), len(done))


@pytest.mark.parametrize("mode", ["parallel", "pipeline", "map_reduce", "orchestrator_workers"])
async def test_a_step_that_requires_approval_waits_in_every_pattern_of_steps(mode: str) -> None:
    """The step before runs, the one that asks does not until it is approved; after a rejection it and what follows never do."""
    phases = {"map_reduce": ("map", "reduce", "reduce"), "orchestrator_workers": ("plan", "work", "synthesize")}.get(mode, (None,) * 3)
    steps: list[dict[str, Any]] = [{"agent": name} for name in "abc"]
    for step, phase in zip(steps, phases, strict=True):
        step |= {"phase": phase} if phase else {}
    if mode == "parallel":
        steps[1]["depends_on"], steps[2]["depends_on"] = ["a"], ["b"]
    steps[1]["requires_approval"] = True
    for is_approved in (True, False):
        runner = Runner.from_dict({"orchestration": {"mode": mode, "steps": steps}, "agents": {name: {} for name in "abc"}}, environ={})
        calls = stub_agents(runner)
        async with runner:
            handle = await runner.emit(Event())
            assert "paused" == await handle.wait()
            assert ["a"] == calls.agents
            assert await (handle.approve("b") if is_approved else handle.reject("b", reason="Not authorized"))
            result = await handle.result()
        assert (["a", "b", "c"] if is_approved else ["a"]) == calls.agents
        assert is_approved == (result.status == "completed")
        assert is_approved or "Not authorized" in str(result.error)


# --- supervisor, hierarchical ---


async def test_delegation_ends_at_max_rounds() -> None:
    """A supervisor that never says `done` is called `max_rounds` times, and the result says why it ended."""
    result, calls, _ = await ran({**LED, "max_rounds": 3}, "s a b", {"s": {"next": ["a", "b"]}})
    assert ("completed", "max_rounds", 3, 6) == (result.status, result.reason, len(calls.of("s")), len(calls) - 3)


async def test_a_supervisor_that_is_done_at_once_calls_nobody() -> None:
    """`done` in its first answer ends the loop, also where it names somebody too."""
    result, calls, _ = await ran(LED, "s a b", {"s": {"done": True, "next": "a"}})
    assert ("completed", ["s"]) == (result.status, calls.agents)


async def test_control_is_read_from_the_answer_alone() -> None:
    """What the event or a member sets under `next` or `done` steers nothing, and stays in the state."""
    answers = {"s": [{"next": "a"}, {"next": "b"}, {"done": True}], "a": {"done": True}, "b": {"next": "a"}}
    result, calls, _ = await ran(LED, "s a b", answers, Event("", {"next": "b", "done": True}))
    assert ["s", "a", "s", "b", "s"] == calls.agents
    assert ("completed", True, "a") == (result.status, result.state["done"], result.state["next"])


async def test_the_synthesizer_is_given_what_was_done() -> None:
    """The parts of a goal go to who can do them, and one answer is made of their results."""
    flow = {**LED, "synthesizer": "z"}
    answers = {"s": [{"next": "a"}, {"next": "b"}, {"done": True}], "a": {"x": 1}, "b": {"y": 2}, "z": {"sum": 3}}
    result, calls, _ = await ran(flow, "s a b z", answers)
    assert ("completed", {"x": 1, "y": 2, "sum": 3}) == (result.status, dict(result.state))
    assert "z" == calls.agents[-1]


@pytest.mark.parametrize(("low", "code"), [({"agents": ["top"]}, "AF0207"), ({"agents": ["leaf"]}, "AF0239")], ids=["circle", "too deep"])
def test_managers_in_a_circle_or_too_deep_are_refused_at_load(low: dict[str, Any], code: str) -> None:
    """A manager that manages itself by way of others, and more levels than `max_depth`, are told before anything runs."""
    led = {"mode": "hierarchical", "supervisor": "s"}
    flows = {"top": {**led, "agents": ["mid"]}, "mid": {**led, "agents": ["low"]}, "low": {**led, **low}}
    main = {**led, "agents": ["top"], "max_depth": 3}
    with pytest.raises(ConfigError, match=code):
        Runner.from_dict({"orchestration": main, "flows": flows, "agents": {"s": {}, "leaf": {}}}, environ={})


# --- peer_to_peer ---


def sends(*messages: tuple[str, Any], **told: Any) -> Callable[..., Any]:
    """Return a handler that sends messages in its first call."""
    left = list(messages)

    async def handler(event: Event, state: State, ctx: Any) -> dict[str, Any]:
        while left:
            ctx.send(*left.pop(0))
        return told

    return handler


async def met(handlers: Mapping[str, Any], event: Event | None = None, **more: Any) -> tuple[RunResult, list[Any]]:
    """Run three peers; return the result and the records."""
    runner = Runner.from_dict({"orchestration": {**PEERS, **more}, "agents": {name: {} for name in "abc"}}, environ={})
    facts: list[Any] = []
    runner.observe(lambda record: facts.append(record.fact))
    for name in "abc":
        runner.register_agent(name, handlers.get(name, sends()))
    async with runner:
        return await runner.run(event or Event()), facts


async def test_messages_of_one_sender_come_in_their_order() -> None:
    """Of many messages to one peer each is delivered by itself, in the order in which they were sent, and nobody else is called."""
    got: list[Any] = []

    async def takes(event: Event, state: State) -> None:
        got.append((event.data["from"], event.data["to"], event.data["body"]))

    result, facts = await met({"a": sends(*(("b", number) for number in range(5)), ("c", "x")), "b": takes})
    assert ("completed", "quiet") == (result.status, result.reason)
    assert [("a", "b", number) for number in range(5)] == got
    assert ["a", "b", "c", "b", "b", "b", "b"] == began(facts)


async def test_an_unknown_peer_is_an_error_where_it_is_written_to() -> None:
    """`ctx.send` to a name that is no member raises at once and names the nearest; outside of such a flow it raises, too."""
    result, facts = await met({"a": sends(("bb", 1))})
    assert ("failed", "a") == (result.status, result.error and result.error.agent)
    assert "`bb`" in str(result.error)
    assert "`b`" in str(result.error)
    assert ["a"] == began(facts)
    runner = Runner.from_dict({"orchestration": {"mode": "sequential", "sequential_agents": ["a"]}, "agents": {"a": {}}}, environ={})
    runner.register_agent("a", sends(("a", 1)))
    async with runner:
        result = await runner.run(Event())
    assert "no peer_to_peer flow" in str(result.error)


async def test_peers_end_when_they_agree() -> None:
    """`consensus = true` from one of them ends the flow, although messages are left."""
    handlers = {"a": sends(("b", 1), ("c", 2)), "b": sends(("a", 3), consensus=True), "c": sends(("a", 4))}
    result, facts = await met(handlers)
    assert ("completed", "consensus", True) == (result.status, result.reason, result.state["consensus"])
    assert ["a", "b", "c"] == began(facts)


async def test_peers_end_at_max_messages() -> None:
    """Peers that never fall silent are stopped after `max_messages` deliveries."""

    async def chats(event: Event, state: State, ctx: Any) -> None:
        ctx.send("b" if ctx.agent == "a" else "a", "and you?")

    result, facts = await met({"a": chats, "b": chats}, max_messages=7)
    assert ("completed", "max_messages", 7) == (result.status, result.reason, len(began(facts)))


async def test_a_message_is_delivered_from_however_deep_it_is_sent() -> None:
    """A peer may be a flow: what its agents send, at any depth of it, comes from that peer."""

    async def takes(event: Event, state: State) -> dict[str, Any]:
        return {"got": [event.data["from"], event.data["body"]]}

    flows = {
        "b": {"mode": "supervisor", "supervisor": "s", "agents": ["plans"], "max_rounds": 1},
        "plans": {"mode": "plan_execute", "planner": "p", "agents": ["x"]},
    }
    runner = Runner.from_dict({"orchestration": PEERS, "flows": flows, "agents": {name: {} for name in "acspx"}}, environ={})
    handlers = {
        "a": sends(("b", "go")),
        "s": sends(next="plans"),
        "p": sends(plan=[{"id": "one"}]),
        "x": sends(("c", "from below")),
        "c": takes,
    }
    for name, handler in handlers.items():
        runner.register_agent(name, handler)
    async with runner:
        result = await runner.run(Event())
    assert ("completed", ["b", "from below"]) == (result.status, result.state.get("got"))


async def test_a_message_begins_with_the_peer_that_the_event_names() -> None:
    """The event goes to its target where that is a peer, else to the first; a failed attempt has sent nothing."""
    attempts: list[int] = []

    async def fails_once(event: Event, state: State, ctx: Any) -> None:
        ctx.send("c", ctx.attempt)
        attempts.append(ctx.attempt)
        if ctx.attempt == 1:
            raise ConnectionError("busy")

    got: list[Any] = []

    async def takes(event: Event, state: State) -> None:
        got.append(event.data["body"])

    handlers = {"b": fails_once, "c": takes}
    result, facts = await met(handlers, Event("b", {"n": 1}), retry_attempts=1)
    assert ("completed", ["b", "b", "c"], [1, 2], [2]) == (result.status, began(facts), attempts, got)


# --- plan_execute ---


def planned(*steps: tuple[str, str]) -> dict[str, Any]:
    """Return a plan of steps by id, each with the ids that it waits for."""
    return {"plan": [{"id": name, "agent": "a", "input": name, "depends_on": needs.split()} for name, needs in steps]}


async def test_sequential_planning_a_step_begins_after_the_one_it_needs_and_can_use_its_result() -> None:
    """Each step sees what the steps before it have set, in the state and by its id in the outputs."""
    seen: list[Any] = []

    async def work(event: Event, state: State, ctx: Any) -> dict[str, Any]:
        seen.append((event.data["input"], state.get("last"), sorted(name for name in ctx.outputs if name.startswith("s"))))
        await asyncio.sleep(1)
        return {"last": event.data["input"]}

    runner = Runner.from_dict({"orchestration": PLANNED, "agents": {"p": {}, "a": {}}}, environ={})
    runner.register_agent("p", sends(**planned(("s1", ""), ("s2", "s1"), ("s3", "s2"))))
    runner.register_agent("a", work)
    async with runner:
        result = await runner.run(Event())
    assert "completed" == result.status
    assert [("s1", None, []), ("s2", "s1", ["s1"]), ("s3", "s2", ["s1", "s2"])] == seen


async def test_parallel_planning_steps_without_dependencies_overlap() -> None:
    """Independent steps run at once; `final` begins only when all have ended."""
    log: list[Any] = []
    answers = {"p": planned(("x", ""), ("y", ""), ("final", "x y")), "a": resting({"x": 3.0, "y": 1.0}, "input", log)}
    result, _, _ = await ran(PLANNED, "p a", answers)
    assert "completed" == result.status
    assert [("begins", "x"), ("begins", "y"), ("ends", "y"), ("ends", "x"), ("begins", "final"), ("ends", "final")] == log


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (planned(("x", "y"), ("y", "x")), "deadlock"),
        (planned(("x", "z")), "`z`"),
        (planned(("x", ""), ("x", "")), "`x`"),
        ({"plan": [{"id": "x", "agent": "stranger"}]}, "`stranger`"),
        (planned(*((f"s{number}", "") for number in range(4))), "max_tasks"),
        ({"plan": "think"}, "list"),
        ({}, "no `plan`"),
    ],
    ids=["circle", "unknown", "twice", "stranger", "too many", "no list", "none"],
)
async def test_a_plan_that_cannot_be_done_is_an_error_that_says_why(plan: dict[str, Any], told: str) -> None:
    """Nothing of it runs."""
    result, calls, facts = await ran({**PLANNED, "max_tasks": 3}, "p a", {"p": plan})
    assert ("failed", ["p"]) == (result.status, calls.agents)
    assert told in str(result.error)
    assert not [fact for fact in facts if isinstance(fact, PlanCreated)]


async def test_dynamic_replanning_runs_a_d_e_and_says_what_was_replaced() -> None:
    """After A the replanner puts D and E in the place of B and C: A's result stays; the plan is recorded before its first step begins."""
    answers = {
        "p": planned(("A", ""), ("B", "A"), ("C", "B")),
        "r": [planned(("D", ""), ("E", "D")), None],
        "a": lambda event, state: {event.data["input"]: True},
    }
    result, calls, facts = await ran({**PLANNED, "replanner": "r", "max_replans": 1}, "p a r", answers)
    assert ["A", "D", "E"] == [call.event.data["input"] for call in calls.of("a")]
    assert {"A": True, "D": True, "E": True} == dict(result.state)
    kinds = [type(fact) for fact in facts]
    (created,) = [fact for fact in facts if isinstance(fact, PlanCreated)]
    (revised,) = [fact for fact in facts if isinstance(fact, PlanRevised)]
    first = next(at for at, fact in enumerate(facts) if isinstance(fact, StepStarted) and fact.agent == "a")
    assert kinds.index(PlanCreated) < first
    assert ["A", "B", "C"] == [step["id"] for step in created.steps]
    assert (["B", "C"], ["D", "E"]) == (revised.old, [step["id"] for step in revised.steps])
    assert [{"done": ["A"], "failed": [], "remaining": ["B", "C"]}] == [
        {**call.event.data, "done": [row["id"] for row in call.event.data["done"]]} for call in calls.of("r")
    ]


async def test_a_plan_is_revised_at_most_max_replans_times() -> None:
    """Then the replanner is asked no more, and what it last said is done."""
    new = iter(range(100))

    def again(event: Event, state: State) -> dict[str, Any]:
        number = next(new)
        return planned((f"X{number}", ""), (f"Y{number}", f"X{number}"))

    answers = {"p": planned(("A", ""), ("B", "A")), "r": again, "a": lambda event, state: {event.data["input"]: True}}
    result, calls, _ = await ran({**PLANNED, "replanner": "r", "max_replans": 2}, "p a r", answers)
    assert ("completed", 2) == (result.status, len(calls.of("r")))
    assert ["A", "X0", "X1", "Y1"] == list(result.state)


async def test_a_replanner_mends_a_step_that_failed() -> None:
    """It is told which step failed, and what it puts in its place is done; without a replanner the failure ends the plan."""

    def work(event: Event, state: State) -> dict[str, bool]:
        if event.data["input"] == "A":
            raise OSError("no")
        return {event.data["input"]: True}

    answers = {"p": planned(("A", ""), ("B", "A")), "r": planned(("A2", ""), ("B2", "A2")), "a": work}
    result, calls, _ = await ran({**PLANNED, "replanner": "r", "max_replans": 1}, "p a r", answers)
    assert ("partial", {"A2": True, "B2": True}) == (result.status, dict(result.state))
    assert ["A"] == calls.of("r")[0].event.data["failed"]
    result, calls, _ = await ran(PLANNED, "p a", {"p": answers["p"], "a": work})
    assert ("failed", "OSError") == (result.status, result.errors["A"].type)
    assert 1 == len(calls.of("a"))


# --- graph and decision_tree ---

GRAPH = {"mode": "graph", "entry": "start", "edges": [{"from": "start", "to": "middle"}, {"from": "middle", "to": "last"}]}


async def test_case_41_nodes_are_visited_once_from_the_entry() -> None:
    """start → middle → last; another flow with another entry, which the event names, enters in the middle."""
    edges = [{"from": "middle", "to": "last"}]
    flows = {"late": {"mode": "graph", "entry": "middle", "edges": edges}}
    _, calls, _ = await ran(GRAPH, "start middle last", flows=flows)
    assert ["start", "middle", "last"] == calls.agents
    event = Event("", metadata={"orchestration_override": "late"})
    _, calls, _ = await ran(GRAPH, "start middle last", None, event, flows=flows)
    assert ["middle", "last"] == calls.agents


async def test_case_42_a_node_that_raises_ends_the_graph_and_is_named() -> None:
    """`last` is not called, and the error carries node, attempt and cause."""
    result, calls, _ = await ran({**GRAPH, "retry_attempts": 1, "retry": {"jitter": False}}, "start middle last", {"middle": OSError("no")})
    assert ["start", "middle", "middle"] == calls.agents
    assert ("failed", "middle", 2, "OSError") == (result.status, result.error.agent, result.error.attempts, result.error.type)


@pytest.mark.parametrize(("route", "status", "agents"), [("last", "completed", ["start", "last"]), ("nobody", "failed", ["start"])])
async def test_a_route_in_an_answer_goes_before_the_edges(route: str, status: str, agents: list[str]) -> None:
    """A node's own `route` overrides its edge; one that names no node is an error, and nothing else is taken in its place."""
    result, calls, _ = await ran(GRAPH, "start middle last", {"start": AgentResult(route=route)})
    assert (status, agents) == (result.status, calls.agents)
    assert status == "completed" or "`nobody`" in str(result.error)


async def test_the_member_of_a_decision_tree_may_hand_on() -> None:
    """Who answers names another member, which is then asked instead of the tree; `max_hops` bounds that."""
    flow = {"mode": "decision_tree", "branches": [{"when": "event.data.x > 0", "then": "a", "else": "b"}], "max_hops": 2}
    _, calls, _ = await ran(flow, "a b", {"a": AgentResult(route="b")}, Event("", {"x": 1}))
    assert ["a", "b"] == calls.agents
    result, calls, _ = await ran(flow, "a b", {"a": AgentResult(route="b"), "b": AgentResult(route="a")}, Event("", {"x": 1}))
    assert ("failed", "hop_limit", ["a", "b", "a"]) == (result.status, result.reason, calls.agents)


@pytest.mark.parametrize("more", [{}, {"replanner": "r"}], ids=["plan", "plan that is revised"])
async def test_a_step_of_a_plan_may_hand_on_in_the_flow_around(more: dict[str, Any]) -> None:
    """A route binds to the nearest flow that can hand on, also from a plan's step."""
    flow = {"mode": "decision_tree", "branches": [{"when": "true", "then": "plan", "else": "c"}]}
    answers = {"p": planned(("A", "")), "a": AgentResult(route="c")}
    _, calls, _ = await ran(flow, "p a r c", answers, flows={"plan": {**PLANNED, **more}})
    assert ["p", "a", "c"] == calls.agents


async def test_a_node_may_be_a_flow_that_fans_out() -> None:
    """One node is active at a time; side by side work stands in a flow of its own, whose outputs edges may ask."""
    flows = {"both": {"mode": "collaborative", "collaborative_agents": ["a", "b"]}}
    edges = [{"from": "both", "to": "good", "when": "outputs.both.x + outputs.b.y == 3"}, {"from": "both", "to": "bad"}]
    flow = {"mode": "graph", "entry": "both", "edges": edges}
    _, calls, _ = await ran(flow, "a b good bad", {"a": {"x": 1}, "b": {"y": 2}}, flows=flows)
    assert ["a", "b", "good"] == calls.agents


# --- a mode of one's own ---


def rehearse(flow: Any) -> Node:
    """Plan a mode of one's own: a director says who plays, a critic looks at each scene, an editor at all, a prompter waits."""
    rounds, names = flow.options["rounds"], flow.options["cast"]
    scenes = Map(Branch(tuple(Call(name) for name in names), routes={}), AGENDA, most=len(names))
    played = Loop(Seq((Call("director"), scenes)), rounds, agenda=Agenda(DELEGATION, "director", len(names) * rounds))
    critics = Map(Call("critic"), OVER, "scenes", most=10, is_collecting=True)
    editor = Call("editor", part=Part("cut", Results(REDUCE)))
    return Seq((played, critics, editor, Loop(Call("prompter"), 3, Unread("state.ready == true"))))


def staged() -> tuple[Runner, StubCalls]:
    """Return a runner with a mode of its own, whose flow is a member of another one."""
    own = {"mode": "rehearse", "options": {"cast": ["hero", "villain"], "rounds": 3}}
    names = ("director", "hero", "villain", "critic", "editor", "prompter")
    runner = Runner.from_dict(
        {
            "orchestration": {"mode": "sequential", "sequential_agents": ["play", "prompter"]},
            "flows": {"play": own},
            "agents": {name: {} for name in names} | {"villain": {"capabilities": ["evil"]}},
        },
        environ={},
    )
    runner.register_mode("rehearse", rehearse)
    answers = {
        "director": [{"next": ["hero", "evil"]}, {"next": "hero"}, {"done": True}],
        "hero": lambda event, state: {"scenes": [*state.get("scenes", []), "good"]},
        "villain": {"plot": "dark"},
        "critic": lambda event, state: {"said": f"{event.data['index']}: {event.data['item']}"},
        "editor": lambda event, state: {"cut": [row["said"] for row in event.data["results"]]},
        "prompter": lambda event, state: {"ready": state.get("iteration") == 1},
    }
    return runner, stub_agents(runner, answers)


async def test_a_registered_mode_gives_a_plan_with_maps_loops_and_an_agenda() -> None:
    """A function from a flow's table to a plan is all that a mode is: names, capabilities, conditions and inputs work as in the others."""
    runner, calls = staged()
    ended: list[str] = []
    runner.observe(lambda record: ended.append(record.fact.reason) if isinstance(record.fact, LoopEnded) else None)
    async with runner:
        result = await runner.run(Event())
    assert ("completed", ["0: good", "1: good"]) == (result.status, result.state["cut"])
    expected = ["director", "hero", "villain", "director", "hero", "director", "critic", "critic", "editor", "prompter", "prompter"]
    assert [*expected, "prompter"] == calls.agents
    assert ["done", "condition_met"] == ended
    assert "0.0.0#1.1[1].1" in [call.position for call in calls.of("villain")]


# --- keys of loops, and of those who lead, in each other ---


async def test_a_loop_that_leads_or_is_a_peer_keeps_its_count_to_itself() -> None:
    """`iteration` of a loop that stands as planner, supervisor or peer does not reach the state around it."""
    flows = {"again": {"mode": "loop", "loop_agent": "x", "max_iterations": 2}}
    for flow, told in (
        ({**TASKED, "planner": "again"}, {"tasks": []}),
        ({**LED, "supervisor": "again"}, {"done": True}),
        ({**PEERS, "agents": ["again", "a"]}, {}),
    ):
        result, _, _ = await ran(flow, "a b x", {"x": {**told, "y": 1}}, flows=flows)
        assert ("completed", 1, False) == (result.status, result.state["y"], "iteration" in result.state), flow["mode"]


async def test_a_loop_that_leads_may_say_what_the_event_said_before() -> None:
    """What steers is the leader's answer, also where the state had the same value."""
    flows = {"again": {"mode": "loop", "loop_agent": "x", "max_iterations": 1}}
    flow = {**LED, "supervisor": "again", "max_rounds": 1}
    result, calls, _ = await ran(flow, "a b x", {"x": {"next": "b"}}, Event("", {"next": "b"}), flows=flows)
    assert ("completed", ["x", "b"]) == (result.status, calls.agents)


@pytest.mark.parametrize("inner", [{**LED, "max_rounds": 1}, PEERS], ids=["supervisor", "peer_to_peer"])
async def test_a_member_may_end_the_counting_loop_around_its_flow(inner: dict[str, Any]) -> None:
    """`loop_complete` belongs to the innermost loop that counts, however many flows are between; what was emitted stays in the state."""
    flows = {"inner": inner}
    flow = {"mode": "loop", "loop_agent": "inner", "max_iterations": 3}
    answers = {"s": {"next": "a"}, "a": lambda event, state: {"loop_complete": state["iteration"] == 1}}
    result, calls, _ = await ran(flow, "s a b c", answers, flows=flows)
    assert ("condition_met", 2) == (result.reason, len(calls.of("a")))
    flow = {"mode": "sequential", "sequential_agents": ["inner", "b"]}
    result, _, _ = await ran(flow, "s a b c", {"s": {"next": "a"}}, Event("", {"iteration": 5}), flows=flows)
    assert {"iteration": 5} == dict(result.state)
