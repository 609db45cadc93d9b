"""Choices: keys of one mode of which only one can be meant, or of which one counts only beside another."""

from __future__ import annotations

from collections.abc import Iterator

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.model import FlowConfig

MOST_ITEMS = 1000


def said_twice(flow: FlowConfig, key: str, *others: str) -> Iterator[Diagnostic]:
    """Yield each of the other keys that says once more what a key says."""
    for other in others:
        if {key, other} <= flow.given:
            told = f"`{key}` and `{other}` both say who works in mode `{flow.mode}`"
            yield Diagnostic("AF0232", told, (other,), "key", f"take {key} or {other} out")


def of_no_use(flow: FlowConfig, where: str, *keys: str) -> Iterator[Diagnostic]:
    """Yield, as advice, each of the keys that the mode does not read in this flow; `where` says in which flows it does."""
    for key in keys:
        if key in flow.given:
            told = f"`{key}` is used by mode `{flow.mode}` only {where}"
            yield Diagnostic("AF0290", told, (key,), "key", severity="warning")


def most_items(flow: FlowConfig) -> int:
    """Return how many items a list in the state may have that the flow goes through: MOST_ITEMS, unless `max_tasks` says otherwise."""
    return flow.max_tasks if "max_tasks" in flow.given else MOST_ITEMS
