"""Diagram: a plan as Mermaid text, with its steps coloured by status where a run is given."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import assert_never

from agentflow.core.outcome import HANDLER
from agentflow.core.plan import (
    AGENDA,
    DELEGATION,
    MAILBOX,
    OVER,
    REVISION,
    STEPS,
    TASKS,
    WAVES,
    Branch,
    Call,
    Edge,
    Loop,
    Map,
    Node,
    Par,
    Position,
    Seq,
    children,
    key_of,
    name_of,
    part_of,
)

MOST_BOXES = 400
COLOURS = {
    "running": "fill:#fff3bf,stroke:#e67700",
    "retrying": "fill:#ffe8cc,stroke:#d9480f",
    "completed": "fill:#d3f9d8,stroke:#2b8a3e",
    "failed": "fill:#ffe3e3,stroke:#c92a2a",
    "cancelled": "fill:#e9ecef,stroke:#495057",
}
SOURCES = {
    TASKS: "each task",
    STEPS: "every step",
    AGENDA: "what is to be done now",
    REVISION: "the plan, if it is to be revised",
}
ROUNDS = {
    "": ("", "rounds"),
    DELEGATION: ("done", "rounds"),
    MAILBOX: ("quiet", "messages"),
    WAVES: ("all done", "waves"),
}
_ROUND = re.compile(r"#\d+")
_ITEM = re.compile(r"\[\d+\]")
_WORST_FIRST = ("failed", "cancelled", "retrying", "running", "completed")
_PLAIN = re.compile(r"[A-Za-z0-9 _.,:=/+()-]*")


@dataclass(frozen=True, slots=True)
class _Piece:
    """A drawn part: where arrows lead into it, and where they leave, each with its label."""

    entry: str
    exits: tuple[tuple[str, str], ...]


def mermaid(plan: Node, statuses: Mapping[Position, str] | None = None) -> str:
    """Return a plan as a Mermaid flowchart.

    Args:
        plan: the plan.
        statuses: by position, one of running, retrying, completed, failed, cancelled; the last round of a loop counts, and of
            the items of a Map the one that stands worst.
    """
    drawing = _Drawing()
    piece = drawing.draw(plan, "0")
    piece = drawing.handled(plan, piece)
    lines = ["flowchart TD", '    start(["event"])', *drawing.lines, '    done(["result"])']
    lines.append(f"    start --> {piece.entry}")
    lines += [_arrow(source, "done", label) for source, label in piece.exits]
    return "\n".join([*lines, *_coloured(drawing.boxes, statuses or {})]) + "\n"


@dataclass
class _Drawing:
    """Collects the lines of a diagram. Beyond MOST_BOXES a part is drawn as one box."""

    lines: list[str] = field(default_factory=list)
    boxes: dict[str, str] = field(default_factory=dict)  # by position, without rounds and items
    indent: str = "    "

    def draw(self, node: Node, position: str) -> _Piece:
        """Draw a node; a flow with a name of its own gets a frame around it."""
        if len(self.boxes) >= MOST_BOXES:
            return self._box(f'["{escaped(shown(node))} …"]', position)
        if isinstance(node, Call):
            return self._box(f'["{_label(node)}"]', position)
        if node.flow is None:
            return self._inside(node, position)
        title = f"{shown(node)} ({node.flow.mode})"
        self._line(f'subgraph frame{_id(position)}["{escaped(title)}"]')
        self.indent += "    "
        piece = self._inside(node, position)
        self.indent = self.indent[:-4]
        self._line("end")
        rescue = node.flow.rescue
        if rescue is None or isinstance(node, Par | Map):
            return piece
        step = self._box(f'["{_label(rescue)}"]', _place_of_rescue(node, position))
        self._line(f'frame{_id(position)} -.->|"on error"| {step.entry}')
        return _Piece(piece.entry, (*piece.exits, *step.exits))

    def handled(self, plan: Node, piece: _Piece) -> _Piece:
        """Draw who handles the failure of a main flow, each once."""
        routes = None if isinstance(plan, Call) or plan.flow is None else plan.flow.errors
        if routes is None:
            return piece
        labels: dict[str, list[str]] = {}
        for kind, table in (("code", routes.codes), ("severity", routes.severities), ("category", routes.categories)):
            for key, call in table.items():
                labels.setdefault(_label(call), []).append(f"{kind} {key}")
        if routes.default is not None:
            labels.setdefault(_label(routes.default), []).append("any failure")
        exits = list(piece.exits)
        for index, (label, keys) in enumerate(labels.items()):
            name = f"handler{index}"
            if len(labels) == 1:
                self.boxes[HANDLER] = name
            self._line(f'{name}["{label}"]')
            self._line(_arrow("frame0", name, ", ".join(keys)).strip().replace("-->", "-.->"))
            exits.append((name, ""))
        return _Piece(piece.entry, tuple(exits))

    def _inside(self, node: Seq | Par | Loop | Branch | Map, position: str) -> _Piece:
        match node:
            case Seq():
                return self._sequence(node, position)
            case Par():
                return self._parallel(node, position)
            case Map():
                return self._each(node, position)
            case Loop(is_handoff=True, body=Branch() as body):
                if node.entry is None:
                    return self._route(node, body, position)
                return self._graph(node, body, position) if node.entry else self._tree(node, body, position)
            case Loop():
                return self._loop(node, position)
            case Branch():
                return self._branch(node, position)
            case _:
                assert_never(node)

    def _sequence(self, node: Seq, position: str) -> _Piece:
        pieces = [self.draw(step, f"{position}.{index}") for index, step in enumerate(node.steps)]
        if not pieces:
            return self._box('["nothing"]', position)
        for before, after in pairwise(pieces):
            for source, label in before.exits:
                self._line(_arrow(source, after.entry, label).strip())
        return _Piece(pieces[0].entry, pieces[-1].exits)

    def _parallel(self, node: Par, position: str) -> _Piece:
        fork, join = f"fork{_id(position)}", f"join{_id(position)}"
        self._line(f'{fork}{{{{"all at once, at most {node.concurrency}"}}}}')
        for index, branch in enumerate(node.branches):
            piece = self.draw(branch, f"{position}.{index}")
            self._line(f"{fork} --> {piece.entry}")
            for source, label in piece.exits:
                self._line(_arrow(source, join, label).strip())
        told = [f"merge: {escaped(node.merge.default)}" if node.aggregate is None else f"one answer: {escaped(node.aggregate.source)}"]
        told += [] if node.quorum is None else [f"{node.quorum} must succeed"]
        told += [] if node.join_timeout_s is None else [f"after {node.join_timeout_s:g} s at most"]
        self._line(f'{join}{{{{"{"<br/>".join(told)}"}}}}')
        return _Piece(fork, ((join, ""),))

    def _loop(self, node: Loop, position: str) -> _Piece:
        body = self.draw(node.body, f"{position}#1")
        again = f"again{_id(position)}"
        rule, unit = ROUNDS["" if node.agenda is None else node.agenda.kind]
        rule = node.until.source if node.until is not None else rule
        self._line(f'{again}{{"{escaped(rule) + "?<br/>" if rule else ""}at most {node.bound} {unit}"}}')
        for source, label in body.exits:
            self._line(_arrow(source, again, label).strip())
        self._line(f'{again} -->|"again"| {body.entry}')
        return _Piece(body.entry, ((again, "done"),))

    def _each(self, node: Map, position: str) -> _Piece:
        """Draw a Map as one body for all its items; of a body that has cases each item takes one."""
        fork, join = f"fork{_id(position)}", f"join{_id(position)}"
        at_once = f"<br/>at most {node.concurrency} at once" if node.concurrency > 1 and node.most > 1 else ""
        self._line(f'{fork}{{{{"{escaped(source_told(node))}{at_once}"}}}}')
        cases = node.body.cases if isinstance(node.body, Branch) and node.body.routes is not None else None
        for index, case in enumerate((node.body,) if cases is None else cases):
            piece = self.draw(case, f"{position}[0]" + ("" if cases is None else f".{index}"))
            self._line(f"{fork} --> {piece.entry}")
            for source, label in piece.exits:
                self._line(_arrow(source, join, label).strip())
        told = "results in their order" if node.is_collecting else f"merge: {escaped(node.merge.default)}"
        self._line(f'{join}{{{{"{told}"}}}}')
        return _Piece(fork, ((join, ""),))

    def _graph(self, node: Loop, body: Branch, position: str) -> _Piece:
        """Draw a graph's nodes and the ways between them."""
        routes = body.routes or {}
        pieces = {name: self.draw(body.cases[index], f"{position}#1.{index}") for name, index in routes.items()}
        exits: list[tuple[str, str]] = []
        for name, piece in pieces.items():
            edges = [edge for edge in node.edges if edge.source == name]
            ways = [(edge.target, _rule(edge, edges)) for edge in edges] or [("", "")]
            for (target, rule), (source, _) in product(ways, piece.exits):
                if target in pieces:
                    self._line(_arrow(source, pieces[target].entry, rule).strip())
                else:
                    exits.append((source, rule))
            part = part_of(body.cases[routes[name]])
            saviour = "" if part is None else part.on_error.partition(":")[2]
            if saviour in pieces:
                self._line(_arrow(piece.entry, pieces[saviour].entry, "on error").strip().replace("-->", "-.->"))
        first = pieces[node.entry or ""].entry
        if node.max_visits <= 1:
            return _Piece(first, tuple(exits))
        begin = f"begin{_id(position)}"
        self._line(f'{begin}(["each at most {node.max_visits} times"])')
        self._line(f"{begin} --> {first}")
        return _Piece(begin, tuple(exits))

    def _tree(self, node: Loop, body: Branch, position: str) -> _Piece:
        """Draw a decision tree with its questions; whoever is handed on to stands in it already."""
        routes = body.routes or {}
        root = routes[node.entry or ""]
        piece = self.draw(body.cases[root], f"{position}#1.{root}")
        drawn = {shown(leaf): place for place, leaf in _leaves(body.cases[root], f"{position}#1.{root}")}
        for case in range(len(body.cases)):
            box = self.boxes.get(_place(drawn.get(shown(body.cases[case]), "")))
            if box is not None and case != root:
                self.boxes.setdefault(_place(f"{position}#1.{case}"), box)
        if node.bound == 1:
            return piece
        hops = f"hops{_id(position)}"
        self._line(f'{hops}(["each may hand on, at most {node.bound - 1} times"])')
        self._line(f"{hops} --> {piece.entry}")
        return _Piece(hops, piece.exits)

    def _route(self, node: Loop, body: Branch, position: str) -> _Piece:
        """Draw a hand-off loop as one choice that every member leads back to."""
        choice = f"choice{_id(position)}"
        hops = node.bound - 1
        self._line(f'{choice}{{"route<br/>at most {hops} hand-offs"}}')
        exits: list[tuple[str, str]] = []
        names = {case: name for name, case in (body.routes or {}).items()}
        for index, case in enumerate(body.cases):
            piece = self.draw(case, f"{position}#1.{index}")
            self._line(_arrow(choice, piece.entry, names.get(index, name_of(case))).strip())
            for source, _ in piece.exits:
                self._line(f'{source} -.->|"hands on"| {choice}')
                exits.append((source, ""))
        return _Piece(choice, tuple(exits))

    def _branch(self, node: Branch, position: str) -> _Piece:
        choice = f"choice{_id(position)}"
        self._line(f'{choice}{{"which?"}}')
        names = {case: name for name, case in (node.routes or {}).items()}
        exits: list[tuple[str, str]] = []
        for index, case in enumerate(node.cases):
            piece = self.draw(case, f"{position}.{index}")
            rule = node.conditions[index].source if index < len(node.conditions) else names.get(index, "else")
            self._line(_arrow(choice, piece.entry, rule).strip())
            exits.extend(piece.exits)
        return _Piece(choice, tuple(exits))

    def _box(self, shape: str, position: str) -> _Piece:
        name = f"step{_id(position)}"
        self.boxes[_place(position)] = name
        self._line(f"{name}{shape}")
        return _Piece(name, ((name, ""),))

    def _line(self, text: str) -> None:
        self.lines.append(self.indent + text)


