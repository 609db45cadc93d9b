"""What each mode makes of its keys: the plan, its limits, nested flows, switches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentflow import app
from agentflow.config.model import FlowConfig
from agentflow.core.merge import Merge
from agentflow.core.plan import Branch, Call, Flow, Loop, Node, Par, Retry, Seq, Unread
from agentflow.core.rules import Rule
from agentflow.modes import MODES, Mode
from agentflow.modes.linker import Linker, Tools

Plan = Callable[..., Any]
AGENTS: dict[str, dict[str, Any]] = {"a": {}, "b": {}, "c": {}}


@pytest.fixture
def plan() -> Plan:
    """Link a configuration given as sections; it must have no mistakes."""

    def linked(
        orchestration: dict[str, Any], *, modes: dict[str, Callable[[FlowConfig], Node]] | None = None, **sections: Any
    ) -> Node | None:
        project = app.load({"agent_flow": {"name": "main"}, "orchestration": orchestration, "agents": AGENTS, **sections}, environ={})
        project.modes.update({name: Mode(function) for name, function in (modes or {}).items()})
        node, found = project.check()
        assert [one.render() for one in found if one.severity == "error"] == []
        return node

    return linked


def calls(*names: str) -> tuple[Call, ...]:
    return tuple(Call(name) for name in names)


# --- the five modes ---


def test_route_has_every_agent_and_flow_as_member(plan: Plan) -> None:
    """Route is a hand-off loop over all enabled agents and the flows that can be an agent, one round more than max_hops."""
    flows = {
        "team": {"mode": "collaborative", "collaborative_agents": ["a"]},
        "desk": {"mode": "route", "default_agent": "b"},
        "open": {"mode": "route"},
    }
    agents = {**AGENTS, "off": {"enabled": False}}
    found = plan({"max_hops": 4, "default_agent": "c"}, flows=flows, agents=agents)
    assert isinstance(found, Loop)
    assert (found.bound, found.is_handoff, found.until, found.flow) == (5, True, None, Flow("main", "route"))
    assert isinstance(found.body, Branch)
    assert found.body.routes == {"a": 0, "b": 1, "c": 2, "team": 3, "desk": 4}
    assert found.body.default == "c"
    assert found.body.cases[:3] == calls("a", "b", "c")
    assert found.body.cases[3] == Par(calls("a"), flow=Flow("team", "collaborative"))


def test_route_has_32_hops_by_default(plan: Plan) -> None:
    """A route flow hands on 32 times unless it says otherwise; route is the default mode."""
    assert plan({}).bound == 33


def test_collaborative_runs_side_by_side(plan: Plan) -> None:
    """Collaborative is one join over its list, with its concurrency, threshold and merge policy."""
    given = {
        "mode": "collaborative",
        "collaborative_agents": ["b", "a"],
        "max_concurrency": 3,
        "failure_threshold": 0.25,
        "merge": "strict",
        "timeout_seconds": 9,
    }
    assert plan(given) == Par(calls("b", "a"), 3, 0.25, Merge("strict"), Flow("main", "collaborative", 9.0))


def test_collaborate_is_read_as_collaborative(plan: Plan) -> None:
    """The documents' other name for the mode is taken."""
    assert plan({"mode": "collaborate", "collaborative_agents": ["a"]}) == Par(calls("a"), flow=Flow("main", "collaborative"))


def test_collaborative_defaults_to_all_agents_in_file_order(plan: Plan) -> None:
    """Without a list all enabled agents work, in the order of the file."""
    assert plan({"mode": "collaborative"}).branches == calls("a", "b", "c")


def test_only_listed_agents_work(plan: Plan) -> None:
    """An agent that is not in the list is not called."""
    assert plan({"mode": "collaborative", "collaborative_agents": ["a", "b"]}).branches == calls("a", "b")


def test_merge_policies_of_keys(plan: Plan) -> None:
    """Policies of keys stand beside the default, and functions are put in their place."""
    keys = {"score": "max", "notes": "mymodule:join", "deep": "pkg.mod:fn"}
    merge = plan({"mode": "collaborative", "merge": keys}).merge
    assert merge == Merge("ordered", keys)
    assert set(merge.functions) == {"mymodule:join", "pkg.mod:fn"}
    with pytest.raises(RuntimeError, match="mymodule:join was never loaded"):
        merge.functions["mymodule:join"](None, [])


def test_sequential_runs_in_list_order(plan: Plan) -> None:
    """Sequential is its list in order; one agent may stand in it twice."""
    assert plan({"mode": "sequential", "sequential_agents": ["a", "b", "a"]}) == Seq(calls("a", "b", "a"), Flow("main", "sequential"))


