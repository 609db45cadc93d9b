"""What each of the patterns makes of its keys: the plan, with the members' own inputs, ids and limits. The first five: test_modes.py."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from typing import Any

import pytest

from agentflow import app
from agentflow.config.model import FlowConfig
from agentflow.core.merge import Merge
from agentflow.core.part import REDUCE, REPLAN, SYNTHESIS, Part, Previous, Results, Template
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
    Flow,
    Loop,
    Map,
    Node,
    Par,
    Retry,
    Seq,
)
from agentflow.core.rules import Rule
from agentflow.modes import Mode
from agentflow.modes.members import Member

Plan = Callable[..., Any]
AGENTS: dict[str, dict[str, Any]] = {name: {} for name in "abcdef"}
DAY_S = 24 * 3600.0


@pytest.fixture
def plan() -> Plan:
    """Link the main flow that a text of TOML gives; it must have no mistakes. More tables are given as mappings."""

    def linked(text: str, **sections: Any) -> Node | None:
        orchestration = tomllib.loads(text)
        source = {"agent_flow": {"name": "main"}, "orchestration": orchestration, "agents": AGENTS, **sections}
        node, found = app.load(source, environ={}).check()
        assert [one.render() for one in found if one.severity == "error"] == []
        return node

    return linked


def calls(*names: str) -> tuple[Call, ...]:
    return tuple(Call(name) for name in names)


def routed(*names: str) -> Branch:
    """Return the choice among agents by their names."""
    return Branch(calls(*names), routes={name: index for index, name in enumerate(names)})


# --- parallel ---


def test_parallel_steps_have_inputs_and_ids_of_their_own(plan: Plan) -> None:
    """Each step is a branch in declared order; its id names its outputs, its input is a template, its name is for people."""
    found = plan(
        """
        mode = "parallel"
        max_concurrency = 2
        merge = "strict"
        steps = [
            { id = "x", agent = "a", name = "The first", input = { q = "{{ event.data.q }}" }, on_error = "continue" },
            { agent = "b" },
        ]
        """
    )
    first = Call("a", part=Part("x", Template({"q": "{{ event.data.q }}"}), "continue", "The first"))
    assert found == Par((first, Call("b")), 2, merge=Merge("strict"), flow=Flow("main", "parallel"))


def test_parallel_steps_that_depend_on_others_make_levels(plan: Plan) -> None:
    """Steps stand in the first level after all that they depend on, one join after the other, in declared order."""
    found = plan(
        """
        mode = "parallel"
        steps = [
            { agent = "d", depends_on = ["b", "c"] },
            { agent = "a" },
            { agent = "b", depends_on = ["a"] },
            { id = "c", agent = "f", depends_on = ["a"] },
            { agent = "e", input = "{{ outputs.a }}", depends_on = ["a"] },
        ]
        """
    )
    levels = [[call.part.id if call.part and call.part.id else call.agent for call in join.branches] for join in found.steps]
    assert [["a"], ["b", "c", "e"], ["d"]] == levels


def test_steps_limits_go_before_those_of_agent_and_flow(plan: Plan) -> None:
    """`max_retries` of a step takes the place of its agent's number and keeps its delays; an approval is asked for as the step says."""
    found = plan(
        """
        mode = "parallel"
        retry_attempts = 1
        steps = [
            { id = "more", agent = "a", max_retries = 9 },
            { id = "none", agent = "a", max_retries = 0, requires_approval = true, approval_timeout_seconds = 5 },
            { id = "asks", agent = "b", requires_approval = true },
            { id = "off", agent = "c", requires_approval = false },
            { id = "own", agent = "c", approval_timeout_seconds = 7 },
        ]
        """,
        agents={
            "a": {"retry": {"max_retries": 2, "initial_delay_seconds": 0.5}},
            "b": {"approval_timeout_seconds": 60},
            "c": {"requires_approval": True},
        },
    )
    assert [Retry(9, 0.5), Retry(0, 0.5), Retry(1), Retry(1), Retry(1)] == [call.retry for call in found.branches]
    assert [None, 5.0, 60.0, None, 7.0] == [call.approval_timeout_s for call in found.branches]


def test_a_flow_as_a_step_keeps_its_name_and_knows_its_part(plan: Plan) -> None:
    """A step may be a flow: it has the step's id and input, and another step with the same flow has its own."""
    flows = {"team": {"mode": "sequential", "sequential_agents": ["a", "b"]}}
    found = plan(
        'mode = "parallel"\nsteps = [{ id = "x", agent = "team", input = 1 }, { id = "y", agent = "team" }, { agent = "team" }]',
        flows=flows,
    )
    parts = (Part("x", Template(1)), Part("y"), None)
    assert found.branches == tuple(Seq(calls("a", "b"), Flow("team", "sequential", part=part)) for part in parts)


