"""Plan: a tree of steps as data, and Position: the address of a step in it.

A plan is built once, when a configuration is loaded, and never changed. Retry and timeout are fields of `Call`, not
nodes. An eighth kind of node needs a decision record.

A position names a step: `0` is the root, `.1` its second child, `#3` the third round of a loop, `[4]` the fifth item of a Map;
so `0.2#3[4]` is the fifth item in the third round of the loop that is the root's third child.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, assert_never, final

from agentflow.core.aggregate import Aggregate as Aggregate
from agentflow.core.condition import Condition as Condition
from agentflow.core.condition import Facts as Facts
from agentflow.core.condition import Unread as Unread
from agentflow.core.contract import Contract as Contract
from agentflow.core.contract import Schema as Schema
from agentflow.core.ledger import Budget
from agentflow.core.merge import Merge
from agentflow.core.part import Part as Part
from agentflow.core.values import Json

Position: TypeAlias = str
ORDERED = Merge()
MAX_PROCESS_DEATHS = 3
MAX_TOTAL_ATTEMPTS = 1000
MAX_EVENTS = 100
STOP, CONTINUE = "stop", "continue"


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and after which waits a failed attempt is made again.

    Attempt n (from 1) that fails is followed by a wait of `initial_delay_s * factor ** (n - 1)`, at most `max_delay_s`,
    ±10 % when `jitter`. `retryable` holds class names or error codes; None stands for everything but bad input.
    """

    max_retries: int = 0
    initial_delay_s: float = 1.0
    max_delay_s: float = 30.0
    factor: float = 2.0
    jitter: bool = True
    retryable: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Flow:
    """What a node that is a whole flow knows of it: its name, mode and time limit (None: none).

    `max_process_deaths` (default 3, 1 to 100) is how often a process may die while one of its steps runs: of the flow's own
    steps, not of those of a flow in it. `on_error` says what a failed step does to a sequence or loop: "stop" ends it, "continue"
    does not; with a `rescue` that call is the flow's last step instead. `budget` bounds what the flow uses, `errors` (of the main
    flow only) says who handles its failure. `max_total_attempts` (of the main flow, default 1000) is how many attempts a run makes
    because others have failed: retries, fallbacks and corrections together. `part` is what the flow around it says of it.
    `max_events` (of the main flow, default 100) is how many events come of one, directly or by way of others.
    `state_schema` is what patches of its steps, and of those of flows in it, fit (None: any do).
    """

    name: str
    mode: str
    timeout_s: float | None = None
    max_process_deaths: int = MAX_PROCESS_DEATHS
    on_error: str = STOP
    rescue: Call | None = None
    budget: Budget | None = None
    errors: ErrorRoutes | None = None
    max_total_attempts: int = MAX_TOTAL_ATTEMPTS
    max_events: int = MAX_EVENTS
    part: Part | None = None
    state_schema: Schema | None = None


@final
@dataclass(frozen=True, slots=True)
class Call:
    """Run one agent. `timeout_s` bounds each attempt.

    `approval_timeout_s` is how long the step waits for a person's approval before its first attempt (None: needs none).
    `policy` is what else becomes of it, `part` what its flow says of it (None, for most: nothing),
    `contract` what its agent declares of the state.
    """

    agent: str
    timeout_s: float = 300.0
    retry: Retry = Retry()
    approval_timeout_s: float | None = None
    policy: Policy | None = None
    part: Part | None = None
    contract: Contract | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """What a call does beside the attempts of its agent.

    Attributes:
        fallback: the calls made in its place when its agent has failed for good, in order; each may fail in turn.
        fallback_on: class names or error codes for which they are made; None for all.
        default_output: the answer when all have failed; the run is then degraded.
        self_correct: how many attempts follow a failed one at once, told what was wrong with it.
        cache_s: how many seconds an answer serves other calls with the same input; None: not at all.
        compensate: the call that undoes the step when a later one fails for good; None for none.
        budget: what the agent may use in one run.
        reserve_tokens: how many tokens an attempt sets aside before it begins.
        is_background: nobody waits for it: a run of its own does it, and the step is done when that is accepted.
    """

    fallback: tuple[Call, ...] = ()
    fallback_on: tuple[str, ...] | None = None
    default_output: Mapping[str, Json] | None = None
    self_correct: int = 0
    cache_s: float | None = None
    compensate: Call | None = None
    budget: Budget | None = None
    reserve_tokens: int = 0
    is_background: bool = False


