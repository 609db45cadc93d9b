"""Any pattern in any other, three deep: it ends within what was proved before it began, the same in any order of completion."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentflow import AgentResult, Event, Runner
from agentflow.core.bounds import Bounds, bounds_of
from agentflow.core.records import BranchTaken, LoopEnded
from agentflow.testing import run_virtual
from tests.durability.patterns import MODES, Nest, nests

IS_PROOF = bool(os.environ.get("AGENTFLOW_PROOF"))
EXAMPLES = 200 if IS_PROOF else 36  # of each outermost mode
HOP = re.compile(r"#(\d+)$")


@dataclass(frozen=True)
class Ran:
    """What became of a run: its result without what may differ, its attempts by position, and the figures of its bounds."""

    told: dict[str, Any]
    attempts: Counter[str]
    hops: int
    seconds: float
    bounds: Bounds


def _run(nest: Nest, rests: int) -> Ran:
    attempts: Counter[str] = Counter()
    runner = nest.runner(lambda ctx: attempts.update([ctx.position]), rests)
    hops: list[int] = []

    def see(record: Any) -> None:
        if isinstance(record.fact, BranchTaken) and (found := HOP.search(record.fact.position)):
            hops.append(int(found[1]) > 1)

    async def main() -> Ran:
        runner.observe(see)
        async with runner:
            handle = await runner.emit(nest.event("e1"))
            while await handle.wait() == "paused":
                for place in tuple(handle._run.waiting):
                    await handle.approve(place)
            result = await handle.result()
            told = result.to_dict()
            told = {name: told[name] for name in ("status", "reason", "flags", "state", "error", "errors", "conflicts")}
            seconds = asyncio.get_running_loop().time()
            told |= {"outputs": list(result.outputs.items()), "keys": list(result.state)}
            return Ran(told, attempts, sum(hops), seconds, bounds_of(runner.plan))

    return run_virtual(main())


@pytest.mark.parametrize("outermost", MODES)
def test_patterns_in_each_other_keep_their_bounds_in_any_order_of_completion(outermost: str) -> None:
    """Attempts, steps, hops and seconds stay within the bounds, and state, outputs, status and errors do not depend on who is quick."""
    done: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(nests(outermost), st.integers(0, 2**16), st.integers(0, 2**16))
    def check(nest: Nest, rests: int, others: int) -> None:
        ran = _run(nest, rests)
        assert sum(ran.attempts.values()) <= ran.bounds.calls
        assert len(ran.attempts) <= ran.bounds.steps
        assert ran.hops <= ran.bounds.hops
        assert ran.bounds.wall_s is None or nest.is_asking or ran.seconds <= ran.bounds.wall_s
        again = _run(nest, others)
        assert ran.told == again.told
        assert ran.attempts == again.attempts
        done.update([str(ran.told["status"]), "flows", *nest.modes[1:]])
        done["deep"] += any(position.count(".") + position.count("[") + position.count("#") > 2 for position in ran.attempts)
        done["calls"] += sum(ran.attempts.values())

    check()
    print(f"\n{outermost} around others: {dict(done)}")  # noqa: T201
    assert done["flows"] >= EXAMPLES * 3 // 4
    assert done["calls"] >= EXAMPLES


# --- a break or an error leaves only the loop that it belongs to ---


@dataclass(frozen=True)
class Outer:
    """A flow around `inner`: how often it comes to that, and how often to each of its agents, whatever becomes of `inner`.

    `says` has the answers of leaders, `sends` the messages of peers, `bearing` the calls that an error makes more.
    """

    table: dict[str, Any]
    times: int
    calls: dict[str, int]
    says: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    sends: dict[str, list[str]] = field(default_factory=dict)
    bearing: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Inner:
    """A flow that ends before its bound because somebody says so, and how many calls that takes; the last one is `i2`'s, or `i1`'s."""

    table: dict[str, Any]
    calls: int
    last: str
    says: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    sends: dict[str, list[str]] = field(default_factory=dict)


def _supervised(mode: str, leader: str, members: list[str], **more: Any) -> dict[str, Any]:
    return {"mode": mode, "supervisor": leader, "agents": members, "on_error": "continue", **more}


_STEPS = [{"agent": "inner"}, {"agent": "o1"}, {"agent": "o2", "depends_on": ["inner", "o1"]}]
_NEXT = [{"next": "inner"}, {"next": ["inner", "o1"]}, {"done": True}]
OUTER = {
    "route": Outer({"default_agent": "o1", "on_error": "continue"}, 1, {"o1": 1}, {"o1": [{"route": "inner"}]}),
    "collaborative": Outer({"collaborative_agents": ["inner", "o1"]}, 1, {"o1": 1}),
    "sequential": Outer({"sequential_agents": ["o1", "inner", "o2"], "on_error": "continue"}, 1, {"o1": 1, "o2": 1}),
    "loop": Outer({"loop_agent": "inner", "max_iterations": 3, "on_error": "continue"}, 3, {}),
    "mixed": Outer({"collaborative_agents": ["inner", "o1"], "sequential_agents": ["o2"]}, 1, {"o1": 1, "o2": 1}),
    "parallel": Outer({"steps": _STEPS}, 1, {"o1": 1, "o2": 1}),
    "pipeline": Outer({"sequential_agents": ["o1", "inner", "o2"], "on_error": "continue"}, 1, {"o1": 1, "o2": 1}),
    "map_reduce": Outer({"map": "inner", "over": "items", "reduce": "o2", "on_error": "continue"}, 2, {"o2": 1}),
    "orchestrator_workers": Outer(
        {"planner": "o1", "workers": ["inner", "o3"], "synthesizer": "o2", "failure_threshold": 0.7},
        2,
        {"o1": 1, "o2": 1, "o3": 1},
        {"o1": [{"tasks": [{"specialty": "inner"}, {"specialty": "inner"}, {"specialty": "o3"}]}]},
    ),
    "supervisor": Outer(_supervised("supervisor", "o2", ["inner", "o1"], max_rounds=4), 2, {"o1": 1, "o2": 3}, {"o2": _NEXT}),
    "hierarchical": Outer(_supervised("hierarchical", "o2", ["inner", "o1"], max_rounds=4), 2, {"o1": 1, "o2": 3}, {"o2": _NEXT}),
    "peer_to_peer": Outer(
        {"agents": ["o1", "inner", "o2"], "on_error": "continue"}, 2, {"o1": 1, "o2": 1}, {}, {"o1": ["inner", "o2"], "o2": ["inner"]}
    ),
    "plan_execute": Outer(
        {"planner": "o1", "agents": ["inner", "o2"], "replanner": "o3"},
        2,
        {"o1": 1, "o2": 2, "o3": 1},
        {
            "o1": [
                {"plan": [{"id": "s1", "agent": "inner"}, {"id": "s2", "agent": "o2"}, {"id": "s3", "agent": "o2", "depends_on": ["s2"]}]}
            ],
            "o3": [{"plan": [{"id": "s4", "agent": "inner"}, {"id": "s5", "agent": "o2"}]}, {"plan": []}],
        },
        bearing={"o3": 2},
    ),
    "decision_tree": Outer({"branches": [{"when": "true", "then": "inner"}], "on_error": "continue"}, 1, {}),
    "graph": Outer(
        {
            "entry": "o1",
            "edges": [{"from": "o1", "to": "inner"}, {"from": "inner", "to": "o2"}],
            "nodes": [{"name": "inner", "on_error": "continue"}],
        },
        1,
        {"o1": 1, "o2": 1},
    ),
}
_TO_I2 = {"i1": [{"route": "i2"}]}
INNER = {
    "loop": Inner({"loop_agent": "i1", "max_iterations": 4}, 2, "i1", {"i1": [{}, {"loop_complete": True}]}),
    "route": Inner({"default_agent": "i1"}, 2, "i2", _TO_I2),
    "supervisor": Inner(
        {"supervisor": "i1", "agents": ["i2"], "max_rounds": 4},
        5,
        "i2",
        {"i1": [{"next": "i2"}, {"next": "i2", "done": False}, {"done": True}]},
    ),
    "peer_to_peer": Inner({"agents": ["i1", "i2"]}, 2, "i2", {"i2": [{"consensus": True}]}, {"i1": ["i2"], "i2": ["i1"]}),
    "plan_execute": Inner(
        {"planner": "i1", "agents": ["i2"]}, 3, "i2", {"i1": [{"plan": [{"id": "s1"}, {"id": "s2", "depends_on": ["s1"]}]}]}
    ),
    "decision_tree": Inner({"branches": [{"when": "true", "then": "i1", "else": "i2"}]}, 2, "i2", _TO_I2),
    "graph": Inner(
        {
            "entry": "i1",
            "edges": [{"from": "i1", "to": "i2"}, {"from": "i2", "to": "i1", "when": "false"}, {"from": "i2", "to": "end"}],
            "max_visits": 3,
        },
        2,
        "i2",
    ),
}
ROUND = re.compile(r"#(\d+)")


def _last_round(position: str) -> int:
    return int((ROUND.findall(position) or ["1"])[-1])


def _named(part: Outer | Inner, **names: str) -> Any:
    """Return a part with other names in the place of some."""
    told = json.dumps([part.table, part.says, part.sends])
    for name, other in names.items():
        told = told.replace(f'"{name}"', f'"{other}"')
    return json.loads(told)


def _nested(outer: str, middle: str, inner: str, *, is_failing: bool) -> tuple[Any, Counter[str], list[str]]:
    """Run three flows in each other, and return the result, how often each agent was called, and why loops ended.

    Agents are called `o…`, `m…` and `i…` by their flow's place.
    """
    first = _named(OUTER[outer], inner="middle")
    second = _named(OUTER[middle], o1="m1", o2="m2", o3="m3")
    third = _named(INNER[inner])
    says, sends = first[1] | second[1] | third[1], first[2] | second[2] | third[2]
    calls: Counter[str] = Counter()

    async def answer(event: Any, state: Any, ctx: Any) -> Any:
        calls[ctx.agent] += 1
        if is_failing and ctx.agent == INNER[inner].last:
            raise OSError("broken")
        for name in sends.get(ctx.agent, []):
            ctx.send(name, "go on")
        told = says.get(ctx.agent, [{}])
        said = dict(told[min(_last_round(ctx.position), len(told)) - 1])
        route = said.pop("route", None)
        return AgentResult({ctx.agent: calls[ctx.agent], **said}, route=route)

    names = [f"{level}{number}" for level in "omi" for number in (1, 2, 3)]
    flows = {"middle": {"mode": middle, **second[0]}, "inner": {"mode": inner, **third[0]}}
    config = {"orchestration": {"mode": outer, **first[0]}, "flows": flows, "agents": {name: {} for name in names}}
    runner = Runner.from_dict(config, environ={})
    for name in names:
        runner.register_agent(name, answer)
    ended: list[str] = []

    def see(record: Any) -> None:
        if isinstance(record.fact, LoopEnded):
            ended.append(f"{record.fact.position} {record.fact.reason}")

    async def main() -> Any:
        runner.observe(see)
        async with runner:
            return await runner.run(Event("o1" if outer == "route" else "", {"items": [1, 2]}))

    return run_virtual(main()), calls, ended


def _expected(part: Outer, level: str, times: int, *, is_failing: bool) -> dict[str, int]:
    calls = part.calls | (part.bearing if is_failing else {})
    return {f"{level}{name[1:]}": times * count for name, count in calls.items()}


places = st.tuples(st.sampled_from(list(OUTER)), st.sampled_from(list(OUTER)), st.sampled_from(list(INNER))).filter(
    lambda place: place[1:] != ("route", "route")  # a named route flow hands on to no other one
)


@settings(max_examples=3000 if IS_PROOF else 200, suppress_health_check=list(HealthCheck))
@given(places)
def test_a_break_leaves_only_the_loop_it_belongs_to(place: tuple[str, str, str]) -> None:
    """Whatever ends the innermost loop before its bound, those around it go on as often as they would have."""
    result, calls, _ = _nested(*place, is_failing=False)
    outer, middle, inner = OUTER[place[0]], OUTER[place[1]], INNER[place[2]]
    assert ("completed", None) == (result.status, result.error)
    expected = _expected(outer, "o", 1, is_failing=False) | _expected(middle, "m", outer.times, is_failing=False)
    assert expected == {name: count for name, count in calls.items() if not name.startswith("i")}
    assert outer.times * middle.times * inner.calls == calls["i1"] + calls["i2"]
    assert {"iteration", "loop_complete", "next", "done", "plan", "tasks"}.isdisjoint(result.state)


@settings(max_examples=3000 if IS_PROOF else 200, suppress_health_check=list(HealthCheck))
@given(places)
def test_an_error_leaves_only_the_loop_it_belongs_to(place: tuple[str, str, str]) -> None:
    """Where the flow around bears it, an error in the innermost loop ends that loop alone: all else is done as if it had ended well."""
    result, calls, ended = _nested(*place, is_failing=True)
    outer, middle, inner = OUTER[place[0]], OUTER[place[1]], INNER[place[2]]
    assert ("partial", None) == (result.status, result.error)
    expected = _expected(outer, "o", 1, is_failing=False) | _expected(middle, "m", outer.times, is_failing=True)
    assert expected == {name: count for name, count in calls.items() if not name.startswith("i")}
    assert outer.times * middle.times == calls[inner.last]
    assert "OSError" in {failure.type for failure in result.errors.values()}
    assert not [one for one in ended if one.startswith("0 error")], "the outer loop ended by itself"
