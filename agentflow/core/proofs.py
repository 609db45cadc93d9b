"""Proofs: what a plan is sure of before it runs: how its loops and joins end, who writes what, and what becomes of each failure.

A flow that stands in several places is looked at in the first. Rounds and items have no numbers here: `0.1#[].2` stands for
the third case of every item in every round of the loop at `0.1`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import cast

from agentflow.core.bounds import most_items, own_attempts
from agentflow.core.ledger import Budget
from agentflow.core.plan import (
    CONTINUE,
    DELEGATION,
    MAILBOX,
    STEPS,
    STOP,
    Branch,
    Call,
    Flow,
    Loop,
    Map,
    Node,
    Par,
    Position,
    calls_of,
    children,
    part_of,
)
from agentflow.core.values import Json

JOIN = "join"


@dataclass(frozen=True, slots=True)
class Site:
    """A node, where it stands, the flow it belongs to, and what a failure below it comes to: `ending`, as `by` says."""

    position: Position
    node: Node
    flow: str
    ending: str
    by: str


@dataclass(frozen=True, slots=True)
class LoopProof:
    """How a loop ends.

    Attributes:
        kind: counting, route, graph, decision_tree, delegation, mailbox or waves.
        stop: the condition that ends it before its cap.
        most: its cap, in `unit`: rounds, hand-offs, visits, messages or waves.
    """

    position: Position
    flow: str
    kind: str
    stop: str
    most: int
    unit: str


@dataclass(frozen=True, slots=True)
class JoinProof:
    """When a join of branches or items fails, and how it makes one state of many.

    Attributes:
        members: how many branches it has, or items at most.
        quorum: how many must succeed; None: the failure_threshold decides, a share from 0 to 1.
        bears_failures: failed items are told to who comes next, and fail nothing.
        merge: the policy of keys without their own; "" where nothing is merged.
        aggregate: how one answer is made of all; None where patches are merged.
    """

    position: Position
    flow: str
    members: int
    failure_threshold: float
    quorum: int | None
    fail_fast: bool
    join_timeout_seconds: float | None
    bears_failures: bool
    merge: str
    aggregate: str | None


@dataclass(frozen=True, slots=True)
class WriteConflict:
    """A key that agents of one join may both write, while it has no merge policy of its own; one agent for several items counts."""

    position: Position
    flow: str
    key: str
    agents: tuple[str, ...]
    merge: str


@dataclass(frozen=True, slots=True)
class UnknownWrites:
    """Agents that work beside others and do not declare what they write: nothing can be said of their keys."""

    position: Position
    flow: str
    agents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ErrorProof:
    """What becomes of a step's failure.

    Attributes:
        attempts: how many attempts its agent has.
        fallback: who is called in its place after that.
        has_default: an answer is given in its place when all have failed.
        on_error: what then becomes of the flow: stop, continue, route:NAME, or join: the join counts it as failed.
        by: who says so: step, flow NAME, join POSITION, or default.
    """

    position: Position
    agent: str
    attempts: int
    fallback: tuple[str, ...]
    has_default: bool
    on_error: str
    by: str


@dataclass(frozen=True, slots=True)
class BudgetProof:
    """What a flow (`run` for the main one) or an agent may use in one run; None where there is no limit.

    No attempt begins beyond it; those under way then may use more than is left, by what they did not reserve.
    """

    scope: str
    tokens: int | None
    cost_usd: float | None
    seconds: float | None
    calls: int | None


def sites_in(plan: Node) -> Iterator[Site]:
    """Yield each node once with its first site, depth first, in declared order."""
    stack = [Site("0", plan, "", STOP, "default")]
    seen = set[int]()
    while stack:
        site = _inside(stack.pop())
        if id(site.node) not in seen:
            seen.add(id(site.node))
            yield site
            node = site.node
            below = [Site(at, child, site.flow, site.ending, site.by) for at, child in _below(site)]
            if isinstance(node, Par | Map):
                below = [Site(one.position, one.node, one.flow, JOIN, f"join {site.position}") for one in below]
            stack.extend(reversed(below))


def loops_of(plan: Node) -> list[LoopProof]:
    """Return how each loop ends."""
    found = ((site, site.node) for site in sites_in(plan))
    return [LoopProof(site.position, site.flow, *_ending_of(node)) for site, node in found if isinstance(node, Loop)]


def joins_of(plan: Node) -> list[JoinProof]:
    """Return how each join of branches or items comes out."""
    return [_join_of(site, site.node) for site in sites_in(plan) if isinstance(site.node, Par | Map)]


def conflicts_of(plan: Node) -> tuple[list[WriteConflict], list[UnknownWrites]]:
    """Return which keys agents may write side by side without a merge policy, and of whom that is unknown."""
    conflicts: list[WriteConflict] = []
    unknown: list[UnknownWrites] = []
    for site in sites_in(plan):
        node = site.node
        teams = [] if not isinstance(node, Par | Map) or _is_unmerged(node) else _teams(node)
        if not isinstance(node, Par | Map) or len(teams) < 2:
            continue
        writers: dict[str, list[tuple[int, str]]] = {}
        silent: list[str] = []
        for number, team in enumerate(teams):
            for call in team:
                keys, is_all = written_by(call)
                silent += [] if is_all else [call.agent]
                for key in keys:
                    writers.setdefault(key, []).append((number, call.agent))
        for key, found in writers.items():
            if key not in node.merge.keys and len({number for number, _ in found}) > 1:
                agents = tuple(dict.fromkeys(agent for _, agent in found))
                conflicts.append(WriteConflict(site.position, site.flow, key, agents, node.merge.default))
        if silent:
            unknown.append(UnknownWrites(site.position, site.flow, tuple(dict.fromkeys(silent))))
    return conflicts, unknown


def written_by(call: Call) -> tuple[tuple[str, ...], bool]:
    """Return the keys that a call's agent declares to write, in its `writes` or its schema, and whether these are all."""
    if call.policy is not None and call.policy.is_background:
        return (), True  # what it sets is not merged
    contract = call.contract
    if contract is None:
        return (), False
    if contract.writes is not None:
        return contract.writes, True
    properties = None if contract.output is None else contract.output.source.get("properties")
    keys = tuple(properties) if isinstance(properties, dict) else ()
    return keys, contract.output is not None and contract.output.keys is not None


