"""Plan codec: a plan as canonical JSON and back, so that a run goes on under the plan it was accepted with.

Nodes stand in one table, each after those below it, equal ones once: flows that name each other many times make a tree that
is exponentially larger than its parts. So equal plans have equal bytes, and one hash, however their nodes are shared.
Conditions are kept as their source and merge functions as `module:function`; who decodes gives what makes them again.
A field that came after version 1 is left out where it has its default: so old plans can be read, and keep their hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from json import JSONEncoder
from types import MappingProxyType
from typing import TypeAlias, assert_never

from agentflow.core.codec import loads
from agentflow.core.contract import Schema
from agentflow.core.contract_codec import (
    MakeSchema,
    pack_aggregate,
    pack_contract,
    pack_state_schema,
    unpack_aggregate,
    unpack_contract,
    unpack_state_schema,
)
from agentflow.core.merge import NAMED_POLICIES, Combine, Merge
from agentflow.core.packing import MisfitError, mapping, number, text, texts, whole
from agentflow.core.pattern_codec import check_shapes, pack_loop, pack_map, pack_part, unpack_loop, unpack_map, unpack_part
from agentflow.core.plan import MAX_PROCESS_DEATHS, Branch, Call, Condition, Flow, Loop, Map, Node, Par, Retry, Seq, calls_beside, children
from agentflow.core.policy_codec import (
    pack_flow_policies,
    pack_join,
    pack_policy,
    positive,
    unpack_flow_policies,
    unpack_join,
    unpack_policy,
)
from agentflow.core.values import Json
from agentflow.errors import InvalidValueError, JournalDamagedError, JournalVersionError

PLAN_VERSION = 1
HASH_BYTES = 16

Table: TypeAlias = dict[str, Json]
MakeRule: TypeAlias = Callable[[str], Condition]
FindFunction: TypeAlias = Callable[[str], Combine]

_dumps = JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False).encode


def encode_plan(plan: Node) -> bytes:
    """Return a plan as canonical JSON: equal plans have equal bytes.

    Raises:
        InvalidValueError: it has a number that is not finite.
    """
    rows: list[Json] = []
    known: dict[str, int] = {}
    places: dict[int, int] = {}
    stack = [plan]
    while stack:
        node = stack[-1]
        missing = [part for part in (*children(node), *calls_beside(node)) if id(part) not in places]
        if missing:
            stack.extend(reversed(missing))
            continue
        stack.pop()
        if id(node) not in places:
            row = _pack(node, places)
            try:
                told = _dumps(row)
            except ValueError as error:
                raise InvalidValueError(f"a plan with {row} cannot be recorded", hint="use finite numbers") from error
            if told not in known:
                known[told] = len(rows)
                rows.append(row)
            places[id(node)] = known[told]
    return _dumps({"version": PLAN_VERSION, "nodes": rows}).encode("utf-8", "replace")


def hash_of(encoded: bytes) -> str:
    """Return the hash of an encoded plan, as hex digits."""
    return blake2b(encoded, digest_size=HASH_BYTES).hexdigest()


def decode_plan(plan_hash: str, encoded: bytes, rule: MakeRule, function: FindFunction, schema: MakeSchema = Schema) -> Node:
    """Return the plan that `encode_plan` has encoded.

    Args:
        plan_hash: what `hash_of` gave for it.
        encoded: the plan's JSON.
        rule: compiles a condition.
        function: finds what a merge policy or an aggregate `module:function` names; the only way by which code comes in.
        schema: compiles a JSON Schema; without it the plan can be shown, and no step with a schema can be run.

    Raises:
        JournalDamagedError: it is no plan, or another one.
        JournalVersionError: a later release wrote it.
        RuleError: a condition cannot be compiled; errors of `function` and `schema` pass too.
    """
    if hash_of(encoded) != plan_hash:
        raise JournalDamagedError("", None, f"it is not {plan_hash}, for which it was kept")
    try:
        table = mapping(loads(encoded))
        version, rows = whole(table["version"]), table["nodes"]
    except (MisfitError, KeyError) as error:
        raise JournalDamagedError("", None, f"it cannot be read: {error}") from error
    if version > PLAN_VERSION:
        raise JournalVersionError("", None, f"plan version {version}")
    nodes: list[Node] = []
    try:
        if not isinstance(rows, list) or not rows:
            raise MisfitError("it has no nodes")  # noqa: TRY301 - told as everything else that is wrong with it
        for row in rows:
            nodes.append(_unpack(mapping(row), nodes, rule, function, schema))
    except (MisfitError, KeyError, IndexError) as error:
        raise JournalDamagedError("", None, f"it cannot be read: {type(error).__name__}: {error}") from error
    return nodes[-1]


# --- writing ---


def _pack(node: Node, places: Mapping[int, int]) -> Table:
    """Return a node's row; `places` says where those below and beside it stand, by identity."""
    row: Table = {"kind": type(node).__name__}
    if parts := children(node):
        row["parts"] = [places[id(part)] for part in parts]
    match node:
        case Call():
            row |= {"agent": node.agent, "timeout_s": float(node.timeout_s), "retry": _pack_retry(node.retry)}
            row |= {} if node.approval_timeout_s is None else {"approval_timeout_s": float(node.approval_timeout_s)}
            row |= pack_part(node.part) | pack_contract(node.contract)
            return row if node.policy is None else row | {"policy": pack_policy(node.policy, places)}
        case Seq():
            pass
        case Par() | Map():
            row["concurrency"] = node.concurrency
            row["failure_threshold"] = float(node.failure_threshold)
            row["merge"] = {"default": node.merge.default, "keys": dict(node.merge.keys)}
            row |= pack_join(node) | pack_aggregate(node.aggregate) if isinstance(node, Par) else pack_map(node)
        case Loop():
            row |= {"bound": node.bound, "until": node.until.source if node.until is not None else None, "is_handoff": node.is_handoff}
            row |= pack_loop(node)
        case Branch():
            row["conditions"] = [condition.source for condition in node.conditions]
            row["routes"] = dict(node.routes) if node.routes is not None else None
            row["default"] = node.default
        case _:
            assert_never(node)
    if node.flow is not None:
        row["flow"] = _pack_flow(node.flow) | pack_flow_policies(node.flow, places)
    return row


