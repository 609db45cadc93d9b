"""Any pattern in any other, three deep, and handlers that play whatever part they stand in.

An agent belongs to one flow, and knows by that what it may be asked for: to name who is next, to make tasks or a plan, to send a
message. Agents of a flow that stands in such a place say the same, so that a flow can lead another. What an agent answers depends
on who it is, where it stands and what it sees, never on when it is asked; how long it takes is chosen apart.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any
from zlib import crc32

from hypothesis import strategies as st

from agentflow import AgentResult, Event, Runner
from agentflow.errors import RoutingError
from tests.durability.world import BEGAN

RETRIES = 2
LIMIT_S = 4.0  # of an attempt
RESTS = (0.0, 0.0, 0.5, 1.0, 1.5, 3.5)  # how long attempts take, in seconds
DATA: Mapping[str, Any] = {"n": 1, "x": 0, "items": [1, 2]}

Says = dict[str, list[str]]  # what somebody may be asked for, and the names among which to choose
Note = Callable[[Any], None]
Build = Callable[[st.DrawFn, str], "Draft"]


@dataclass(frozen=True)
class Draft:
    """A flow of agents alone: its table, and what its agents are asked for beside their work.

    `members` are all that it names, in any place: any of them may be replaced by a flow.
    """

    table: dict[str, Any]
    members: tuple[str, ...]
    says: dict[str, Says] = field(default_factory=dict)


@dataclass(frozen=True)
class Nest:
    """Flows in each other: the main flow's table, the others' by name, all agents and what they say.

    `rules` are what the tables of some agents say; with `is_handled` there is an error handler. `seed` makes the answers.
    """

    modes: tuple[str, ...]
    main: dict[str, Any]
    flows: dict[str, dict[str, Any]]
    says: dict[str, Says]
    rules: dict[str, dict[str, Any]]
    is_handled: bool
    target: str
    seed: int

    @property
    def is_asking(self) -> bool:
        """Whether a step waits for a person."""
        return any("requires_approval" in rule for rule in self.rules.values())

    def event(self, event_id: str) -> Event:
        """Return the event that begins it."""
        return Event(self.target, json.loads(json.dumps(DATA)), id=event_id, timestamp=BEGAN)

    def runner(self, note: Note, rests: int, effect: Any = None, snapshot_every: int | None = None) -> Runner:
        """Return a runner for it.

        Args:
            note: is told of each attempt.
            rests: the seed of how long attempts take.
            effect: does something that is not to be done again once it is recorded, by ctx and key.
            snapshot_every: as of a journal; None: there is no journal.
        """
        agents: dict[str, dict[str, Any]] = {name: {"timeout_seconds": LIMIT_S} for name in (*self.says, "rescue", "spare", "triage")}
        for index, name in enumerate(self.says):
            agents[name]["capabilities"] = ["skill"] if index % 2 else []
            agents[name] |= self.rules.get(name, {})
        policies = {
            "max_process_deaths": 100,
            "retry_attempts": RETRIES,
            "retry": {"initial_delay_seconds": 1.0, "jitter": False},
        }
        config: dict[str, Any] = {
            "orchestration": {**self.main, **policies},
            "flows": {name: {**table, **policies} for name, table in self.flows.items()},
            "agents": agents,
        }
        if self.is_handled:
            config["error_routing"] = {"error_handler": "triage"}
        if snapshot_every is not None:
            config["journal"] = {"url": "memory:", "snapshot_every": snapshot_every}
        runner = Runner.from_dict(config, environ={}, seed=7)
        for name in agents:
            runner.register_agent(name, _handler(self.seed, self.says.get(name, {}), note, rests, effect))
        return runner


def shown(value: Any) -> str:
    """Return a value as a text that is the same for equal values."""
    return json.dumps(value, sort_keys=True)


def _handler(seed: int, says: Says, note: Note, rests: int, effect: Any) -> Callable[..., Any]:
    async def answer(event: Event, state: Any, ctx: Any) -> Any:
        note(ctx)
        data = {name: value for name, value in event.data.items() if name != "attempts"}  # a death makes one more of them
        seen = shown([dict(state), dict(state.meta), data, ctx.input])
        dice = Random(crc32(f"{seed}/{ctx.agent}/{ctx.position}/{seen}".encode()))
        bad = dice.choice([0] * 26 + [1, RETRIES, 99, -1])
        await asyncio.sleep(RESTS[crc32(f"{rests}/{ctx.position}/{ctx.attempt}".encode()) % len(RESTS)])
        if bad == -1:
            await asyncio.sleep(1000.0)
        if bad > RETRIES or ctx.attempt <= bad:
            raise OSError(f"{ctx.agent} is busy")
        if effect is not None and dice.random() < 0.2:
            state["paid"] = await ctx.once("pay", lambda: effect(ctx, "pay"))
        _work(state, ctx, dice)
        for name, members in says.items():
            _steer(state, name, members, dice)
        _talk(ctx, says.get("peers", []), dice)
        return _told(state, says.get("routes", []), dice)

    return answer


def _work(state: Any, ctx: Any, dice: Random) -> None:
    state[ctx.agent] = state.get(ctx.agent, 0) + 1
    if ctx.agent == "triage":
        state["recovered"] = dice.random() < 0.5
    state["last"] = f"{ctx.agent} after {state.get('last', 'nobody')}"[:60]
    match dice.randrange(8):
        case 0:
            state["x"] = dice.randrange(3)
        case 1:
            state.pop("x", None)
        case 2:
            state["items"] = [ctx.position] * dice.randrange(3)
        case 3:
            state.meta["by"] = ctx.position
        case 4:
            state["loop_complete"] = True
        case 5 if isinstance(state.get("items"), list) and len(state["items"]) < 3:
            state["items"].append(ctx.agent)
        case _:
            pass


def _steer(state: Any, name: str, members: list[str], dice: Random) -> None:
    """Say what a leader says; now and then something that cannot be followed."""
    who = "nobody" if dice.random() < 0.02 else dice.choice(members)
    match name:
        case "next":
            if dice.random() < 0.3:
                state["done"] = True
            else:
                state["next"] = dice.choice([who, [who], list(members), {"agent": who, "task": {"n": 2}}, {"agent": who, "task": "go"}])
        case "tasks":
            count = dice.randrange(4)
            state["tasks"] = [{"id": f"t{at}", "specialty": dice.choice([who, None, ""]), "input": at} for at in range(count)]
        case "plan" | "replan":
            if name == "plan" or dice.random() < 0.5:
                ids = [f"s{dice.randrange(1000)}" for _ in range(dice.randrange(3))]
                state["plan"] = [
                    {"id": one, "agent": who, "input": one, "depends_on": ids[: dice.randrange(at + 1)]} for at, one in enumerate(ids)
                ]
        case "peers" if dice.random() < 0.1:
            state["consensus"] = True
        case _:
            pass


def _talk(ctx: Any, peers: list[str], dice: Random) -> None:
    for _ in range(dice.choice([0, 1, 1, 2]) if peers else 0):
        try:
            ctx.send(dice.choice(peers), {"from": ctx.position})
        except RoutingError:  # it was led here from another flow
            return


def _told(state: Any, routes: list[str], dice: Random) -> Any:
    route = dice.choice(routes) if routes and dice.random() < 0.4 else None
    form = dice.randrange(4)
    if route is not None or form == 0:
        return AgentResult(state, route=route)
    if form == 1:
        return dict(state)
    return None if form == 2 else state


# --- flows of agents, by mode ---


def _agents(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}_{letter}" for letter in "abcdef"[:count])


def _maybe(draw: st.DrawFn, **keys: Any) -> dict[str, Any]:
    return {key: value for key, value in keys.items() if draw(st.booleans())}


def _many(draw: st.DrawFn, *, is_judged: bool = True) -> dict[str, Any]:
    keys = {"max_concurrency": draw(st.sampled_from([1, 2, 10]))}
    return keys | ({"failure_threshold": draw(st.sampled_from([0.0, 0.5, 0.5, 1.0]))} if is_judged else {})


def _merge(draw: st.DrawFn) -> dict[str, Any]:
    return {"merge": draw(st.sampled_from(["ordered", "ordered", "ordered", {"last": "first"}, {"items": "collect"}, "strict"]))}


def _met(draw: st.DrawFn) -> dict[str, Any]:
    """Return how the patches of those who work beside each other meet."""
    if draw(st.sampled_from([False, False, True])):
        return {"aggregate": draw(st.sampled_from(["first", "vote", "concat", "best:x"]))}
    return _merge(draw)


def _on_error(draw: st.DrawFn) -> dict[str, Any]:
    return {"on_error": draw(st.sampled_from(["stop", "stop", "continue", "continue", "route:rescue"]))}


def _route(draw: st.DrawFn, name: str) -> Draft:
    members = _agents(name, 3)
    says = {one: {"routes": list(members)} for one in members}
    return Draft({"default_agent": members[0], "max_hops": draw(st.integers(1, 3)), **_on_error(draw)}, members, says)


def _collaborative(draw: st.DrawFn, name: str) -> Draft:
    members = _agents(name, draw(st.integers(2, 3)))
    quorum = {"quorum": draw(st.integers(1, 2))} if draw(st.sampled_from([False, False, True])) else {}
    return Draft({"collaborative_agents": list(members), **_many(draw, is_judged=not quorum), **quorum, **_met(draw)}, members)


def _sequential(draw: st.DrawFn, name: str) -> Draft:
    members = _agents(name, draw(st.integers(2, 3)))
    return Draft({"sequential_agents": list(members), **_on_error(draw)}, members)


def _loop(draw: st.DrawFn, name: str) -> Draft:
    members = _agents(name, 1)
    until = _maybe(draw, until="has(state.x) && state.x == 2")
    return Draft({"loop_agent": members[0], "max_iterations": draw(st.integers(2, 3)), **until, **_on_error(draw)}, members)


def _mixed(draw: st.DrawFn, name: str) -> Draft:
    members = _agents(name, 4)
    lists = {"collaborative_agents": list(members[:2]), "sequential_agents": list(members[2:])}
    return Draft({**lists, **_many(draw), **_merge(draw), **_on_error(draw)}, members)


def _step(draw: st.DrawFn, agent: str, outputs: list[str], **more: Any) -> dict[str, Any]:
    """Return a step; `outputs` are the names of those before."""
    templates: list[Any] = ["{{ event.id }}!", {"deep": ["{{ event }}", 1]}, "plain {{ state }}", {"n": "{{ meta }}"}, "{{ state.x }}"]
    templates += [f"{{{{ outputs.{one} }}}}" for one in outputs]
    keys = {"agent": agent, **more}
    if draw(st.sampled_from([True, True, False])):
        keys["id"] = f"{agent}-step"
    if draw(st.booleans()):
        keys["input"] = draw(st.sampled_from(templates))
    if draw(st.sampled_from([False, False, True])):
        keys["max_retries"] = draw(st.integers(RETRIES, RETRIES + 1))  # fewer, and a death would let one succeed that fails else
    return keys


def _ids(steps: list[dict[str, Any]]) -> list[str]:
    return [str(step.get("id", step["agent"])) for step in steps]


def _tolerant(draw: st.DrawFn, step: dict[str, Any]) -> dict[str, Any]:
    return step | ({"on_error": draw(st.sampled_from(["continue", "stop"]))} if draw(st.booleans()) else {})


def _parallel(draw: st.DrawFn, name: str) -> Draft:
    members = _agents(name, 4)
    steps: list[dict[str, Any]] = []
    for agent in members:
        needs = _ids(steps)[: draw(st.integers(0, len(steps)))] if draw(st.booleans()) else []
        steps.append(_tolerant(draw, _step(draw, agent, needs, **({"depends_on": needs} if needs else {}))))
    is_waiting = any("depends_on" in step for step in steps)
    more = {**_merge(draw), **_on_error(draw)} if is_waiting else _met(draw)
    return Draft({"steps": steps, **_many(draw), **more}, members)


def _pipeline(draw: st.DrawFn, name: str) -> Draft:
    members = _agents(name, 3)
    over = {"over": "items", **_many(draw)} if draw(st.booleans()) else {}
    if draw(st.booleans()):
        return Draft({"sequential_agents": list(members), **over, **_on_error(draw)}, members)
    steps: list[dict[str, Any]] = []
    for agent in members:
        steps.append(_tolerant(draw, _step(draw, agent, _ids(steps))))
    return Draft({"steps": steps, **over, **_on_error(draw)}, members)


def _map_reduce(draw: st.DrawFn, name: str) -> Draft:
    share = _many(draw)
    if draw(st.booleans()):
        share = {"map_failures": "skip", "max_concurrency": share["max_concurrency"]}
    if draw(st.booleans()):
        members = _agents(name, 2)
        return Draft({"map": members[0], "over": "items", "reduce": members[1], **share, **_on_error(draw)}, members)
    members = _agents(name, 4)
    maps = [_step(draw, agent, [], phase="map") for agent in members[:2]]
    reduces: list[dict[str, Any]] = []
    for agent in members[2:]:
        reduces.append(_tolerant(draw, _step(draw, agent, _ids([*maps, *reduces]), phase="reduce")))
    return Draft({"steps": [*maps, *reduces], **share, **_on_error(draw)}, members)


def _orchestrator_workers(draw: st.DrawFn, name: str) -> Draft:
    members = _agents(name, 4)
    planner, first, second, last = members
    if draw(st.sampled_from([False, False, True])):
        steps = [_step(draw, planner, [], phase="plan")]
        steps += [_step(draw, agent, _ids(steps[:1]), phase="work") for agent in (first, second)]
        steps.append(_tolerant(draw, _step(draw, last, _ids(steps), phase="synthesize")))
        return Draft({"steps": steps, **_many(draw), **_on_error(draw)}, members)
    table = {"planner": planner, "workers": [first, second], "max_tasks": 3, **_many(draw), **_on_error(draw)}
    table |= _maybe(draw, default_agent=first, synthesizer=last)
    return Draft(table, members if "synthesizer" in table else members[:3], {planner: {"tasks": [first, second, "skill"]}})


def _supervisor(draw: st.DrawFn, name: str) -> Draft:
    members = _agents(name, 4)
    leader, first, second, last = members
    table = {"supervisor": leader, "agents": [first, second], "max_rounds": draw(st.integers(1, 3)), **_many(draw), **_merge(draw)}
    table |= _maybe(draw, default_agent=second, synthesizer=last) | _on_error(draw)
    return Draft(table, members if "synthesizer" in table else members[:3], {leader: {"next": [first, second]}})


def _peer_to_peer(draw: st.DrawFn, name: str) -> Draft:
    members = _agents(name, 3)
    table = {"agents": list(members), "max_messages": draw(st.integers(2, 5)), **_many(draw), **_merge(draw), **_on_error(draw)}
    return Draft(table, members, {one: {"peers": list(members)} for one in members})


def _plan_execute(draw: st.DrawFn, name: str) -> Draft:
    members = _agents(name, 5)
    planner, first, second, again, last = members
    table = {"planner": planner, "agents": [first, second], "max_tasks": 4, **_merge(draw), **_on_error(draw)}
    table |= _maybe(draw, replanner=again, synthesizer=last, default_agent=second)
    if "replanner" in table:
        table["max_replans"] = draw(st.integers(0, 2))
    named = tuple(one for one in members if one in shown(table))
    return Draft(table, named, {planner: {"plan": [first, second]}, again: {"replan": [first, second]}})


_QUESTIONS = ("event.data.n > 0", "has(state.x) && state.x == 1", "state.x == 0", "has(state.items) && size(state.items) > 1")


def _decision_tree(draw: st.DrawFn, name: str) -> Draft:
    members = _agents(name, 4)
    first, second, third, fourth = members
    asked = [draw(st.sampled_from(_QUESTIONS)) for _ in range(3)]
    deep = [{"when": asked[1], "then": first}, {"when": asked[2], "then": second, "else": third}]
    table = {"branches": [{"when": asked[0], "then": deep, "else": fourth}], "max_hops": draw(st.integers(1, 2)), **_on_error(draw)}
    return Draft(table, members, {one: {"routes": list(members)} for one in members})


def _graph(draw: st.DrawFn, name: str) -> Draft:
    members = _agents(name, 3)
    first, second, third = members
    table: dict[str, Any] = {"entry": first, "max_visits": draw(st.integers(1, 3)), **_on_error(draw)}
    asked = [draw(st.sampled_from(_QUESTIONS)) for _ in range(3)]
    edges = [{"from": first, "to": second, "when": asked[0]}, {"from": first, "to": third}, {"from": second, "to": third}]
    edges += [{"from": third, "to": first, "when": asked[1]}, {"from": third, "to": "end", **_maybe(draw, when=asked[2])}]
    nodes = []
    for agent in members:
        on_error = draw(st.sampled_from([None, "continue", "stop", f"route:{third}"]))
        nodes.append({"name": agent, "on_error": on_error} if on_error else {"name": agent})
        if draw(st.booleans()):
            nodes[-1]["input"] = draw(st.sampled_from(["{{ event.id }}", {"n": 4}]))
    says = {one: {"routes": list(members)} for one in members} if draw(st.booleans()) else {}
    return Draft({**table, "edges": edges, "nodes": nodes}, members, says)


MODES: Mapping[str, Build] = {
    "route": _route,
    "collaborative": _collaborative,
    "sequential": _sequential,
    "loop": _loop,
    "mixed": _mixed,
    "parallel": _parallel,
    "pipeline": _pipeline,
    "map_reduce": _map_reduce,
    "orchestrator_workers": _orchestrator_workers,
    "supervisor": _supervisor,
    "hierarchical": _supervisor,
    "peer_to_peer": _peer_to_peer,
    "plan_execute": _plan_execute,
    "decision_tree": _decision_tree,
    "graph": _graph,
}

SCHEMA = {"type": "object", "properties": {"x": {"maximum": 1}}}
LEVELS = ("main", "middle", "inner")


@st.composite
def cut_nests(draw: st.DrawFn) -> Nest:
    """Return such flows of which some have time limits, budgets, and joins that do not wait for all."""
    nest = draw(nests())
    tables = {"main": nest.main, **nest.flows}
    for table in tables.values():
        if draw(st.booleans()):
            table |= draw(st.sampled_from([{"timeout_seconds": 2.25}, {"timeout_seconds": 6.25}, {"budget": {"calls": 4}}]))
        if table["mode"] in {"collaborative", "mixed", "parallel"} and draw(st.booleans()):
            table |= draw(st.sampled_from([{"fail_fast": True}, {"join_timeout_seconds": 1.25}]))
    return nest


@st.composite
def nests(draw: st.DrawFn, outermost: str | None = None) -> Nest:
    """Return flows of three drawn modes, each in some member's place of the one around it; `outermost` is the main flow's mode.

    The innermost may stand in the main flow, too, and the middle one in two of its steps.
    """
    any_mode = st.sampled_from(list(MODES))
    modes = (outermost or draw(any_mode), draw(any_mode), draw(any_mode))
    tables: dict[str, dict[str, Any]] = {}
    says: dict[str, Says] = {}
    inherited: dict[str, Says] = {name: {} for name in LEVELS}
    for level, (name, mode) in enumerate(zip(LEVELS, modes, strict=True)):
        draft = MODES[mode](draw, name)
        for flow in _guests(draw, level, draft):
            place = draw(st.sampled_from([one for one in draft.members if one not in LEVELS]))
            draft = _replaced(draft, place, flow)
        for one in draft.members:
            told = {**inherited[name], **draft.says.get(one, {})}
            (inherited if one in LEVELS else says).setdefault(one, {}).update(told)
        schema = {"state_schema": SCHEMA} if draw(st.sampled_from([False] * 5 + [True])) else {}
        tables[name] = {"mode": mode, **draft.table, **schema}
    main = tables.pop("main")
    agents = st.sampled_from(sorted(says))
    target = draw(st.sampled_from([*says, "middle", "middle"])) if modes[0] == "route" else draw(st.sampled_from(["", *says]))
    rules = {"asking": {"requires_approval": True}, "soft": {"default_output": {"x": 1}}, "spared": {"fallback": ["spare"]}}
    told = {draw(agents): rule for rule in rules.values() if draw(st.sampled_from([False, False, True]))}
    return Nest(modes, main, tables, says, told, draw(st.booleans()), target, draw(st.integers(0, 2**20)))


def _guests(draw: st.DrawFn, level: int, draft: Draft) -> list[str]:
    """Return the flows that stand in a flow."""
    if level + 1 == len(LEVELS):
        return []
    more = draw(st.sampled_from([False, False, True]))
    if level or not more or len(draft.members) < 3:
        return [LEVELS[level + 1]]
    return ["middle", "middle" if draw(st.booleans()) and _are_named(draft) else "inner"]


def _are_named(draft: Draft) -> bool:
    """Say whether a flow's members are steps with ids, which tell two of the same name apart."""
    steps = draft.table.get("steps", [])
    return bool(steps) and all("id" in step for step in steps)


def _replaced(draft: Draft, place: str, flow: str) -> Draft:
    """Put a flow in the place of an agent: wherever that is named."""
    told = shown([draft.table, list(draft.members), draft.says])
    table, members, says = json.loads(re.sub(rf"(?<![\w-]){place}(?![\w-])", flow, told))
    for step in table.get("steps", []):
        if step["agent"] == flow:
            step.pop("max_retries", None)  # for agents only
    return replace(draft, table=table, members=tuple(members), says=says)
