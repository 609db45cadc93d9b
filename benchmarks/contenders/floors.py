"""The floors: the same handlers called by plain asyncio, with nothing between."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from benchmarks.contender import Contender, Run
from benchmarks.workloads import KINDS, Data, Handler, Workload, copying, handlers, in_place, split_mixed, union

LARGEST_INTEGER = 2**63
DEEPEST = 64  # levels of nesting


class Bare(Contender):
    """Awaits the handlers one after the other, and gathers them where they run in parallel.

    Nothing checks the data, nobody could abandon a handler, no error is caught. The handlers answer with a copy of the
    state, because nothing else here keeps the emitted data as it was.
    """

    async def build(self, workload: Workload) -> Run:
        """Return the workload as a person would write it without any framework."""
        agents = handlers(workload, copying)
        match workload.mode:
            case "route":
                return _bare_route({kind: agents[f"a_{kind}"] for kind in KINDS})
            case "loop":
                return _bare_loop(agents["counter"], workload.agents)
            case "sequential":
                return _bare_parallel_then_sequence([], list(agents.values()))
            case "collaborative":
                return _bare_parallel_then_sequence(list(agents.values()), [])
            case "mixed":
                first, then = split_mixed(list(agents))
                return _bare_parallel_then_sequence([agents[name] for name in first], [agents[name] for name in then])


def _bare_route(table: dict[str, Handler]) -> Run:
    async def run(data: Data) -> Any:
        return await table[data["kind"]](data, data)

    return run


def _bare_loop(handler: Handler, rounds: int) -> Run:
    async def run(data: Data) -> Any:
        state = data
        while state["i"] < rounds:
            state = await handler(data, state)
        return state

    return run


def _bare_parallel_then_sequence(parallel: Sequence[Handler], sequence: Sequence[Handler]) -> Run:
    async def run(data: Data) -> Any:
        state = data
        if parallel:
            state = union(data, await asyncio.gather(*[handler(data, data) for handler in parallel]))
        for handler in sequence:
            state = await handler(data, state)
        return state

    return run


class OwnTask(Contender):
    """Takes each event through its handlers in a task of its own, after one check that its data is JSON.

    This is the least that an engine pays which can abandon a handler that does not return: the task, because the caller
    must be able to go on without it, and a plain copy of the state for each step, because an abandoned handler may
    still write to what it was given.
    """

    async def build(self, workload: Workload) -> Run:
        """Return a function that checks, starts the task and waits for it."""
        steps = _own_steps(workload, handlers(workload, in_place))

        async def run(data: Data) -> Any:
            check_json(data)
            return await asyncio.create_task(steps(data))

        return run


def _own_steps(workload: Workload, agents: dict[str, Handler]) -> Any:
    """Return the coroutine function that runs the handlers of one event inside its task."""
    names = list(agents)
    if workload.mode == "route":
        table = {kind: agents[f"a_{kind}"] for kind in KINDS}

        async def route(data: Data) -> Any:
            return await table[data["kind"]](data, dict(data))

        return route
    if workload.mode == "loop":
        return _own_loop(agents["counter"], workload.agents)
    parallel = {"collaborative": names, "mixed": split_mixed(names)[0]}.get(workload.mode, [])
    return _own_parallel_then_sequence([agents[name] for name in parallel], [agents[name] for name in names[len(parallel) :]])


def _own_loop(handler: Handler, rounds: int) -> Any:
    async def loop(data: Data) -> Any:
        state = data
        for _ in range(rounds):
            state = await handler(data, dict(state))
        return state

    return loop


def _own_parallel_then_sequence(parallel: Sequence[Handler], sequence: Sequence[Handler]) -> Any:
    async def steps(data: Data) -> Any:
        state = data
        if parallel:
            state = union(data, await asyncio.gather(*[handler(data, dict(data)) for handler in parallel]))
        for handler in sequence:
            state = await handler(data, dict(state))
        return state

    return steps


def check_json(value: Any, depth: int = 0) -> None:
    """Refuse what JSON cannot carry, in one walk; texts and integers are checked in place, so that they cost no call.

    Raises:
        ValueError: a type, a number, a key or a depth that JSON (64-bit integers, 64 levels) has no place for.
    """
    if depth > DEEPEST:
        raise ValueError(f"nested deeper than {DEEPEST} levels")
    if type(value) is dict:
        for key in value:
            if type(key) is not str or not (key.isascii() or key.encode()):
                raise ValueError(f"a key is {key!r}, not text")
        value = value.values()
    for item in value:
        kind = type(item)
        if kind is str:
            if not item.isascii():
                item.encode()  # a lone surrogate raises UnicodeEncodeError, which is a ValueError
        elif kind is dict or kind is list:
            check_json(item, depth + 1)
        elif kind is not int or not -LARGEST_INTEGER <= item < LARGEST_INTEGER:
            check_rare(item)


def check_rare(item: Any) -> None:
    """Refuse what is neither null, nor a truth value, nor a finite fraction."""
    if item is not None and type(item) is not bool and not (type(item) is float and math.isfinite(item)):
        raise ValueError(f"{item!r} of type {type(item).__name__} is no JSON value")