def test_loop_repeats_its_agent(plan: Plan) -> None:
    """Loop repeats one agent up to max_iterations (default 5), until its condition holds."""
    assert plan({"mode": "loop", "loop_agent": "a"}) == Loop(Call("a"), 5, flow=Flow("main", "loop"))
    given = {"mode": "loop", "loop_agent": "a", "max_iterations": 2, "until": "state.done"}
    assert plan(given) == Loop(Call("a"), 2, Rule("state.done"), flow=Flow("main", "loop"))


@pytest.mark.parametrize(
    ("lists", "steps"),
    [
        ({"collaborative_agents": ["a", "b"], "sequential_agents": ["c"]}, (Par(calls("a", "b"), 4), Seq(calls("c")))),
        ({"collaborative_agents": ["a", "b"]}, (Par(calls("a", "b"), 4),)),
        ({"sequential_agents": ["c", "a"]}, (Seq(calls("c", "a")),)),
    ],
)
def test_mixed_runs_side_by_side_then_in_order(plan: Plan, lists: dict[str, Any], steps: tuple[Node, ...]) -> None:
    """Mixed is the collaborative list, then the sequential one; either may be missing."""
    assert plan({"mode": "mixed", "max_concurrency": 4, **lists}) == Seq(steps, Flow("main", "mixed"))


def test_same_file_in_every_mode(plan: Plan) -> None:
    """Changing one word gives each of the five plans."""
    keys = {"collaborative_agents": ["a", "b"], "sequential_agents": ["b", "c"], "loop_agent": "c"}
    kinds = {mode: type(plan({"mode": mode, **keys})) for mode in ("route", "collaborative", "sequential", "loop", "mixed")}
    assert kinds == {"route": Loop, "collaborative": Par, "sequential": Seq, "loop": Loop, "mixed": Seq}


def test_modes_table_says_what_each_reads() -> None:
    """Each mode has a summary, and the keys it needs are among those it reads, as is the one that stands for all agents."""
    for mode in MODES.values():
        assert mode.summary
        assert {key for group in mode.needs for key in group} <= mode.keys
        assert {mode.everyone} - {""} <= mode.keys


# --- the documents' own first file ---

FIRST_FILE = """
[agent_flow]
name = "multi-agent-system"
version = "1.0.0"
[llm]
provider = "ollama"
model = "gemma3:1b"
temperature = 0.7
[orchestration]
mode = "collaborative" # route, collaborative, sequential, loop, mixed
timeout_seconds = 30 # Global timeout for orchestration
max_iterations = 5 # For loop mode
retry_attempts = 3 # Retry failed operations
# Mode-specific configurations
collaborative_agents = ["analyzer", "validator", "processor"]
sequential_agents = ["collector", "transformer", "publisher"]
loop_agent = "quality_checker"
[agents.analyzer]
role = "data_analyzer"
system_prompt = "You analyze data for patterns and insights."
enabled = true
capabilities = ["analysis", "pattern_recognition"]
[agents.validator]
role = "data_validator"
system_prompt = "You validate data quality and consistency."
enabled = true
capabilities = ["validation", "quality_check"]
[agents.processor]
role = "data_processor"
system_prompt = "You process and transform data."
enabled = true
capabilities = ["processing", "transformation"]
"""


def test_the_documents_first_file_loads(tmp_path: Path) -> None:
    """The documents' first file, with the lists of three modes at once, gives a plan and only advice."""
    path = tmp_path / "agentflow.toml"
    path.write_text(FIRST_FILE, encoding="utf-8")
    found, advice = app.load(path, environ={}).check()
    retry = Retry(3)
    expected = tuple(Call(name, retry=retry) for name in ("analyzer", "validator", "processor"))
    assert found == Par(expected, flow=Flow("multi-agent-system", "collaborative", 30.0))
    assert {(one.code, one.path[-1]) for one in advice} == {
        ("AF0190", "llm"),
        ("AF0290", "max_iterations"),
        ("AF0290", "sequential_agents"),
        ("AF0290", "loop_agent"),
    }
    assert {one.severity for one in advice} == {"warning"}


# --- limits of a call ---


def first_call(node: Any) -> Call:
    return node if isinstance(node, Call) else first_call(node.steps[0])


def test_step_limit_is_the_agents_or_300_s(plan: Plan) -> None:
    """A step has 300 s unless its agent says otherwise."""
    flow = {"mode": "sequential", "sequential_agents": ["a"]}
    assert first_call(plan(flow)).timeout_s == 300.0
    assert first_call(plan(flow, agents={"a": {"timeout_seconds": 2}})).timeout_s == 2.0