def errors_of(plan: Node) -> list[ErrorProof]:
    """Return what becomes of the failure of each step."""
    return [_error_of(site, site.node) for site in sites_in(plan) if isinstance(site.node, Call)]


def budgets_of(plan: Node) -> list[BudgetProof]:
    """Return the budgets of the run, of its flows and of the agents, each once."""
    found: dict[str, Budget | None] = {}
    for site in sites_in(plan):
        if not isinstance(site.node, Call) and site.node.flow is not None:
            found.setdefault("run" if site.position == "0" else f"flow {site.flow}", site.node.flow.budget)
    for call in calls_of(plan):
        if call.policy is not None:
            found.setdefault(f"agent {call.agent}", call.policy.budget)
    return [
        BudgetProof(scope, budget.tokens, budget.cost_usd, budget.seconds, budget.calls)
        for scope, budget in found.items()
        if budget is not None
    ]


def rows(proofs: Iterable[LoopProof | JoinProof | WriteConflict | UnknownWrites | ErrorProof | BudgetProof]) -> list[Json]:
    """Return proofs as JSON."""
    told: list[Json] = []
    for proof in proofs:
        row = cast("dict[str, Json]", asdict(proof))
        told.append({name: list(value) if isinstance(value, tuple) else value for name, value in row.items()})
    return told


# --- places ---


