"""The linker: from a configuration to linked plans, with every mistake of meaning as a diagnostic.

A mode's function says which agents and flows work together, by name. The linker checks the names, puts each agent's
limits into its calls, nested flows in the place of their names, and compiled conditions in the place of their text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches

from agentflow.config.diagnostics import Diagnostic, On
from agentflow.config.display import KeyPath
from agentflow.config.model import Config, FlowConfig
from agentflow.core.plan import Branch, Call, Condition, Flow, Node, Par, Seq, key_of, walk_nodes
from agentflow.core.subscription import Subscription
from agentflow.modes import Mode, keys
from agentflow.modes.beside import mistakes_beside
from agentflow.modes.conditions import Asked, mistakes_in_conditions
from agentflow.modes.contracts import Contracts, mistakes_in_aggregate
from agentflow.modes.findings import Findings
from agentflow.modes.inputs import Inputs
from agentflow.modes.limits import errors_of, flow_of, subscriptions_of
from agentflow.modes.names import Names
from agentflow.modes.nodes import Flows, Nodes
from agentflow.modes.reach import plain_flows
from agentflow.modes.tools import Tools as Tools

MAX_NESTING = 16
MAX_CALLS = 20_000


class Linker:
    """Links the flows of one configuration; `diagnostics` collects what is wrong with them."""

    def __init__(self, config: Config, tools: Tools) -> None:
        self._findings = Findings()
        self._config = config
        self._tools = tools
        self._names = Names(config, tools.extra_agents, self._findings)
        self._asked: list[Asked] = []
        self._flows = Flows(config.agents, self.named, self._members, self._has_room, self._asked.append)
        self._contracts = Contracts(config, tools.schema)
        self._main: Node | None = None
        self._open: list[str] = []
        self._linked: dict[str, Node | None] = {}
        self._keys: dict[str, frozenset[str]] = {}  # names of outputs by flow, "" for all there are
        self._plain: list[str] | None = None
        self._calls = 0
        self._is_overfull = False

    @property
    def diagnostics(self) -> list[Diagnostic]:
        """What is wrong with the flows that were linked."""
        return self._findings.diagnostics

    def main(self, mode: str | None = None) -> Node | None:
        """Link the main flow, in another mode when given; None when it has mistakes."""
        flow = self._config.orchestration
        if mode is not None:  # what an event asks for wins over the switch
            flow = flow.model_copy(update={"mode": mode, "switch": []})
        name = self._config.agent_flow.name or "main"
        told = replace(flow_of(name, flow, self._config.agents), errors=errors_of(self._config))
        self._main = self._flow(told, flow, ("orchestration",))
        return self._contracts.applied(self._main)

    def alone(self, name: str) -> Node | None:
        """Link a named flow that is to be the main one of a run; None when it has mistakes."""
        node = self.named(name)
        if node is None or isinstance(node, Call) or node.flow is None:
            return self._contracts.applied(node, name)
        return self._contracts.applied(replace(node, flow=replace(node.flow, errors=errors_of(self._config))), name)

    def subscriptions(self) -> tuple[Subscription, ...]:
        """Return what agents subscribe to, in the order of the file."""
        return tuple(replace(one, call=self._contracts.under(one.call)) for one in subscriptions_of(self._config))

    def named(self, name: str, path: KeyPath = (), on: On = "value") -> Node | None:
        """Link a named flow; once linked it is shared by all that name it. None when it has mistakes."""
        if name in self._open:
            cycle = " -> ".join([*self._open[self._open.index(name) :], name])
            self._findings.say("AF0207", f"flow `{name}` contains itself: {cycle}", path, on, 'break the cycle; a loop is mode = "loop"')
            return None
        if len(self._open) >= MAX_NESTING:
            self._findings.say("AF0216", f"flows are nested deeper than {MAX_NESTING} levels at `{name}`", path, on)
            return None
        if name not in self._linked:
            self._open.append(name)
            flow = self._config.flows[name]
            self._linked[name] = self._flow(flow_of(name, flow, self._config.agents), flow, ("flows", name))
            self._open.pop()
        return self._linked[name]

    def check_all(self) -> None:
        """Link every named flow for its mistakes, and note names that stand for two things, or for nobody who can be called."""
        for name in self._config.flows:
            if name in self._config.agents:
                self._findings.say("AF0208", f"`{name}` is both an agent and a flow", ("flows", name), "key", "rename one of them")
            if name not in self._linked:
                self.named(name, ("flows", name), "key")
        self._note(mistakes_beside(self._config, self._tools.extra_agents, self._findings.near))
        self._note(self._contracts.mistakes)
        plans = {"": self._main, **self._linked}
        self._note(mistakes_in_conditions(self._asked, plans, self._config, self._contracts, self._findings.near))

    # --- one flow ---

    def _flow(self, told: Flow, flow: FlowConfig, path: KeyPath) -> Node | None:
        before = len(self.diagnostics)
        mode = self._mode(flow, path)
        if mode is None:
            near = get_close_matches(flow.mode, self._tools.modes, n=1)
            if near:  # probably the one that was meant: its names are checked in the same pass
                self._body(self._tools.modes[near[0]], flow, path)
            self._check_conditions(flow, path, frozenset())
            self._link_switch(flow, path)
            return None
        if mode.everyone and getattr(flow, mode.everyone) is None:
            if not self._names.enabled:
                hint = "add a table [agents.NAME], or register an agent"
                self._findings.say("AF0218", "no agents registered, and none in the file", path, "key", hint)
                return None
            flow = flow.model_copy(update={mode.everyone: list(self._names.enabled)})
        self._check_keys(flow, mode, path)
        body = self._body(mode, flow, path)
        if body is None and not self._is_overfull and not self._findings.has_errors(before):
            self._findings.say("AF0203", f"mode `{flow.mode}` gave no plan, or one without steps", (*path, "mode"))
        cases = self._link_switch(flow, path)
        if body is not None and not self._findings.has_errors(before):
            self._note(mode.mistakes_in_plan(flow, body), path)
        if body is None or cases is None or self._findings.has_errors(before):
            return None
        if cases:
            conditions, nodes = zip(*cases, strict=True)
            return Branch((*nodes, body), conditions, flow=told)
        if isinstance(body, Call) or body.flow is not None:
            return Seq((body,), told)  # a single step keeps what it is: an agent, or a flow of its own
        return replace(body, flow=told)

    def _mode(self, flow: FlowConfig, path: KeyPath) -> Mode | None:
        mode = self._tools.modes.get(flow.mode)
        if mode is None:
            hint = self._findings.near(flow.mode, self._tools.modes)
            self._findings.say("AF0201", f"unknown mode `{flow.mode}`", (*path, "mode"), help=hint)
        elif flow.options is not None and mode.keys:
            hint = "options are for modes registered in Python"
            self._findings.say("AF0214", f"mode `{flow.mode}` takes no options", (*path, "options"), "key", hint)
        return mode

    def _check_keys(self, flow: FlowConfig, mode: Mode, path: KeyPath) -> None:
        self._note(keys.lacking(flow, mode, path), path)
        self._note(keys.unknown_policies(flow, self._findings.near), path)
        self._check_conditions(flow, path, mode.keys)
        if mode.keys:  # what a registered mode reads is not known
            self._note(keys.of_other_modes(flow, self._tools.modes, mode.keys), path)
        self._note(mode.mistakes(flow, self._findings.near), path)
        self._note(mistakes_in_aggregate(flow), path)

    def _check_conditions(self, flow: FlowConfig, path: KeyPath, used: frozenset[str]) -> None:
        """Check the conditions of modes not chosen as far as they go alone."""
        for key, source, at in keys.conditions(flow):
            if key not in used:
                self._tools.compiled(source, (*path, *at), self._findings)

    def _body(self, mode: Mode, flow: FlowConfig, path: KeyPath) -> Node | None:
        """Link what a mode's function gives. A registered one is somebody else's code: it may raise, or give anything."""
        try:
            plan = mode.plan(flow)
        except Exception as error:  # noqa: BLE001
            self._findings.say("AF0217", f"mode `{flow.mode}` raised {type(error).__name__}: {error}", (*path, "mode"))
            return None
        if isinstance(plan, Par) and "on_error" in flow.given:
            what = "on_error says nothing of a parallel flow, whose failures are judged by failure_threshold"
            self._findings.say("AF0219", what, (*path, "on_error"), "key", "remove on_error; it is for sequences, loops and steps")
        body = Nodes(flow, path, self._flows, self._names, self._tools, self._findings).link(plan)
        if body is not None:
            outside = frozenset if path == ("orchestration",) else self._all_keys
            self._note(Inputs(plan, self._inside, outside, self._findings.near).mistakes(), path)
        return body

    def _link_switch(self, flow: FlowConfig, path: KeyPath) -> list[tuple[Condition, Node]] | None:
        cases: list[tuple[Condition, Node]] = []
        is_whole = True
        for index, rule in enumerate(flow.switch):
            at = (*path, "switch", index)
            condition = self._tools.compiled(rule.when, (*at, "when"), self._findings)
            if condition is not None:
                self._asked.append(Asked(condition, (*at, "when")))
            node: Node | None = None
            if rule.use in self._config.flows:
                node = self.named(rule.use, (*at, "use"))
            else:
                hint = self._findings.near(rule.use, self._config.flows)
                self._findings.say("AF0215", f"no flow named `{rule.use}`", (*at, "use"), help=hint)
            if condition is None or node is None:
                is_whole = False
            else:
                cases.append((condition, node))
        return cases if is_whole else None

    # --- what the linking of one flow asks of all ---

    def _members(self, flow: FlowConfig) -> list[str]:
        """List whom a route flow can hand on to: every agent, and every flow that can stand for one here.

        In the main flow these are all that can be an agent. In a named one they are the default and the flows without a
        route flow in them: another could come back to this one.
        """
        flows = self._config.flows
        if not self._open:
            return [
                *self._names.enabled,
                *(name for name, other in flows.items() if other.mode != "route" or other.default_agent is not None),
            ]
        self._plain = plain_flows(self._config, self._tools.modes) if self._plain is None else self._plain
        default = flow.default_agent or ""
        return [*self._names.enabled, *self._plain, *([default] if default in flows and default not in self._plain else ())]

    def _has_room(self, path: KeyPath) -> bool:
        self._calls += 1
        if self._calls <= MAX_CALLS:
            return True
        if not self._is_overfull:
            self._is_overfull = True
            self._findings.say("AF0216", f"the flows come to more than {MAX_CALLS:,} steps", path, "key", "use fewer flows or agents")
        return False

    def _inside(self, name: str) -> frozenset[str]:
        """Return the names of the outputs that a flow's steps have; none for an agent."""
        if name not in self._keys:
            node = self._linked.get(name)
            self._keys[name] = frozenset() if node is None else frozenset(map(key_of, walk_nodes(node)))
        return self._keys[name]

    def _all_keys(self) -> frozenset[str]:
        """Return the names that outputs can have at all: a flow may stand in another one, after members of that."""
        if "" not in self._keys:
            flows = (self._config.orchestration, *self._config.flows.values())
            steps = {step.id for flow in flows for step in flow.steps if step.id is not None}
            nodes = {table.name for flow in flows for table in flow.nodes}
            self._keys[""] = frozenset({*self._names.enabled, *self._config.flows, *steps, *nodes})
        return self._keys[""]

    def _note(self, found: Iterable[Diagnostic], path: KeyPath = ()) -> None:
        for one in found:
            self._findings.note(replace(one, path=(*path, *one.path)))
