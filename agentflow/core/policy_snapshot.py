"""What a PolicyWalk knows beyond its frames, as JSON and back: what can be undone, joins to be closed, the phase after the main one."""

from __future__ import annotations

from typing import cast

from agentflow.core.frame import child_at
from agentflow.core.outcome import HANDLER
from agentflow.core.packing import MisfitError, mapping, pack_patch, text, texts, unpack_patch
from agentflow.core.places import frame_at
from agentflow.core.plan import Call, Loop, Map, Node, Position
from agentflow.core.policy_walk import Done, PolicyWalk, handler_for
from agentflow.core.spending import marks_of
from agentflow.core.values import Json


def pack_policies(walk: PolicyWalk) -> dict[str, Json]:
    """Return it as entries of a walk's row; what is empty is left out."""
    row: dict[str, Json] = {}
    if walk.undo:
        row["undo"] = [_pack_done(done) for done in walk.undo]
    if walk.degraded:
        row["degraded"] = cast("Json", sorted(walk.degraded))
    if walk.closing:
        row["closing"] = [par.position for par in walk.closing]
    if walk.after is not None:
        row["after"] = walk.after.mark[:1]
    return row


def fill_policies(walk: PolicyWalk, row: dict[str, Json]) -> None:
    """Take it up again; the walk's outcome and frames are there already.

    Raises:
        MisfitError: it does not fit the plan.
    """
    walk.undo = [_unpack_done(walk.plan, mapping(told)) for told in cast("list[Json]", row.get("undo", []))]
    walk.degraded.update(texts(row.get("degraded", [])))
    for position in texts(row.get("closing", [])):
        par = frame_at(walk, position)
        if par is None:
            raise MisfitError(f"no join is open at {position[:200]}")
        walk.closing.append(par)
    if "after" not in row:
        return
    failure = walk.outcome.failure
    handler = None if failure is None else handler_for(walk.plan, failure)
    if failure is not None and handler is not None and row["after"] == HANDLER:
        walk.handle(handler, failure)
    elif failure is not None and walk.undo and row["after"] != HANDLER:
        walk.compensate(walk.undo[-1], failure)
    else:
        raise MisfitError("it has lost what follows its failure")


def _pack_done(done: Done) -> Json:
    row: dict[str, Json] = {"position": done.position, "patch": cast("Json", pack_patch(done.patch))}
    return row | {"is_rescue": True} if done.is_rescue else row


def _unpack_done(plan: Node, row: dict[str, Json]) -> Done:
    position, is_rescue = text(row["position"]), row.get("is_rescue") is True
    call = _call_at(plan, position, is_rescue=is_rescue)
    if call.policy is None or call.policy.compensate is None:
        raise MisfitError(f"nothing undoes the step at {position[:200]}")
    return Done(position, call, unpack_patch(row["patch"]), is_rescue)


def _call_at(plan: Node, position: Position, *, is_rescue: bool) -> Call:
    node: Node = plan
    marks = list(marks_of(position))
    for at, (mark, index) in enumerate(marks):
        if type(node) is Loop and mark == "#":
            if not node.is_handoff:  # its rounds have no index: the call that ends it stands where the next round would
                node = child_at(node, int(is_rescue and at == len(marks) - 1))
        else:
            node = node.body if type(node) is Map else child_at(node, index)
    if type(node) is not Call:
        raise MisfitError(f"no step is at {position[:200]}")
    return node
