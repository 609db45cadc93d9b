"""Snapshot: a walk, or a whole standing, as JSON and back: a run is read from where it stood, not from its beginning.

A scope stands where its identity is given: the root's with the walk, a parallel branch's with its frame (`outer`), a nested
flow's or loop's own with its frame (`scope`); every other frame has the scope of its parent. Notes are not kept.
"""

from __future__ import annotations

from dataclasses import astuple, fields
from hashlib import blake2b
from typing import TypeAlias, cast

from agentflow.core.codec import HASH_BYTES, dumps, loads
from agentflow.core.event import Event
from agentflow.core.failure import Failure
from agentflow.core.frame import DONE, FAILED, OPEN, Frame, SpecialFrame, child_at
from agentflow.core.ledger import Figures
from agentflow.core.map_frame import MapFrame
from agentflow.core.map_snapshot import fill_map_frame, pack_map_frame
from agentflow.core.map_walk import MapWalk
from agentflow.core.merge import Conflict
from agentflow.core.outcome import Outcome
from agentflow.core.packing import (
    MisfitError,
    mapping,
    number,
    pack_failure,
    pack_patch,
    sound,
    text,
    texts,
    unpack_failure,
    unpack_patch,
    whole,
)
from agentflow.core.plan import Call, Loop, Node, Par
from agentflow.core.policy_snapshot import fill_policies, pack_policies
from agentflow.core.policy_walk import PolicyWalk
from agentflow.core.result import Usage
from agentflow.core.standing import Approval, Standing, StepStanding
from agentflow.core.state import Patch, Scope
from agentflow.core.values import Json
from agentflow.core.walk import Walk
from agentflow.core.walks import walk_of
from agentflow.errors import JournalDamagedError, JournalVersionError

SNAPSHOT_VERSION = 1
Table: TypeAlias = dict[str, Json]


def freeze(walk: Walk) -> Table:
    """Return a walk between two completions as JSON; values are shared with it, so write them out before it goes on."""
    row: Table = {"scope": _pack_scope(walk.scope)}
    if walk.is_done:
        row["is_done"] = True
    if not walk.is_plain:
        row["outcome"] = _pack_outcome(walk.outcome)
    if isinstance(walk, PolicyWalk):
        row |= pack_policies(walk)
    if walk.root is not None and not walk.is_done:  # one that ended as it started still has its root
        rows: list[Json] = []
        waiting: list[tuple[Frame, int]] = [(walk.root, -1)]
        while waiting:
            frame, parent = waiting.pop()
            here = len(rows)
            rows.append(_pack_frame(frame, parent))
            if frame.status == OPEN:
                waiting.extend((child, here) for child in reversed(frame.open_children))
        row["frames"] = rows
    return row


def thaw(plan: Node, event: Event, row: Json) -> Walk:
    """Return the walk that `freeze` has made JSON of; it keeps notes.

    Raises:
        MisfitError: it is no such JSON, or not of this plan.
    """
    try:
        table = mapping(row)
        walk = walk_of(plan, event, Scope({}), is_noting=True)
        _fill_scope(walk.scope, table["scope"])
        walk.outputs = walk.scope.outputs = walk.scope.outputs or {}
        walk.is_done = table.get("is_done") is True
        if "outcome" in table:
            _fill_outcome(walk.outcome, mapping(table["outcome"]))
        frames: list[Frame] = []
        for told in cast("list[Json]", table.get("frames", [])):
            _thaw_frame(walk, frames, mapping(told))
        if frames:
            walk.root = frames[0]
        if isinstance(walk, PolicyWalk):
            fill_policies(walk, table)
        if any(frame.status == OPEN and type(frame.node) is not Call and not frame.open_children for frame in frames):
            raise MisfitError("a frame has lost what stands below it")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise MisfitError(f"not a walk through this plan: {type(error).__name__}: {error}") from error
    return walk


# --- scopes ---