# --- pipeline ---


def test_pipeline_hands_on_what_the_one_before_returned(plan: Plan) -> None:
    """The first gets the emitted data, each later one exactly what the one before it set."""
    handed = tuple(Call(name, part=Part(input=Previous())) for name in "bc")
    expected = Seq((Call("a"), *handed), Flow("main", "pipeline"))
    assert plan('mode = "pipeline"\nsequential_agents = ["a", "b", "c"]') == expected


def test_pipeline_steps_first_input_is_data_and_later_ones_are_instructions(plan: Plan) -> None:
    """Where the first step declares an input, that is the data; of later ones it is told beside the data."""
    found = plan('mode = "pipeline"\nsteps = [{ agent = "a", input = { n = 1 } }, { id = "z", agent = "a", input = "shorten" }]')
    first = Call("a", part=Part(input=Template({"n": 1}, is_data=True)))
    assert found == Seq((first, Call("a", part=Part("z", Previous(Template("shorten"))))), Flow("main", "pipeline"))


def test_pipeline_over_a_list_lets_each_item_go_through_by_itself(plan: Plan) -> None:
    """With `over` all stages together are what is done for each item, and there is no barrier between stages."""
    found = plan('mode = "pipeline"\nover = "items"\nsequential_agents = ["a", "b"]\nmax_concurrency = 3\nfailure_threshold = 0.2')
    stages = Seq((Call("a"), Call("b", part=Part(input=Previous()))))
    many = Map(stages, OVER, "items", concurrency=3, failure_threshold=0.2, is_collecting=True)
    assert found == Seq((many,), Flow("main", "pipeline"))


# --- map_reduce ---


def test_map_reduce_over_a_list(plan: Plan) -> None:
    """One agent for each item, then the reducer on all results; a failed item fails the flow."""
    found = plan('mode = "map_reduce"\nmap = "a"\nover = "items"\nreduce = "b"')
    many = Map(Call("a"), OVER, "items", failure_threshold=0.0, is_collecting=True)
    assert found == Seq((many, Call("b", part=Part(input=Results(REDUCE)))), Flow("main", "map_reduce"))


@pytest.mark.parametrize(
    ("keys", "threshold", "is_bearing"),
    [("", 0.0, False), ("failure_threshold = 0.3", 0.3, False), ('map_failures = "skip"', 1.0, True)],
)
def test_failures_of_items_are_judged_as_the_flow_says(plan: Plan, keys: str, threshold: float, is_bearing: bool) -> None:
    """None may fail unless `failure_threshold` says so; with `skip` all but the last may, and the reducer is told which ones did."""
    found = plan(f'mode = "map_reduce"\nmap = "a"\nover = "items"\nreduce = "b"\n{keys}')
    assert (threshold, is_bearing) == (found.steps[0].failure_threshold, found.steps[0].is_bearing)


def test_map_reduce_by_steps(plan: Plan) -> None:
    """Steps of phase `map` run side by side, those of phase `reduce` after them one by one, wherever they stand."""
    found = plan(
        """
        mode = "map_reduce"
        steps = [
            { id = "sum", agent = "c", phase = "reduce", input = "add up" },
            { id = "one", agent = "a", phase = "map", input = 1 },
            { agent = "b", phase = "map" },
            { agent = "d", phase = "reduce", input = "polish" },
        ]
        """
    )
    body = Branch((Call("a", part=Part("one", Template(1))), Call("b")), routes={"one": 0, "b": 1})
    many = Map(body, STEPS, most=2, failure_threshold=0.0, is_collecting=True)
    total = Call("c", part=Part("sum", Results(REDUCE, Template("add up"))))
    last = Call("d", part=Part(input=Previous(Template("polish"))))
    assert found == Seq((many, total, last), Flow("main", "map_reduce"))


# --- orchestrator_workers ---


def test_orchestrator_workers(plan: Plan) -> None:
    """A planner, the workers by name for its tasks, and a synthesizer on the results; the default agent is one of the workers."""
    found = plan(
        'mode = "orchestrator_workers"\nplanner = "a"\nworkers = ["b", "c"]\ndefault_agent = "d"\nsynthesizer = "e"\nmax_tasks = 7'
    )
    tasks = Map(routed("b", "c", "d"), TASKS, most=7, is_collecting=True, default="d")
    last = Call("e", part=Part(input=Results(SYNTHESIS)))
    assert found == Seq((Call("a"), tasks, last), Flow("main", "orchestrator_workers"))