@dataclass(frozen=True, slots=True)
class ErrorRoutes:
    """Who handles the failure of a main flow: by its code, else its severity, else its category, else `default`."""

    default: Call | None = None
    codes: Mapping[str, Call] = field(default_factory=dict)
    severities: Mapping[str, Call] = field(default_factory=dict)
    categories: Mapping[str, Call] = field(default_factory=dict)

    @property
    def calls(self) -> tuple[Call, ...]:
        """All who may be called."""
        named = (call for table in (self.codes, self.severities, self.categories) for call in table.values())
        return (*(() if self.default is None else (self.default,)), *named)


@final
@dataclass(frozen=True, slots=True)
class Seq:
    """Run steps one after another on one state; a failure stops it and keeps the state so far."""

    steps: tuple[Node, ...]
    flow: Flow | None = None


@final
@dataclass(frozen=True, slots=True)
class Par:
    """Run branches side by side, at most `concurrency` at once, each on its own view; merge patches in declared order.

    The join waits for every branch and fails when failed / total > `failure_threshold`, and always when none succeeded; with a
    `quorum` it fails when fewer than so many succeeded. `fail_fast` cancels the rest once that is certain, and after `join_timeout_s`
    what is missing counts as failed. With an `aggregate` that makes one patch of all, in the place of `merge`.
    """

    branches: tuple[Node, ...]
    concurrency: int = 10
    failure_threshold: float = 0.5
    merge: Merge = ORDERED
    flow: Flow | None = None
    quorum: int | None = None
    fail_fast: bool = False
    join_timeout_s: float | None = None
    aggregate: Aggregate | None = None


@final
@dataclass(frozen=True, slots=True)
class Loop:
    """Run the body at least once and at most `bound` times.

    A counting loop keeps `iteration` in the state and ends when `until` holds or the body sets `loop_complete` or
    `loop_completed` to true. A hand-off loop (`is_handoff`) goes on while the body's step names a route; its body is a
    `Branch` by route. With an `entry` it begins there, whatever the event's target is; where the step names no route its `edges`
    say who is next, and each member is visited at most `max_visits` times. A loop with an `agenda` goes on as that says.
    """

    body: Node
    bound: int
    until: Condition | Unread | None = None
    is_handoff: bool = False
    flow: Flow | None = None
    entry: str | None = None
    edges: tuple[Edge, ...] = ()
    max_visits: int = 0
    agenda: Agenda | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """A way from one member of a graph to another ("": to its end), taken when `when` holds; None: in any case."""

    source: str
    target: str
    when: Condition | Unread | None = None


@dataclass(frozen=True, slots=True)
class Agenda:
    """What a loop with an agenda has to do, round after round.

    Attributes:
        kind: DELEGATION (the leader's `next` says who works, `done` ends it), MAILBOX (members send each other messages) or WAVES (the
            leader's `plan` is done in its order, and may be revised).
        leader: the outputs' name of the supervisor or planner; "" for a mailbox.
        most: how many items the loop has at most over all rounds.
        default: the member that is taken where nobody, or nobody known, is named; "" for none.
        most_replans: how often a plan is revised.
    """

    kind: str
    leader: str
    most: int
    default: str = ""
    most_replans: int = 0


DELEGATION, MAILBOX, WAVES = "delegation", "mailbox", "waves"


@final
@dataclass(frozen=True, slots=True)
class Branch:
    """Take one of several ways: the first whose condition holds, or the one that a route names.

    `conditions[i]` belongs to `cases[i]`; when there is one case more, the last is the else. `routes` maps a name to the
    index of its case; `default` is taken when a route loop starts with no target.
    """

    cases: tuple[Node, ...]
    conditions: tuple[Condition, ...] = ()
    routes: Mapping[str, int] | None = None
    default: str | None = None
    flow: Flow | None = None


@final
@dataclass(frozen=True, slots=True)
class Map:
    """Run the body once for each item of a list that is known when the Map begins, at most `concurrency` at once.

    Each item has its own view, as the branches of a Par have; results stand in the order of the items.

    Attributes:
        body: what is run; a `Branch` by routes where each item names its case.
        source: where the items come from: OVER (a list in the state, by `key`), TASKS (the list `tasks` that the member before
            returned), STEPS (the body's cases, each once), AGENDA (what the loop around it has to do), REVISION (one item where
            the loop's plan is to be looked at again, else none), NOTHING (there are none: of an event that is for its subscribers alone).
        key: the state's key, for OVER.
        most: how many items there are at most; one more is an error.
        concurrency, failure_threshold, merge: as of a Par.
        is_collecting: what the items set goes to the member after it, not into the state.
        is_bearing: items that fail are told to who comes next, and fail nothing by themselves.
        default: the case of items that name none, or an unknown one; "" for none.
    """

    body: Node
    source: str
    key: str = ""
    most: int = 1000
    concurrency: int = 10
    failure_threshold: float = 0.5
    merge: Merge = ORDERED
    is_collecting: bool = False
    is_bearing: bool = False
    default: str = ""
    flow: Flow | None = None


