"""Frame: one node being walked, where it stands, and what its children have come to."""

from __future__ import annotations

from collections.abc import Mapping

from agentflow.core.contract import LOOP_KEYS as LOOP_KEYS
from agentflow.core.contract import Schema
from agentflow.core.failure import Failure
from agentflow.core.plan import Branch, Call, Loop, Map, Node, Par, Position, children, key_of, name_of
from agentflow.core.state import MISSING, REMOVED, Scope
from agentflow.core.values import Json

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

    # What the frames of special calls say otherwise:
    given: Mapping[str, Json] | None = None  # the call's own event data, in place of the event's
    controls: tuple[str, ...] = ()  # the keys by which its answer steers: they reach no state
    hands_on: bool = False  # what its step returns counts, not only what that changes; and it may be given something of its own
    is_after: bool = False  # it belongs to a phase after the main one, e.g. an error handler
    source: Map | None = None  # the Map whose items this join runs

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

    def fold(self) -> None:
        """Hand what a nested flow or a loop settled in its own scope to the scope around it."""
        scope, node, outer = self.scope, self.node, self.outer
        if is_counting(node):
            self._drop_loop_keys()
        outer.apply(patch := scope.patch())
        if scope.outputs:
            outer.keep(scope.outputs)
        if node.flow is not None and not self.is_main:  # type: ignore[union-attr] # a call has no scope of its own
            outer.keep({key_of(node): patch})

    def _drop_loop_keys(self) -> None:
        """Take a counting loop's own keys out of the state: an enclosing loop's come back, what was emitted does not."""
        above = self.parent
        while above is not None and not is_counting(above.node):
            above = above.parent
        for key in LOOP_KEYS:
            self.scope.entries.pop(key, None)
            if above is None and self.outer.lookup(key) is not MISSING:
                self.scope.entries[key] = REMOVED

    @property
    def is_live(self) -> bool:
        """Whether this frame and all around it are open."""
        frame: Frame | None = self
        while frame is not None and frame.status == OPEN:
            frame = frame.parent
        return frame is None

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


class SpecialFrame(Frame):
    """A call that is no step of the plan: it ends a failed flow, handles a run's failure, or undoes a step.

    `failure` is what it is called for. `mark` is its whole position where it stands below no flow, else "".
    """

    __slots__ = ("given", "is_after", "mark")

    given: Mapping[str, Json]
    mark: Position

    def __init__(self, call: Call, parent: Frame | None, place: int | Position, scope: Scope, failure: Failure) -> None:
        is_after = isinstance(place, str)
        super().__init__(call, parent, 0 if isinstance(place, str) else place, scope)
        self.mark = place if isinstance(place, str) else ""
        self.is_after = is_after
        self.failure = failure
        self.given = {}

    @property
    def position(self) -> Position:
        """Its own, e.g. `!`, or the one after its flow's last step."""
        above = self.parent
        if self.mark or above is None:
            return self.mark
        if type(above.node) is Loop:
            return f"{above.position}#{above.round}" + (f".{self.index}" if above.node.is_handoff else "")
        return f"{above.position}.{self.index}"

    @property
    def stage(self) -> str:
        """As of every frame; its agent where it stands below no flow."""
        return name_of(self.node) if self.mark else super().stage


def is_counting(node: Node) -> bool:
    """Say whether a node is a loop that keeps `iteration`: what hands on, and what has an agenda, does not."""
    return type(node) is Loop and not node.is_handoff and node.agenda is None


def child_at(node: Node, index: int) -> Node:
    """Return the child of a node with this index; the one after the last is the call that ends the flow when it has failed.

    Raises:
        IndexError: there is none.
    """
    cases = children(node.body) if type(node) is Loop and node.is_handoff else children(node)
    flow = None if isinstance(node, Call) else node.flow
    if flow is not None and flow.rescue is not None and index == len(cases):
        return flow.rescue
    return cases[index]


def schemas_around(frame: Frame) -> list[tuple[str, Schema]]:
    """Return the schemas of the state that what happens at a frame has to fit, each with the name of its flow, the innermost first."""
    found: list[tuple[str, Schema]] = []
    above: Frame | None = frame
    while above is not None:
        flow = None if isinstance(above.node, Call) else above.node.flow
        if flow is not None and flow.state_schema is not None:
            found.append((flow.name, flow.state_schema))
        above = above.parent
    return found
