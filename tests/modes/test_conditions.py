"""Conditions at load and at run time: what they ask about is there, or the error names it; it is never simply false."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import pytest

from agentflow import Event, Runner, RunResult, app
from agentflow.config.diagnostics import ConfigError, Diagnostic

AGENTS: Mapping[str, Any] = {"a": {}, "b": {}, "c": {}}
DECLARED: Mapping[str, Any] = {
    "a": {"writes": ["score", "text"]},
    "b": {"output_schema": {"properties": {"rank": {}}, "additionalProperties": False}, "reads": ["topic"]},
    "c": {"writes": []},
}


def found(main: Mapping[str, Any], agents: Mapping[str, Any] = AGENTS, **flows: Any) -> list[Diagnostic]:
    """Check a configuration and return what is told of it, but for keys that are not used."""
    project = app.load({"orchestration": dict(main), "agents": dict(agents), "flows": flows}, environ={})
    return [one for one in project.check()[1] if one.code != "AF0290"]


def loop(until: str, agent: str = "a", **keys: Any) -> dict[str, Any]:
    return {"mode": "loop", "loop_agent": agent, "until": until, **keys}


def sequence(*names: str, **keys: Any) -> dict[str, Any]:
    return {"mode": "sequential", "sequential_agents": list(names), **keys}


# --- outputs ---


@pytest.mark.parametrize(
    ("until", "told"),
    [
        ("outputs.a.x > 1", ""),
        ('outputs["a"].x > 1', ""),
        ("has(outputs.a) && outputs.a.x > 1", ""),
        ("size(outputs) > 0", ""),
        ("outputs.exists(name, name == 'zzz')", ""),
        ("outputs.aa.x > 1", "`outputs.aa` in `outputs.aa.x > 1`: no member of the flow, or of one around it, has that name"),
        ("has(outputs.aa)", "`outputs.aa`"),
        ("outputs.b.x > 1", "`outputs.b`"),
    ],
)
def test_outputs_are_those_of_members(until: str, told: str) -> None:
    """Of the loop, and nobody else's: also in a guard, where a wrong name would always be false."""
    diagnostics = found(loop(until))
    assert [one.code for one in diagnostics] == (["AF0254"] if told else [])
    assert all(told in one.message and one.path == ("orchestration", "until") for one in diagnostics)


def test_the_nearest_name_is_told() -> None:
    """With a hint at what was meant."""
    [diagnostic] = found(loop("outputs.anlyzer.x > 1", "analyzer"), {"analyzer": {}})
    assert diagnostic.help == "did you mean `analyzer`?"


def test_outputs_of_flows_around_are_there_too() -> None:
    """A flow in a flow sees what stood before it, and the names of flows; another one's members it does not see."""
    flows = {"inner": loop("outputs.a.x > outputs.b.x || outputs.other.x > 1"), "other": sequence("c")}
    assert found(sequence("b", "other", "inner"), **flows) == []
    assert [one.code for one in found(sequence("b", "inner"), **flows)] == ["AF0254"]


def test_the_main_flow_has_no_output() -> None:
    """It has not ended while somebody asks; an agent that is called as it is, is another thing."""
    for name, codes in (("desk", ["AF0254"]), ("a", [])):
        project = app.load(
            {"agent_flow": {"name": name}, "orchestration": loop(f"outputs.{name}.x > 1"), "agents": dict(AGENTS)}, environ={}
        )
        assert [one.code for one in project.check()[1]] == codes


@pytest.mark.parametrize("names", [["a", "b", "c"], ["a", "b", "c", "later"]])
async def test_who_is_registered_in_python_may_be_meant(names: list[str]) -> None:
    """A route flow hands on to all agents, so that a name is judged when those are known: at the start, and not before."""
    flows = {"inner": loop("outputs.later.x > 1")}
    main = {"mode": "route", "default_agent": "inner"}
    runner = Runner.from_dict({"orchestration": main, "agents": dict(AGENTS), "flows": flows}, environ={})
    for name in names:
        runner.register_agent(name, lambda event, state: None)
    with nullcontext() if "later" in names else pytest.raises(ConfigError, match="AF0254"):
        async with runner:
            pass


def test_steps_are_known_by_their_ids() -> None:
    """And not by their agents' names."""
    steps = [{"id": "gather", "agent": "a"}, {"id": "check", "agent": "b"}]
    for name, codes in (("gather", []), ("check", []), ("a", ["AF0254"])):
        panel = {"mode": "parallel", "steps": steps}
        assert [one.code for one in found(loop(f"outputs.{name}.x > 1", "panel"), panel=panel)] == codes


