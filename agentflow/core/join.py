"""The join: what the branches of a parallel node come to together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agentflow.core.category import SEVERITIES
from agentflow.core.failure import Failure, failure_of
from agentflow.core.frame import DONE, Frame
from agentflow.core.merge import Conflict, merge_patches
from agentflow.core.plan import Call, Par, name_of
from agentflow.core.state import Patch
from agentflow.errors import JoinError, MergeError


def settle_branches(par: Frame, node: Par) -> tuple[Failure | None, list[Conflict]]:
    """Merge the patches of the branches that succeeded, in declared order; the outputs of the others are kept too."""
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
            if type(node_of_branch) is Call:
                branches.append((node_of_branch.agent, own[node_of_branch.agent] if own else Patch({})))
            else:
                branches.append((name_of(node_of_branch), frame.outer.net_patch()))
    try:
        patch, conflicts = merge_patches(node.merge, scope, branches)
    except MergeError as error:
        return failure_of(error).at(agent="", position=par.position, stage=par.stage), []
    scope.apply(patch)
    if conflicts:
        position = par.position
        conflicts = [replace(conflict, position=position) for conflict in conflicts]
    return None, conflicts


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
    told = "; ".join(f"{name_of(frame.node)}: {frame.failure.type}: {frame.failure.message}" for frame in failed)
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
