"""Limits: what the tables of a flow and of an agent say of time, retries, approval, failure and budgets, put into the nodes of a plan.

A name that stands for nothing is left out here: `modes.beside` tells of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from agentflow.config.model import AgentConfig, Config, FlowConfig
from agentflow.config.policies import BudgetConfig
from agentflow.core.ledger import Budget
from agentflow.core.plan import CONTINUE, STOP, Call, ErrorRoutes, Flow, Policy, Retry
from agentflow.core.subscription import Subscription
from agentflow.modes.members import Member

STEP_TIMEOUT_S = 300.0
ROUTE = "route:"  # how an `on_error` begins that names an agent

_RETRY_FIELDS = {
    "initial_delay_seconds": "initial_delay_s",
    "max_delay_seconds": "max_delay_s",
    "backoff_factor": "factor",
    "jitter": "jitter",
    "retryable_errors": "retryable",
}


def flow_of(name: str, flow: FlowConfig, agents: Mapping[str, AgentConfig]) -> Flow:
    """Return what a node that is this whole flow knows of it."""
    told = Flow(name, flow.mode, flow.timeout_seconds, flow.max_process_deaths, budget=_budget(flow.budget))
    told = replace(told, max_total_attempts=flow.max_total_attempts, max_events=flow.max_events)
    if flow.on_error.startswith(ROUTE):
        return replace(told, rescue=call_of(flow.on_error.removeprefix(ROUTE), flow, agents))
    return replace(told, on_error=CONTINUE if flow.on_error == CONTINUE else STOP)


def errors_of(config: Config) -> ErrorRoutes | None:
    """Return who handles the failure of a main flow; None when nobody does."""
    routing, agents = config.error_routing, config.agents

    def handler(name: str) -> Call:
        return _beside(name, config.orchestration, agents)

    default = None if routing.error_handler is None else handler(routing.error_handler)
    tables = (routing.code_handlers, routing.severity_handlers, routing.category_handlers)
    routes = ErrorRoutes(default, *({key: handler(name) for key, name in table.items()} for table in tables))
    return routes if routes.calls else None


def call_of(name: str, flow: FlowConfig, agents: Mapping[str, AgentConfig]) -> Call:
    """Return the call of an agent in a flow, with all limits."""
    return limited(Call(name), flow, agents)


def subscriptions_of(config: Config) -> tuple[Subscription, ...]:
    """Return what agents subscribe to, in the order of the file; those that are disabled take nothing."""
    tables = {name: agent.model_copy(update={"background": False}) for name, agent in config.agents.items()}  # it is a run of its own
    takers = {name: agent.subscribes for name, agent in config.agents.items() if agent.enabled and agent.subscribes}
    return tuple(Subscription(call_of(name, config.orchestration, tables), tuple(patterns)) for name, patterns in takers.items())


def limited(call: Call, flow: FlowConfig, agents: Mapping[str, AgentConfig]) -> Call:
    """Return a call with the limits and policies of its step, agent and flow; what the mode's own function has set stays."""
    call = _bounded(call, flow, agents.get(call.agent))
    if isinstance(call.part, Member):
        call = replace(call, part=call.part.part)
    return call if call.policy is not None else replace(call, policy=_policy(call.agent, flow, agents))


def _bounded(call: Call, flow: FlowConfig, agent: AgentConfig | None) -> Call:
    limit_s = call.timeout_s
    if limit_s == STEP_TIMEOUT_S and agent is not None and agent.timeout_seconds is not None:
        limit_s = agent.timeout_seconds
    member = call.part if isinstance(call.part, Member) else Member()
    retry = _retry(flow, agent) if call.retry == Retry() else call.retry
    if member.max_retries is not None:
        retry = replace(retry, max_retries=member.max_retries)
    return replace(call, timeout_s=limit_s, retry=retry, approval_timeout_s=_approval_s(call, member, agent or AgentConfig()))


def _approval_s(call: Call, member: Member, agent: AgentConfig) -> float | None:
    """Return how long a call waits for its approval; None where it needs none: its step goes before its agent."""
    if call.approval_timeout_s is not None:
        return call.approval_timeout_s
    if not (agent.requires_approval if member.requires_approval is None else member.requires_approval):
        return None
    return agent.approval_timeout_seconds if member.approval_timeout_s is None else member.approval_timeout_s


def _policy(name: str, flow: FlowConfig, agents: Mapping[str, AgentConfig]) -> Policy | None:
    agent = agents.get(name)
    if agent is None:
        return None
    policy = replace(
        _own_policy(agent),
        is_background=agent.background,
        fallback=tuple(_fallback(other, flow, agents) for other in _chain(name, agents)),
        fallback_on=None if agent.fallback_on is None else tuple(agent.fallback_on),
        default_output=agent.default_output,
        compensate=None if agent.compensate is None else _beside(agent.compensate, flow, agents),
    )
    return None if policy == Policy() else policy


def _own_policy(agent: AgentConfig) -> Policy:
    """Return what holds for each attempt of an agent, whomever it stands in for."""
    cache_s = None if agent.cache is None else agent.cache.ttl_seconds
    return Policy(self_correct=agent.self_correct, cache_s=cache_s, budget=_budget(agent.budget), reserve_tokens=agent.reserve_tokens)


def _fallback(name: str, flow: FlowConfig, agents: Mapping[str, AgentConfig]) -> Call:
    """Return the call of an agent that stands in for another one: what follows when it fails too is for the first one to say."""
    agent = agents.get(name)
    policy = None if agent is None else _own_policy(agent)
    call = _bounded(Call(name), flow, agent)
    return replace(call, approval_timeout_s=None, policy=None if policy == Policy() else policy)


def _beside(name: str, flow: FlowConfig, agents: Mapping[str, AgentConfig]) -> Call:
    """Return the call of an agent after the main phase: nothing undoes it, and somebody waits for it."""
    call = _bounded(Call(name), flow, agents.get(name))
    agent = agents.get(name)
    plain = {} if agent is None else {name: agent.model_copy(update={"compensate": None, "background": False})}
    policy = _policy(name, flow, {**agents, **plain})
    return replace(call, policy=policy)


def _chain(name: str, agents: Mapping[str, AgentConfig]) -> Iterator[str]:
    """Yield who stands in for an agent, in order: each name in its list, then those who stand in for that one."""
    seen, waiting = {name}, list(reversed(agents[name].fallback))
    while waiting:
        other = waiting.pop()
        if other not in seen:
            seen.add(other)
            yield other
            waiting.extend(reversed(agents[other].fallback if other in agents else ()))


def _budget(table: BudgetConfig | None) -> Budget | None:
    return None if table is None else Budget(table.tokens, table.cost_usd, table.seconds, table.calls, table.warn_at)


def _retry(flow: FlowConfig, agent: AgentConfig | None) -> Retry:
    """Merge the agent's retry table over the flow's, key by key."""
    given: dict[str, object] = {}
    for table in (flow.retry, agent.retry if agent is not None else None):
        if table is not None:
            given |= {key: getattr(table, key) for key in table.given}
    retries = given.pop("max_retries", None)
    fields = {_RETRY_FIELDS[key]: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    return replace(Retry(), max_retries=flow.retry_attempts if retries is None else retries, **fields)  # type: ignore[arg-type]
