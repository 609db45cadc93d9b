"""Frame: one node being walked, where it stands, and what its children have come to."""

from __future__ import annotations

from agentflow.core.failure import Failure
from agentflow.core.plan import Branch, Call, Loop, Node, Par, Position, name_of
from agentflow.core.state import MISSING, REMOVED, Scope

OPEN, DONE, FAILED = 0, 1, 2


class Frame:
    """One node being walked.

    `outer` is the scope the node was entered with, `scope` the one its children work on: the same, but for nested flows
    and loops, which have a scope of their own and hand it to the outer one when they leave.
    A call's frame uses only the first six fields, and that of a parallel branch `failure` and `route` too.
    """

    __slots__ = (
        *("node", "parent", "index", "outer", "scope", "status"),
        *("child", "failure", "frames", "is_filling", "left", "round", "route", "trail"),
    )

    node: Node
    parent: Frame | None
    index: int
    outer: Scope
    scope: Scope
    status: int
    round: int  # Seq: the step at hand; Loop: the round, from 1; Par: how many branches were started
    left: int  # Par: branches not yet finished
    child: Frame | None  # the child at hand, but for Par
    frames: list[Frame | None]  # Par: the branches in declared order, None while not started
    is_filling: bool  # Par: branches are being started, so that one that fails at once starts no other itself
    failure: Failure  # a parallel branch's, once it failed
    route: str | None  # a hand-off loop's next target; what a parallel branch wants to hand on to
    trail: list[str]  # a hand-off loop's targets so far

    def __init__(self, node: Node, parent: Frame | None, index: int, scope: Scope) -> None:
        self.node = node
        self.parent = parent
        self.index = index
        self.outer = self.scope = scope
        self.status = OPEN
        self.route = None

    @property
    def position(self) -> Position:
        """The address of this frame's node, e.g. `0.2#3`."""
        frame, parent = self, self.parent
        if parent is not None and parent.parent is None and type(parent.node) is not Loop:
            return f"0.{self.index}"  # most steps are members of the main flow
        parts: list[str] = []
        while frame.parent is not None:
            above = frame.parent.node
            if type(above) is not Loop or above.is_handoff:
                parts.append(f".{frame.index}")
            if type(above) is Loop:
                parts.append(f"#{frame.parent.round}")
            frame = frame.parent
        parts.append("0")
        return "".join(reversed(parts))

    @property
    def stage(self) -> str:
        """The name of the main flow's member that this frame belongs to, "" for the main flow itself."""
        name = ""
        frame: Frame = self
        while frame.parent is not None:
            if type(frame.node) is Call or frame.node.flow is not None:
                name = name_of(frame.node)
            frame = frame.parent
        return name

    def is_below(self, other: Frame) -> bool:
        """Say whether this frame is `other` or stands below it."""
        frame: Frame | None = self
        while frame is not None:
            if frame is other:
                return True
            frame = frame.parent
        return False

    def drop_keys(self, keys: tuple[str, ...]) -> None:
        """Take a counting loop's own keys out of the state: an enclosing loop's come back, what was emitted does not."""
        above = self.parent
        while above is not None and not (type(above.node) is Loop and not above.node.is_handoff):
            above = above.parent
        for key in keys:
            self.scope.entries.pop(key, None)
            if above is None and self.outer.lookup(key) is not MISSING:
                self.scope.entries[key] = REMOVED

    @property
    def is_main(self) -> bool:
        """Whether this frame is the main flow, or what the switches above it chose in its place."""
        frame: Frame = self
        while frame.parent is not None:
            frame = frame.parent
            if not (isinstance(frame.node, Branch) and frame.node.routes is None):
                return False
        return True

    @property
    def handoff(self) -> Frame | None:
        """The nearest route flow around this frame."""
        frame = self.parent
        while frame is not None and not (type(frame.node) is Loop and frame.node.is_handoff):
            frame = frame.parent
        return frame

    @property
    def open_children(self) -> list[Frame]:
        """The frames directly below that were entered and not yet taken up by this one, in declared order."""
        if type(self.node) is Call:
            return []
        if type(self.node) is Par:
            return [frame for frame in self.frames if frame is not None]
        return [] if self.child is None else [self.child]