@pytest.mark.parametrize(
    ("flow", "agent", "expected"),
    [
        ({}, {}, Retry()),
        ({"retry_attempts": 3}, {}, Retry(3)),
        ({"retry": {"max_retries": 2, "jitter": False}}, {}, Retry(2, jitter=False)),
        ({"retry_attempts": 3, "retry": {"initial_delay_seconds": 0.5}}, {}, Retry(3, 0.5)),
        ({"retry_attempts": 3}, {"retry": {"max_retries": 0}}, Retry(0)),
        ({"retry_attempts": 3}, {"retry": {"backoff_factor": 3.0}}, Retry(3, factor=3.0)),
        (
            {"retry": {"max_retries": 2, "max_delay_seconds": 9, "retryable_errors": ["X"]}},
            {"retry": {"max_retries": 5, "retryable_errors": ["Y", "Z"]}},
            Retry(5, max_delay_s=9.0, retryable=("Y", "Z")),
        ),
    ],
)
def test_retry_of_the_agent_goes_before_the_flows(plan: Plan, flow: dict[str, Any], agent: dict[str, Any], expected: Retry) -> None:
    """An agent's retry table goes over its flow's, key by key; `retry_attempts` stands in where neither has max_retries."""
    found = plan({"mode": "sequential", "sequential_agents": ["a"], **flow}, agents={"a": agent})
    assert first_call(found).retry == expected


def test_each_flow_has_its_own_retries(plan: Plan) -> None:
    """An agent without a policy has that of the flow it is called from."""
    flows = {"inner": {"mode": "sequential", "sequential_agents": ["a"], "retry_attempts": 2}}
    found = plan({"mode": "sequential", "sequential_agents": ["a", "inner"], "retry_attempts": 1}, flows=flows)
    assert [first_call(step).retry.max_retries for step in found.steps] == [1, 2]


# --- nested flows and switches ---


def test_flow_stands_in_the_place_of_its_name(plan: Plan) -> None:
    """A flow named where an agent may stand is put there, to any depth, with its own name, mode and limit."""
    flows = {
        "team": {"mode": "collaborative", "collaborative_agents": ["b", "again"], "timeout_seconds": 5},
        "again": {"mode": "loop", "loop_agent": "c", "max_iterations": 2},
    }
    found = plan({"mode": "sequential", "sequential_agents": ["a", "team"]}, flows=flows)
    again = Loop(Call("c"), 2, flow=Flow("again", "loop"))
    team = Par((Call("b"), again), flow=Flow("team", "collaborative", 5.0))
    assert found == Seq((Call("a"), team), Flow("main", "sequential"))


def test_loop_over_a_flow_keeps_both_names(plan: Plan) -> None:
    """A loop may repeat a flow, which keeps its own name."""
    flows = {"pass": {"mode": "sequential", "sequential_agents": ["a", "b"]}}
    found = plan({"mode": "loop", "loop_agent": "pass"}, flows=flows)
    assert found == Loop(Seq(calls("a", "b"), Flow("pass", "sequential")), 5, flow=Flow("main", "loop"))


def test_switches_are_asked_in_order(plan: Plan) -> None:
    """Switch rules are a branch before the flow itself: the first that holds wins, else the flow."""
    flows = {name: {"mode": "sequential", "sequential_agents": ["b"]} for name in ("quick", "slow")}
    rules = [{"when": "event.data.size < 10", "use": "quick"}, {"when": "event.data.size > 99", "use": "slow"}]
    found = plan({"mode": "sequential", "sequential_agents": ["a"], "switch": rules}, flows=flows)
    quick, slow = (Seq(calls("b"), Flow(name, "sequential")) for name in ("quick", "slow"))
    expected = Branch(
        (quick, slow, Seq(calls("a"))), (Rule("event.data.size < 10"), Rule("event.data.size > 99")), flow=Flow("main", "sequential")
    )
    assert found == expected


def test_switch_may_use_a_route_flow_without_a_default(plan: Plan) -> None:
    """A flow that a switch chooses stands for the main flow, so a route flow needs no default there."""
    rules = [{"when": "true", "use": "desk"}]
    found = plan({"mode": "sequential", "sequential_agents": ["a"], "switch": rules}, flows={"desk": {"mode": "route"}})
    assert found.cases[0].is_handoff


# --- a user's own mode ---


