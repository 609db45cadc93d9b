"""Limits: what the tables of a flow and of an agent say of time, retries and approval, put into the nodes of a plan."""

from __future__ import annotations

from dataclasses import replace

from agentflow.config.model import AgentConfig, FlowConfig
from agentflow.core.plan import Call, Flow, Retry

STEP_TIMEOUT_S = 300.0

_RETRY_FIELDS = {
    "initial_delay_seconds": "initial_delay_s",
    "max_delay_seconds": "max_delay_s",
    "backoff_factor": "factor",
    "jitter": "jitter",
    "retryable_errors": "retryable",
}


def flow_of(name: str, flow: FlowConfig) -> Flow:
    """Return what a node that is this whole flow knows of it."""
    return Flow(name, flow.mode, flow.timeout_seconds, flow.max_process_deaths)


def limited(call: Call, flow: FlowConfig, agent: AgentConfig | None) -> Call:
    """Return a call with the limits of its agent and flow; what the mode's own function has set stays."""
    limit_s, approval_s = call.timeout_s, call.approval_timeout_s
    if limit_s == STEP_TIMEOUT_S and agent is not None and agent.timeout_seconds is not None:
        limit_s = agent.timeout_seconds
    if approval_s is None and agent is not None and agent.requires_approval:
        approval_s = agent.approval_timeout_seconds
    retry = _retry(flow, agent) if call.retry == Retry() else call.retry
    return replace(call, timeout_s=limit_s, retry=retry, approval_timeout_s=approval_s)


def _retry(flow: FlowConfig, agent: AgentConfig | None) -> Retry:
    """Merge the agent's retry table over the flow's, key by key."""
    given: dict[str, object] = {}
    for table in (flow.retry, agent.retry if agent is not None else None):
        if table is not None:
            given |= {key: getattr(table, key) for key in table.given}
    retries = given.pop("max_retries", None)
    fields = {_RETRY_FIELDS[key]: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    return replace(Retry(), max_retries=flow.retry_attempts if retries is None else retries, **fields)  # type: ignore[arg-type]
