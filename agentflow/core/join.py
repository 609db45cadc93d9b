"""The join: what the branches of a parallel node come to together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from agentflow.core.aggregate import Aggregate, Finding, aggregated
from agentflow.core.category import SEVERITIES
from agentflow.core.contract import hold_to_state
from agentflow.core.failure import Failure, failure_of
from agentflow.core.frame import DONE, OPEN, Frame, schemas_around
from agentflow.core.merge import Conflict, merge_patches
from agentflow.core.plan import Call, Par, has_name, key_of, name_of
from agentflow.core.state import Patch
from agentflow.errors import JoinError, MergeError, PatchRefusedError


def settle_branches(par: Frame, node: Par, *, is_net: bool = False) -> tuple[Failure | None, list[Conflict]]:
    """Merge the patches of the branches that succeeded, in declared order; the outputs of the others are kept too.

    `is_net` asks what also a branch of one call has settled, where that may be less than its answer.
    """
    scope = par.scope
    outputs = scope.outputs
    if outputs is None:
        outputs = scope.outputs = {}
    branches: list[tuple[str, Patch]] = []
    for frame in par.frames:
        if frame is None:
            continue
        own = frame.outer.outputs
        if own:
            outputs.update(own)
        if frame.status == DONE:
            node_of_branch = frame.node
            if type(node_of_branch) is Call and not is_net:
                [patch] = own.values() if own else (Patch({}),)
                branches.append((node_of_branch.agent, patch))
            else:
                branches.append((name_of(node_of_branch), frame.outer.net_patch()))
    conflicts: list[Conflict] = []
    try:
        if node.aggregate is None:
            patch, conflicts = merge_patches(node.merge, scope, branches)
        else:
            patch = _aggregate(par, node.aggregate, [patch for _, patch in branches])
        if node.merge.keys or node.aggregate is not None:  # else each value is one that a step has set
            hold_to_state(schemas_around(par), patch, "what the branches came to together")
    except (MergeError, PatchRefusedError) as error:
        return failure_of(error).at(agent="", position=par.position, stage=par.stage), []
    scope.apply(patch)
    if conflicts:
        position = par.position
        conflicts = [replace(conflict, position=position) for conflict in conflicts]
    return None, conflicts


def _aggregate(par: Frame, aggregate: Aggregate, patches: Sequence[Patch]) -> Patch:
    """Make one patch of those of the branches that succeeded; none where some are still open, since the join is cut."""
    frames = [frame for frame in par.frames if frame is not None and frame.status != OPEN]
    if len(frames) < len(par.frames):
        return Patch({})
    nodes = [frame.node for frame in frames if frame.status == DONE]
    findings = [Finding(key_of(node), name_of(node), patch) for node, patch in zip(nodes, patches, strict=True)]
    return aggregated(aggregate, par.scope, findings)


def salvage(frame: Frame, merge: Callable[[Frame, Par], Failure | None]) -> None:
    """Settle, below a frame that is cut, what its finished parts came to; `merge` joins the branches of a Par."""
    if type(frame.node) is Par:
        for branch in frame.frames:
            if branch is not None and branch.status == OPEN:
                settle(branch, merge)
        merge(frame, frame.node)
    else:
        settle(frame.child, merge)  # type: ignore[arg-type] # an open frame has a child


def settle(frame: Frame, merge: Callable[[Frame, Par], Failure | None]) -> None:
    """Settle a frame that is not gone on with: what its finished parts came to, handed to what is around it."""
    if type(frame.node) is not Call:
        salvage(frame, merge)
        if frame.scope is not frame.outer:
            frame.fold()


def is_lost(node: Par, failed: int) -> bool:
    """Say whether a join fails when so many of its branches have failed, whatever the others come to."""
    total = len(node.branches)
    if node.quorum is not None:
        return total - failed < node.quorum
    return failed == total or failed / total > node.failure_threshold


def join_error(node: Par, failed: Sequence[Frame]) -> Failure | None:
    """Say what is wrong when more branches failed than the node's threshold or quorum allows, or all; None when it is to be borne.

    Where all failed branches are of one category the join is, too; it is as grave as the gravest of them.
    """
    total = len(node.branches)
    if not is_lost(node, len(failed)):
        return None
    told = "; ".join(f"{_known_as(frame)}: {frame.failure.type}: {frame.failure.message}" for frame in failed)
    if node.quorum is None:
        what, hint = f"{len(failed)} of {total} branches failed", "failure_threshold sets how many may"
    else:
        what, hint = f"{total - len(failed)} of {total} branches succeeded, {node.quorum} must", "quorum sets how many must"
    categories = {frame.failure.category for frame in failed}
    return replace(
        failure_of(JoinError(f"{what} ({told})", hint=hint)),
        told_category=categories.pop() if len(categories) == 1 else "",
        told_severity=max((frame.failure.severity for frame in failed), key=SEVERITIES.index),
    )


def _known_as(frame: Frame) -> str:
    """Return the name of a branch: its id, or its agent's or flow's name; of one without a name, that of the agent that failed in it."""
    return key_of(frame.node) if has_name(frame.node) else frame.failure.agent or name_of(frame.node)