def test_registered_mode_gives_its_own_plan(plan: Plan) -> None:
    """A mode registered in Python is a function from its flow's keys to a plan; names in it are linked as anywhere."""

    def relay(flow: FlowConfig) -> Node:
        options = flow.options or {}
        return Seq((Call("a"), Loop(Call("team"), 2, Unread(options["until"])), Branch(calls("b", "c"), (Rule("state.x == 1"),))))

    flows = {"team": {"mode": "collaborative", "collaborative_agents": ["b"]}}
    found = plan({"mode": "relay", "options": {"until": "state.done"}}, modes={"relay": relay}, flows=flows)
    team = Par(calls("b"), flow=Flow("team", "collaborative"))
    branch = Branch(calls("b", "c"), (Rule("state.x == 1"),))
    assert found == Seq((Call("a"), Loop(team, 2, Rule("state.done")), branch), Flow("main", "relay"))


def test_registered_modes_steps_keep_their_own_limits(plan: Plan) -> None:
    """Precedence is step, agent, flow: what a mode's own call says is kept."""
    given = Call("a", timeout_s=7.0, retry=Retry(9))
    agents = {"a": {"timeout_seconds": 1, "retry": {"max_retries": 1}}}
    found = plan({"mode": "own", "retry_attempts": 2}, modes={"own": lambda flow: Seq((given,))}, agents=agents)
    assert found == Seq((given,), Flow("main", "own"))


@pytest.mark.parametrize("name", ["a", "team"])
def test_registered_mode_of_one_step(plan: Plan, name: str) -> None:
    """A plan of one call is an agent or a flow, which keeps its own name and limit inside the main flow."""
    flows = {"team": {"mode": "collaborative", "collaborative_agents": ["b"], "timeout_seconds": 5}}
    found = plan({"mode": "own"}, modes={"own": lambda flow: Call(name)}, flows=flows)
    inner = Call("a") if name == "a" else Par(calls("b"), flow=Flow("team", "collaborative", 5.0))
    assert found == Seq((inner,), Flow("main", "own"))


@pytest.mark.parametrize(
    ("node", "code", "told"),
    [
        (Seq(calls("a", "ghost")), "AF0205", "no agent or flow named `ghost`"),
        (Par(calls("off")), "AF0206", "agent `off` is disabled"),
        (Loop(Call("a"), 2, Unread("nope > 1")), "AF0211", "unknown name `nope`"),
        (Seq(()), "AF0203", "gave no plan"),
        (Par((Seq(()), Call("a"))), "AF0203", "gave no plan"),
        (None, "AF0203", "gave no plan"),
    ],
)
def test_mistakes_of_a_registered_modes_plan(node: Any, code: str, told: str) -> None:
    """What is wrong with a registered mode's plan is told like any mistake of the file."""
    agents = {**AGENTS, "off": {"enabled": False}}
    project = app.load({"orchestration": {"mode": "own"}, "agents": agents}, environ={})
    project.modes["own"] = Mode(lambda flow: node)
    found, (mistake,) = project.check()
    assert (found, mistake.code) == (None, code)
    assert told in mistake.message


def test_agent_registered_without_a_table_is_reached_by_route() -> None:
    """An agent that exists only in Python has the defaults and is a member of route flows."""
    project = app.load({"agents": AGENTS}, environ={})
    project.extra_agents = ("a", "extra")
    found, mistakes = project.check()
    assert mistakes == []
    assert isinstance(found, Loop)
    assert isinstance(found.body, Branch)
    assert list(found.body.routes or {}) == ["a", "b", "c", "extra"]
    assert found.body.cases[3] == Call("extra")


def test_main_flow_can_be_linked_in_another_mode() -> None:
    """The main flow in the mode that an event asks for has the same keys and limits, and no switch before it."""
    rules = [{"when": "true", "use": "quick"}]
    flows = {"quick": {"mode": "sequential", "sequential_agents": ["c"]}}
    orchestration = {"mode": "sequential", "sequential_agents": ["a"], "loop_agent": "b", "retry_attempts": 2, "switch": rules}
    project = app.load({"agent_flow": {"name": "main"}, "orchestration": orchestration, "agents": AGENTS, "flows": flows}, environ={})
    tools = Tools(project.modes, Rule, lambda reference: lambda before, values: None)
    linker = Linker(project.config, tools)
    assert linker.main(mode="loop") == Loop(Call("b", retry=Retry(2)), 5, flow=Flow("main", "loop"))
    told = list(linker.diagnostics)
    assert linker.main(mode="loop") is not None
    assert [one.code for one in told] == ["AF0290"]
    assert linker.diagnostics == told, "what was told once is not told again"
