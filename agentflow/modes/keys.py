"""What is wrong with the keys of a flow whatever its plan is: some are missing or empty, some are of modes not chosen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.display import KeyPath, dotted
from agentflow.config.model import FlowConfig
from agentflow.config.patterns import BranchConfig
from agentflow.config.shape import shape_at
from agentflow.core.merge import NAMED_POLICIES
from agentflow.modes import MODES, Mode
from agentflow.modes.findings import Near

MODE_KEYS = frozenset().union(*(mode.keys for mode in MODES.values()))
_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z]\w*")


def lacking(flow: FlowConfig, mode: Mode, table: KeyPath) -> Iterator[Diagnostic]:
    """Yield each thing that the mode needs and the flow at *table* does not have, and each list that is empty."""
    for group in mode.needs:
        if not any(key in flow.given or getattr(flow, key) for key in group):
            keys = " or ".join(f"`{key}`" for key in group)
            yield Diagnostic("AF0203", f"mode `{flow.mode}` needs {keys}", (group[0],), "key", f"add e.g. {_example(group[0], table)}")
    for key in sorted(mode.keys & flow.given):
        if getattr(flow, key) == []:
            help = "name at least one agent or flow" if _kind(key) == "names" else f"add {_example(key, table)}"  # noqa: A001 - its own word
            yield Diagnostic("AF0204", f"`{key}` is empty", (key,), help=help)


def unknown_policies(flow: FlowConfig, near: Near) -> Iterator[Diagnostic]:
    """Yield each merge policy of a key that is none."""
    for key, policy in (flow.merge if isinstance(flow.merge, dict) else {}).items():
        if policy not in NAMED_POLICIES and not _REFERENCE.fullmatch(policy):
            hint = f"{near(policy, NAMED_POLICIES)} or write module:function".lstrip()
            yield Diagnostic("AF0213", f"unknown merge policy `{policy}`", ("merge", key), help=hint)


def of_other_modes(flow: FlowConfig, modes: Mapping[str, Mode], used: frozenset[str]) -> Iterator[Diagnostic]:
    """Yield, as advice, the keys that the chosen mode does not read; `used` are those that it does."""
    for key in sorted(flow.given & MODE_KEYS - used):
        users = ", ".join(name for name, mode in modes.items() if key in mode.keys)
        told = f"`{key}` is used by mode {users}, not by `{flow.mode}`"
        yield Diagnostic("AF0290", told, (key,), "key", severity="warning")


def conditions(flow: FlowConfig) -> Iterator[tuple[str, str, KeyPath]]:
    """Yield the conditions of a flow's modes: the key that has it, its text and its place."""
    if flow.until is not None:
        yield "until", flow.until, ("until",)
    for index, edge in enumerate(flow.edges):
        if edge.when is not None:
            yield "edges", edge.when, ("edges", index, "when")
    waiting: list[tuple[object, KeyPath]] = [(flow.branches, ("branches",))]
    while waiting:
        way, at = waiting.pop()
        if isinstance(way, list):
            waiting.extend((row, (*at, index)) for index, row in enumerate(way))
        elif isinstance(way, BranchConfig):
            yield "branches", way.when, (*at, "when")
            waiting += [(way.then, (*at, "then")), (way.otherwise, (*at, "else"))]


def _kind(key: str) -> str:
    shape = shape_at(("orchestration", key))
    if shape is None or shape.kind == "text":
        return "name"
    return "tables" if shape.item is not None and shape.item.kind == "table" else "names"


def _example(key: str, table: KeyPath) -> str:
    tables = f"a table [[{dotted((*table, key))}]]"
    return {"name": f'{key} = "a"', "names": f'{key} = ["a", "b"]', "tables": tables}[_kind(key)]
