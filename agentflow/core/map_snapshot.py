"""What a MapFrame knows beyond a frame, as JSON and back: its input, its agenda, the items of a Map."""

from __future__ import annotations

from typing import cast

from agentflow.core.frame import OPEN
from agentflow.core.map_frame import MapFrame
from agentflow.core.packing import MisfitError, mapping, pack_patch, unpack_patch
from agentflow.core.plan import Map
from agentflow.core.values import Json


def pack_map_frame(frame: MapFrame) -> dict[str, Json]:
    """Return it as entries of the frame's row; what is empty, or as in the frame around it, is left out."""
    row: dict[str, Json] = {}
    if frame.given is not None and (frame.parent is None or frame.given is not frame.parent.given):
        row["given"] = dict(frame.given)
    if frame.memo is not None:
        row["memo"] = frame.memo
    if frame.last is not None:
        row["last"] = pack_patch(frame.last)
    if frame.source is not None:
        row["rows"] = cast("Json", frame.rows)
    return row


def fill_map_frame(frame: MapFrame, row: dict[str, Json]) -> None:
    """Take it up again.

    Raises:
        MisfitError, IndexError: it does not fit the plan.
    """
    frame.is_borne = row.get("is_borne") is True
    if "given" in row:
        frame.given = mapping(row["given"])
    if "memo" in row:
        frame.memo = mapping(row["memo"])
    if "last" in row:
        frame.last = unpack_patch(row["last"])
    if isinstance(frame.node, Map) and frame.status == OPEN:
        frame.expand(frame.node, [mapping(told) for told in cast("list[Json]", row.get("rows", []))])
    elif "rows" in row:
        raise MisfitError("a frame has items, and is no Map")