@pytest.mark.parametrize("place", ["switch", "edge", "branch"])
def test_every_kind_of_condition_is_looked_at(place: str) -> None:
    """Rules of a switch, edges of a graph and questions of a decision tree, each with its own place."""
    when = "outputs.nobody.x > 1"
    mains: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
        "switch": (sequence("a", switch=[{"when": when, "use": "quick"}]), ("switch", 0, "when")),
        "edge": (
            {
                "mode": "graph",
                "entry": "a",
                "edges": [
                    {"from": "a", "to": "b"},
                    {"from": "b", "to": "c", "when": when},
                    {"from": "b", "to": "end"},
                    {"from": "c", "to": "end"},
                ],
            },
            ("edges", 1, "when"),
        ),
        "branch": ({"mode": "decision_tree", "branches": [{"when": when, "then": "a", "else": "b"}]}, ("branches", 0, "when")),
    }
    main, path = mains[place]
    assert [(one.code, one.path) for one in found(main, quick=sequence("c"))] == [("AF0254", ("orchestration", *path))]


def test_names_that_nothing_has_are_told_beside_other_mistakes() -> None:
    """In one pass; what may be there once those are cured is left alone."""
    told = found(loop("outputs.zzz.x > 1 && outputs.b.x > 1", "aa"))
    assert sorted(one.code for one in told) == ["AF0205", "AF0254"]
    assert "`outputs.zzz`" in next(one.message for one in told if one.code == "AF0254")
    flows = {"inner": loop("outputs.zzz.x > 1 && outputs.b.x > 1"), "broken": sequence("aa")}
    assert sorted(one.code for one in found(sequence("inner", "broken"), **flows)) == ["AF0205", "AF0254"]


@pytest.mark.parametrize(
    ("until", "told"),
    [
        ("outputs.a.score > 1", ""),
        ("outputs.a.loop_complete", ""),
        ("outputs.a.scor > 1", "`outputs.a.scor` in `outputs.a.scor > 1`: `a` declares no such key"),
        ("outputs.b.rank > 1 && outputs.b.text == ''", "`outputs.b.text`"),
        ("outputs.both.rank > outputs.both.text", ""),
        ("outputs.both.rang > 1", "`outputs.both.rang`"),
        ("outputs.free.anything > 1", ""),
    ],
)
def test_keys_of_outputs_are_those_that_are_declared(until: str, told: str) -> None:
    """By `writes`, or a schema without other keys; a flow has those of all in it, and who declares nothing may set anything."""
    flows = {"both": sequence("a", "b"), "all": sequence("both", "free", "a", "b")}
    diagnostics = found(loop(until, "all"), {**DECLARED, "free": {}}, **flows)
    assert [one.code for one in diagnostics] == (["AF0255"] if told else [])
    assert all(told in one.message for one in diagnostics)


def test_who_declares_both_sets_what_both_allow() -> None:
    """A key that `writes` names and the schema refuses is never set."""
    schema = {"additionalProperties": False, "properties": {"score": {}, "rank": {}}}
    agents = {"a": {"writes": ["score", "text"], "output_schema": schema}}
    codes = {key: [one.code for one in found(loop(f"outputs.a.{key} == 1"), agents)] for key in ("score", "text", "rank")}
    assert codes == {"score": [], "text": ["AF0255"], "rank": ["AF0255"]}


def test_who_stands_in_may_set_keys_of_its_own() -> None:
    """So do a default output, and a function that makes one answer of many."""
    agents = {**DECLARED, "d": {"writes": ["score"], "fallback": ["b"], "default_output": {"score": 0}}}
    assert found(loop("outputs.d.rank > 1", "d"), agents) == []
    joined = {"mode": "collaborative", "collaborative_agents": ["a", "b"]}
    assert [one.code for one in found(loop("outputs.j.verdict == 'x'", "j"), DECLARED, j=joined)] == ["AF0255"]
    assert found(loop("outputs.j.verdict == 'x'", "j"), DECLARED, j={**joined, "aggregate": "mine:verdict"}) == []


# --- the state ---


