"""Linking the nodes of one flow's plan: names become calls with their limits and flows, texts become conditions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

from agentflow.config.display import KeyPath
from agentflow.config.model import AgentConfig, FlowConfig
from agentflow.core.aggregate import Aggregate, Gather, is_function
from agentflow.core.merge import NAMED_POLICIES, Merge
from agentflow.core.plan import Branch, Call, Condition, Edge, Loop, Map, Node, Par, Seq, Unread, name_of
from agentflow.modes.conditions import Asked
from agentflow.modes.findings import Findings
from agentflow.modes.limits import limited
from agentflow.modes.members import Member
from agentflow.modes.names import Names
from agentflow.modes.tools import Tools


@dataclass(frozen=True)
class Flows:
    """What the linking of one flow asks of the whole configuration.

    Attributes:
        agents: the tables of the agents.
        named: links a flow by its name, and gives None when it has mistakes.
        members: lists whom a route flow can hand on to.
        has_room: counts one more call, and says whether there may be so many; notes at a path when not.
        asked: takes each condition that was compiled, to look later at what it asks about.
    """

    agents: dict[str, AgentConfig]
    named: Callable[[str, KeyPath], Node | None]
    members: Callable[[FlowConfig], list[str]]
    has_room: Callable[[KeyPath], bool]
    asked: Callable[[Asked], None]


class Nodes:
    """Links the nodes of one flow's plan; what is wrong with them goes into the findings.

    Args:
        flow: the flow's table.
        path: where it stands.
        flows, names, tools, findings: what is known of the whole configuration.
    """

    def __init__(self, flow: FlowConfig, path: KeyPath, flows: Flows, names: Names, tools: Tools, findings: Findings) -> None:
        self._flow, self._path = flow, path
        self._flows, self._names, self._tools, self._findings = flows, names, tools, findings

    def link(self, node: Node) -> Node | None:
        """Return a node linked; None when it, or one below, has mistakes."""
        match node:
            case Call():
                return self._call(node)
            case Seq(steps=steps):
                linked = self._each(steps)
                return replace(node, steps=linked) if linked else None
            case Par():
                return self._par(node)
            case Loop():
                return self._loop(node)
            case Branch(cases=cases):
                if node.routes is not None:
                    return self._malformed("a Branch by route stands outside a Loop that hands on and outside a Map")
                conditions = [self._condition(one) for one in node.conditions]
                linked = self._each(cases)
                if not linked or not all(conditions):
                    return None
                return replace(node, cases=linked, conditions=tuple(one for one in conditions if one is not None))
            case Map():
                return self._map(node)

    def rule(self, source: str, path: KeyPath) -> Condition | None:
        """Compile a condition; None when it cannot be read."""
        condition = self._tools.compiled(source, path, self._findings)
        if condition is not None:
            self._flows.asked(Asked(condition, path))
        return condition

    def _par(self, node: Par) -> Node | None:
        if node.concurrency < 1:
            return self._malformed(f"Par.concurrency is {node.concurrency}")
        if node.quorum is not None and node.quorum > len(node.branches):
            message = f"`quorum` is {node.quorum}, and there are {len(node.branches)} to work at once"
            self._findings.say("AF0223", message, (*self._path, "quorum"), help=f"use a number from 1 to {len(node.branches)}")
        self._say_twice(node.branches)
        linked = self._each(node.branches)
        return replace(node, branches=linked, merge=self._merge(node.merge), aggregate=self._aggregate(node.aggregate)) if linked else None

    def _loop(self, node: Loop) -> Node | None:
        if node.bound < 1:
            return self._malformed(f"Loop.bound is {node.bound}")
        if not node.is_handoff:
            inner = self.link(node.body)
        elif isinstance(node.body, Branch) and node.body.routes is not None:
            inner = self._routed(node.body) if node.body.cases else self._everyone(node.body)
        else:
            inner = self._malformed("the body of a Loop that hands on is no Branch by route")
        until = None if node.until is None else self._condition(node.until, ("until",))
        edges = tuple(self._edge(edge) for edge in node.edges)
        return replace(node, body=inner, until=until, edges=edges) if inner is not None else None

    def _edge(self, edge: Edge) -> Edge:
        return edge if edge.when is None else replace(edge, when=self._condition(edge.when))

    def _map(self, node: Map) -> Node | None:
        if node.concurrency < 1 or node.most < 1:
            return self._malformed(f"Map.concurrency is {node.concurrency}, Map.most {node.most}")
        is_routed = isinstance(node.body, Branch) and node.body.routes is not None
        body = self._routed(node.body) if isinstance(node.body, Branch) and is_routed else self.link(node.body)
        return replace(node, body=body, merge=self._merge(node.merge)) if body is not None else None

    def _routed(self, node: Branch) -> Branch | None:
        """Link a branch by route; one without routes has its members' names, and what they can do."""
        self._say_twice(node.cases)
        linked = self._each(node.cases)
        if not linked:
            return None
        routes = node.routes
        if not routes:
            names: dict[str, int] = {}
            for case, member in enumerate(node.cases):
                names.setdefault(name_of(member), case)
            routes = self._names.routes(names, self._place_of(node.cases[0])[: len(self._path) + 1])
        return replace(node, cases=linked, routes=routes)

    def _everyone(self, node: Branch) -> Node | None:
        """Give a branch by route without cases one for every agent, and every flow that can stand for one here."""
        if not self._flows.has_room(self._path):
            return None
        default = node.default
        if default is not None and self._names.is_flow(default):
            if not self._names.check_flow(default, (*self._path, "default_agent")):
                return None
        elif default is not None and not self._names.check_agent(default, (*self._path, "default_agent")):
            return None
        names = self._flows.members(self._flow)
        if not names:
            self._findings.say(
                "AF0218", "there is no agent to route to", self._path, "key", "add a table [agents.NAME], or register an agent"
            )
            return None
        linked = self._each(tuple(Call(name) for name in names))
        return replace(node, cases=linked, routes={name: index for index, name in enumerate(names)}) if linked else None

    def _call(self, call: Call) -> Node | None:
        at = self._place_of(call)
        if not self._flows.has_room(self._path):
            return None
        if not call.agent and isinstance(call.part, Member) and call.part.at[0] not in self._flow.given:
            return None  # the key that would name it is missing, which is told of the flow
        if self._names.is_flow(call.agent):
            return self._nested(call, at)
        if not self._names.check_agent(call.agent, at):
            return None
        member = call.part
        if isinstance(member, Member) and member.approval_timeout_s is not None and not self._asks(call.agent, member):
            self._findings.say(
                "AF0121",
                f"step `{member.id or call.agent}` has `approval_timeout_seconds`, but needs no approval",
                (*at[:-1], "approval_timeout_seconds"),
                "key",
                "add requires_approval = true, or take it out",
            )
        return limited(call, self._flow, self._flows.agents)

    def _asks(self, name: str, member: Member) -> bool:
        agent = self._flows.agents.get(name)
        return (agent is not None and agent.requires_approval) if member.requires_approval is None else member.requires_approval

    def _nested(self, call: Call, at: KeyPath) -> Node | None:
        """Return the flow that a call names, with what this one says of it as its member."""
        member = call.part
        self._say_of_flow(call, at)
        if not self._names.check_flow(call.agent, at):
            return None
        node = self._flows.named(call.agent, at)
        part = member.part if isinstance(member, Member) else member
        if part is None or node is None or isinstance(node, Call) or node.flow is None:
            return node
        return replace(node, flow=replace(node.flow, part=part))

    def _say_of_flow(self, call: Call, at: KeyPath) -> None:
        """Note what a step says that only an agent can honour."""
        member = call.part if isinstance(call.part, Member) else Member()
        cures = {
            "max_retries": f"give the agents of [flows.{call.agent}] a retry of their own, or it retry_attempts",
            "requires_approval": f"let the first agent of [flows.{call.agent}] require it, or put a step with an agent before this one",
            "approval_timeout_s": "take it out",
        }
        for name, cure in cures.items():
            if getattr(member, name) is not None:
                key = "approval_timeout_seconds" if name == "approval_timeout_s" else name
                message = f"`{key}` is for agents, and `{call.agent}` is a flow"
                self._findings.say("AF0231", message, (*at[:-1], key), "key", cure)

    def _each(self, nodes: tuple[Node, ...]) -> tuple[Node, ...] | None:
        linked = [self.link(node) for node in nodes]
        return tuple(node for node in linked if node is not None) if all(node is not None for node in linked) else None

    def _say_twice(self, members: tuple[Node, ...]) -> None:
        """Note each member of a list that stands in it twice: steps have ids, and are looked at as tables."""
        seen: set[str] = set()
        for call in members:
            member = call.part if isinstance(call, Call) else None
            if isinstance(call, Call) and isinstance(member, Member) and member.at and isinstance(member.at[-1], int):
                if call.agent in seen:
                    message = f"`{call.agent}` is in the list twice"
                    self._findings.say("AF0209", message, self._place_of(call), help="each may work once at a time; remove one")
                seen.add(call.agent)

    def _place_of(self, node: Node) -> KeyPath:
        """Return where a member's name stands; a registered mode names it in its plan alone."""
        member = node.part if isinstance(node, Call) else None
        return (*self._path, *(member.at if isinstance(member, Member) and member.at else ("mode",)))

    def _condition(self, one: Condition | Unread, path: KeyPath = ("mode",)) -> Condition | None:
        return self.rule(one.source, (*self._path, *(one.path or path))) if isinstance(one, Unread) else one

    def _merge(self, merge: Merge) -> Merge:
        functions = {policy: self._tools.function(policy) for policy in merge.keys.values() if policy not in NAMED_POLICIES}
        return replace(merge, functions=functions) if functions else merge

    def _aggregate(self, aggregate: Aggregate | None) -> Aggregate | None:
        if aggregate is None or not is_function(aggregate.source):
            return aggregate
        return replace(aggregate, function=cast("Gather", self._tools.function(aggregate.source)))

    def _malformed(self, what: str) -> Node | None:
        self._findings.say("AF0217", f"mode `{self._flow.mode}` gave a plan that cannot run: {what}", (*self._path, "mode"))
        return None
