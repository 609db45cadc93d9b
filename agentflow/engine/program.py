"""Program: what a configuration came to when it was loaded; runs share it and never change it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from agentflow.core.plan import Call, Flow, Node, has_clocks, name_of, walk_nodes
from agentflow.core.policy_walk import kind_of
from agentflow.core.spending import has_budgets
from agentflow.core.walk import Walk
from agentflow.errors import JournalDamagedError
from agentflow.ports import Store

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

    Attributes:
        flow: the main flow's name, mode and time limit.
        names: the agents and nested flows of the plan, in declared order.
        walk: the kind of walk that the plan needs.
        has_inner_limits: whether a nested flow has a time limit, or a join a deadline.
        has_approvals: whether a step waits for a person.
        has_policies: whether a call or a flow has a policy.
        has_budgets: whether a call or a flow has a budget.
        keeps_dead_letters: whether a run that fails is a dead letter; not where a program waits for it and sees to it (default yes).
        is_special: whether calls take more than a plain one: limits of inner flows, policies, budgets.
    """

    def __init__(
        self,
        plan: Node,
        agent_configs: Mapping[str, Mapping[str, Any]],
        override: Callable[[str], Program] | None = None,
    ) -> None:
        self.plan = plan
        self.keeps_dead_letters = True
        self.agent_configs = agent_configs
        self._override = override
        self.flow = (None if isinstance(plan, Call) else plan.flow) or Flow("", "")
        nodes = [node for node in walk_nodes(plan) if isinstance(node, Call) or (node.flow is not None and node is not plan)]
        self.names = tuple(dict.fromkeys(name_of(node) for node in nodes))
        self.has_approvals = any(isinstance(node, Call) and node.approval_timeout_s is not None for node in nodes)
        self.walk: type[Walk] = kind_of(plan)
        self.has_inner_limits = has_clocks(plan)
        policies = [node.policy for node in nodes if isinstance(node, Call) and node.policy is not None]
        self.has_budgets = has_budgets(plan)
        self.is_special = bool(policies) or self.has_inner_limits or self.has_budgets or self.walk is not Walk

    def overridden(self, name: str) -> Program:
        """Return the program that an event's `orchestration_override` asks for.

        Raises:
            RoutingError: no flow and no mode has that name, or the mode lacks keys in this configuration.
        """
        return self._override(name) if self._override is not None else self
