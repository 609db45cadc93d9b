"""Facts: what conditions may ask about a run, and what its agents have set so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from agentflow.core.event import Event
from agentflow.core.frame import OPEN
from agentflow.core.plan import Branch, Par
from agentflow.core.state import MISSING, Scope
from agentflow.core.values import Json
from agentflow.errors import RuleError

if TYPE_CHECKING:
    from agentflow.core.walk import Walk


class RunFacts:
    """What conditions may ask about, as it stands in one scope of a walk: a parallel branch sees nothing of its siblings.

    `given` is the event data that the part of the plan was given in place of the event's own; None for that.
    """

    __slots__ = ("_event", "_given", "_scope")

    def __init__(self, event: Event, scope: Scope, given: Mapping[str, Json] | None = None) -> None:
        self._event = event
        self._scope = scope
        self._given = given

    def fact(self, root: str, path: tuple[str, ...]) -> object:
        """Return the value at a path below `state`, `meta`, `event` or `outputs`, or MISSING."""
        value, rest = self._top(root, path)
        for part in rest:
            if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            elif isinstance(value, dict) and part in value:
                value = value[part]
            else:
                return MISSING
        return value

    def _top(self, root: str, path: tuple[str, ...]) -> tuple[object, tuple[str, ...]]:
        scope = self._scope
        if root == "state":
            if path:
                return scope.lookup(path[0]), path[1:]
            return {key: scope.lookup(key) for key in scope.keys()}, ()  # noqa: SIM118 - a scope is no dict
        if root == "meta":
            return {key: scope.lookup_meta(key) for key in scope.meta_keys()}, path
        if root == "outputs":
            outputs = scope.visible_outputs()
            if path:
                return outputs[path[0]].values() if path[0] in outputs else MISSING, path[1:]
            return {name: patch.values() for name, patch in outputs.items()}, ()
        fields = self._event.fields(path[0] if path else None)
        return (fields if self._given is None or (path and path[0] != "data") else {**fields, "data": self._given}), path


def first_true(node: Branch, facts: RunFacts) -> int:
    """Return the index of the case that a branch by conditions takes.

    Raises:
        RuleError: a condition cannot be evaluated, or none holds and there is no else.
    """
    for index, condition in enumerate(node.conditions):
        if condition.holds(facts):
            return index
    if len(node.cases) == len(node.conditions):
        asked = ", ".join(f"`{condition.source}`" for condition in node.conditions)
        raise RuleError(f"none of {asked} holds, and there is no other way", hint="add an else, or a case without a condition")
    return len(node.conditions)


def outputs_of(walk: Walk, order: tuple[str, ...]) -> dict[str, dict[str, Json]]:
    """Return what each agent and nested flow set last, in the plan's declared order; also while the walk goes on."""
    patches = dict(walk.outputs)
    open_frames = [] if walk.root is None else [walk.root]
    while open_frames:
        frame = open_frames.pop()
        if frame.parent is not None and type(frame.parent.node) is Par:
            patches.update(frame.outer.outputs or {})
        if frame.scope is not frame.outer:
            patches.update(frame.scope.outputs or {})
        if frame.status == OPEN:  # a flow that was cut has handed its outputs up, and keeps what was below it
            open_frames.extend(reversed(frame.open_children))
    found = {name: patch.values() for name, patch in patches.items()}
    return {name: found[name] for name in dict.fromkeys((*order, *found)) if name in found}