def _pack_flow(flow: Flow) -> Table:
    row: Table = {"name": flow.name, "mode": flow.mode, "timeout_s": None if flow.timeout_s is None else float(flow.timeout_s)}
    row |= pack_part(flow.part) | pack_state_schema(flow.state_schema)
    return row if flow.max_process_deaths == MAX_PROCESS_DEATHS else row | {"max_process_deaths": flow.max_process_deaths}


def _pack_retry(retry: Retry) -> Table:
    return {
        "max_retries": retry.max_retries,
        "initial_delay_s": float(retry.initial_delay_s),
        "max_delay_s": float(retry.max_delay_s),
        "factor": float(retry.factor),
        "jitter": retry.jitter,
        "retryable": None if retry.retryable is None else list(retry.retryable),
    }


# --- reading ---


def _unpack(row: Table, nodes: list[Node], rule: MakeRule, function: FindFunction, schema: MakeSchema) -> Node:
    kind = text(row["kind"])
    if kind == "Call":
        approval_s = None if "approval_timeout_s" not in row else number(row["approval_timeout_s"])
        policy = None if "policy" not in row else unpack_policy(mapping(row["policy"]), nodes)
        retry = _unpack_retry(mapping(row["retry"]))
        return Call(text(row["agent"]), number(row["timeout_s"]), retry, approval_s, policy, unpack_part(row), unpack_contract(row, schema))
    parts = tuple(nodes[whole(at)] for at in _listed(row["parts"]))
    if not parts:
        raise MisfitError(f"a {kind} of nothing")
    flow = None if "flow" not in row else _unpack_flow(mapping(row["flow"]), nodes, schema)
    if kind == "Seq":
        return Seq(parts, flow)
    if kind == "Par":
        merge = _unpack_merge(mapping(row["merge"]), function)
        par = Par(parts, positive(row["concurrency"]), number(row["failure_threshold"]), merge, flow, **unpack_join(row, len(parts)))
        return replace(par, aggregate=unpack_aggregate(row, function))
    if kind == "Loop":
        until = None if row["until"] is None else rule(text(row["until"]))
        return _checked(Loop(parts[0], positive(row["bound"]), until, row["is_handoff"] is True, flow, **unpack_loop(row, rule)))
    if kind == "Map":
        merge = _unpack_merge(mapping(row["merge"]), function)
        share = number(row["failure_threshold"])
        return unpack_map(Map(parts[0], "", concurrency=positive(row["concurrency"]), failure_threshold=share, merge=merge, flow=flow), row)
    if kind == "Branch":
        return _unpack_branch(row, parts, flow, rule)
    raise MisfitError(f"no node is a {kind[:40]}")


def _unpack_branch(row: Table, parts: tuple[Node, ...], flow: Flow | None, rule: MakeRule) -> Branch:
    conditions = tuple(rule(source) for source in texts(row["conditions"]))
    if not 0 <= len(parts) - len(conditions) <= (1 if row["routes"] is None else len(parts)):
        raise MisfitError("a Branch has more conditions than cases")
    routes: Mapping[str, int] | None = None
    if row["routes"] is not None:
        routes = {name: whole(at) for name, at in mapping(row["routes"]).items()}
        if any(at >= len(parts) for at in routes.values()):
            raise MisfitError("a route leads nowhere")
    return Branch(parts, conditions, routes, None if row["default"] is None else text(row["default"]), flow)


def _checked(loop: Loop) -> Loop:
    if loop.is_handoff and not (isinstance(loop.body, Branch) and loop.body.routes is not None):
        raise MisfitError("a hand-off loop without routes")
    check_shapes(loop)
    return loop


def _unpack_flow(row: Table, nodes: Sequence[Node], schema: MakeSchema) -> Flow:
    limit_s = row["timeout_s"]
    deaths = positive(row.get("max_process_deaths", MAX_PROCESS_DEATHS))
    flow = Flow(text(row["name"]), text(row["mode"]), None if limit_s is None else number(limit_s), deaths, part=unpack_part(row))
    flow = replace(flow, state_schema=unpack_state_schema(row, schema))
    return unpack_flow_policies(flow, row, nodes)


def _unpack_merge(row: Table, function: FindFunction) -> Merge:
    keys = {key: text(policy) for key, policy in mapping(row["keys"]).items()}
    functions = {policy: function(policy) for policy in dict.fromkeys(keys.values()) if policy not in NAMED_POLICIES}
    return Merge(text(row["default"]), MappingProxyType(keys), MappingProxyType(functions))


def _unpack_retry(row: Table) -> Retry:
    initial_delay_s, max_delay_s, factor = (number(row[name]) for name in ("initial_delay_s", "max_delay_s", "factor"))
    retryable = None if row["retryable"] is None else texts(row["retryable"])
    return Retry(whole(row["max_retries"]), initial_delay_s, max_delay_s, factor, row["jitter"] is True, retryable)


def _listed(value: Json) -> list[Json]:
    if not isinstance(value, list):
        raise MisfitError("not a list of nodes")
    return value