def _pack_scope(scope: Scope) -> Table:
    row = pack_patch(Patch(scope.entries, scope.meta))
    if scope.outputs is not None:
        row["outputs"] = {name: pack_patch(patch) for name, patch in scope.outputs.items()}
    return row


def _fill_scope(scope: Scope, row: Json) -> None:
    table = dict(mapping(row))
    outputs = table.pop("outputs", None)
    patch = unpack_patch(table)
    scope.entries, scope.meta = dict(patch.data), None if patch.meta is None else dict(patch.meta)
    if outputs is not None:
        scope.outputs = {name: unpack_patch(told) for name, told in mapping(outputs).items()}


# --- frames ---


def _pack_frame(frame: Frame, parent: int) -> Table:
    row: Table = {"parent": parent, "index": frame.index}
    node = frame.node
    if frame.parent is not None and type(frame.parent.node) is Par:
        row["outer"] = _pack_scope(frame.outer)
    if frame.route is not None:
        row["route"] = frame.route
    if frame.status != OPEN:  # a parallel branch that waits for the others: nothing below it is looked at again
        row["status"] = frame.status
        if frame.status == FAILED:
            row["failure"] = pack_failure(frame.failure)
        if isinstance(frame, MapFrame) and frame.is_borne:
            row["is_borne"] = True
        return row
    if isinstance(frame, SpecialFrame):
        row["failure"] = pack_failure(frame.failure)
    if frame.scope is not frame.outer:
        row["scope"] = _pack_scope(frame.scope)
    if isinstance(frame, MapFrame):
        row |= pack_map_frame(frame)
    if type(node) is not Call:
        row["round"] = frame.round
        if type(node) is Par:
            row["left"] = frame.left
        elif type(node) is Loop and node.is_handoff:
            row["trail"] = list(frame.trail)
    return row


def _thaw_frame(walk: Walk, frames: list[Frame], row: Table) -> None:
    at, index = row["parent"], whole(row["index"])
    if not frames:
        frame = _frame_of(walk)(walk.plan, None, 0, walk.scope)
    else:
        parent = frames[whole(at)]
        frame = _thaw_child(walk, parent, index, row)
        if type(parent.node) is Par:
            frame.outer = frame.scope = Scope({}, None, parent.scope)
            _fill_scope(frame.outer, row["outer"])
            parent.frames[index] = frame
        else:
            parent.child = frame
    frames.append(frame)
    frame.route = None if "route" not in row else text(row["route"])
    frame.status = whole(row.get("status", OPEN))
    if frame.status not in (OPEN, DONE, FAILED):
        raise MisfitError(f"no frame has the status {frame.status}")
    if frame.status == FAILED:
        frame.failure = unpack_failure(row["failure"])
    if "scope" in row:
        frame.scope = Scope({}, None, frame.outer)
        _fill_scope(frame.scope, row["scope"])
    if isinstance(frame, MapFrame):
        fill_map_frame(frame, row)
    if type(frame.node) is not Call:
        _thaw_inner(frame, row)


def _thaw_inner(frame: Frame, row: Table) -> None:
    frame.child = None
    if type(frame.node) is Par:
        frame.frames = [None] * len(frame.node.branches) if frame.status == OPEN else []
        frame.left = whole(row.get("left", 0))
        frame.is_filling = False
    if frame.status != OPEN:
        return
    frame.round = whole(row["round"])
    if type(frame.node) is Loop and frame.node.is_handoff:
        frame.trail = list(texts(row["trail"]))


def _frame_of(walk: Walk) -> type[Frame]:
    return MapFrame if isinstance(walk, MapWalk) else Frame


def _thaw_child(walk: Walk, parent: Frame, index: int, row: Table) -> Frame:
    node = child_at(parent.node, index)
    if "failure" not in row or "status" in row or type(node) is not Call or not isinstance(walk, PolicyWalk):
        return _frame_of(walk)(node, parent, index, parent.scope)
    failure = unpack_failure(row["failure"])
    rescue = SpecialFrame(node, parent, index, parent.scope, failure)
    rescue.given = walk.given_for(failure)
    return rescue


