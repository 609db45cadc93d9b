"""Program: what a configuration came to when it was loaded; runs share it and never change it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agentflow.core.plan import Call, Flow, Node, name_of, walk_nodes


class Program:
    """A plan and what runs need to know beside it.

    Args:
        plan: the main flow's plan.
        agent_configs: each agent's table, by name, as plain values.
        override: gives the program for the flow or mode that an event's `orchestration_override` names.

    Attributes:
        flow: the main flow's name, mode and time limit.
        names: the agents and nested flows of the plan, in declared order.
        has_inner_limits: whether a nested flow has a time limit.
        has_approvals: whether a step waits for a person.
    """

    def __init__(
        self,
        plan: Node,
        agent_configs: Mapping[str, Mapping[str, Any]],
        override: Callable[[str], Program] | None = None,
    ) -> None:
        self.plan = plan
        self.agent_configs = agent_configs
        self._override = override
        self.flow = (None if isinstance(plan, Call) else plan.flow) or Flow("", "")
        nodes = [node for node in walk_nodes(plan) if isinstance(node, Call) or (node.flow is not None and node is not plan)]
        self.names = tuple(dict.fromkeys(name_of(node) for node in nodes))
        self.has_approvals = any(isinstance(node, Call) and node.approval_timeout_s is not None for node in nodes)
        self.has_inner_limits = any(not isinstance(node, Call) and node.flow and node.flow.timeout_s for node in nodes)

    def overridden(self, name: str) -> Program:
        """Return the program that an event's `orchestration_override` asks for.

        Raises:
            RoutingError: no flow and no mode has that name, or the mode lacks keys in this configuration.
        """
        return self._override(name) if self._override is not None else self
