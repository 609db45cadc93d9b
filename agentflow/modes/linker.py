"""The linker: from a configuration to linked plans, with every mistake of meaning as a diagnostic.

A mode's function says which agents and flows work together, by name. The linker checks the names, puts each agent's
limits into its calls, nested flows in the place of their names, and compiled conditions in the place of their text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches

from agentflow.config.diagnostics import Diagnostic, On
from agentflow.config.display import KeyPath
from agentflow.config.model import Config, FlowConfig
from agentflow.core.merge import NAMED_POLICIES, Combine, Merge
from agentflow.core.plan import Branch, Call, Condition, Flow, Loop, Node, Par, Seq, Unread
from agentflow.errors import RuleError, did_you_mean
from agentflow.modes import LATER_MODES, MODES, Mode
from agentflow.modes.beside import mistakes_beside
from agentflow.modes.limits import errors_of, flow_of, limited

MAX_NESTING = 16
MOST_DIAGNOSTICS = 500
MAX_CALLS = 20_000
MAX_HINTS = 20  # the search for the nearest name takes its time, and nobody reads more of them
MAX_COMPARED = 20_000  # names, over all hints
MAX_LISTED = 20  # names that one hint lists
MODE_KEYS = frozenset().union(*(mode.keys for mode in MODES.values()))
_NAME_LISTS = ("collaborative_agents", "sequential_agents")
_NAMES = ("loop_agent", "default_agent")
_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z]\w*")


@dataclass(frozen=True)
class Tools:
    """What the linker is given from outside the pure layers.

    Attributes:
        modes: the known modes, registered ones included.
        rule: compiles a condition, or raises RuleError.
        function: finds the function a merge policy `module:function` names.
        extra_agents: agents registered in Python without a table.
    """

    modes: Mapping[str, Mode]
    rule: Callable[[str], Condition]
    function: Callable[[str], Combine]
    extra_agents: tuple[str, ...] = ()


class Linker:
    """Links the flows of one configuration; `diagnostics` collects what is wrong with them."""

    def __init__(self, config: Config, tools: Tools) -> None:
        self.diagnostics: list[Diagnostic] = []
        self._unsaid = 0
        self._config = config
        self._tools = tools
        self._open: list[str] = []
        self._linked: dict[str, Node | None] = {}
        self._said: set[Diagnostic] = set()
        self._plain: list[str] | None = None
        self._calls = self._hints = self._compared = 0
        self._is_overfull = False
        self._enabled = (*(name for name, agent in config.agents.items() if agent.enabled), *tools.extra_agents)
        self._may_be_called = frozenset(self._enabled)
        self._known = (*config.agents, *config.flows)

    def main(self, mode: str | None = None) -> Node | None:
        """Link the main flow, in another mode when given; None when it has mistakes."""
        flow = self._config.orchestration
        if mode is not None:  # what an event asks for wins over the switch
            flow = flow.model_copy(update={"mode": mode, "switch": []})
        name = self._config.agent_flow.name or "main"
        told = replace(flow_of(name, flow, self._config.agents), errors=errors_of(self._config))
        return self._flow(told, flow, ("orchestration",))

    def alone(self, name: str) -> Node | None:
        """Link a named flow that is to be the main one of a run; None when it has mistakes."""
        node = self.named(name)
        if node is None or isinstance(node, Call) or node.flow is None:
            return node
        return replace(node, flow=replace(node.flow, errors=errors_of(self._config)))

    def named(self, name: str, path: KeyPath = (), on: On = "value") -> Node | None:
        """Link a named flow; once linked it is shared by all that name it. None when it has mistakes."""
        if name in self._open:
            cycle = " -> ".join([*self._open[self._open.index(name) :], name])
            self._say("AF0207", f"flow `{name}` contains itself: {cycle}", path, on, 'break the cycle; a loop is mode = "loop"')
            return None
        if len(self._open) >= MAX_NESTING:
            self._say("AF0216", f"flows are nested deeper than {MAX_NESTING} levels at `{name}`", path, on)
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
                self._say("AF0208", f"`{name}` is both an agent and a flow", ("flows", name), "key", "rename one of them")
            if name not in self._linked:
                self.named(name, ("flows", name), "key")
        for found in mistakes_beside(self._config, self._tools.extra_agents, self._near):
            self._note(found)

    # --- one flow ---

    def _flow(self, told: Flow, flow: FlowConfig, path: KeyPath) -> Node | None:
        before = len(self.diagnostics)
        mode = self._mode(flow, path)
        if mode is None:
            near = get_close_matches(flow.mode, self._tools.modes, n=1)
            if near:  # probably the one that was meant: its names are checked in the same pass
                self._check_names(flow, self._tools.modes[near[0]], path)
            self._check_unused(flow, path, frozenset())
            self._link_switch(flow, path)
            return None
        if "collaborative_agents" in mode.keys and flow.mode == "collaborative" and flow.collaborative_agents is None:
            if not self._enabled:
                hint = "add a table [agents.NAME], or register an agent"
                self._say("AF0218", "no agents registered, and none in the file", path, "key", hint)
                return None
            flow = flow.model_copy(update={"collaborative_agents": list(self._enabled)})
        self._check_needs(flow, mode, path)
        self._check_names(flow, mode, path)
        self._check_unused(flow, path, mode.keys)
        if self._has_errors(before):
            self._link_switch(flow, path)
            return None
        body = self._planned(mode, flow, path)
        if isinstance(body, Par) and flow.on_error != "stop":
            self._say_parallel(path)
        if body is None and not self._is_overfull and not self._has_errors(before):
            self._say("AF0203", f"mode `{flow.mode}` gave no plan, or one without steps", (*path, "mode"))
        cases = self._link_switch(flow, path)
        if body is None or cases is None or self._has_errors(before):
            return None
        if cases:
            conditions, nodes = zip(*cases, strict=True)
            return Branch((*nodes, body), conditions, flow=told)
        if isinstance(body, Call) or body.flow is not None:
            return Seq((body,), told)  # a single step keeps what it is: an agent, or a flow of its own
        return replace(body, flow=told)

    def _planned(self, mode: Mode, flow: FlowConfig, path: KeyPath) -> Node | None:
        """Link what a mode's function gives. A registered one is somebody else's code: it may raise, or give anything."""
        try:
            plan = mode.plan(flow)
        except Exception as error:  # noqa: BLE001
            self._say("AF0217", f"mode `{flow.mode}` raised {type(error).__name__}: {error}", (*path, "mode"))
            return None
        return self._link(plan, flow, path)

    def _mode(self, flow: FlowConfig, path: KeyPath) -> Mode | None:
        mode = self._tools.modes.get(flow.mode)
        where = (*path, "mode")
        if mode is None and flow.mode in LATER_MODES:
            self._say("AF0202", f"mode `{flow.mode}` is not supported yet", where, help=f"modes today: {', '.join(self._tools.modes)}")
        elif mode is None:
            self._say("AF0201", f"unknown mode `{flow.mode}`", where, help=self._near(flow.mode, self._tools.modes))
        elif flow.mode == "collaborative" and "on_error" in flow.given:
            self._say_parallel(path)
        elif flow.options is not None and mode.keys:
            hint = "options are for modes registered in Python"
            self._say("AF0214", f"mode `{flow.mode}` takes no options", (*path, "options"), "key", hint)
        return mode

    def _say_parallel(self, path: KeyPath) -> None:
        what = "on_error says nothing of a parallel flow, whose failures are judged by failure_threshold"
        self._say("AF0219", what, (*path, "on_error"), "key", "remove on_error; it is for sequences, loops and steps")

    def _check_needs(self, flow: FlowConfig, mode: Mode, path: KeyPath) -> None:
        for group in mode.needs:
            if all(getattr(flow, key) is None for key in group):
                keys = " or ".join(f"`{key}`" for key in group)
                example = f'{group[0]} = "a"' if group[0] in _NAMES else f'{group[0]} = ["a", "b"]'
                self._say("AF0203", f"mode `{flow.mode}` needs {keys}", (*path, group[0]), "key", f"add e.g. {example}")

    def _check_names(self, flow: FlowConfig, mode: Mode, path: KeyPath) -> None:
        for key in _NAME_LISTS:
            names = getattr(flow, key)
            if key in mode.keys and names is not None:
                self._check_list(key, names, (*path, key))
        for key in _NAMES:
            name = getattr(flow, key)
            if key in mode.keys and name is not None:
                self._check_name(name, (*path, key))
        self._check_merge(flow, path)

    def _check_list(self, key: str, names: list[str], path: KeyPath) -> None:
        if not names:
            self._say("AF0204", f"`{key}` is empty", path, help="name at least one agent or flow")
        seen: set[str] = set()
        for index, name in enumerate(names):
            if name in seen and key == "collaborative_agents":
                self._say("AF0209", f"`{name}` is in the list twice", (*path, index), help="each may work once at a time; remove one")
            seen.add(name)
            self._check_name(name, (*path, index))

    def _check_name(self, name: str, path: KeyPath) -> None:
        if name in self._config.flows:
            flow = self._config.flows[name]
            if flow.mode == "route" and flow.default_agent is None and not flow.switch:
                message = f"route flow `{name}` is used as an agent and has no default_agent"
                self._say("AF0212", message, path, help=f"add default_agent to [flows.{name}]")
            else:
                self.named(name, path)
            return
        agent = self._config.agents.get(name)
        if agent is None and name not in self._tools.extra_agents:
            near = self._near(name, self._known)
            hint = f"add a table [agents.{name}]"
            self._say("AF0205", f"no agent or flow named `{name}`", path, help=f"{near}; or {hint}" if near else hint)
        elif agent is not None and not agent.enabled:
            self._say("AF0206", f"agent `{name}` is disabled", path, help=f"enable [agents.{name}], or take it out of the list")

    def _check_merge(self, flow: FlowConfig, path: KeyPath) -> None:
        for key, policy in (flow.merge if isinstance(flow.merge, dict) else {}).items():
            if policy not in NAMED_POLICIES and not _REFERENCE.fullmatch(policy):
                hint = f"{self._near(policy, NAMED_POLICIES)} or write module:function".lstrip()
                self._say("AF0213", f"unknown merge policy `{policy}`", (*path, "merge", key), help=hint)

    def _check_unused(self, flow: FlowConfig, path: KeyPath, used: frozenset[str]) -> None:
        """Check the keys of modes not chosen as far as they go alone, and list them."""
        if flow.until is not None and "until" not in used:
            self._rule(flow.until, (*path, "until"))
        for key in sorted(flow.given & MODE_KEYS - used) if used else ():
            users = ", ".join(name for name, mode in self._tools.modes.items() if key in mode.keys)
            self._say("AF0290", f"`{key}` is used by mode {users}, not by `{flow.mode}`", (*path, key), "key", severity="warning")

    def _link_switch(self, flow: FlowConfig, path: KeyPath) -> list[tuple[Condition, Node]] | None:
        cases: list[tuple[Condition, Node]] = []
        is_whole = True
        for index, rule in enumerate(flow.switch):
            at = (*path, "switch", index)
            condition = self._rule(rule.when, (*at, "when"))
            node: Node | None = None
            if rule.use in self._config.flows:
                node = self.named(rule.use, (*at, "use"))
            else:
                self._say("AF0215", f"no flow named `{rule.use}`", (*at, "use"), help=self._near(rule.use, self._config.flows))
            if condition is None or node is None:
                is_whole = False
            else:
                cases.append((condition, node))
        return cases if is_whole else None

    # --- linking a mode's plan ---

    def _link(self, node: Node, flow: FlowConfig, path: KeyPath) -> Node | None:
        match node:
            case Call():
                return self._link_call(node, flow, path)
            case Seq(steps=steps):
                linked = self._link_each(steps, flow, path)
                return replace(node, steps=linked) if linked else None
            case Par(branches=branches):
                if node.concurrency < 1:
                    return self._malformed(flow, path, f"Par.concurrency is {node.concurrency}")
                if node.quorum is not None and node.quorum > len(branches):
                    message = f"`quorum` is {node.quorum}, and there are {len(branches)} to work at once"
                    self._say("AF0223", message, (*path, "quorum"), help=f"use a number from 1 to {len(branches)}")
                linked = self._link_each(branches, flow, path)
                return replace(node, branches=linked, merge=self._link_merge(node.merge)) if linked else None
            case Loop(body=body, until=until):
                if node.bound < 1:
                    return self._malformed(flow, path, f"Loop.bound is {node.bound}")
                inner = self._link_hand_off(body, flow, path) if node.is_handoff else self._link(body, flow, path)
                if isinstance(until, Unread):
                    until = self._rule(until.source, (*path, "until"))
                return replace(node, body=inner, until=until) if inner is not None else None
            case Branch(cases=cases):
                if node.routes is not None:
                    return self._malformed(flow, path, "a Branch by route stands outside a Loop that hands on")
                conditions = [self._rule(one.source, (*path, "mode")) if isinstance(one, Unread) else one for one in node.conditions]
                linked = self._link_each(cases, flow, path)
                if not linked or not all(conditions):
                    return None
                return replace(node, cases=linked, conditions=tuple(one for one in conditions if one is not None))

    def _link_hand_off(self, body: Node, flow: FlowConfig, path: KeyPath) -> Node | None:
        if not isinstance(body, Branch) or body.routes is None:
            return self._malformed(flow, path, "the body of a Loop that hands on is no Branch by route")
        if not body.cases:
            return self._link_routes(body, flow, path)
        linked = self._link_each(body.cases, flow, path)
        return replace(body, cases=linked) if linked else None

    def _malformed(self, flow: FlowConfig, path: KeyPath, what: str) -> Node | None:
        self._say("AF0217", f"mode `{flow.mode}` gave a plan that cannot run: {what}", (*path, "mode"))
        return None

    def _link_each(self, nodes: tuple[Node, ...], flow: FlowConfig, path: KeyPath) -> tuple[Node, ...] | None:
        linked = [self._link(node, flow, path) for node in nodes]
        return tuple(node for node in linked if node is not None) if all(node is not None for node in linked) else None

    def _link_call(self, call: Call, flow: FlowConfig, path: KeyPath) -> Node | None:
        name = call.agent
        self._calls += 1
        if self._is_over_limit(path):
            return None
        if name in self._config.flows:
            return self.named(name, path)
        if name not in self._may_be_called:
            self._check_name(name, (*path, "mode"))  # a registered mode may name anything
            return None
        return limited(call, flow, self._config.agents)

    def _link_routes(self, node: Branch, flow: FlowConfig, path: KeyPath) -> Node | None:
        """Give a branch by route a case for every agent, and every flow that can stand for one here.

        In the main flow these are all that can be an agent. In a named one they are the default and the flows without a
        route flow in them: another could come back to this one.
        """
        if self._is_over_limit(path):
            return None
        flows = self._config.flows
        if self._open:
            self._plain = self._plain_flows() if self._plain is None else self._plain
            default = flow.default_agent or ""
            names = [*self._enabled, *self._plain, *([default] if default in flows and default not in self._plain else ())]
        else:
            names = [*self._enabled, *(name for name, other in flows.items() if other.mode != "route" or other.default_agent is not None)]
        before = len(self.diagnostics)
        cases = [self._link_call(Call(name), flow, path) for name in names]
        if self._has_errors(before) or not cases:
            if not cases:
                self._say("AF0218", "there is no agent to route to", path, "key", "add a table [agents.NAME], or register an agent")
            return None
        routes = {name: index for index, name in enumerate(names)}
        return replace(node, cases=tuple(case for case in cases if case is not None), routes=routes)

    def _plain_flows(self) -> list[str]:
        """List the flows that are no route flow and name none, directly or by way of others."""
        named_by: dict[str, list[str]] = {}
        for name, flow in self._config.flows.items():
            names = [*(flow.collaborative_agents or ()), *(flow.sequential_agents or ()), *(rule.use for rule in flow.switch)]
            for other in (*names, flow.loop_agent or ""):
                named_by.setdefault(other, []).append(name)
        # What a registered mode's plan names is not known from its keys: its flows are taken for route flows.
        plain = {name for name, mode in self._tools.modes.items() if mode.keys and name != "route"}
        waiting = [name for name, flow in self._config.flows.items() if flow.mode not in plain]
        routing = set(waiting)
        while waiting:
            found = [name for name in named_by.get(waiting.pop(), ()) if name not in routing]
            routing.update(found)
            waiting.extend(found)
        return [name for name in self._config.flows if name not in routing]

    def _is_over_limit(self, path: KeyPath) -> bool:
        is_over = self._calls > MAX_CALLS
        if is_over and not self._is_overfull:
            self._is_overfull = True
            self._say("AF0216", f"the flows come to more than {MAX_CALLS:,} steps", path, "key", "use fewer flows or agents")
        return is_over

    def _link_merge(self, merge: Merge) -> Merge:
        functions = {policy: self._tools.function(policy) for policy in merge.keys.values() if policy not in NAMED_POLICIES}
        return replace(merge, functions=functions) if functions else merge

    def _rule(self, source: str, path: KeyPath) -> Condition | None:
        try:
            return self._tools.rule(source)
        except RuleError as error:
            self._say(error.code, error.message, path, help=error.hint)
            return None

    # --- diagnostics ---

    def _say(self, code: str, message: str, path: KeyPath, on: On = "value", help: str = "", severity: str = "error") -> None:  # noqa: A002 - a diagnostic's own word
        self._note(Diagnostic(code, message, path, on, help, severity))  # type: ignore[arg-type]

    def _note(self, found: Diagnostic) -> None:
        if len(self._said) >= MOST_DIAGNOSTICS:
            self._unsaid += 1
        elif found not in self._said:
            self._said.add(found)
            self.diagnostics.append(found)

    def _near(self, name: str, known: Collection[str]) -> str:
        if self._hints >= MAX_HINTS or self._compared >= MAX_COMPARED:
            return ""
        self._hints += 1
        self._compared += len(known)
        hint = did_you_mean(name, known)
        return hint if len(known) <= MAX_LISTED or hint.startswith("did") else f"{len(known):,} names are known"

    def _has_errors(self, since: int) -> bool:
        return any(found.severity == "error" for found in self.diagnostics[since:])