@pytest.mark.parametrize(
    ("until", "code", "hint"),
    [
        ("state.score > 1", None, ""),
        ("state.topic == 'tea'", None, ""),
        ("state.iteration > 1", None, ""),
        ("state.scor > 1", "AF0255", "did you mean `score`?"),
        ("has(state.scor)", "AF0255", "did you mean `score`?"),
        ("state.budget > 1", "AF0295", "`writes` of who sets it"),
    ],
)
def test_a_key_that_nobody_declares_must_come_with_the_event(until: str, code: Any, hint: str) -> None:
    """Where all agents declare what they set: a near miss is an error, another key advice; what is read is known to come."""
    diagnostics = found(loop(until, "both"), DECLARED, both=sequence("a", "b"))
    assert [(one.code, one.severity) for one in diagnostics] == ([(code, "warning" if code == "AF0295" else "error")] if code else [])
    assert all(hint in one.help for one in diagnostics)


def test_where_one_agent_declares_nothing_any_key_may_be_there() -> None:
    """It may set it."""
    assert found(loop("state.scor > 1", "both"), {**DECLARED, "b": {}}, both=sequence("a", "b")) == []


@pytest.mark.parametrize("agents", [AGENTS, DECLARED])
def test_a_state_that_allows_no_other_keys_has_no_others(agents: Any) -> None:
    """Of the flow itself and of those around it; whoever declares what."""
    closed = {"additionalProperties": False, "properties": {"score": {"type": "number"}}}
    assert found(loop("state.score > 1 && state.loop_complete", state_schema=closed), agents) == []
    [diagnostic] = found(loop("state.scor > 1", state_schema=closed), agents)
    assert (diagnostic.code, diagnostic.severity, diagnostic.help) == ("AF0255", "error", "did you mean `score`?")
    assert "the state_schema of the main flow has no such key" in diagnostic.message
    [diagnostic] = found(sequence("inner", state_schema=closed), agents, inner=loop("state.text == ''"))
    assert (diagnostic.code, diagnostic.path) == ("AF0255", ("flows", "inner", "until"))
    assert found(loop("state.text == ''", state_schema={"properties": {"text": {}}}), agents) == []


# --- at run time ---


def _branching(when: str) -> dict[str, Any]:
    return {"mode": "decision_tree", "branches": [{"when": when, "then": "a", "else": "b"}]}


def _graph(when: str) -> dict[str, Any]:
    edges = [{"from": "a", "to": "b", "when": when}, {"from": "a", "to": "end"}, {"from": "b", "to": "end"}]
    return {"mode": "graph", "entry": "a", "edges": edges}


CONSTRUCTS: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "until": lambda when: loop(when, max_iterations=2),
    "switch": lambda when: sequence("a", switch=[{"when": when, "use": "quick"}]),
    "branch": _branching,
    "edge": _graph,
}


async def ran(construct: str, when: str) -> RunResult:
    """Run a flow with the construct, before `c`."""
    flows = {"quick": sequence("b"), "inner": CONSTRUCTS[construct](when)}
    runner = Runner.from_dict({"orchestration": sequence("inner", "c"), "agents": dict(AGENTS), "flows": flows}, environ={})
    for name in AGENTS:
        runner.register_agent(name, lambda event, state: None)
    async with runner:
        return await runner.run(Event(data={"known": {"here": 1}}))


@pytest.mark.parametrize("construct", CONSTRUCTS)
@pytest.mark.parametrize(
    ("when", "name"),
    [
        ("state.qualty > 1", "state.qualty"),
        ("state.qualty", "state.qualty"),
        ("!state.qualty", "state.qualty"),
        ("state.known.deeper == 1", "state.known.deeper"),
        ("event.data.qualty == 1", "event.data.qualty"),
        ("meta.qualty == ''", "meta.qualty"),
        ("outputs.c.x == 1", "outputs.c"),
        ("has(state.qualty.deeper)", "state.qualty"),
        ("state.qualty > 1 || state.known.here > 9", "state.qualty"),
        ("state.known.here == 1 && state.qualty > 1", "state.qualty"),
    ],
)
async def test_what_is_not_there_is_an_error_naming_it(construct: str, when: str, name: str) -> None:
    """In every construct: never false, nor true."""
    result = await ran(construct, when)
    assert result.status == "failed"
    assert result.error is not None
    assert result.error.code == "AF0210"
    assert name in result.error.message


@pytest.mark.parametrize("construct", CONSTRUCTS)
@pytest.mark.parametrize("when", ["has(state.qualty)", "has(state.qualty) && state.qualty > 1", "has(state.known.deeper)"])
async def test_a_guard_asks_whether_it_is_there(construct: str, when: str) -> None:
    """has() of a key that is missing is false; of a key below one that is missing an error, as above."""
    result = await ran(construct, when)
    assert result.status == "completed", result.error
