"""Plan rows: a plan as plain JSON, for `agentflow plan --json` and whoever else reads plans by machine."""

from __future__ import annotations

from dataclasses import fields
from typing import assert_never

from agentflow.core.bounds import most_items
from agentflow.core.ledger import Budget
from agentflow.core.part import Input, Part, Previous, Template
from agentflow.core.plan import Agenda, Branch, Call, Contract, Edge, Flow, Loop, Map, Node, Par, Policy, Seq, children
from agentflow.core.values import Json


def to_dict(node: Node) -> dict[str, Json]:
    """Return the tree as JSON, for `agentflow plan --json`."""
    row: dict[str, Json] = {"kind": type(node).__name__.lower()}
    match node:
        case Call():
            row |= {"agent": node.agent, "timeout_seconds": node.timeout_s, "max_retries": node.retry.max_retries}
            row |= {"approval_timeout_seconds": node.approval_timeout_s, **_part_row(node.part)}
            row |= {} if node.contract is None else _contract_row(node.contract)
            return row if node.policy is None else row | _policy_row(node.policy)
        case Map():
            row |= {"each_of": node.source, **_given(key=node.key), "most_items": most_items(node), **_join_row(node)}
            row |= _given(collects=node.is_collecting, bears_failures=node.is_bearing, default=node.default)
        case Par():
            row |= _join_row(node) | _given(quorum=node.quorum, fail_fast=node.fail_fast, join_timeout_seconds=node.join_timeout_s)
            row |= {} if node.aggregate is None else {"aggregate": node.aggregate.source}
        case Loop():
            row |= {"bound": node.bound, "until": node.until.source if node.until else None, "hands_on": node.is_handoff}
            row |= _given(entry=node.entry, edges=[_edge_row(edge) for edge in node.edges], max_visits=node.max_visits)
            row |= {} if node.agenda is None else {"agenda": _agenda_row(node.agenda)}
        case Branch():
            row |= {"when": [condition.source for condition in node.conditions]}
            row |= {"routes": dict(node.routes), "default": node.default} if node.routes is not None else {}
        case Seq():
            pass
        case _:
            assert_never(node)
    if node.flow is not None:
        row |= _flow_row(node.flow) | ({} if node.flow.part is None else {"part": _part_row(node.flow.part)})
    row["steps"] = [to_dict(child) for child in children(node)]
    return row


def _join_row(node: Par | Map) -> dict[str, Json]:
    row: dict[str, Json] = {"max_concurrency": node.concurrency, "failure_threshold": node.failure_threshold}
    return row | {"merge": node.merge.default} | ({"merge_keys": dict(node.merge.keys)} if node.merge.keys else {})


def _edge_row(edge: Edge) -> dict[str, Json]:
    return {"from": edge.source, "to": edge.target, "when": None if edge.when is None else edge.when.source}


def _agenda_row(agenda: Agenda) -> dict[str, Json]:
    row: dict[str, Json] = {"kind": agenda.kind, "most_items": agenda.most}
    return row | _given(leader=agenda.leader, default=agenda.default, max_replans=agenda.most_replans)


def _part_row(part: Part | None) -> dict[str, Json]:
    if part is None:
        return {}
    return _given(id=part.id, title=part.title, on_error=part.on_error, input=None if part.input is None else _input_row(part.input))


def _input_row(told: Input) -> Json:
    """Return a member's input: a template as its author wrote it, else what it is made of."""
    if isinstance(told, Template):
        return {"is": "data" if told.is_data else "input", "value": told.value}
    row: dict[str, Json] = {"is": "previous"} if isinstance(told, Previous) else {"is": told.form}
    return row | ({} if told.instruction is None else {"instruction": told.instruction.value})


def _contract_row(contract: Contract) -> dict[str, Json]:
    row: dict[str, Json] = {} if contract.writes is None else {"writes": list(contract.writes)}
    return row | ({} if contract.output is None else {"output_schema": dict(contract.output.source)})


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
        background=policy.is_background,
    )


def _flow_row(flow: Flow) -> dict[str, Json]:
    row: dict[str, Json] = {"flow": flow.name, "mode": flow.mode, "flow_timeout_seconds": flow.timeout_s}
    row["max_process_deaths"] = flow.max_process_deaths
    row["on_error"] = flow.on_error if flow.rescue is None else f"route:{flow.rescue.agent}"
    row |= _given(rescue=None if flow.rescue is None else to_dict(flow.rescue), budget=_budget_row(flow.budget))
    row |= {} if flow.state_schema is None else {"state_schema": dict(flow.state_schema.source)}
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
    return {name: value for name, value in row.items() if value is not None and value is not False and value not in (0, [], "")}
