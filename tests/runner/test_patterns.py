"""The patterns, each from its configuration to its result (the first five: test_modes.py). Case numbers are those of the feature list."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentflow import Event, State
from agentflow.core.result import RunResult
from tests.runner.conftest import MakeRunner


def answers(*patches: dict[str, Any]) -> Any:
    """Answer the patches one after another, the last one again and again."""
    left = list(patches)

    async def handler(event: Event, state: State) -> dict[str, Any]:
        return left.pop(0) if len(left) > 1 else left[0]

    return handler


def given_as(key: str) -> Any:
    """Answer with what the agent was given, as a key of the state."""

    async def handler(event: Event, state: State) -> dict[str, Any]:
        return {key: dict(event.data)}

    return handler


said = given_as("said")


async def ran(make_runner: MakeRunner, flow: dict[str, Any], handlers: dict[str, Any], data: dict[str, Any], **more: Any) -> RunResult:
    async with make_runner(flow, handlers, **more) as runner:
        return await runner.run(Event("", data))


# --- parallel and pipeline ---


async def test_parallel_steps_get_their_own_input_and_outputs_of_those_before(make_runner: MakeRunner) -> None:
    """Each step is given what it declares, else the emitted data; outputs go by id; a level begins when the one before has ended."""
    steps = [
        {"id": "x", "agent": "a", "input": {"q": "{{ event.data.q }}"}},
        {"id": "y", "agent": "a"},
        {"id": "z", "agent": "a", "depends_on": ["x", "y"], "input": "{{ outputs.x.said.input.q }}!"},
    ]
    result = await ran(make_runner, {"mode": "parallel", "steps": steps}, {"a": said}, {"q": 5})
    assert [("x", {"input": {"q": 5}}), ("y", {"q": 5}), ("z", {"input": "5!"})] == [
        (name, patch["said"]) for name, patch in result.outputs.items()
    ]


async def test_case_02_outputs_stand_in_declared_order(make_runner: MakeRunner) -> None:
    """Four steps that end in the reverse order have their outputs as declared, and one failure cancels no other."""

    async def slow(event: Event, state: State) -> dict[str, Any]:
        await asyncio.sleep(10 - event.data["input"])
        if event.data["input"] == 2:
            raise LookupError("two")
        return {"n": event.data["input"]}

    steps = [{"id": f"s{number}", "agent": "a", "input": number} for number in range(4)]
    result = await ran(make_runner, {"mode": "parallel", "steps": steps}, {"a": slow}, {})
    assert ("partial", ["s0", "s1", "s3"]) == (result.status, list(result.outputs))


async def test_the_output_of_one_is_the_input_of_the_next(make_runner: MakeRunner) -> None:
    """In a pipeline each later agent is given exactly what the one before returned."""
    flow = {"mode": "pipeline", "sequential_agents": ["a", "b", "c"]}
    result = await ran(make_runner, flow, {"a": answers({"n": 1}), "b": answers({"m": 2}), "c": said}, {"q": 5})
    assert {"m": 2} == result.outputs["c"]["said"]


async def test_case_47_a_failure_in_a_pipeline_keeps_the_rest_from_running(make_runner: MakeRunner) -> None:
    """The second of three raises: the first ran once, the third never."""
    ran_names: list[str] = []

    def handler(name: str) -> Any:
        async def one(event: Event, state: State) -> dict[str, Any]:
            ran_names.append(name)
            if name == "b":
                raise LookupError("b")
            return {name: 1}

        return one

    flow = {"mode": "pipeline", "sequential_agents": ["a", "b", "c"]}
    result = await ran(make_runner, flow, {name: handler(name) for name in "abc"}, {})
    assert ("failed", ["a", "b"]) == (result.status, ran_names)


async def test_case_24_a_fast_item_is_in_the_second_stage_while_a_slow_one_is_in_the_first(make_runner: MakeRunner) -> None:
    """With `over` there is no barrier between the stages, and results stand in the order of the items."""
    order: list[str] = []

    async def first(event: Event, state: State) -> dict[str, Any]:
        await asyncio.sleep(event.data["item"])
        order.append(f"first {event.data['item']}")
        return {"n": event.data["item"]}

    async def second(event: Event, state: State) -> dict[str, Any]:
        order.append(f"second {event.data['n']}")
        return {"m": event.data["n"] * 10}

    flow = {"mode": "pipeline", "over": "items", "sequential_agents": ["a", "b"]}
    result = await ran(make_runner, flow, {"a": first, "b": second}, {"items": [5, 1]})
    assert ["first 1", "second 1", "first 5", "second 5"] == order
    assert [50, 10] == [one["m"] for one in result.state["results"]]


# --- map_reduce and orchestrator_workers ---


async def test_the_reducer_gets_results_in_declared_order(make_runner: MakeRunner) -> None:
    """Whatever ends first, the results stand in the order of the items; what items set is not in the state."""

    async def mapped(event: Event, state: State) -> dict[str, Any]:
        await asyncio.sleep(10 - event.data["item"])
        return {"n": event.data["item"] * 2}

    flow = {"mode": "map_reduce", "map": "a", "over": "items", "reduce": "b"}
    result = await ran(make_runner, flow, {"a": mapped, "b": said}, {"items": [1, 2, 3]})
    assert [{"n": 2}, {"n": 4}, {"n": 6}] == result.state["said"]["results"]
    assert "n" not in result.state


@pytest.mark.parametrize(("policy", "status", "failed"), [("fail", "failed", None), ("skip", "partial", [1])])
async def test_failed_items_fail_the_flow_or_are_told_to_the_reducer(
    make_runner: MakeRunner, policy: str, status: str, failed: list[int] | None
) -> None:
    """`map_failures` says which of the two."""

    async def mapped(event: Event, state: State) -> dict[str, Any]:
        if event.data["index"] == 1:
            raise LookupError("one")
        return {"n": event.data["item"]}

    flow = {"mode": "map_reduce", "map": "a", "over": "items", "reduce": "b", "map_failures": policy}
    result = await ran(make_runner, flow, {"a": mapped, "b": said}, {"items": [5, 6, 7]})
    assert status == result.status
    assert failed == (result.outputs["b"]["said"]["failed"] if "b" in result.outputs else None)


async def test_map_and_reduce_steps_have_their_own_inputs(make_runner: MakeRunner) -> None:
    """Steps of phase `map` are each given their own input; the reducer gets its instruction beside their results."""
    steps = [
        {"id": "one", "agent": "a", "phase": "map", "input": 1},
        {"id": "two", "agent": "a", "phase": "map", "input": 2},
        {"agent": "b", "phase": "reduce", "input": "add up"},
    ]
    result = await ran(make_runner, {"mode": "map_reduce", "steps": steps}, {"a": said, "b": said}, {})
    given = result.state["said"]
    assert ("add up", [{"input": 1}, {"input": 2}]) == (given["input"], [one["said"] for one in given["results"]])


async def test_a_planners_tasks_go_to_who_can_do_them(make_runner: MakeRunner) -> None:
    """A task goes to the worker that its specialty names, or that has it as a capability; the synthesizer gets all in order."""
    tasks = [{"id": "t1", "specialty": "b", "input": 1}, {"id": "t2", "specialty": "draw", "input": 2}]
    flow = {"mode": "orchestrator_workers", "planner": "p", "workers": ["a", "b"], "synthesizer": "z"}
    handlers = {"p": answers({"tasks": tasks}), "a": answers({"by": "a"}), "b": answers({"by": "b"}), "z": said}
    result = await ran(make_runner, flow, handlers, {}, agents={"a": {"capabilities": ["draw"]}})
    given = result.state["said"]
    assert tasks == given["plan"]
    assert [("t1", {"by": "b"}), ("t2", {"by": "a"})] == [(one["id"], one["output"]) for one in given["results"]]


# --- supervisor, hierarchical, peer_to_peer ---


async def test_a_supervisor_names_who_works_until_it_is_done(make_runner: MakeRunner) -> None:
    """It names members by name or capability, one or several, with a task or the emitted data."""
    flow = {"mode": "supervisor", "supervisor": "s", "agents": ["a", "b"]}
    handlers = {
        "s": answers({"next": [{"agent": "draw", "task": "a house"}, "b"]}, {"next": "b"}, {"done": True}),
        "a": given_as("a"),
        "b": given_as("b"),
    }
    result = await ran(make_runner, flow, handlers, {"q": 1}, agents={"a": {"capabilities": ["draw"]}})
    assert ("completed", {"input": "a house"}, {"q": 1}) == (result.status, result.state["a"], result.state["b"])
    assert "next" not in result.state


async def test_a_default_agent_takes_what_nobody_else_can_do(make_runner: MakeRunner) -> None:
    """A specialty that no member has goes to `default_agent`; without one it is an error that names it."""
    flow = {"mode": "supervisor", "supervisor": "s", "agents": ["a"]}
    handlers = {"s": answers({"next": "singing"}, {"done": True}), "a": answers({"by": "a"}), "d": answers({"by": "d"})}
    result = await ran(make_runner, {**flow, "default_agent": "d"}, handlers, {})
    assert ("completed", "d") == (result.status, result.state["by"])
    handlers["s"] = answers({"next": "singing"}, {"done": True})
    result = await ran(make_runner, flow, handlers, {})
    assert result.status == "failed"
    assert "`singing`" in result.error.message


async def test_work_goes_down_a_hierarchy_and_results_come_up(make_runner: MakeRunner) -> None:
    """Top, manager, leaf: each level has a supervisor of its own."""
    flows = {
        "middle": {"mode": "hierarchical", "supervisor": "m", "agents": ["low"]},
        "low": {"mode": "supervisor", "supervisor": "l", "agents": ["leaf"]},
    }
    leads = {name: answers({"next": below}, {"done": True}) for name, below in (("t", "middle"), ("m", "low"), ("l", "leaf"))}
    result = await ran(
        make_runner,
        {"mode": "hierarchical", "supervisor": "t", "agents": ["middle"]},
        {**leads, "leaf": answers({"x": 1})},
        {},
        flows=flows,
    )
    assert ("completed", 1) == (result.status, result.state["x"])


async def test_peers_send_each_other_messages_until_none_is_left(make_runner: MakeRunner) -> None:
    """A message is delivered to the peer that it names, and the run ends when all is quiet."""

    async def peer(event: Event, state: State, ctx: Any) -> dict[str, Any]:
        count = event.data["body"]["n"]
        if count < 3:
            ctx.send("b" if ctx.agent == "a" else "a", {"n": count + 1})
        return {ctx.agent: [event.data["from"], count]}

    result = await ran(make_runner, {"mode": "peer_to_peer", "agents": ["a", "b"]}, {"a": peer, "b": peer}, {"n": 0})
    assert ("completed", "quiet", ["b", 2], ["a", 3]) == (result.status, result.reason, result.state["a"], result.state["b"])


# --- plan_execute ---


async def test_a_plan_is_done_in_the_order_of_its_dependencies(make_runner: MakeRunner) -> None:
    """Steps that depend on nothing run together, one that depends on them after both."""
    plan = [
        {"id": "one", "agent": "a", "input": 2},
        {"id": "two", "agent": "a", "input": 1},
        {"id": "last", "agent": "a", "input": 0, "depends_on": ["one", "two"]},
    ]
    began: list[int] = []

    async def worker(event: Event, state: State) -> dict[str, Any]:
        began.append(event.data["input"])
        await asyncio.sleep(event.data["input"])
        return {}

    handlers = {"p": answers({"plan": plan}), "a": worker}
    result = await ran(make_runner, {"mode": "plan_execute", "planner": "p", "agents": ["a"]}, handlers, {})
    assert ("completed", [2, 1, 0]) == (result.status, began)


async def test_a_replanner_replaces_what_has_not_run(make_runner: MakeRunner) -> None:
    """After the first step the rest is replaced by others; what was done stays."""
    plan = [{"id": "A", "agent": "a"}, {"id": "B", "agent": "a", "depends_on": ["A"]}, {"id": "C", "agent": "a", "depends_on": ["B"]}]
    revised = [{"id": "D", "agent": "a"}, {"id": "E", "agent": "a", "depends_on": ["D"]}]
    handlers = {"p": answers({"plan": plan}), "r": answers({"plan": revised}, {}), "a": answers({"ok": True})}
    flow = {"mode": "plan_execute", "planner": "p", "agents": ["a"], "replanner": "r"}
    result = await ran(make_runner, flow, handlers, {})
    assert result.status == "completed"
    assert {"A", "D", "E"} <= set(result.outputs)
    assert not {"B", "C"} & set(result.outputs)


# --- decision_tree and graph ---

TREE = [
    {
        "when": "event.data.x > 1",
        "then": {"when": "event.data.y > 1", "then": [{"when": "event.data.z > 1", "then": "a"}], "else": "b"},
        "else": "c",
    }
]


@pytest.mark.parametrize(
    ("data", "agent"), [({"x": 2, "y": 2, "z": 2}, "a"), ({"x": 2, "y": 0}, "b"), ({"x": 0}, "c")], ids=["deep", "middle", "else"]
)
async def test_questions_lead_to_the_agent_that_answers(make_runner: MakeRunner, data: dict[str, Any], agent: str) -> None:
    """Three levels of questions lead to one agent."""
    handlers = {name: answers({"by": name}) for name in "abc"}
    result = await ran(make_runner, {"mode": "decision_tree", "branches": TREE}, handlers, data)
    assert ("completed", agent) == (result.status, result.state["by"])


@pytest.mark.parametrize(("data", "named"), [({"x": 2}, "event.data.y"), ({"x": 2, "y": 2, "z": 0}, "holds, and there is no other way")])
async def test_a_question_without_an_answer_is_an_error_that_names_it(make_runner: MakeRunner, data: dict[str, Any], named: str) -> None:
    """A field that is missing, and questions of which none holds, fail the run, and what is wrong is said."""
    handlers = {name: answers({"by": name}) for name in "abc"}
    result = await ran(make_runner, {"mode": "decision_tree", "branches": TREE}, handlers, data)
    assert result.status == "failed"
    assert named in result.error.message


async def test_case_45_a_graph_asks_what_a_node_has_answered(make_runner: MakeRunner) -> None:
    """The analyzer says "complex": the specialist works once, the generalist never, and the formatter is last."""
    edges = [
        {"from": "analyzer", "to": "specialist", "when": 'outputs.analyzer.kind == "complex"'},
        {"from": "analyzer", "to": "general"},
        {"from": "specialist", "to": "formatter"},
        {"from": "general", "to": "formatter"},
    ]
    names = ("analyzer", "specialist", "general", "formatter")
    handlers = {name: answers({"by": name}) for name in names} | {"analyzer": answers({"kind": "complex"})}
    result = await ran(make_runner, {"mode": "graph", "entry": "analyzer", "edges": edges}, handlers, {})
    assert ("completed", ["analyzer", "specialist", "formatter"]) == (result.status, list(result.outputs))
    assert result.state["by"] == "formatter"


async def test_a_circle_of_a_graph_ends_by_its_condition_or_by_max_visits(make_runner: MakeRunner) -> None:
    """Edges lead back while a condition holds; a node that was visited often enough ends the run with an error that names it."""
    edges = [{"from": "a", "to": "b", "when": "outputs.a.n < 3"}, {"from": "a", "to": "end"}, {"from": "b", "to": "a"}]
    for visits, status in ((3, "completed"), (2, "failed")):
        handlers = {"a": answers({"n": 1}, {"n": 2}, {"n": 3}), "b": answers({})}
        result = await ran(make_runner, {"mode": "graph", "entry": "a", "max_visits": visits, "edges": edges}, handlers, {})
        assert status == result.status, visits
    assert "`a`" in result.error.message


async def test_a_node_that_fails_may_lead_elsewhere(make_runner: MakeRunner) -> None:
    """`on_error = "route:NODE"` goes on there, and the run is `partial`."""

    async def fails(event: Event, state: State) -> None:
        raise LookupError("no")

    flow = {
        "mode": "graph",
        "entry": "a",
        "nodes": [{"name": "a", "on_error": "route:mend"}, {"name": "mend", "agent": "b"}],
        "edges": [{"from": "a", "to": "end"}],
    }
    result = await ran(make_runner, flow, {"a": fails, "b": answers({"mended": True})}, {})
    assert ("partial", True) == (result.status, result.state["mended"])
