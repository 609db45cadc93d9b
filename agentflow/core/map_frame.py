"""MapFrame: a frame of a walk whose parts are given inputs of their own, or say themselves what follows."""

from __future__ import annotations

from collections.abc import Mapping

from agentflow.core.agenda import KINDS, Memo
from agentflow.core.frame import Frame, is_counting
from agentflow.core.items import Row, expanded
from agentflow.core.plan import AGENDA, MAILBOX, REVISION, TASKS, WAVES, Branch, Call, Loop, Map, Node, Position, Seq, key_of
from agentflow.core.state import REMOVED, Patch, Scope
from agentflow.core.values import Json


class MapFrame(Frame):
    """One node being walked.

    Attributes:
        given: the event data here, in place of the event's own; None for that. What stands below has it too.
        memo: what a loop's agenda knows, or what the items of a Map in this sequence came to; None for nothing.
        last: of a sequence, what its last member set; None where none did.
        source: the Map whose items this frame runs: its node is then the join of them; None for other frames.
        rows: the items.
        is_borne: it has failed, and what is around it goes on as if it had said nothing.
        controls: the keys by which this member's answer steers what comes after it.
    """

    __slots__ = ("controls", "given", "is_borne", "last", "memo", "rows", "source")

    hands_on = True
    given: Mapping[str, Json] | None
    parent: MapFrame | None  # all frames of such a walk are of this kind
    source: Map | None
    controls: tuple[str, ...]

    def __init__(self, node: Node, parent: Frame | None, index: int, scope: Scope) -> None:
        super().__init__(node, parent, index, scope)
        self.given = None if parent is None else parent.given
        self.memo: Memo | None = None
        self.last: Patch | None = None
        self.is_borne = False
        self.source = None
        self.rows: list[Row] = []
        self.controls = () if self.parent is None else _controls_of(self.parent, index)

    def expand(self, node: Map, rows: list[Row]) -> None:
        """Become the join of a Map's items.

        Raises:
            IndexError: a row names a case that the body does not have.
        """
        self.node = expanded(node, rows)
        self.source, self.rows = node, rows

    def close(self) -> None:
        """Be the Map again, whose items have ended: who asks for its name finds the same as before it began, and after a restart."""
        if self.source is not None:
            self.node = self.source

    def hide_controls(self) -> None:
        """Let the member see no control that somebody set before it: its answer is what counts, also when it says the same again."""
        if type(self.node) is Call:
            self.scope = Scope({}, None, self.outer)
        self.scope.entries.update(dict.fromkeys(self.controls, REMOVED))

    @property
    def mark(self) -> Position:
        """The last part of this frame's position."""
        above = self.parent
        assert above is not None  # noqa: S101 - the root has no mark
        if above.source is not None:
            body = above.source.body
            case = f".{self.row.get('case', 0)}" if isinstance(body, Branch) and body.routes is not None else ""
            return f"[{self.index}]{case}"
        if type(above.node) is Loop:
            return f"#{above.round}" + (f".{self.index}" if above.node.is_handoff else "")
        return f".{self.index}"

    @property
    def row(self) -> Row:
        """The item that this frame stands for; {} for none."""
        return {} if self.parent is None or self.parent.source is None else self.parent.rows[self.index]

    @property
    def position(self) -> Position:
        """The address of this frame's node, e.g. `0.1#2[3]`."""
        marks: list[str] = []
        frame = self
        while frame.parent is not None:
            marks.append(frame.mark)
            frame = frame.parent
        return "0" + "".join(reversed(marks))

    @property
    def agenda_loop(self) -> MapFrame | None:
        """The nearest loop with an agenda around this frame."""
        frame = self.parent
        while frame is not None and not (type(frame.node) is Loop and frame.node.agenda is not None):
            frame = frame.parent
        return frame

    def output(self, child: Frame) -> Patch | None:
        """Return what a child that has ended well has set; None for one that has no name, e.g. a Map."""
        if type(child.node) is not Call and child.node.flow is None:
            return None
        return (child.outer.outputs or {}).get(key_of(child.node))

    def fold(self) -> None:
        """Hand what a member settled in its own scope to the scope around it, but for what it steers by."""
        node = self.node
        if not self.controls:
            super().fold()
            return
        if is_counting(node):
            self._drop_loop_keys()
        scope = self.scope
        told = {key: value for key, value in scope.entries.items() if not (key in self.controls and value is REMOVED)}
        kept = {key: value for key, value in told.items() if key not in self.controls}
        self.outer.apply(Patch(kept, scope.meta))
        if scope.outputs:
            self.outer.keep(scope.outputs)
        if type(node) is not Call and node.flow is not None:
            self.outer.keep({key_of(node): Patch(told, scope.meta)})


def _controls_of(parent: MapFrame, index: int) -> tuple[str, ...]:
    """Return the keys by which the answer of a member steers what follows it in its sequence, or the plan it is to look at again."""
    if parent.source is not None:
        loop = parent.agenda_loop
        if loop is None or not isinstance(loop.node, Loop) or loop.node.agenda is None:
            return ()
        is_steering = parent.source.source == REVISION or (parent.source.source == AGENDA and loop.node.agenda.kind == MAILBOX)
        return KINDS[loop.node.agenda.kind].controls if is_steering else ()
    if type(parent.node) is not Seq or index + 1 >= len(parent.node.steps):
        return ()
    following = parent.node.steps[index + 1]
    if isinstance(following, Map) and following.source == TASKS:
        return ("tasks",)
    if isinstance(following, Loop) and following.agenda is not None and following.agenda.kind == WAVES and following.flow is None:
        return KINDS[WAVES].controls
    above = None if parent.parent is None else parent.parent.node
    if isinstance(following, Map) and following.source == AGENDA and isinstance(above, Loop) and above.agenda is not None:
        return KINDS[above.agenda.kind].controls
    return ()