def test_one_worker_may_be_a_name(plan: Plan) -> None:
    """A single agent, best with a pool, takes all tasks; without a synthesizer there is none."""
    found = plan('mode = "orchestrator_workers"\nplanner = "a"\nworkers = "b"', workers={"b": {"count": 3}})
    assert found.steps == (Call("a"), Map(routed("b"), TASKS, most=100, is_collecting=True))


def test_workers_by_steps(plan: Plan) -> None:
    """Static steps stand in the place of a plan: one to plan, those that work side by side, one to sum up."""
    found = plan(
        """
        mode = "orchestrator_workers"
        steps = [
            { agent = "a", phase = "plan" },
            { agent = "b", phase = "work", input = "left {{ outputs.a }}" },
            { agent = "c", phase = "work" },
            { agent = "d", phase = "synthesize", input = "in one line" },
        ]
        """
    )
    body = Branch((Call("b", part=Part(input=Template("left {{ outputs.a }}"))), Call("c")), routes={"b": 0, "c": 1})
    last = Call("d", part=Part(input=Results(SYNTHESIS, Template("in one line"))))
    assert found.steps == (Call("a"), Map(body, STEPS, most=2, is_collecting=True), last)


# --- supervisor, hierarchical, peer_to_peer ---


def test_supervisor(plan: Plan) -> None:
    """Round after round the supervisor, then whom it named; `max_rounds` (default 10) bounds its calls."""
    found = plan('mode = "supervisor"\nsupervisor = "a"\nagents = ["b", "c"]')
    work = Map(routed("b", "c"), AGENDA, most=2)
    agenda = Agenda(DELEGATION, "a", most=20)
    assert found == Loop(Seq((Call("a"), work)), 10, agenda=agenda, flow=Flow("main", "supervisor"))


def test_supervisor_with_default_and_synthesizer(plan: Plan) -> None:
    """The default agent is a member too, once, and a synthesizer follows the rounds."""
    keys = 'supervisor = "a"\nagents = ["b", "c"]\nmax_rounds = 3\nsynthesizer = "e"'
    found = plan(f'mode = "supervisor"\n{keys}\ndefault_agent = "d"')
    work = Map(routed("b", "c", "d"), AGENDA, most=3, default="d")
    rounds = Loop(Seq((Call("a"), work)), 3, agenda=Agenda(DELEGATION, "a", most=9, default="d"))
    assert found == Seq((rounds, Call("e", part=Part(input=Results(SYNTHESIS)))), Flow("main", "supervisor"))
    assert plan(f'mode = "supervisor"\n{keys}\ndefault_agent = "c"').steps[0].body.steps[1].body == routed("b", "c")


def test_members_are_named_by_what_they_can_do(plan: Plan) -> None:
    """A capability stands for the first member that has it, and a member's name goes before."""
    agents = {**AGENTS, "b": {"capabilities": ["write", "c", "sum"]}, "c": {"capabilities": ["write", "draw"]}}
    for text in (
        'mode = "supervisor"\nsupervisor = "a"\nagents = ["b", "c"]',
        'mode = "orchestrator_workers"\nplanner = "a"\nworkers = ["b", "c"]',
        'mode = "plan_execute"\nplanner = "a"\nagents = ["b", "c"]',
    ):
        (routes,) = [node.body.routes for node in _maps(plan(text, agents=agents))]
        assert routes == {"b": 0, "c": 1, "write": 0, "sum": 0, "draw": 1}


def _maps(node: Any) -> list[Any]:
    from agentflow.core.plan import walk_nodes

    return [one for one in walk_nodes(node) if isinstance(one, Map)]


def test_hierarchical_is_supervisors_over_flows(plan: Plan) -> None:
    """A manager is a flow with a supervisor of its own, to `max_depth` levels."""
    flows = {
        "middle": {"mode": "hierarchical", "supervisor": "b", "agents": ["low", "c"]},
        "low": {"mode": "supervisor", "supervisor": "d", "agents": ["e"]},
    }
    found = plan('mode = "hierarchical"\nsupervisor = "a"\nagents = ["middle", "f"]\nmax_depth = 3', flows=flows)
    middle = found.body.steps[1].body.cases[0]
    assert (middle.flow.name, middle.body.steps[1].body.cases[0].flow.name) == ("middle", "low")
    assert found.body.steps[1].body.routes == {"middle": 0, "f": 1}


