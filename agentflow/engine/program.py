"""Program: what a configuration came to when it was loaded; runs share it and never change it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from agentflow.core.event import Event
from agentflow.core.plan import NOTHING, Branch, Call, Flow, Loop, Map, Node, Seq, declared_names, has_clocks, has_contracts, walk_nodes
from agentflow.core.spending import has_budgets
from agentflow.core.subscription import Subscription
from agentflow.core.walk import Walk
from agentflow.core.walks import kind_of
from agentflow.errors import JournalDamagedError
from agentflow.ports import Store

ALONE = "agent"  # the mode of a run whose plan is one agent by itself
ReadPlan: TypeAlias = Callable[[str, bytes], Node]  # makes a plan of its hash and the bytes that a store has kept


async def recorded_plan(store: Store, run_id: str, plan_hash: str, read: ReadPlan) -> Node:
    """Return a plan as it was recorded for a run.

    Raises:
        JournalDamagedError: it is not there, or not what was written.
        RuleError, EntrypointError: a condition or a merge function of it cannot be had here.
        StoreError: it cannot be read.
    """
    body = await store.plan(plan_hash)
    if body is None:
        raise JournalDamagedError(run_id, None, f"its plan {plan_hash or 'without a hash'} is not kept")
    return read(plan_hash, body)


class Program:
    """A plan and what runs need to know beside it.

    Args:
        plan: the main flow's plan.
        agent_configs: each agent's table, by name, as plain values.
        override: gives the program for the flow or mode that an event's `orchestration_override` names.
        subscriptions: which agents take which events, beside those that the plan calls.

    Attributes:
        flow: the main flow's name, mode and time limit.
        names: the agents and nested flows of the plan, in declared order.
        walk: the kind of walk that the plan needs.
        has_inner_limits: whether a nested flow has a time limit, or a join a deadline.
        has_approvals: whether a step waits for a person.
        has_policies: whether a call or a flow has a policy.
        has_budgets: whether a call or a flow has a budget.
        has_contracts: whether an agent or a flow declares what may be set.
        keeps_dead_letters: whether a run that fails is a dead letter; not where a program waits for it and sees to it (default yes).
        is_special: whether calls take more than a plain one: limits of inner flows, policies, budgets.
    """

    def __init__(
        self,
        plan: Node,
        agent_configs: Mapping[str, Mapping[str, Any]],
        override: Callable[[str], Program] | None = None,
        subscriptions: Sequence[Subscription] = (),
    ) -> None:
        self.plan = plan
        self.subscriptions = tuple(subscriptions)
        self._alone: dict[int, tuple[Call, Program]] = {}  # by the identity of their calls
        self._announcing: Program | None = None
        self.keeps_dead_letters = True
        self.agent_configs = agent_configs
        self._override = override
        self.flow = (None if isinstance(plan, Call) else plan.flow) or Flow("", "")
        nodes = [node for node in walk_nodes(plan) if isinstance(node, Call) or (node.flow is not None and node is not plan)]
        self.names = declared_names(plan)
        calls = (*nodes, *(one.call for one in self.subscriptions))
        self.has_approvals = any(isinstance(node, Call) and node.approval_timeout_s is not None for node in calls)
        self.walk: type[Walk] = kind_of(plan)
        self.has_inner_limits = has_clocks(plan)
        policies = [node.policy for node in nodes if isinstance(node, Call) and node.policy is not None]
        self.has_budgets = has_budgets(plan)
        self.has_contracts = has_contracts(plan)
        self.is_special = bool(policies) or self.has_inner_limits or self.has_budgets or self.has_contracts or self.walk is not Walk

    def overridden(self, name: str) -> Program:
        """Return the program that an event's `orchestration_override` asks for.

        Raises:
            RoutingError: no flow and no mode has that name, or the mode lacks keys in this configuration.
        """
        return self._override(name) if self._override is not None else self

    def takers_of(self, target: str) -> tuple[Call, ...]:
        """Return the calls of the agents that have subscribed to events with this target, in declared order."""
        return tuple(one.call for one in self.subscriptions if one.takes(target))

    def announcing(self, event: Event) -> Program:
        """Return the program of an event that has subscribers: one that calls nobody, where no member of a route flow is its target."""
        plan, target = self.plan, event.target
        if not (isinstance(plan, Loop) and plan.is_handoff and plan.entry is None and isinstance(plan.body, Branch)):
            return self
        metadata = event.metadata
        if not isinstance(metadata, Mapping) or metadata.get("route") or "orchestration_override" in metadata:
            return self
        if target in (plan.body.routes or {}):
            return self
        if self._announcing is None:
            nobody = Map(self.takers_of(target)[0], NOTHING, flow=Flow(self.flow.name, self.flow.mode, max_events=self.flow.max_events))
            self._announcing = Program(nobody, self.agent_configs)
        return self._announcing

    def alone(self, call: Call) -> Program:
        """Return the program of a run that makes one call of this plan, or of a subscriber, by itself: with all its limits."""
        known = self._alone.get(id(call))
        if known is None:
            policy = None if call.policy is None else replace(call.policy, is_background=False)
            approval_s = None if policy != call.policy else call.approval_timeout_s  # of what goes on beside, its step has asked
            main, single = self.flow, replace(call, policy=policy, part=None, approval_timeout_s=approval_s)
            flow = Flow(call.agent, ALONE, main.timeout_s, main.max_process_deaths, errors=main.errors, max_events=main.max_events)
            flow = replace(flow, max_total_attempts=main.max_total_attempts)
            known = self._alone[id(call)] = call, Program(Seq((single,), flow), self.agent_configs)
        return known[1]
