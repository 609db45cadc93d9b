"""Plan: a tree of steps as data, and Position: the address of a step in it.

A plan is built once, when a configuration is loaded, and never changed. Retry and timeout are fields of `Call`, not
nodes. An eighth kind of node needs a decision record.

A position names a step: `0` is the root, `.1` its second child, `#3` the third round of a loop; so `0.2#3` is the third
round of the loop that is the root's third child.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Protocol, TypeAlias, assert_never, final

from agentflow.core.ledger import Budget
from agentflow.core.merge import Merge
from agentflow.core.values import Json
from agentflow.errors import RuleError

Position: TypeAlias = str
ORDERED = Merge()
MAX_PROCESS_DEATHS = 3
MAX_TOTAL_ATTEMPTS = 1000
STOP, CONTINUE = "stop", "continue"


class Facts(Protocol):
    """What a condition may ask about: the event, the state, metadata and outputs of the run so far."""

    def fact(self, root: str, path: tuple[str, ...]) -> object:
        """Return the value at a path below `state`, `meta`, `event` or `outputs`, or MISSING."""


class Condition(Protocol):
    """A compiled, total and side-effect free question about a run."""

    @property
    def source(self) -> str:
        """The expression as its author wrote it."""

    def holds(self, facts: Facts) -> bool:
        """Answer the question.

        Raises:
            RuleError: a name it needs is unknown, or the answer is no boolean.
        """


@dataclass(frozen=True, slots=True)
class Unread:
    """A condition as its author wrote it, in a plan that is not linked yet."""

    source: str

    def holds(self, facts: Facts) -> bool:
        """Refuse to answer.

        Raises:
            RuleError: always; linking puts a compiled condition in its place.
        """
        raise RuleError(f"`{self.source}` was never compiled", hint="link the plan first")


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
    because others have failed: retries, fallbacks and corrections together.
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


@final
@dataclass(frozen=True, slots=True)
class Call:
    """Run one agent. `timeout_s` bounds each attempt.

    `approval_timeout_s` is how long the step waits for a person's approval before its first attempt (None: needs none).
    `policy` is what else becomes of it (None, for most: nothing).
    """

    agent: str
    timeout_s: float = 300.0
    retry: Retry = Retry()
    approval_timeout_s: float | None = None
    policy: Policy | None = None


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
    """

    fallback: tuple[Call, ...] = ()
    fallback_on: tuple[str, ...] | None = None
    default_output: Mapping[str, Json] | None = None
    self_correct: int = 0
    cache_s: float | None = None
    compensate: Call | None = None
    budget: Budget | None = None
    reserve_tokens: int = 0


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
    what is missing counts as failed.
    """

    branches: tuple[Node, ...]
    concurrency: int = 10
    failure_threshold: float = 0.5
    merge: Merge = ORDERED
    flow: Flow | None = None
    quorum: int | None = None
    fail_fast: bool = False
    join_timeout_s: float | None = None


@final
@dataclass(frozen=True, slots=True)
class Loop:
    """Run the body at least once and at most `bound` times.

    A counting loop keeps `iteration` in the state and ends when `until` holds or the body sets `loop_complete` or
    `loop_completed` to true. A hand-off loop (`is_handoff`) goes on while the body's step names a route; its body is a
    `Branch` by route.
    """

    body: Node
    bound: int
    until: Condition | Unread | None = None
    is_handoff: bool = False
    flow: Flow | None = None


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


Node: TypeAlias = Call | Seq | Par | Loop | Branch


def children(node: Node) -> tuple[Node, ...]:
    """Return the nodes directly below a node, in declared order."""
    match node:
        case Call():
            return ()
        case Seq():
            return node.steps
        case Par():
            return node.branches
        case Loop():
            return (node.body,)
        case Branch():
            return node.cases
        case _:
            assert_never(node)


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


def is_timed(node: Node, *, is_main: bool) -> bool:
    """Say whether a node has a clock beside its run's: a nested flow with a time limit, or a join with a deadline."""
    if isinstance(node, Call):
        return False
    has_limit = node.flow is not None and node.flow.timeout_s is not None and not is_main
    return has_limit or (isinstance(node, Par) and node.join_timeout_s is not None)


def has_clocks(plan: Node) -> bool:
    """Say whether a node of a plan has a clock beside its run's."""
    return any(is_timed(node, is_main=node is plan) for node in walk_nodes(plan))


def name_of(node: Node) -> str:
    """Return the name a node goes by: its agent's or its flow's, else the kind of node in lower case."""
    if isinstance(node, Call):
        return node.agent
    return node.flow.name if node.flow is not None else type(node).__name__.lower()


def to_dict(node: Node) -> dict[str, Json]:
    """Return the tree as JSON, for `agentflow plan --json`."""
    row: dict[str, Json] = {"kind": type(node).__name__.lower()}
    match node:
        case Call():
            row |= {"agent": node.agent, "timeout_seconds": node.timeout_s, "max_retries": node.retry.max_retries}
            row |= {"approval_timeout_seconds": node.approval_timeout_s}
            return row if node.policy is None else row | _policy_row(node.policy)
        case Par():
            row |= {"max_concurrency": node.concurrency, "failure_threshold": node.failure_threshold, "merge": node.merge.default}
            row |= {"merge_keys": dict(node.merge.keys)} if node.merge.keys else {}
            row |= _given(quorum=node.quorum, fail_fast=node.fail_fast, join_timeout_seconds=node.join_timeout_s)
        case Loop():
            row |= {"bound": node.bound, "until": node.until.source if node.until else None, "hands_on": node.is_handoff}
        case Branch():
            row |= {"when": [condition.source for condition in node.conditions]}
            row |= {"routes": dict(node.routes), "default": node.default} if node.routes is not None else {}
        case Seq():
            pass
        case _:
            assert_never(node)
    if node.flow is not None:
        row |= _flow_row(node.flow)
    row["steps"] = [to_dict(child) for child in children(node)]
    return row


def _policy_row(policy: Policy) -> dict[str, Json]:
    return _given(
        fallback=[to_dict(call) for call in policy.fallback],
        fallback_on=None if policy.fallback_on is None else list(policy.fallback_on),
        default_output=None if policy.default_output is None else dict(policy.default_output),
        self_correct=policy.self_correct,
        cache_seconds=policy.cache_s,
        compensate=None if policy.compensate is None else to_dict(policy.compensate),
        budget=_budget_row(policy.budget),
        reserve_tokens=policy.reserve_tokens,
    )


def _flow_row(flow: Flow) -> dict[str, Json]:
    row: dict[str, Json] = {"flow": flow.name, "mode": flow.mode, "flow_timeout_seconds": flow.timeout_s}
    row["max_process_deaths"] = flow.max_process_deaths
    row["on_error"] = flow.on_error if flow.rescue is None else f"route:{flow.rescue.agent}"
    row |= _given(rescue=None if flow.rescue is None else to_dict(flow.rescue), budget=_budget_row(flow.budget))
    if flow.errors is not None:
        routes = flow.errors
        row["error_handler"] = None if routes.default is None else to_dict(routes.default)
        for name, table in (("code", routes.codes), ("severity", routes.severities), ("category", routes.categories)):
            row[f"{name}_handlers"] = {key: to_dict(call) for key, call in table.items()}
    return row


def _budget_row(budget: Budget | None) -> Json:
    return None if budget is None else _given(**{one.name: getattr(budget, one.name) for one in fields(budget)})


def _given(**row: Json) -> dict[str, Json]:
    """Leave out what is not asked for."""
    return {name: value for name, value in row.items() if value is not None and value is not False and value not in (0, [])}
