"""Plans that nobody needs any more: those that no run walks, and no record of a run names."""

from __future__ import annotations

from collections.abc import Collection, Iterable

NAMING = ("WorkflowCreated", "PlanMoved")  # the records that say which plan a run walks from there on


def unnamed(plan_hashes: Collection[str], bodies: Iterable[bytes]) -> set[str]:
    """Return which of these plans none of the records' bodies names."""
    left = {plan_hash: plan_hash.encode() for plan_hash in plan_hashes}
    for body in bodies:
        if not left:
            break
        left = {plan_hash: told for plan_hash, told in left.items() if told not in body}
    return set(left)
