"""What is wrong with the inputs of a plan's members: places that cannot be read, and outputs that nobody has set by then."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.display import KeyPath
from agentflow.core.inputs import places_in
from agentflow.core.part import Template
from agentflow.core.plan import Call, Loop, Node, Seq, children, walk_nodes
from agentflow.errors import RuleError
from agentflow.modes.findings import Near
from agentflow.modes.members import Member

Keys = Callable[[str], Collection[str]]


def template_of(call: Call) -> Template | None:
    """Return the template in what a member is given; None where there is none."""
    told = None if call.part is None else call.part.input
    return told if told is None or isinstance(told, Template) else told.instruction


class Inputs:
    """The inputs of one flow's members, by a plan that is not linked yet.

    Args:
        plan: the plan.
        inside: gives the names of all outputs that a member sets, those of the flows in it included.
        outside: names of outputs that may be there before the flow begins.
        near: gives a hint at the nearest of some names.
    """

    def __init__(self, plan: Node, inside: Keys, outside: Callable[[], frozenset[str]], near: Near) -> None:
        self._inside = inside
        self._near = near
        self._outside = outside
        self._plan = plan
        self._places: Mapping[int, list[tuple[str, tuple[str, ...]]]] = {}

    def mistakes(self) -> Iterator[Diagnostic]:
        """Yield what is wrong with them, each with its place in the flow's table."""
        calls = [node for node in walk_nodes(self._plan) if isinstance(node, Call) and template_of(node) is not None]
        found: dict[int, list[tuple[str, tuple[str, ...]]]] = {}
        for call in calls:
            template = template_of(call)
            try:
                found[id(call)] = list(places_in(template.value)) if template is not None else []
            except RuleError as error:
                yield Diagnostic("AF0230", error.message, _place(call), help=error.hint)
        self._places = found
        if any(root == "outputs" and path for places in found.values() for root, path in places):
            own = self._keys(self._plan)
            yield from self._walk(self._plan, set(), own, self._outside() - own)

    def _walk(self, node: Node, before: set[str], own: Collection[str], outside: Collection[str]) -> Iterator[Diagnostic]:
        """Yield the mistakes in a node; `before` holds the names of outputs that are there when it begins."""
        if isinstance(node, Call):
            for root, path in self._places.get(id(node), ()):
                if root == "outputs" and path and path[0] not in before and path[0] not in outside:
                    yield self._unknown(node, path[0], before, path[0] in own)
            return
        added: set[str] = set()
        if isinstance(node, Loop) and node.is_handoff:
            added = self._keys(node) - before  # any of its members may have been visited before
            before |= added
        for child in children(node):
            yield from self._walk(child, before, own, outside)
            if isinstance(node, Seq):
                more = self._keys(child) - before
                before |= more
                added |= more
        before -= added

    def _unknown(self, call: Call, name: str, before: Collection[str], is_own: bool) -> Diagnostic:
        if is_own:
            told = f"`outputs.{name}` is not there yet when this begins: `{name}` works beside it, or after it"
            return Diagnostic("AF0230", told, _place(call), help="let it work before: in an earlier step, or by depends_on")
        return Diagnostic("AF0230", f"no member before is called `{name}`", _place(call), help=self._near(name, before) if before else "")

    def _keys(self, node: Node) -> set[str]:
        keys: set[str] = set()
        for one in walk_nodes(node):
            if isinstance(one, Call):
                keys.update(self._inside(one.agent))
                keys.add((one.part.id if one.part is not None else "") or one.agent)
        return keys


def _place(call: Call) -> KeyPath:
    member = call.part
    return (*member.at[:-1], "input") if isinstance(member, Member) and member.at else ("mode",)