# --- the outcome ---


def _pack_outcome(outcome: Outcome) -> Table:
    row: Table = {"reason": outcome.reason, "is_partial": outcome.is_partial}
    if outcome.is_degraded:
        row["is_degraded"] = True
    if outcome.handling:
        row["handling"] = outcome.handling
    if outcome.failure is not None:
        row["failure"] = pack_failure(outcome.failure)
    if outcome.errors:
        row["errors"] = {name: pack_failure(failure) for name, failure in outcome.errors.items()}
    if outcome.conflicts:
        row["conflicts"] = [conflict.to_dict() for conflict in outcome.conflicts]
    return row


def _fill_outcome(outcome: Outcome, row: Table) -> None:
    outcome.reason = text(row["reason"])
    outcome.is_partial = row["is_partial"] is True
    outcome.is_degraded = row.get("is_degraded") is True
    outcome.handling = text(row.get("handling", ""))
    outcome.failure = unpack_failure(row["failure"]) if "failure" in row else None
    errors: dict[str, Failure] = {name: unpack_failure(told) for name, told in mapping(row.get("errors", {})).items()}
    outcome.errors = errors
    for told in cast("list[Json]", row.get("conflicts", [])):
        conflict = mapping(told)
        key, winner, position = (text(conflict[name]) for name in ("key", "winner", "position"))
        outcome.conflicts.append(Conflict(key, texts(conflict["agents"]), winner, position))


# --- a whole standing ---


def freeze_standing(standing: Standing) -> bytes:
    """Return a standing that has not ended as bytes, with a checksum; the walk must stand as its records say."""
    standing.drop_ended_flows()
    row: Table = {
        "version": SNAPSHOT_VERSION,
        "run_id": standing.run_id,
        "walk": freeze(standing.walk),
        "steps": {position: _pack_step(step) for position, step in standing.steps.items()},
        "hash": standing.hash.hex(),
        "usage": standing.usage.to_dict(),
        "flows": cast("Json", standing.flows),
        "waiting": list(standing.waiting),
        "flags": list(standing.flags),
        "paused": standing.paused,
    }
    for name in _WHOLES + _NUMBERS + _WORDS:
        row[name] = getattr(standing, name)
    row["is_begun"] = standing.is_begun
    if standing.spending is not None:
        row["spent"] = {scope: list(astuple(figures)) for scope, figures in standing.spending.spent.items()}
        row["warned"], row["exhausted"] = sorted(standing.spending.warned), sorted(standing.spending.exhausted)  # type: ignore[assignment]
    if standing.extra:
        row["extra"] = standing.extra
    if standing.has_emitted:
        row["has_emitted"] = True
    body = dumps(row).encode("utf-8", "replace")
    return _checksum(body) + body


def thaw_standing(run_id: str, plan: Node, event: Event, body: bytes) -> Standing:
    """Return the standing that `freeze_standing` has made bytes of, its calls ready.

    Raises:
        JournalDamagedError: it is not what was written, or not of this run and plan; its records can still be replayed.
        JournalVersionError: a later release wrote it.
    """
    told = body[HASH_BYTES:]
    if body[:HASH_BYTES] != _checksum(told):
        raise JournalDamagedError(run_id, None, "its snapshot does not have the checksum it was written with")
    try:
        row = mapping(loads(told))
        _check_origin(run_id, row)
        standing = Standing(run_id, thaw(plan, event, row["walk"]))
        _fill_standing(standing, row)
    except (KeyError, TypeError, ValueError) as error:
        raise JournalDamagedError(run_id, None, f"its snapshot cannot be read: {error}") from error
    return standing


def _check_origin(run_id: str, row: Table) -> None:
    if whole(row.get("version")) > SNAPSHOT_VERSION:
        raise JournalVersionError(run_id, None, f"snapshot version {row['version']}")
    if row.get("run_id") != run_id:
        raise MisfitError("it is of another run")


