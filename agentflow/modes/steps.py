"""Steps: in which order tables of `[[flows.X.steps]]` can run, and what is wrong with them beside the names of agents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.model import FlowConfig
from agentflow.config.patterns import StepConfig
from agentflow.modes.findings import Near
from agentflow.modes.members import id_of

_USERS = {"depends_on": "parallel", "phase": "map_reduce, orchestrator_workers"}

Bounds = tuple[int, int | None]  # the least and the most steps of a phase; None: as many as you like


def levels(steps: Sequence[StepConfig]) -> list[list[int]]:
    """Return the steps by number, level by level: each stands in the first level after all that it depends on.

    Steps that wait for each other, which `mistakes_in_order` tells, stand in a last level together.
    """
    waits = _waits(steps)
    left = [len(set(names)) for names in waits]
    freed: list[list[int]] = [[] for _ in steps]
    for index, names in enumerate(waits):
        for other in set(names):
            freed[other].append(index)
    placed: list[list[int]] = []
    level = [index for index, count in enumerate(left) if not count]
    while level:
        placed.append(level)
        following = []
        for other in (other for index in level for other in freed[index]):
            left[other] -= 1
            if not left[other]:
                following.append(other)
        level = sorted(following)
    stuck = [index for index, count in enumerate(left) if count]
    return [*placed, stuck] if stuck else placed


def mistakes_in_ids(flow: FlowConfig, near: Near) -> Iterator[Diagnostic]:
    """Yield what is wrong with the names of steps: one that another has, too, a dependency on nobody, or in a circle."""
    seen: set[str] = set()
    for index, table in enumerate(flow.steps):
        name = id_of(table)
        if name in seen:
            key = "id" if table.id is not None else "agent"
            yield Diagnostic("AF0225", f"two steps have the name `{name}`", ("steps", index, key), help="give each step an id of its own")
        seen.add(name)
    yield from _mistakes_in_order(flow, near)


def _mistakes_in_order(flow: FlowConfig, near: Near) -> Iterator[Diagnostic]:
    known = dict.fromkeys(id_of(table) for table in flow.steps)
    for index, table in enumerate(flow.steps):
        for at, name in enumerate(table.depends_on or ()):
            if name not in known:
                path = ("steps", index, "depends_on", at)
                yield Diagnostic("AF0226", f"no step is called `{name}`", path, help=near(name, known))
    cycle = _cycle(flow.steps)
    if cycle:
        ids = [id_of(flow.steps[index]) for index in cycle]
        told = " -> ".join([*ids, ids[0]])
        yield Diagnostic(
            "AF0227", f"steps wait for each other: {told}", ("steps", cycle[0], "depends_on"), help="take one of them out of a depends_on"
        )


def keys_of_other_modes(flow: FlowConfig, *keys: str) -> Iterator[Diagnostic]:
    """Yield, as advice, each of the keys that a step has and the flow's mode does not read."""
    for index, table in enumerate(flow.steps):
        for key in keys:
            if key in table.given:
                told = f"`{key}` of a step is used by mode {_USERS[key]}, not by `{flow.mode}`"
                yield Diagnostic("AF0290", told, ("steps", index, key), "key", severity="warning")


def mistakes_in_phases(flow: FlowConfig, phases: dict[str, Bounds], judged: str) -> Iterator[Diagnostic]:
    """Yield each step without one of the mode's phases, and each phase that has too few steps or too many.

    Args:
        flow: the flow.
        phases: the mode's phases.
        judged: the phase whose failures are judged together, so that no single step of it has an `on_error`.
    """
    words = ", ".join(f'"{phase}"' for phase in phases)
    for index, table in enumerate(flow.steps):
        if table.phase is None:
            told = f"step `{id_of(table)}` needs a phase in mode `{flow.mode}`"
            yield Diagnostic("AF0229", told, ("steps", index), help=f"add phase = one of {words}")
        elif table.phase not in phases:
            told = f"mode `{flow.mode}` has no phase `{table.phase}`"
            yield Diagnostic("AF0229", told, ("steps", index, "phase"), help=f"its phases are {words}")
        elif table.phase == judged and table.on_error is not None:
            told = f"`on_error` says nothing of a step that does one of many items, as those of phase `{judged}`"
            yield Diagnostic("AF0228", told, ("steps", index, "on_error"), "key", "take it out; the flow says how many may fail")
    for phase, (least, most) in phases.items() if flow.steps else ():
        found = [index for index, table in enumerate(flow.steps) if table.phase == phase]
        if len(found) < least:
            yield Diagnostic("AF0229", f"no step has the phase `{phase}`", ("steps",), "key", f'give one step phase = "{phase}"')
        elif most is not None and len(found) > most:
            at = ("steps", found[most], "phase")
            yield Diagnostic("AF0229", f"only {most} step may have the phase `{phase}`", at, help="take the phase from the others")


def _waits(steps: Sequence[StepConfig]) -> list[list[int]]:
    """Return the numbers of the steps that each one depends on."""
    number = {id_of(table): index for index, table in enumerate(steps)}
    return [[number[name] for name in table.depends_on or () if name in number] for table in steps]


def _cycle(steps: Sequence[StepConfig]) -> list[int]:
    """Return the numbers of steps that wait for each other in a circle, each for the next; [] where none do."""
    return circle(_waits(steps))


def circle(following: Sequence[Sequence[int]]) -> list[int]:
    """Return the numbers on a circle of a graph, in order; [] where it has none.

    Args:
        following: for each number, those that it leads to.
    """
    ended: set[int] = set()
    for start in range(len(following)):
        line: dict[int, None] = {}
        nexts = [iter([start])]
        while nexts:
            index = next(nexts[-1], None)
            if index is None:
                nexts.pop()
                if line:
                    ended.add(line.popitem()[0])
            elif index in line:
                numbers = list(line)
                return numbers[numbers.index(index) :]
            elif index not in ended:
                line[index] = None
                nexts.append(iter(following[index]))
    return []