def test_supervisors_members_may_be_route_flows(plan: Plan) -> None:
    """A route flow with a default agent stands as a member of a supervisor, and of a graph."""
    flows = {"desk": {"mode": "route", "default_agent": "b"}}
    found = plan('mode = "supervisor"\nsupervisor = "a"\nagents = ["desk"]', flows=flows)
    assert found.body.steps[1].body.cases[0].flow == Flow("desk", "route")
    found = plan('mode = "graph"\nentry = "desk"', flows=flows)
    assert found.body.cases[0].flow == Flow("desk", "route")


def test_a_route_flow_does_not_reach_supervisors_that_name_it(plan: Plan) -> None:
    """Whom a flow names is known from its plan, whatever key names it: a named route flow hands on to no flow that could come back."""
    flows = {
        "desk": {"mode": "route", "default_agent": "b"},
        "led": {"mode": "supervisor", "supervisor": "a", "agents": ["desk"]},
        "tree": {"mode": "decision_tree", "branches": [{"when": "true", "then": [{"when": "true", "then": "desk"}]}]},
        "drawn": {"mode": "graph", "entry": "a", "edges": [{"from": "a", "to": "desk"}]},
        "plain": {"mode": "graph", "entry": "a", "edges": [{"from": "a", "to": "b"}]},
    }
    found = plan('mode = "sequential"\nsequential_agents = ["desk"]', flows=flows)
    assert [*AGENTS, "plain"] == list(found.steps[0].body.routes)


def test_peer_to_peer(plan: Plan) -> None:
    """Messages are delivered round after round, at most `max_messages` (default 100) and one to each peer a round."""
    found = plan('mode = "peer_to_peer"\nagents = ["a", "b"]', agents={"a": {"capabilities": ["x"]}, "b": {}})
    mail = Map(routed("a", "b"), AGENDA, most=2)
    assert found == Loop(mail, 100, agenda=Agenda(MAILBOX, "", most=100), flow=Flow("main", "peer_to_peer"))


# --- plan_execute ---


def test_plan_execute(plan: Plan) -> None:
    """The planner, then waves of its steps; without a replanner a failed step ends it."""
    found = plan('mode = "plan_execute"\nplanner = "a"\nagents = ["b", "c"]\nmax_tasks = 6')
    wave = Map(routed("b", "c"), AGENDA, most=6, failure_threshold=0.0)
    waves = Loop(Seq((wave,)), 6, agenda=Agenda(WAVES, "a", most=6))
    assert found == Seq((Call("a"), waves), Flow("main", "plan_execute"))


def test_plan_execute_with_replanner_and_synthesizer(plan: Plan) -> None:
    """A replanner looks at each wave, at most `max_replans` times (default 3), and is told what failed."""
    found = plan('mode = "plan_execute"\nplanner = "a"\nagents = ["b"]\nreplanner = "c"\nsynthesizer = "d"\ndefault_agent = "b"')
    wave = Map(routed("b"), AGENDA, most=100, failure_threshold=0.0, is_bearing=True, default="b")
    again = Map(Call("c", part=Part(input=Results(REPLAN))), REVISION, most=1)
    waves = Loop(Seq((wave, again)), 100, agenda=Agenda(WAVES, "a", most=100, default="b", most_replans=3))
    last = Call("d", part=Part(input=Results(SYNTHESIS)))
    assert found == Seq((Call("a"), waves, last), Flow("main", "plan_execute"))


# --- decision_tree ---


def test_decision_tree_nests_questions(plan: Plan) -> None:
    """Tables are asked as if and else, arrays as if, else if and else, to any depth; the members may hand on to each other."""
    found = plan(
        """
        mode = "decision_tree"
        max_hops = 4
        [[branches]]
        when = "state.x > 1"
        then = { when = "state.y > 1", then = "a", else = { when = "state.z > 1", then = "b" } }
        [[branches]]
        when = "state.x > 0"
        then = "c"
        else = [{ when = "event.data.p", then = "a" }, { when = "event.data.q", then = "d", else = "e" }]
        """
    )
    inner = Branch((Call("a"), Branch(calls("b"), (Rule("state.z > 1"),))), (Rule("state.y > 1"),))
    last = Branch(calls("a", "d", "e"), (Rule("event.data.p"), Rule("event.data.q")))
    tree = Branch((inner, Call("c"), last), (Rule("state.x > 1"), Rule("state.x > 0")))
    members = {"": 0, "a": 1, "b": 2, "c": 3, "d": 4, "e": 5}
    body = Branch((tree, *calls("a", "b", "c", "d", "e")), routes=members)
    assert found == Loop(body, 5, is_handoff=True, entry="", flow=Flow("main", "decision_tree"))


