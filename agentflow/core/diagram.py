"""Diagram: a plan as Mermaid text, with its steps coloured by status where a run is given."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import assert_never

from agentflow.core.outcome import HANDLER
from agentflow.core.plan import Branch, Call, Loop, Node, Par, Position, Seq, children, name_of

MOST_BOXES = 400
COLOURS = {
    "running": "fill:#fff3bf,stroke:#e67700",
    "retrying": "fill:#ffe8cc,stroke:#d9480f",
    "completed": "fill:#d3f9d8,stroke:#2b8a3e",
    "failed": "fill:#ffe3e3,stroke:#c92a2a",
    "cancelled": "fill:#e9ecef,stroke:#495057",
}
_ROUND = re.compile(r"#\d+")
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
        statuses: by position, one of running, retrying, completed, failed, cancelled; the last round of a loop counts.
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
    boxes: dict[str, str] = field(default_factory=dict)  # by position, without rounds
    indent: str = "    "

    def draw(self, node: Node, position: str) -> _Piece:
        """Draw a node; a flow with a name of its own gets a frame around it."""
        if len(self.boxes) >= MOST_BOXES:
            return self._box(f'["{escaped(name_of(node))} …"]', position)
        if isinstance(node, Call):
            return self._box(f'["{_label(node)}"]', position)
        if node.flow is None:
            return self._inside(node, position)
        title = f"{node.flow.name} ({node.flow.mode})"
        self._line(f'subgraph frame{_id(position)}["{escaped(title)}"]')
        self.indent += "    "
        piece = self._inside(node, position)
        self.indent = self.indent[:-4]
        self._line("end")
        rescue = node.flow.rescue
        if rescue is None or isinstance(node, Par):
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

    def _inside(self, node: Seq | Par | Loop | Branch, position: str) -> _Piece:
        match node:
            case Seq():
                return self._sequence(node, position)
            case Par():
                return self._parallel(node, position)
            case Loop(is_handoff=True, body=Branch() as body):
                return self._route(node, body, position)
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
        told = [f"merge: {escaped(node.merge.default)}"]
        told += [] if node.quorum is None else [f"{node.quorum} must succeed"]
        told += [] if node.join_timeout_s is None else [f"after {node.join_timeout_s:g} s at most"]
        self._line(f'{join}{{{{"{"<br/>".join(told)}"}}}}')
        return _Piece(fork, ((join, ""),))

    def _loop(self, node: Loop, position: str) -> _Piece:
        body = self.draw(node.body, f"{position}#1")
        again = f"again{_id(position)}"
        rule = f"{escaped(node.until.source)}?<br/>" if node.until is not None else ""
        self._line(f'{again}{{"{rule}at most {node.bound} rounds"}}')
        for source, label in body.exits:
            self._line(_arrow(source, again, label).strip())
        self._line(f'{again} -->|"again"| {body.entry}')
        return _Piece(body.entry, ((again, "done"),))

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
        self.boxes[_ROUND.sub("#", position)] = name
        self._line(f"{name}{shape}")
        return _Piece(name, ((name, ""),))

    def _line(self, text: str) -> None:
        self.lines.append(self.indent + text)


def _label(call: Call) -> str:
    """Return what stands in a call's box: its agent, what it waits for, and who else may be called for it."""
    told = [call.agent]
    if call.approval_timeout_s is not None:
        told.append("after approval")
    if call.policy is not None and call.policy.fallback:
        told.append(f"or else {', '.join(other.agent for other in call.policy.fallback)}")
    if call.policy is not None and call.policy.compensate is not None:
        told.append(f"undone by {call.policy.compensate.agent}")
    return "<br/>".join(map(escaped, told))


def _place_of_rescue(node: Node, position: str) -> str:
    if isinstance(node, Loop):
        return f"{position}#1.{len(children(node.body))}" if node.is_handoff else f"{position}#end"
    return f"{position}.{len(children(node))}"


def _coloured(boxes: Mapping[str, str], statuses: Mapping[Position, str]) -> list[str]:
    """Return the lines that colour boxes: of positions that differ in their rounds only, the last one counts."""
    latest = {_ROUND.sub("#", position): status for position, status in statuses.items() if status in COLOURS}
    lines = [f"    classDef {status} {COLOURS[status]}" for status in COLOURS if status in latest.values()]
    return lines + [f"    class {boxes[position]} {status}" for position, status in latest.items() if position in boxes]


def _arrow(source: str, target: str, label: str) -> str:
    return f'    {source} -->|"{escaped(label)}"| {target}' if label else f"    {source} --> {target}"


def _id(position: str) -> str:
    return position.replace(".", "_").replace("#", "r")


def escaped(text: str) -> str:
    """Return text as it may stand between quotes in Mermaid: anything that is not plain as its character number."""
    if _PLAIN.fullmatch(text):
        return text
    return "".join(char if _PLAIN.fullmatch(char) or (char.isalnum() and char.isprintable()) else f"#{ord(char)};" for char in text)
