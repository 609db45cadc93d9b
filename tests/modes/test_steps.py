"""The order of steps: any dependencies without a circle make levels that respect them, and any circle is found."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.model import FlowConfig
from agentflow.core.plan import Branch, Call, Edge, Loop, Node, walk_nodes
from agentflow.modes import MODES
from agentflow.modes.steps import circle, levels

NAMES = ("a", "b", "c", "d")


@st.composite
def ordered(draw: st.DrawFn) -> list[list[int]]:
    """Draw for each number some smaller ones, then rename all at random: a graph without a circle."""
    count = draw(st.integers(1, 12))
    below = [draw(st.sets(st.integers(0, number - 1))) if number else set() for number in range(count)]
    names = draw(st.permutations(range(count)))
    graph: list[list[int]] = [[] for _ in range(count)]
    for number, others in enumerate(below):
        graph[names[number]] = [names[other] for other in others]
    return graph


def steps_of(graph: list[list[int]]) -> Any:
    tables = [{"id": f"s{number}", "agent": "a", "depends_on": [f"s{other}" for other in others]} for number, others in enumerate(graph)]
    return FlowConfig.model_validate({"mode": "parallel", "steps": tables}).steps


@given(ordered())
def test_each_step_stands_in_the_first_level_after_all_it_depends_on(graph: list[list[int]]) -> None:
    """Each step has one place, right after the last of those it depends on; within a level steps stand as declared."""
    placed = levels(steps_of(graph))
    level = {number: at for at, numbers in enumerate(placed) for number in numbers}
    assert sorted(level) == list(range(len(graph)))
    for number, others in enumerate(graph):
        assert level[number] == max((level[other] + 1 for other in others), default=0)
    assert all(numbers == sorted(numbers) for numbers in placed)
    assert circle(graph) == []


@given(ordered(), st.data())
def test_a_circle_is_found_and_is_one(graph: list[list[int]], data: st.DataObject) -> None:
    """Where an edge closes a circle, what is found leads from each to the next and back; every step still has a place."""
    start = data.draw(st.integers(0, len(graph) - 1))
    reached, waiting = {start}, [start]
    while waiting:
        new = [other for other in graph[waiting.pop()] if other not in reached]
        reached.update(new)
        waiting += new
    graph[data.draw(st.sampled_from(sorted(reached)))].append(start)
    found = circle(graph)
    assert found
    assert all(following in graph[number] for number, following in zip(found, [*found[1:], found[0]], strict=True))
    assert sorted(number for numbers in levels(steps_of(graph)) for number in numbers) == list(range(len(graph)))


# --- every mode takes any flow ---

names = st.sampled_from(NAMES)
lists = st.lists(names, max_size=3)
ways = st.deferred(lambda: st.one_of(names, questions, st.lists(questions, max_size=2)))
questions = st.fixed_dictionaries({"when": st.just("true"), "then": ways}, optional={"else": ways})
steps = st.fixed_dictionaries(
    {"agent": names},
    optional={
        "id": names,
        "input": st.sampled_from(["text", 1, {"x": "{{ outputs.a }}"}]),
        "phase": st.sampled_from(["map", "reduce", "plan", "work", "synthesize"]),
        "depends_on": lists,
        "max_retries": st.integers(0, 3),
    },
)
nodes = st.fixed_dictionaries({"name": names}, optional={"agent": names, "on_error": st.sampled_from(["stop", "route:a", "route:x"])})
ends = st.sampled_from([*NAMES, "end"])
edges = st.fixed_dictionaries({"from": ends, "to": ends}, optional={"when": st.just("true")})
flows = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("collaborative_agents", "sequential_agents", "agents"), lists),
        **dict.fromkeys(
            ("loop_agent", "default_agent", "map", "reduce", "planner", "synthesizer", "supervisor", "replanner", "entry"), names
        ),
        "workers": st.one_of(names, lists),
        "over": st.just("items"),
        "map_failures": st.sampled_from(["fail", "skip"]),
        "steps": st.lists(steps, max_size=4),
        "branches": st.lists(questions, max_size=2),
        "nodes": st.lists(nodes, max_size=3),
        "edges": st.lists(edges, max_size=5),
        "max_visits": st.integers(1, 3),
    },
)


def near(name: str, known: Any) -> str:
    return ""


@given(st.sampled_from(sorted(MODES)), flows)
def test_every_mode_gives_a_plan_for_any_flow(mode: str, keys: dict[str, Any]) -> None:
    """A mode's function and its checks take whatever the shape of a file allows, so that all mistakes are told in one pass."""
    flow = FlowConfig.model_validate({"mode": mode, **keys})
    plan = MODES[mode].plan(flow)
    assert isinstance(plan, Node)
    assert all(isinstance(one, Diagnostic) and one.path for one in MODES[mode].mistakes(flow, near))
    for node in walk_nodes(plan):
        assert not isinstance(node, Branch) or all(index < len(node.cases) for index in (node.routes or {}).values())


@given(flows)
def test_a_graph_without_mistakes_can_always_end(keys: dict[str, Any]) -> None:
    """Where no mistake is told, each node is reached from the entry, and from each a path leads to an end."""
    flow = FlowConfig.model_validate({"mode": "graph", **keys})
    if flow.entry is None or any(one.severity == "error" for one in MODES["graph"].mistakes(flow, near)):
        return
    plan = MODES["graph"].plan(flow)
    assert isinstance(plan, Loop)
    assert isinstance(plan.body, Branch)
    members = set(plan.body.routes or {})
    on_errors = [
        Edge(name, call.part.on_error.removeprefix("route:"))
        for name, call in zip(plan.body.routes or {}, plan.body.cases, strict=True)
        if isinstance(call, Call) and call.part is not None and call.part.on_error.startswith("route:")
    ]
    sources = {edge.source for edge in plan.edges}
    ways = [*plan.edges, *on_errors, *(Edge(name, "") for name in members - sources)]
    assert reach(flow.entry, [(edge.source, edge.target) for edge in ways]) - {""} == members
    assert reach("", [(edge.target, edge.source) for edge in ways]) == members | {""}


def reach(start: str, ways: list[tuple[str, str]]) -> set[str]:
    found = {start}
    while more := {target for source, target in ways if source in found} - found:
        found |= more
    return found