# --- graph ---


def test_graph_of_edges_alone(plan: Plan) -> None:
    """An edge's end that names an agent or flow is a node; edges are tried in the order of the file, `end` ends."""
    found = plan(
        """
        mode = "graph"
        entry = "a"
        [[edges]]
        from = "a"
        to = "b"
        when = "outputs.a.score > 0.8"
        [[edges]]
        from = "a"
        to = "end"
        """
    )
    edges = (Edge("a", "b", Rule("outputs.a.score > 0.8")), Edge("a", ""))
    flow = Flow("main", "graph")
    assert found == Loop(routed("a", "b"), 2, is_handoff=True, entry="a", edges=edges, max_visits=1, flow=flow)


def test_graph_nodes_have_agents_inputs_and_errors_of_their_own(plan: Plan) -> None:
    """One agent may stand at several nodes; a circle needs `max_visits`, which bounds the whole."""
    found = plan(
        """
        mode = "graph"
        entry = "draft"
        max_visits = 3
        nodes = [
            { name = "draft", agent = "a", input = "write", title = "Draft it" },
            { name = "check", agent = "b", on_error = "route:mend", input = "{{ outputs.mend }}" },
            { name = "mend", agent = "a", on_error = "continue" },
        ]
        edges = [{ from = "draft", to = "check" }, { from = "check", to = "mend", when = "!state.ok" }, { from = "check", to = "end" },
            { from = "mend", to = "check" }]
        """
    )
    cases = (
        Call("a", part=Part("draft", Template("write"), title="Draft it")),
        Call("b", part=Part("check", Template("{{ outputs.mend }}"), "route:mend")),
        Call("a", part=Part("mend", on_error="continue")),
    )
    edges = (Edge("draft", "check"), Edge("check", "mend", Rule("!state.ok")), Edge("check", ""), Edge("mend", "check"))
    body = Branch(cases, routes={"draft": 0, "check": 1, "mend": 2})
    assert found == Loop(body, 9, is_handoff=True, entry="draft", edges=edges, max_visits=3, flow=Flow("main", "graph"))


def test_where_a_failed_node_leads_is_a_node(plan: Plan) -> None:
    """What `on_error` names is a node, as the end of an edge is."""
    found = plan('mode = "graph"\nentry = "a"\nnodes = [{ name = "a", on_error = "route:b" }]\nedges = [{ from = "a", to = "end" }]')
    assert list(found.body.routes) == ["a", "b"]


def test_a_node_may_be_called_end(plan: Plan) -> None:
    """Where a node is named `end`, an edge to `end` leads to it."""
    found = plan(
        'mode = "graph"\nentry = "a"\nnodes = [{ name = "end", agent = "b" }]\nedges = [{ from = "a", to = "end" }]',
    )
    assert found.edges == (Edge("a", "end"),)
    assert list(found.body.routes) == ["end", "a"]


# --- a mode is a file and a row ---


def test_a_mode_of_ones_own_is_linked_like_a_built_in_one() -> None:
    """A function that says where its members stand, and a row, are all a mode needs: names, needs, limits, capabilities."""

    def triage(flow: FlowConfig) -> Node:
        members = tuple(Call(name, part=Member(at=("agents", index))) for index, name in enumerate(flow.agents or ()))
        return Seq((Map(Branch(members, routes={}), TASKS),))

    source = {"orchestration": {"mode": "triage", "agents": ["a", "ghost"], "map": "x"}, "agents": {"a": {"capabilities": ["x"]}}}
    project = app.load(source, environ={})
    project.modes["triage"] = Mode(triage, frozenset({"agents"}), (("agents",), ("steps",)), "as it comes")
    found, told = project.check()
    assert found is None
    assert {("AF0205", ("orchestration", "agents", 1)), ("AF0203", ("orchestration", "steps")), ("AF0290", ("orchestration", "map"))} == {
        (one.code, one.path) for one in told
    }
    project = app.load({**source, "agents": {"a": {"capabilities": ["x"]}, "ghost": {}}}, environ={})
    project.modes["triage"] = Mode(triage, frozenset({"agents"}))
    found, _ = project.check()
    assert isinstance(found, Seq)
    assert found.steps[0] == Map(Branch(calls("a", "ghost"), routes={"a": 0, "ghost": 1, "x": 0}), TASKS)
