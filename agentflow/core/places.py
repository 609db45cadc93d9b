"""Places: from a position to the frame that stands there, and which positions stand below which."""

from __future__ import annotations

from agentflow.core.frame import OPEN, Frame
from agentflow.core.map_frame import MapFrame
from agentflow.core.plan import Branch, Call, Loop, Par, Position
from agentflow.core.spending import ITEM, marks_of
from agentflow.core.walk import Walk


def frame_at(walk: Walk, position: Position) -> Frame | None:
    """Return the frame that stands at a position, None when there is none."""
    frame = walk.root
    if position != "0" and not position.startswith(("0.", "0#", "0[")):
        return None
    is_hop = is_case = False  # a branch by routes has no frame of its own: `#1` or `[1]` alone names nothing, `#1.2` or `[1].2` the call
    for mark, index in marks_of(position):
        if is_case:  # of the item at hand
            is_case = False
            frame = frame if mark == "." and isinstance(frame, MapFrame) and frame.row.get("case", 0) == index else None
            continue
        if frame is None or type(frame.node) is Call or frame.status != OPEN:
            return None
        if type(frame.node) is Par:
            source = frame.source
            is_case = source is not None and isinstance(source.body, Branch) and source.body.routes is not None
            is_fit = mark == ("." if source is None else ITEM) and 0 <= index < len(frame.frames)
            frame = frame.frames[index] if is_fit else None
        elif type(frame.node) is Loop and not is_hop:
            if mark != "#" or frame.round != index:
                return None
            is_hop = frame.node.is_handoff
            frame = frame if is_hop else frame.child
        else:
            frame = frame.child if mark == "." and frame.child is not None and frame.child.index == index else None
            is_hop = False
    return None if is_hop or is_case else frame


def is_below(position: Position, above: Position) -> bool:
    """Say whether a position is another one or stands below it; everything stands below ""."""
    return not above or position == above or position.startswith((f"{above}.", f"{above}#", f"{above}["))