def _label(call: Call) -> str:
    """Return what stands in a call's box: its name and agent, what it waits for, and who else may be called for it."""
    told = [shown(call)]
    if call.approval_timeout_s is not None:
        told.append("after approval")
    if call.policy is not None and call.policy.fallback:
        told.append(f"or else {', '.join(other.agent for other in call.policy.fallback)}")
    if call.policy is not None and call.policy.compensate is not None:
        told.append(f"undone by {call.policy.compensate.agent}")
    return "<br/>".join(map(escaped, told))


def shown(node: Node) -> str:
    """Return what a node is called: its title or id in its flow, with the agent or flow that it is."""
    part, name = part_of(node), name_of(node)
    told = (part.title if part is not None else "") or key_of(node)
    return name if told == name else f"{told}: {name}"


def source_told(node: Map) -> str:
    """Return in words what a Map goes through."""
    return f"each of state.{node.key}" if node.source == OVER else SOURCES[node.source]


def _rule(edge: Edge, edges: Sequence[Edge]) -> str:
    """Return what stands at an edge among those that leave its node."""
    if edge.when is not None:
        return edge.when.source
    return "else" if len(edges) > 1 else ""


def _leaves(node: Node, position: Position) -> Iterator[tuple[Position, Node]]:
    """Yield the leaves of a tree's questions with their positions."""
    if not isinstance(node, Branch) or node.flow is not None:
        yield position, node
        return
    for index, case in enumerate(node.cases):
        yield from _leaves(case, f"{position}.{index}")


