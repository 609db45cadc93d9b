"""Maps, graphs, agendas and members' inputs as JSON and back, for the plan codec: what has its default is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias, TypedDict

from agentflow.core.agenda import KINDS
from agentflow.core.packing import MisfitError, mapping, text, whole
from agentflow.core.part import REDUCE, REPLAN, SYNTHESIS, Input, Part, Previous, Results, Template
from agentflow.core.plan import AGENDA, NOTHING, OVER, REVISION, STEPS, TASKS, Agenda, Condition, Edge, Loop, Map, Node
from agentflow.core.values import Json

Table: TypeAlias = dict[str, Json]
MakeRule: TypeAlias = Callable[[str], Condition]

_PART_TEXTS = ("id", "on_error", "title")
_SOURCES = (OVER, TASKS, STEPS, AGENDA, REVISION, NOTHING)


class LoopFields(TypedDict):
    """What a loop has beside its body, bound and condition."""

    entry: str | None
    edges: tuple[Edge, ...]
    max_visits: int
    agenda: Agenda | None


def pack_part(part: Part | None) -> Table:
    """Return a member's part as an entry of its row; none for none."""
    if part is None:
        return {}
    row: Table = {name: getattr(part, name) for name in (*_PART_TEXTS, "order") if getattr(part, name)}
    if part.input is not None:
        row["input"] = _pack_input(part.input)
    return {"part": row}


def unpack_part(row: Table) -> Part | None:
    """Return the part that `pack_part` has packed into a row.

    Raises:
        MisfitError: it has another shape.
    """
    if "part" not in row:
        return None
    table = mapping(row["part"])
    name, on_error, title = (text(table.get(one, "")) for one in _PART_TEXTS)
    part = Part(name, None, on_error, title, whole(table.get("order", 0)))
    return part if "input" not in table else replace(part, input=_unpack_input(mapping(table["input"])))


def pack_map(node: Map) -> Table:
    """Return what a Map has beside its body, merge policy, concurrency and threshold."""
    row: Table = {"source": node.source, "most": node.most}
    for name in ("key", "default", "is_collecting", "is_bearing"):
        if getattr(node, name):
            row[name] = getattr(node, name)
    return row


def unpack_map(node: Map, row: Table) -> Map:
    """Return a Map with what `pack_map` has packed.

    Raises:
        MisfitError: it has another shape.
    """
    source = text(row["source"])
    if source not in _SOURCES:
        raise MisfitError(f"no Map gets its items from {source[:40]}")
    return replace(
        node,
        source=source,
        most=whole(row["most"]),
        key=text(row.get("key", "")),
        default=text(row.get("default", "")),
        is_collecting=row.get("is_collecting") is True,
        is_bearing=row.get("is_bearing") is True,
    )


def pack_loop(loop: Loop) -> Table:
    """Return what makes a loop a graph, or gives it an agenda."""
    row: Table = {}
    if loop.entry is not None:
        row["entry"] = loop.entry
    if loop.max_visits:
        row["max_visits"] = loop.max_visits
    if loop.edges:
        row["edges"] = [[edge.source, edge.target, None if edge.when is None else edge.when.source] for edge in loop.edges]
    if (agenda := loop.agenda) is not None:
        told: Table = {"kind": agenda.kind, "leader": agenda.leader, "most": agenda.most}
        told |= {"default": agenda.default} if agenda.default else {}
        row["agenda"] = told | ({"most_replans": agenda.most_replans} if agenda.most_replans else {})
    return row


def unpack_loop(row: Table, rule: MakeRule) -> LoopFields:
    """Return what `pack_loop` has packed.

    Raises:
        MisfitError: it has another shape.
        RuleError: a condition cannot be compiled.
    """
    edges = row.get("edges", [])
    if not isinstance(edges, list):
        raise MisfitError("not a list of edges")
    return {
        "entry": None if "entry" not in row else text(row["entry"]),
        "edges": tuple(_unpack_edge(edge, rule) for edge in edges),
        "max_visits": whole(row.get("max_visits", 0)),
        "agenda": None if "agenda" not in row else _unpack_agenda(mapping(row["agenda"])),
    }


def check_shapes(node: Node) -> None:
    """Refuse an agenda or an entry that does not fit the loop it is in.

    Raises:
        MisfitError: it does not.
    """
    if not isinstance(node, Loop):
        return
    routes = getattr(node.body, "routes", None) or {}
    known = {*routes, ""}
    if node.entry is not None and (node.entry not in routes or any(edge.target not in known for edge in node.edges)):
        raise MisfitError("an edge leads nowhere")


def _unpack_edge(row: Json, rule: MakeRule) -> Edge:
    if not isinstance(row, list) or len(row) != 3:
        raise MisfitError("an edge that is none")
    return Edge(text(row[0]), text(row[1]), None if row[2] is None else rule(text(row[2])))


def _unpack_agenda(row: Table) -> Agenda:
    kind = text(row["kind"])
    if kind not in KINDS:
        raise MisfitError(f"no agenda is a {kind[:40]}")
    return Agenda(kind, text(row["leader"]), whole(row["most"]), text(row.get("default", "")), whole(row.get("most_replans", 0)))


def _pack_input(told: Input) -> Table:
    if isinstance(told, Template):
        return {"template": told.value, "is_data": told.is_data}
    row: Table = {"form": told.form} if isinstance(told, Results) else {}
    return row if told.instruction is None else row | {"instruction": told.instruction.value}


def _unpack_input(row: Table) -> Input:
    if "template" in row:
        return Template(row["template"], row.get("is_data") is True)
    instruction = None if "instruction" not in row else Template(row["instruction"])
    if "form" not in row:
        return Previous(instruction)
    if row["form"] not in (REDUCE, SYNTHESIS, REPLAN):
        raise MisfitError("results in an unknown form")
    return Results(text(row["form"]), instruction)
