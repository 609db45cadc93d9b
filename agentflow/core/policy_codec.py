"""The failure policies of calls, joins and flows as JSON and back, for the plan codec: what has its default is left out.

Calls that are made beside a step stand in the plan's table as all nodes do, and are named by their place in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias, TypedDict

from agentflow.core.ledger import WARN_AT, Budget
from agentflow.core.packing import MisfitError, mapping, number, text, texts, whole
from agentflow.core.plan import CONTINUE, MAX_EVENTS, MAX_TOTAL_ATTEMPTS, STOP, Call, ErrorRoutes, Flow, Node, Par, Policy
from agentflow.core.values import Json

Table: TypeAlias = dict[str, Json]
Places: TypeAlias = Mapping[int, int]

_TABLES = ("codes", "severities", "categories")


class Join(TypedDict):
    """What says when a join ends before all its branches have."""

    quorum: int | None
    fail_fast: bool
    join_timeout_s: float | None


def pack_policy(policy: Policy, places: Places) -> Table:
    """Return a call's policy as JSON; `places` has the places of calls in the plan's table, by identity."""
    row: Table = {}
    if policy.fallback:
        row["fallback"] = [places[id(call)] for call in policy.fallback]
    if policy.fallback_on is not None:
        row["fallback_on"] = list(policy.fallback_on)
    if policy.default_output is not None:
        row["default_output"] = dict(policy.default_output)
    if policy.self_correct:
        row["self_correct"] = policy.self_correct
    if policy.cache_s is not None:
        row["cache_s"] = float(policy.cache_s)
    if policy.compensate is not None:
        row["compensate"] = places[id(policy.compensate)]
    if policy.budget is not None:
        row["budget"] = _pack_budget(policy.budget)
    if policy.reserve_tokens:
        row["reserve_tokens"] = policy.reserve_tokens
    if policy.is_background:
        row["is_background"] = True
    return row


def unpack_policy(row: Table, nodes: Sequence[Node]) -> Policy:
    """Return the policy that `pack_policy` has packed; `nodes` are those before it in the table.

    Raises:
        MisfitError, KeyError, IndexError: it has another shape.
    """
    return Policy(
        fallback=tuple(_call(at, nodes) for at in _list(row.get("fallback", []))),
        fallback_on=texts(row["fallback_on"]) if "fallback_on" in row else None,
        default_output=mapping(row["default_output"]) if "default_output" in row else None,
        self_correct=whole(row.get("self_correct", 0)),
        cache_s=number(row["cache_s"]) if "cache_s" in row else None,
        compensate=_call(row["compensate"], nodes) if "compensate" in row else None,
        budget=_unpack_budget(mapping(row["budget"])) if "budget" in row else None,
        reserve_tokens=whole(row.get("reserve_tokens", 0)),
        is_background=row.get("is_background") is True,
    )


def pack_flow_policies(flow: Flow, places: Places) -> Table:
    """Return what a flow does when it fails, and its budget, as entries of its row; `places` as in `pack_policy`."""
    row: Table = {}
    if flow.on_error != STOP:
        row["on_error"] = flow.on_error
    if flow.max_total_attempts != MAX_TOTAL_ATTEMPTS:
        row["max_total_attempts"] = flow.max_total_attempts
    if flow.max_events != MAX_EVENTS:
        row["max_events"] = flow.max_events
    if flow.rescue is not None:
        row["rescue"] = places[id(flow.rescue)]
    if flow.budget is not None:
        row["budget"] = _pack_budget(flow.budget)
    if flow.errors is not None:
        routes = flow.errors
        errors: Table = {} if routes.default is None else {"default": places[id(routes.default)]}
        for name in _TABLES:
            if table := getattr(routes, name):
                errors[name] = {key: places[id(call)] for key, call in table.items()}
        row["errors"] = errors
    return row


def unpack_flow_policies(flow: Flow, row: Table, nodes: Sequence[Node]) -> Flow:
    """Return a flow with what `pack_flow_policies` has packed.

    Raises:
        MisfitError, KeyError, IndexError: it has another shape.
    """
    on_error = text(row.get("on_error", STOP))
    if on_error not in (STOP, CONTINUE):
        raise MisfitError(f"no flow does {on_error[:40]} on an error")
    errors: ErrorRoutes | None = None
    if "errors" in row:
        told = mapping(row["errors"])
        default = _call(told["default"], nodes) if "default" in told else None
        tables = {name: {key: _call(at, nodes) for key, at in mapping(told.get(name, {})).items()} for name in _TABLES}
        errors = ErrorRoutes(default, **tables)
    return replace(
        flow,
        on_error=on_error,
        rescue=_call(row["rescue"], nodes) if "rescue" in row else None,
        budget=_unpack_budget(mapping(row["budget"])) if "budget" in row else None,
        errors=errors,
        max_total_attempts=whole(row.get("max_total_attempts", MAX_TOTAL_ATTEMPTS)),
        max_events=positive(row.get("max_events", MAX_EVENTS)),
    )


def pack_join(node: Par) -> Table:
    """Return when a join ends before all its branches have, as entries of its row."""
    row: Table = {}
    if node.quorum is not None:
        row["quorum"] = node.quorum
    if node.fail_fast:
        row["fail_fast"] = True
    if node.join_timeout_s is not None:
        row["join_timeout_s"] = float(node.join_timeout_s)
    return row


def unpack_join(row: Table, branches: int) -> Join:
    """Return what `pack_join` has packed.

    Raises:
        MisfitError: it has another shape, or asks for more branches than there are.
    """
    quorum = positive(row["quorum"]) if "quorum" in row else None
    if quorum is not None and quorum > branches:
        raise MisfitError("a quorum of more branches than there are")
    limit_s = number(row["join_timeout_s"]) if "join_timeout_s" in row else None
    return Join(quorum=quorum, fail_fast=row.get("fail_fast") is True, join_timeout_s=limit_s)


def positive(value: Json) -> int:
    """Return a count of at least 1, or refuse anything else.

    Raises:
        MisfitError: it is none.
    """
    if whole(value) < 1:
        raise MisfitError("a count below 1")
    return whole(value)


def _pack_budget(budget: Budget) -> Table:
    row: Table = {}
    for name in ("tokens", "calls"):
        if (count := getattr(budget, name)) is not None:
            row[name] = count
    for name in ("cost_usd", "seconds"):
        if (figure := getattr(budget, name)) is not None:
            row[name] = float(figure)
    return row if budget.warn_at == WARN_AT else row | {"warn_at": float(budget.warn_at)}


def _unpack_budget(row: Table) -> Budget:
    tokens, calls = (whole(row[name]) if name in row else None for name in ("tokens", "calls"))
    cost_usd, seconds = (number(row[name]) if name in row else None for name in ("cost_usd", "seconds"))
    return Budget(tokens, cost_usd, seconds, calls, number(row.get("warn_at", WARN_AT)))


def _call(at: Json, nodes: Sequence[Node]) -> Call:
    node = nodes[whole(at)]
    if not isinstance(node, Call):
        raise MisfitError("a flow in the place of an agent")
    return node


def _list(value: Json) -> list[Json]:
    if not isinstance(value, list):
        raise MisfitError("not a list of calls")
    return value
