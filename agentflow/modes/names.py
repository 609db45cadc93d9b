"""Names: who can stand where a flow names an agent or a flow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agentflow.config.display import KeyPath
from agentflow.config.model import Config
from agentflow.modes.findings import Findings


class Names:
    """The agents and flows of one configuration.

    Attributes:
        enabled: the agents that can be called, in the order of the file, then those without a table.
    """

    def __init__(self, config: Config, extra_agents: Iterable[str], findings: Findings) -> None:
        self._config = config
        self._findings = findings
        self.enabled = (*(name for name, agent in config.agents.items() if agent.enabled), *extra_agents)
        self._may_be_called = frozenset(self.enabled)
        self._known = (*config.agents, *config.flows)

    def is_flow(self, name: str) -> bool:
        """Say whether a name is a flow's."""
        return name in self._config.flows

    def check_agent(self, name: str, path: KeyPath) -> bool:
        """Say whether an agent of that name can be called, and note why not."""
        if name in self._may_be_called:
            return True
        if name in self._config.agents:
            hint = f"enable [agents.{name}], or take it out of the list"
            self._findings.say("AF0206", f"agent `{name}` is disabled", path, help=hint)
        else:
            near = self._findings.near(name, self._known)
            hint = f"add a table [agents.{name}]"
            self._findings.say("AF0205", f"no agent or flow named `{name}`", path, help=f"{near}; or {hint}" if near else hint)
        return False

    def check_flow(self, name: str, path: KeyPath) -> bool:
        """Say whether a flow can stand for an agent, and note why not."""
        flow = self._config.flows[name]
        if flow.mode != "route" or flow.default_agent is not None or flow.switch:
            return True
        message = f"route flow `{name}` is used as an agent and has no default_agent"
        self._findings.say("AF0212", message, path, help=f"add default_agent to [flows.{name}]")
        return False

    def routes(self, members: Mapping[str, int], at: KeyPath) -> dict[str, int]:
        """Return the cases of members by their names, and then by what they can do, where that is no member's name.

        Args:
            members: the case of each member by its name.
            at: where the members are listed.
        """
        routes = dict(members)
        for name, case in members.items():
            agent = self._config.agents.get(name)
            for capability in dict.fromkeys(agent.capabilities if agent is not None else ()):
                if members.get(capability, case) != case:
                    message = f"`{capability}` is what `{name}` can do, and the name of a member: the one of that name is taken"
                    self._findings.say("AF0292", message, at, "key", "rename one of them", "warning")
                routes.setdefault(capability, case)
        return routes
