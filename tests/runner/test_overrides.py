"""Switching flows: overrides, switch rules, registered modes, nested limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentflow import ConfigError, Event, Runner, State
from agentflow.config.model import FlowConfig
from agentflow.core.plan import Call, Loop, Node, Par, Seq
from agentflow.errors import AgentflowError, MissingHandlerError, RegistrationError, RoutingError, RunnerStateError
from agentflow.testing import StubCalls, stub_agents

Make = Callable[..., Runner]
LISTS = {"collaborative_agents": ["a", "b"], "sequential_agents": ["b", "c"], "loop_agent": "a", "max_iterations": 2}


def _stubbed(config: dict[str, Any], names: str = "a b c", answers: dict[str, Any] | None = None) -> tuple[Runner, StubCalls]:
    runner = Runner.from_dict({"agents": {name: {} for name in names.split()}, **config}, environ={})
    return runner, stub_agents(runner, answers)


def _override(name: str) -> Event:
    return Event("a", metadata={"orchestration_override": name, "kept": "1"})


@pytest.mark.parametrize(
    ("name", "ran"),
    [
        ("quick", ["c"]),
        ("loop", ["a", "a"]),
        ("sequential", ["b", "c"]),
        ("route", ["a"]),
        ("mixed", ["a", "b", "b", "c"]),
        ("collaborate", ["a", "b"]),
    ],
)
async def test_override_names_a_flow_or_a_mode(name: str, ran: list[str]) -> None:
    """`orchestration_override` runs one event through a named flow, or through the main flow in another mode."""
    runner, calls = _stubbed(
        {"orchestration": {"mode": "collaborative", **LISTS}, "flows": {"quick": {"mode": "sequential", "sequential_agents": ["c"]}}}
    )
    async with runner:
        result = await runner.run(_override(name))
        assert ("completed", ran) == (result.status, calls.agents)
        assert {"kept": "1"} == dict(result.state.meta)
        await runner.run(Event("a"))
    assert ["a", "b"] == sorted(calls.agents[len(ran) :])


@pytest.mark.parametrize(
    ("name", "told"), [("quik", "did you mean `quick`"), ("", "no flow or mode"), ("loop", "loop_agent"), ("drawing", "no flow or mode")]
)
async def test_override_that_cannot_run_is_refused_at_emit(name: str, told: str) -> None:
    """An override that names nothing, or a mode that lacks its keys, is refused when the event is emitted."""
    config = {"orchestration": {"mode": "collaborative"}, "flows": {"quick": {"mode": "sequential", "sequential_agents": ["c"]}}}
    runner, calls = _stubbed(config)
    async with runner:
        with pytest.raises(RoutingError, match=told):
            await runner.emit(_override(name))
        with pytest.raises(RoutingError):  # a second time, too
            await runner.emit(_override(name))
    assert [] == calls


async def test_override_to_a_flow_without_handlers(make_runner: Make) -> None:
    """An override to a flow whose agents lack a handler is refused, naming them; the main flow did not need them."""

    async def a(event: Event, state: State) -> None: ...

    flows = {"other": {"mode": "sequential", "sequential_agents": ["ghost"]}}
    runner = make_runner({"mode": "sequential", "sequential_agents": ["a"]}, {"a": a}, agents={"ghost": {}}, flows=flows)
    async with runner:
        with pytest.raises(MissingHandlerError, match="no handler for agent ghost"):
            await runner.emit(_override("other"))
        assert "completed" == (await runner.run(Event())).status


async def test_switch_takes_the_first_true_rule() -> None:
    """`switch` rules choose a flow by the event, first true rule first, else the flow itself; the choice is on record."""
    config = {
        "orchestration": {
            "mode": "sequential",
            "sequential_agents": ["a"],
            "switch": [{"when": "event.data.size < 10", "use": "small"}, {"when": "event.data.size < 100", "use": "medium"}],
        },
        "flows": {"small": {"mode": "sequential", "sequential_agents": ["b"]}, "medium": {"mode": "route", "default_agent": "c"}},
    }
    runner, calls = _stubbed(config)
    records: list[Any] = []
    runner.observe(records.append)
    async with runner:
        for size in (1, 50, 500):
            await runner.run(Event("a", {"size": size}))
        lacking = await runner.run(Event("a"))
    assert "b" == calls.agents[0]
    assert "a" == calls.agents[2]
    assert ["small", "medium"] == [record.fact.name for record in records if record.type == "BranchTaken" and record.fact.position == "0"][
        :2
    ]
    assert ("failed", "AF0210") == (lacking.status, lacking.error.code)


async def test_registered_mode_end_to_end() -> None:
    """A user's mode is a function from the flow's configuration to a plan; agents, limits, retries and nested flows are linked in."""

    def twice(flow: FlowConfig) -> Node:
        names = (flow.options or {})["names"]
        return Seq((Par(tuple(Call(name) for name in names)), Loop(Call("nested"), 2)))

    config = {
        "orchestration": {"mode": "twice", "options": {"names": ["a", "b"]}, "retry_attempts": 1},
        "flows": {"nested": {"mode": "sequential", "sequential_agents": ["c"]}},
    }
    runner = Runner.from_dict({"agents": {name: {} for name in "abc"}, **config}, environ={})
    runner.register_mode("twice", twice)
    calls = stub_agents(runner, {"b": [ValueError("no"), {"b": 1}]})
    async with runner:
        result = await runner.run(Event())
    assert "completed" == result.status
    assert ["a", "b", "b"] == sorted(calls.agents[:3])
    assert ["c", "c"] == calls.agents[3:]


async def test_registered_mode_may_be_an_override() -> None:
    """An event can ask for a registered mode."""
    runner = Runner.from_dict({"agents": {"a": {}, "b": {}}, "orchestration": {"mode": "route"}}, environ={})
    runner.register_mode("backwards", lambda flow: Seq((Call("b"), Call("a"))))
    calls = stub_agents(runner)
    async with runner:
        await runner.run(_override("backwards"))
        with pytest.raises(RunnerStateError, match="after start"):
            runner.register_mode("late", lambda flow: Call("a"))
    assert ["b", "a"] == calls.agents


@pytest.mark.parametrize(("name", "function"), [("", print), (None, print), ("route", print), ("mine", None), ("mine", 7)])
def test_bad_modes_are_refused(name: Any, function: Any) -> None:
    """A mode needs a free name and a function."""
    runner, _ = _stubbed({})
    with pytest.raises(RegistrationError):
        runner.register_mode(name, function)


async def test_unknown_mode_is_refused_at_start() -> None:
    """A mode that nobody registered is refused when the runner starts."""
    runner, _ = _stubbed({"orchestration": {"mode": "mine"}})
    with pytest.raises(ConfigError, match="unknown mode `mine`"):
        await runner.start()


@pytest.mark.parametrize("mode", ["sequentail", "Sequential", "colaborative", ""])
def test_misspelt_mode_is_refused_at_load(mode: str) -> None:
    """A mode that is nearly one of the known ones, or empty, is refused at once: nobody means to register it."""
    with pytest.raises(ConfigError, match="unknown mode"):
        Runner.from_dict({"orchestration": {"mode": mode}, "agents": {"a": {}}}, environ={})


@pytest.mark.parametrize("config", [{}, {"orchestration": {"mode": "collaborative"}}])
async def test_agents_may_all_be_registered_in_python(config: dict[str, Any]) -> None:
    """A configuration without agents is taken; none by the start is an error, one that is registered runs."""
    with pytest.raises(ConfigError, match="no agent"):
        await Runner.from_dict(config, environ={}).start()
    runner = Runner.from_dict(config, environ={})
    runner.register_agent("only", lambda event, state: {"done": True})
    async with runner:
        assert (await runner.run(Event("only"))).state["done"]


async def test_registered_mode_that_names_a_stranger() -> None:
    """A registered mode whose plan names no agent or flow is refused at start."""
    runner, _ = _stubbed({"orchestration": {"mode": "mine"}})
    runner.register_mode("mine", lambda flow: Call("stranger"))
    with pytest.raises(ConfigError, match="no agent or flow named `stranger`"):
        await runner.start()


async def test_missing_handlers_are_listed(make_runner: Make) -> None:
    """A start without handlers names every agent that lacks one and shows the lines that would add it; it may be tried again."""
    runner = Runner.from_dict(
        {"agents": {"a": {}, "data-loader": {}}, "orchestration": {"mode": "sequential", "sequential_agents": ["data-loader", "a"]}},
        environ={},
    )
    with pytest.raises(MissingHandlerError) as caught:
        await runner.start()
    assert (
        'no handler for agents data-loader, a; name a module in [agent_flow], e.g. entrypoint = "handlers", and put into handlers.py, '
        'below `from agentflow import agent`:\n    @agent("data-loader")\n    async def data_loader(event, state):\n'
        '        return {"data-loader": "done"}\n'
        'or set handler = "module:function" in [agents.data-loader], or runner.register_agent("data-loader", function)'
    ) == str(caught.value)
    assert isinstance(caught.value, AgentflowError)
    assert "AF0402" == caught.value.code
    stub_agents(runner)
    async with runner:
        assert "completed" == (await runner.run(Event())).status


async def test_agent_without_a_table_can_be_reached_by_route(make_runner: Make) -> None:
    """An agent registered in Python alone has the defaults and can be routed to."""

    async def extra(event: Event, state: State, ctx: Any) -> dict[str, Any]:
        return {"role": ctx.config["role"], "limit": round(ctx.deadline)}

    runner = make_runner({"mode": "route"}, {"a": extra})
    runner.register_agent("extra", extra)
    async with runner:
        result = await runner.run(Event("extra"))
    assert ("completed", "") == (result.status, result.state["role"])


async def test_limit_of_a_nested_flow_counts_each_time() -> None:
    """A nested flow's time limit holds for each of its rounds, not for their sum."""

    async def slow(event: Event, state: State) -> None:
        await asyncio.sleep(2)

    config = {
        "orchestration": {"mode": "loop", "loop_agent": "inner", "max_iterations": 4},
        "flows": {"inner": {"mode": "sequential", "sequential_agents": ["a"], "timeout_seconds": 3}},
    }
    runner, calls = _stubbed(config, "a", {"a": slow})
    async with runner:
        result = await runner.run(Event())
    assert ("completed", "max_iterations", 4) == (result.status, result.reason, len(calls))