_WHOLES = ("seq", "epoch", "size")
_NUMBERS = ("created_at", "paused_at", "paused_s")
_WORDS = ("plan_hash", "cancelled")


def _fill_standing(standing: Standing, row: Table) -> None:
    for names, take in ((_WHOLES, whole), (_NUMBERS, number), (_WORDS, text)):
        for name in names:
            setattr(standing, name, take(row[name]))
    standing.hash = bytes.fromhex(text(row["hash"]))
    standing.is_begun = row["is_begun"] is True
    standing.usage = Usage(**{field.name: number(mapping(row["usage"])[field.name]) for field in fields(Usage)})  # type: ignore[arg-type]
    standing.flows = {position: number(at) for position, at in mapping(row["flows"]).items()}
    standing.waiting, standing.flags = texts(row["waiting"]), texts(row["flags"])
    standing.paused = None if row["paused"] is None else text(row["paused"])
    standing.steps = {position: _unpack_step(mapping(told)) for position, told in mapping(row["steps"]).items()}
    if standing.spending is not None:
        for scope, told in mapping(row.get("spent", {})).items():
            tokens, cost, seconds, calls = (number(figure) for figure in cast("list[Json]", told))
            standing.spending.spent[scope] = Figures(int(tokens), cost, seconds, int(calls))
        standing.spending.warned.update(texts(row.get("warned", [])))
        standing.spending.exhausted.update(texts(row.get("exhausted", [])))
    standing.extra = whole(row.get("extra", 0))
    standing.has_emitted = row.get("has_emitted") is True
    standing.ready = {frame.position: frame for frame in _calls(standing.walk)}


def _calls(walk: Walk) -> list[Frame]:
    """Return the open calls in declared order."""
    found: list[Frame] = []
    waiting = [frame for frame in (walk.root, walk.after) if frame is not None]
    while waiting:
        frame = waiting.pop()
        if frame.status == OPEN:
            if type(frame.node) is Call:
                found.append(frame)
            waiting.extend(reversed(frame.open_children))
    return found


def _pack_step(step: StepStanding) -> Table:
    row: Table = {"agent": step.agent, "attempts": step.attempts, "is_in_flight": step.is_in_flight}
    for name in ("failures", "deaths", "due_at", "begun_at", "effects", "fallbacks", "acting"):
        if value := getattr(step, name):
            row[name] = value
    if step.failure is not None:
        row["failure"] = pack_failure(step.failure)
    if step.approval is not None:
        row["approval"] = {name: getattr(step.approval, name) for name in _APPROVAL}
    return row


_APPROVAL = frozenset(field.name for field in fields(Approval))
_STEP = frozenset(field.name for field in fields(StepStanding))


def _unpack_step(row: Table) -> StepStanding:
    sound(row, _STEP)
    step = StepStanding(text(row["agent"]), whole(row["attempts"]), is_in_flight=row["is_in_flight"] is True)
    step.failures, step.deaths = whole(row.get("failures", 0)), whole(row.get("deaths", 0))
    step.fallbacks, step.acting = whole(row.get("fallbacks", 0)), text(row.get("acting", ""))
    step.due_at = number(row["due_at"]) if "due_at" in row else None
    step.begun_at = number(row["begun_at"]) if "begun_at" in row else None
    step.effects = mapping(row.get("effects", {}))
    step.failure = unpack_failure(row["failure"]) if "failure" in row else None
    if "approval" in row:
        told = mapping(row["approval"])
        sound(told, _APPROVAL)
        deadline_at = None if told["deadline_at"] is None else number(told["deadline_at"])
        answer, by, why = (text(told[name]) for name in ("answer", "by", "told"))
        step.approval = Approval(text(told["digest"]), deadline_at, answer, by, why)
    return step


def _checksum(body: bytes) -> bytes:
    return blake2b(body, digest_size=HASH_BYTES).digest()
