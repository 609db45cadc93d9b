"""States the workloads: what every contender is asked to do, the agents' handlers, and the proof that it was done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

Data = dict[str, Any]
Handler = Callable[[Any, Any], Awaitable[Any]]
Family = Literal["rate", "burst", "step", "rounds", "journal", "journal_burst", "journal_size", "journal_rounds"]
Mode = Literal["route", "sequential", "collaborative", "loop", "mixed"]

KINDS = ("alpha", "beta", "gamma", "delta")  # the four agents that W1 routes between
KILOBYTE = 1024
MEGABYTE = 1024 * 1024


@dataclass(frozen=True)
class Workload:
    """Describes one thing to do to one event.

    `agents` is the number of agents (of rounds, for a loop), `size` the bytes of payload in the event, `delay` the
    seconds each agent sleeps. Where `counts` is true each agent adds 1 to `i` instead of setting a key of its own, so
    that the number of steps really made can be read from the answer.
    """

    id: str
    title: str
    mode: Mode
    agents: int
    family: Family = "rate"
    size: int = KILOBYTE
    delay: float = 0.0
    counts: bool = False

    @property
    def is_durable(self) -> bool:
        """Whether each step is on disk before the next begins."""
        return self.family.startswith("journal")


WORKLOADS = {
    workload.id: workload
    for workload in (
        Workload("W1", "route to one of 4 agents", "route", 4),
        Workload("W2", "4 agents in sequence", "sequential", 4),
        Workload("W3", "8 agents in parallel, merged", "collaborative", 8),
        Workload("W4", "a loop of 10 rounds", "loop", 10, counts=True),
        Workload("W5", "3 agents in parallel, then 3 in sequence", "mixed", 6),
        Workload("W7", "1,000 events in flight, 4 agents that each sleep 10 ms", "sequential", 4, "burst", delay=0.01),
        Workload("W8s", "40 agents in sequence, 1 KB of state", "sequential", 40, "step", counts=True),
        Workload("W8l", "40 agents in sequence, 1 MB of state", "sequential", 40, "step", size=MEGABYTE, counts=True),
        Workload("W9a", "a loop of 100 rounds", "loop", 100, "rounds", counts=True),
        Workload("W9b", "a loop of 1,000 rounds", "loop", 1000, "rounds", counts=True),
        Workload("W9c", "a loop of 10,000 rounds", "loop", 10_000, "rounds", counts=True),
        Workload("W6", "4 agents in sequence, each step on disk", "sequential", 4, "journal"),
        Workload("W7d", "1,000 durable events in flight, 4 agents that each sleep 10 ms", "sequential", 4, "journal_burst", delay=0.01),
        Workload("W8ds", "4 agents in sequence, 1 KB of state, durable", "sequential", 4, "journal_size"),
        Workload("W8dl", "4 agents in sequence, 1 MB of state, durable", "sequential", 4, "journal_size", size=MEGABYTE),
        Workload("W9da", "a durable loop of 100 rounds", "loop", 100, "journal_rounds", counts=True),
        Workload("W9dc", "a durable loop of 10,000 rounds", "loop", 10_000, "journal_rounds", counts=True),
    )
}
step_starts: list[float] = []  # W8: when the first and the last agent of each event started, in seconds
PARALLEL_OF_MIXED = 3  # W5: so many agents side by side before the others follow one by one


def event_data(workload: Workload) -> list[Data]:
    """Return the data of the events to rotate over: four kinds for a route, one otherwise.

    Half of the payload is one string, half a list of strings of 64 characters; text only, as every peer can carry it.
    """
    half = workload.size // 2
    kinds = KINDS if workload.mode == "route" else KINDS[:1]
    return [{"kind": kind, "i": 0, "doc": "x" * half, "lines": [f"{line:064d}" for line in range(half // 64)]} for kind in kinds]


def agent_names(workload: Workload) -> list[str]:
    """Return the agents of a workload in declared order."""
    if workload.mode == "route":
        return [f"a_{kind}" for kind in KINDS]
    if workload.mode == "loop":
        return ["counter"]
    return [f"a{number}" for number in range(workload.agents)]


def split_mixed(names: list[str]) -> tuple[list[str], list[str]]:
    """Split the agents of W5 into those that run in parallel and those that follow."""
    return names[:PARALLEL_OF_MIXED], names[PARALLEL_OF_MIXED:]


def in_place(workload: Workload, name: str) -> Handler:
    """Return a handler as a user writes it: change the state that was given and return it."""
    if workload.counts:

        async def count(event: Any, state: Any) -> Any:
            state["i"] = state["i"] + 1
            return state

        return _delayed(count, workload.delay)

    async def mark(event: Any, state: Any) -> Any:
        state[name] = 1
        return state

    return _delayed(mark, workload.delay)


def copying(workload: Workload, name: str) -> Handler:
    """Return a handler that answers with a changed copy of the whole state."""
    if workload.counts:

        async def count(event: Any, state: Any) -> Data:
            new = dict(state)
            new["i"] = state["i"] + 1
            return new

        return _delayed(count, workload.delay)

    async def mark(event: Any, state: Any) -> Data:
        new = dict(state)
        new[name] = 1
        return new

    return _delayed(mark, workload.delay)


def updating(workload: Workload, name: str) -> Handler:
    """Return a handler that answers with the changed entry alone, for peers whose steps answer with updates."""
    if workload.counts:

        async def count(event: Any, state: Any) -> Data:
            return {"i": state["i"] + 1}

        return _delayed(count, workload.delay)

    async def mark(event: Any, state: Any) -> Data:
        return {name: 1}

    return _delayed(mark, workload.delay)


def handlers(workload: Workload, style: Callable[[Workload, str], Handler]) -> dict[str, Handler]:
    """Return agent name -> handler in declared order, written in one of the three styles above.

    In W8 the first and the last one note when they start, so that steps are measured apart from the event around them.
    """
    agents = {name: style(workload, name) for name in agent_names(workload)}
    if workload.family == "step":
        first, *_, last = agents
        agents[first], agents[last] = _noting(agents[first]), _noting(agents[last])
    return agents


def _noting(handler: Handler) -> Handler:
    """Note the time before a handler starts."""

    async def noted(event: Any, state: Any) -> Any:
        step_starts.append(time.perf_counter())
        return await handler(event, state)

    return noted


def _delayed(handler: Handler, delay: float) -> Handler:
    """Put a sleep before a handler; a handler without delay is returned as it is, so that it pays nothing."""
    if not delay:
        return handler

    async def slow(event: Any, state: Any) -> Any:
        await asyncio.sleep(delay)
        return await handler(event, state)

    return slow


def union(start: Data, answers: list[Data]) -> Data:
    """Merge the answers of parallel handlers, the later one winning: the least that a join must do."""
    merged = dict(start)
    for answer in answers:
        merged.update(answer)
    return merged


def verify(workload: Workload, emitted: Data, answer: Data) -> None:
    """Check that the work was really done.

    Raises:
        AssertionError: a step is missing, one ran too often, the payload was lost, or the emitted data was written to.
    """
    if workload.counts:
        expect(answer["i"] == workload.agents, f"i is {answer['i']}, not {workload.agents}", workload)
        wanted: set[str] = set()
    elif workload.mode == "route":
        wanted = {f"a_{emitted['kind']}"}
    else:
        wanted = set(agent_names(workload))
    marked = {key for key in answer if key.startswith("a") and answer[key] == 1}
    expect(marked == wanted, f"agents that ran: {sorted(marked)}, not {sorted(wanted)}", workload)
    expect(answer["doc"] == emitted["doc"] and answer["lines"] == emitted["lines"], "the payload was lost", workload)
    expect(emitted["i"] == 0 and len(emitted) == 4, "the emitted data was written to", workload)


def expect(holds: bool, otherwise: str, workload: Workload) -> None:
    """Raise AssertionError, also under `python -O`, when a contender did not do its work."""
    if not holds:
        raise AssertionError(f"{workload.id}: {otherwise}")