OVER, TASKS, STEPS, AGENDA, REVISION, NOTHING = "over", "tasks", "steps", "agenda", "revision", "nothing"

Node: TypeAlias = Call | Seq | Par | Loop | Branch | Map


def children(node: Node) -> tuple[Node, ...]:
    """Return the nodes directly below a node, in declared order."""
    match node:
        case Call():
            return ()
        case Seq():
            return node.steps
        case Par():
            return node.branches
        case Loop() | Map():
            return (node.body,)
        case Branch():
            return node.cases
        case _:
            assert_never(node)


def part_of(node: Node) -> Part | None:
    """Return what the flow around a node says of it as its member."""
    if isinstance(node, Call):
        return node.part
    return None if node.flow is None else node.flow.part


def has_name(node: Node) -> bool:
    """Say whether a node is an agent or a flow, whose name people know."""
    return isinstance(node, Call) or node.flow is not None


def key_of(node: Node) -> str:
    """Return the name of a node's outputs: its id in its flow, else its agent's or flow's name."""
    part = part_of(node)
    return part.id if part is not None and part.id else name_of(node)


def calls_beside(node: Node) -> tuple[Call, ...]:
    """Return the calls that a node makes beside its children: to fall back on, to compensate, to end a failed flow, to handle a failure."""
    if isinstance(node, Call):
        policy = node.policy
        return () if policy is None else (*policy.fallback, *(() if policy.compensate is None else (policy.compensate,)))
    flow = node.flow
    if flow is None:
        return ()
    return (*(() if flow.rescue is None else (flow.rescue,)), *(() if flow.errors is None else flow.errors.calls))


def walk_nodes(node: Node) -> Iterator[Node]:
    """Yield a node and all below it, depth first, in declared order; a flow that stands in several places only once.

    Flows that name each other many times make a tree that is exponentially larger than its parts.
    """
    stack, seen = [node], set[int]()
    while stack:
        current = stack.pop()
        if id(current) not in seen:
            seen.add(id(current))
            yield current
            stack.extend(reversed(children(current)))


def calls_of(node: Node) -> tuple[Call, ...]:
    """Return the calls that a plan can make: those of its steps in declared order, then those beside them."""
    nodes = tuple(walk_nodes(node))
    found = {id(call): call for call in nodes if isinstance(call, Call)}
    waiting = [call for one in nodes for call in calls_beside(one)]
    for call in waiting:  # grows while it is gone through: a call that is made beside another one has calls beside it, too
        if id(call) not in found:
            found[id(call)] = call
            waiting.extend(calls_beside(call))
    return tuple(found.values())


def agents_of(node: Node) -> tuple[str, ...]:
    """Return the names of the agents a plan can call, each once: those of its steps in declared order, then those beside them."""
    return tuple(dict.fromkeys(call.agent for call in calls_of(node)))


def declared_names(plan: Node) -> tuple[str, ...]:
    """Return the names of the outputs of a plan's agents and nested flows, each once, in the order in which they are declared."""
    names: dict[str, None] = {}
    stack, seen = [plan], set[int]()
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if (node is not plan and has_name(node)) or isinstance(node, Call):
            names[key_of(node)] = None
        parts = children(node)
        if isinstance(node, Seq) and all(isinstance(part, Par) and part.flow is None for part in parts):
            steps = (branch for part in parts for branch in children(part))  # of several joins
            parts = tuple(sorted(steps, key=lambda step: (part_of(step) or Part()).order))
        stack.extend(reversed(parts))
    return tuple(names)


def is_timed(node: Node, *, is_main: bool) -> bool:
    """Say whether a node has a clock beside its run's: a nested flow with a time limit, or a join with a deadline."""
    if isinstance(node, Call):
        return False
    has_limit = node.flow is not None and node.flow.timeout_s is not None and not is_main
    return has_limit or (isinstance(node, Par) and node.join_timeout_s is not None)


def has_clocks(plan: Node) -> bool:
    """Say whether a node of a plan has a clock beside its run's."""
    return any(is_timed(node, is_main=node is plan) for node in walk_nodes(plan))


def has_contracts(plan: Node) -> bool:
    """Say whether an agent of a plan declares what it sets, or a flow what its state is."""
    flows = (node.flow for node in walk_nodes(plan) if not isinstance(node, Call))
    return any(flow is not None and flow.state_schema is not None for flow in flows) or any(call.contract for call in calls_of(plan))


def name_of(node: Node) -> str:
    """Return the name a node goes by: its agent's or its flow's, else the kind of node in lower case."""
    if isinstance(node, Call):
        return node.agent
    return node.flow.name if node.flow is not None else type(node).__name__.lower()
