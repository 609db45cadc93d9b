"""Beside: the mistakes in naming agents that no flow lists: who stands in for another, undoes it, or handles a failure."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.display import KeyPath
from agentflow.config.model import Config, FlowConfig
from agentflow.core.category import CATEGORIES, SEVERITIES
from agentflow.errors import did_you_mean
from agentflow.modes.findings import Near
from agentflow.modes.limits import ROUTE


def mistakes_beside(config: Config, extra_agents: Collection[str], near: Near) -> Iterator[Diagnostic]:
    """Yield what is wrong with the names in `on_error`, `fallback`, `compensate` and `[error_routing]`, and tables that nobody uses.

    Args:
        config: the configuration.
        extra_agents: agents without a table.
        near: gives a hint at the nearest of some names.
    """
    names = _Names(config, extra_agents, near)
    flows: dict[KeyPath, FlowConfig] = {("orchestration",): config.orchestration}
    flows |= {("flows", name): flow for name, flow in config.flows.items()}
    for path, flow in flows.items():
        if flow.on_error.startswith(ROUTE):
            yield from names.check(flow.on_error.removeprefix(ROUTE), (*path, "on_error"))
    for name, agent in config.agents.items():
        if agent.enabled:
            yield from _fallbacks(names, name)
            if agent.compensate is not None:
                yield from names.check(agent.compensate, ("agents", name, "compensate"))
    yield from _cycles(config)
    yield from _routing(names)
    if config.llm is not None:
        told = "no agent uses [llm]: agents are answered by their handlers"
        yield Diagnostic("AF0190", told, ("llm",), "key", "it is checked, and waits for LLM agents", "warning")


class _Names:
    """Who can be called in a configuration."""

    def __init__(self, config: Config, extra_agents: Collection[str], near: Near) -> None:
        self.config = config
        self._known = {*config.agents, *extra_agents}
        self._near = near

    def check(self, name: str, path: KeyPath) -> Iterator[Diagnostic]:
        """Yield what is wrong with the name of an agent."""
        agent = self.config.agents.get(name)
        if name in self._known:
            if agent is not None and not agent.enabled:
                yield Diagnostic("AF0206", f"agent `{name}` is disabled", path, help=f"enable [agents.{name}], or name another one")
        elif name in self.config.flows:
            yield Diagnostic("AF0221", f"`{name}` is a flow, and only an agent can stand here", path, help="name an agent")
        else:
            near, hint = self._near(name, self._known), f"add a table [agents.{name}]"
            yield Diagnostic("AF0205", f"no agent named `{name}`", path, help=f"{near}; or {hint}" if near else hint)


def _fallbacks(names: _Names, name: str) -> Iterator[Diagnostic]:
    seen: set[str] = set()
    for index, other in enumerate(names.config.agents[name].fallback):
        path: KeyPath = ("agents", name, "fallback", index)
        if other in seen:
            yield Diagnostic("AF0209", f"`{other}` is in the list twice", path, help="it would fail again; remove one")
        seen.add(other)
        yield from names.check(other, path)
        agent = names.config.agents.get(other)
        if agent is not None and agent.requires_approval:
            message = f"agent `{other}` requires approval, and nobody is asked when it stands in for `{name}`"
            yield Diagnostic("AF0222", message, path, help="fall back on another agent, or let the step itself require approval")


def _cycles(config: Config) -> Iterator[Diagnostic]:
    """Yield each place where an agent comes to stand in for itself, directly or by way of others."""
    ended: set[str] = set()
    for start in config.agents:
        line: dict[str, int] = {}  # the agents on the way, and which of each one's list is looked at
        waiting = [start] if start not in ended else []
        while waiting:
            name = waiting[-1]
            at = line.get(name, -1) + 1
            line[name] = at
            fallback = config.agents[name].fallback
            if at >= len(fallback):
                ended.add(name)
                del line[name]
                waiting.pop()
            elif (other := fallback[at]) in line:
                cycle = " -> ".join([*waiting[waiting.index(other) :], other])
                message = f"agent `{other}` would stand in for itself: {cycle}"
                yield Diagnostic("AF0220", message, ("agents", name, "fallback", at), help="take one of them out of a fallback")
            elif other in config.agents and other not in ended:
                waiting.append(other)


def _routing(names: _Names) -> Iterator[Diagnostic]:
    routing = names.config.error_routing
    path: KeyPath = ("error_routing",)
    if routing.error_handler is not None:
        yield from names.check(routing.error_handler, (*path, "error_handler"))
    for table in ("code_handlers", "severity_handlers", "category_handlers"):
        for key, name in getattr(routing, table).items():
            yield from names.check(name, (*path, table, key))
    for severity in routing.severity_handlers:
        if severity not in SEVERITIES:
            message = f"no failure is `{severity}`: severities are {', '.join(SEVERITIES)}"
            yield Diagnostic("AF0224", message, (*path, "severity_handlers", severity), "key", did_you_mean(severity, SEVERITIES))
    for category in routing.category_handlers:
        if category not in CATEGORIES:
            message = f"category `{category}` is none of agentflow's: it is met only where an exception's own `category` says so"
            where = (*path, "category_handlers", category)
            yield Diagnostic("AF0291", message, where, "key", did_you_mean(category, CATEGORIES), "warning")
