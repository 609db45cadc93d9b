"""Items: what a Map runs its body for, and the join that it becomes when they are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from agentflow.core.merge import Merge
from agentflow.core.part import Part
from agentflow.core.plan import NOTHING, OVER, STEPS, Branch, Call, Map, Node, Par, key_of, part_of
from agentflow.core.state import MISSING, Scope
from agentflow.core.values import Json, copy_json
from agentflow.errors import ControlError, RoutingError, UnknownNameError, did_you_mean

Row: TypeAlias = dict[str, Json]  # of an item: `case` of the body, `id` of its outputs, `given` as its event data; any of them
Told: TypeAlias = Mapping[str, object]  # what the member before set

NO_CASE = -1
NOT_MERGED = Merge()


def items_of(node: Map, scope: Scope, told: Told) -> list[Row]:
    """Return the items of a Map that asks no agenda.

    Args:
        node: the Map.
        scope: the state as it stands.
        told: what the member before it set.

    Raises:
        ControlError: there is no list, it is too long, or an item in it is none.
        UnknownNameError: the state has no such key.
        RoutingError: an item names a member that is not there.
    """
    if node.source == NOTHING:
        return []
    if node.source == STEPS:
        return [{"case": case} for case in range(len(cases_of(node.body)))]
    if node.source == OVER:
        value = scope.lookup(node.key)
        if value is MISSING:
            known = list(scope.keys())
            raise UnknownNameError(f"the state has no `{node.key}` to go through", hint=did_you_mean(node.key, known))
        return [{"given": {"item": copy_json(item), "index": index}} for index, item in enumerate(_list(value, node.key, node.most))]
    tasks = told.get("tasks", MISSING)
    if tasks is MISSING:
        raise ControlError("the planner returned no `tasks`", hint="return {'tasks': [{'id': ..., 'specialty': ..., 'input': ...}, ...]}")
    return [_task(node, index, task) for index, task in enumerate(distinct(_list(tasks, "tasks", node.most), "tasks"))]


def expanded(node: Map, rows: Sequence[Row]) -> Par:
    """Return the join of a Map's items, each with its own branch.

    Raises:
        IndexError: a row names a case that the body does not have.
    """
    return Par(
        tuple(_branch(node.body, row) for row in rows),
        node.concurrency,
        node.failure_threshold,
        NOT_MERGED if node.is_collecting else node.merge,
        node.flow,
    )


def cases_of(body: Node) -> tuple[Node, ...]:
    """Return who may work for the items of a Map with this body."""
    return body.cases if isinstance(body, Branch) and body.routes is not None else (body,)


def case_of(node: Map, name: str) -> int:
    """Return the case that a name or capability stands for, else the one that the Map has for what it does not know.

    Raises:
        RoutingError: it stands for nobody, and the Map has no default.
    """
    routes = routes_of(node)
    case = routes.get(name, routes.get(node.default, NO_CASE))
    if case == NO_CASE:
        raise RoutingError(f"no member is named `{name}` or can do it", hint=did_you_mean(name, routes))
    return case


def routes_of(node: Map) -> Mapping[str, int]:
    """Return the cases of a Map's body by name and capability."""
    return (node.body.routes if isinstance(node.body, Branch) else None) or {}


def distinct(rows: Sequence[object], what: str) -> list[Row]:
    """Return tables, each with an id of its own; one that is no table is the `input` of one.

    Raises:
        ControlError: two have the same id, or one is no text or number.
    """
    told: list[Row] = []
    seen: set[str] = set()
    for index, row in enumerate(rows):
        table: Row = dict(row) if isinstance(row, Mapping) else {"input": copy_json(row)}  # type: ignore[arg-type] # answers are JSON
        name = table.get("id", str(index))
        if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
            raise ControlError(f"{what}[{index}].id is {name!r}", hint="an id is a text or a whole number")
        table["id"] = str(name)
        if table["id"] in seen:
            raise ControlError(f"two of `{what}` have the id `{name}`", hint="give each an id of its own")
        seen.add(str(name))
        told.append(table)
    return told


def _task(node: Map, index: int, task: Row) -> Row:
    wanted = task.get("specialty")
    if wanted is None or wanted == "":
        case = routes_of(node).get(node.default, index % len(cases_of(node.body)))
    else:
        case = case_of(node, str(wanted))
    return {"case": case, "id": task["id"], "given": copy_json(task)}


def _list(value: object, name: str, most: int) -> list[Json]:
    if not isinstance(value, list):
        raise ControlError(f"`{name}` is {type(value).__name__}, not a list", hint="a list has an item for each call")
    if len(value) > most:
        raise ControlError(f"`{name}` has {len(value):,} items, and {most:,} are allowed", hint="make fewer, or raise max_tasks")
    return value


def _branch(body: Node, row: Row) -> Node:
    cases = cases_of(body)
    case = row.get("case", 0)
    if not isinstance(case, int) or not 0 <= case < len(cases):
        raise IndexError(f"an item for case {case}")
    node, name = cases[case], row.get("id")
    return node if not isinstance(name, str) or name == key_of(node) else _renamed(node, name)


def _renamed(node: Node, name: str) -> Node:
    part = replace(part_of(node) or Part(), id=name)
    if isinstance(node, Call):
        return replace(node, part=part)
    return node if node.flow is None else replace(node, flow=replace(node.flow, part=part))