def _inside(site: Site) -> Site:
    """Return a site with what its node says of the failures below it, where it is a flow."""
    node = site.node
    flow = None if isinstance(node, Call) else node.flow
    if flow is None:
        return site
    ending, by = _on_error(flow)
    return Site(site.position, node, flow.name, ending, by)


def _on_error(flow: Flow) -> tuple[str, str]:
    if flow.rescue is not None:
        return f"route:{flow.rescue.agent}", f"flow {flow.name}"
    return (CONTINUE, f"flow {flow.name}") if flow.on_error == CONTINUE else (STOP, "default")


def _below(site: Site) -> list[tuple[Position, Node]]:
    """Return what stands below a node: the branch by route of a hand-off loop or of a Map has no step of its own."""
    node, at = site.node, site.position
    if isinstance(node, Loop | Map):
        at += "#" if isinstance(node, Loop) else "[]"
        if not isinstance(node.body, Branch) or node.body.routes is None:
            return [(at, node.body)]
        node = node.body
    return [(f"{at}.{index}", child) for index, child in enumerate(children(node))]


# --- what is said of one node ---


def _ending_of(node: Loop) -> tuple[str, str, int, str]:
    """Return a loop's kind, what ends it, its cap, and what that counts."""
    agenda = node.agenda
    if agenda is not None and agenda.kind == DELEGATION:
        return agenda.kind, f"{agenda.leader} sets `done`", node.bound, "rounds"
    if agenda is not None and agenda.kind == MAILBOX:
        return agenda.kind, "no message is left, or `consensus` is set", agenda.most, "messages"
    if agenda is not None:
        return agenda.kind, "the plan is done", node.bound, "waves"
    if node.entry:
        return "graph", "a way leads to the end", node.bound, "visits"
    if node.is_handoff:
        kind = "route" if node.entry is None else "decision_tree"
        return kind, "a step hands on to nobody", node.bound - 1, "hand-offs"
    own = "an agent sets `loop_complete`"
    return "counting", own if node.until is None else f"{node.until.source}, or {own}", node.bound, "rounds"


def _join_of(site: Site, node: Par | Map) -> JoinProof:
    aggregate = node.aggregate if isinstance(node, Par) else None
    return JoinProof(
        position=site.position,
        flow=site.flow,
        members=len(node.branches) if isinstance(node, Par) else most_items(node),
        failure_threshold=node.failure_threshold,
        quorum=node.quorum if isinstance(node, Par) else None,
        fail_fast=isinstance(node, Par) and node.fail_fast,
        join_timeout_seconds=node.join_timeout_s if isinstance(node, Par) else None,
        bears_failures=isinstance(node, Map) and node.is_bearing,
        merge="" if _is_unmerged(node) else node.merge.default,
        aggregate=None if aggregate is None else aggregate.source,
    )


def _is_unmerged(node: Par | Map) -> bool:
    """Say whether what the branches set goes to who comes next, or becomes one answer, in the place of being merged."""
    return node.is_collecting if isinstance(node, Map) else node.aggregate is not None


def _teams(node: Par | Map) -> list[tuple[Call, ...]]:
    """Return the calls that are made side by side, as one team a branch; of items that take the same way there may be several."""
    if isinstance(node, Par):
        return [calls_of(branch) for branch in node.branches]
    is_routed = isinstance(node.body, Branch) and node.body.routes is not None
    teams = [calls_of(case) for case in (children(node.body) if is_routed else (node.body,))]
    if most_items(node) < 2:
        return []
    return teams if node.source == STEPS else [*teams, *teams]


def _error_of(site: Site, call: Call) -> ErrorProof:
    part, policy = part_of(call), call.policy
    own = part.on_error if part is not None else ""
    return ErrorProof(
        position=site.position,
        agent=call.agent,
        attempts=own_attempts(call),
        fallback=() if policy is None else tuple(other.agent for other in policy.fallback),
        has_default=policy is not None and policy.default_output is not None,
        on_error=own or site.ending,
        by="step" if own else site.by,
    )
