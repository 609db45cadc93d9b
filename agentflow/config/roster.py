"""Roster: the agents of a configuration as rows, for whoever lists them."""

from __future__ import annotations

from agentflow.config.model import Config
from agentflow.core.plan import Node, agents_of
from agentflow.core.values import Json


def agent_rows(config: Config, plan: Node | None) -> list[dict[str, Json]]:
    """Return what each agent is for, who answers it, and whether the main flow reaches it (None: there is no plan)."""
    reached = None if plan is None else agents_of(plan)
    return [
        {
            "name": name,
            "role": agent.role,
            "description": agent.description,
            "capabilities": list(agent.capabilities),
            "reads": None if agent.reads is None else list(agent.reads),
            "writes": None if agent.writes is None else list(agent.writes),
            "version": agent.version,
            "handler": agent.handler,
            "enabled": agent.enabled,
            "reached": None if reached is None else name in reached,
        }
        for name, agent in config.agents.items()
    ]