def _place(position: Position) -> str:
    """Return a position without the numbers of rounds and items, which are drawn once."""
    return _ITEM.sub("[]", _ROUND.sub("#", position))


def _place_of_rescue(node: Node, position: str) -> str:
    if isinstance(node, Loop):
        return f"{position}#1.{len(children(node.body))}" if node.is_handoff else f"{position}#end"
    return f"{position}.{len(children(node))}"


def _coloured(boxes: Mapping[str, str], statuses: Mapping[Position, str]) -> list[str]:
    """Return the lines that colour boxes: of rounds the last one counts, of items the one that stands worst."""
    worst: dict[str, str] = {}  # of the items of each round
    for position, status in statuses.items():
        if status in COLOURS:
            place = _ITEM.sub("[]", position)
            worst[place] = min(status, worst.get(place, status), key=_WORST_FIRST.index)
    latest = {_place(position): status for position, status in worst.items()}
    lines = [f"    classDef {status} {COLOURS[status]}" for status in COLOURS if status in latest.values()]
    return lines + [f"    class {boxes[position]} {status}" for position, status in latest.items() if position in boxes]


def _arrow(source: str, target: str, label: str) -> str:
    return f'    {source} -->|"{escaped(label)}"| {target}' if label else f"    {source} --> {target}"


def _id(position: str) -> str:
    return position.replace(".", "_").replace("#", "r").replace("[", "i").replace("]", "")


def escaped(text: str) -> str:
    """Return text as it may stand between quotes in Mermaid: anything that is not plain as its character number."""
    if _PLAIN.fullmatch(text):
        return text
    return "".join(char if _PLAIN.fullmatch(char) or (char.isalnum() and char.isprintable()) else f"#{ord(char)};" for char in text)
