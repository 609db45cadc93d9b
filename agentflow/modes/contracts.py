"""Contracts: what the tables of agents and flows declare of the state, compiled, and put into linked plans."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TypeAlias

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.display import KeyPath
from agentflow.config.model import AgentConfig, Config, FlowConfig
from agentflow.core.contract import Contract, Schema, hold_to, refuse_whole
from agentflow.core.plan import Branch, Call, ErrorRoutes, Flow, Loop, Map, Node, Par, Policy, Seq
from agentflow.core.state import Patch
from agentflow.core.values import Json
from agentflow.errors import AgentAnswerError, SchemaError

Told: TypeAlias = str | Mapping[str, Json]  # a schema, or its file
ReadSchema: TypeAlias = Callable[[Told, KeyPath], Schema]


def no_schemas(told: Told, path: KeyPath) -> Schema:
    """Stand in for what reads schemas where there is none.

    Raises:
        SchemaError: always.
    """
    raise SchemaError("nothing here can read a schema")


class Contracts:
    """What a configuration declares of the state; what is wrong with it stands in `mistakes`.

    Args:
        config: the configuration.
        read: reads and compiles a schema, or raises SchemaError.
    """

    def __init__(self, config: Config, read: ReadSchema) -> None:
        self.mistakes: list[Diagnostic] = []
        self._read = read
        agents = ((name, self._contract(name, agent)) for name, agent in config.agents.items())
        self._agents = {name: contract for name, contract in agents if contract is not None}
        self._main = self._state(config.orchestration, ("orchestration",))
        flows = ((name, self._state(flow, ("flows", name))) for name, flow in config.flows.items())
        self._flows = {name: schema for name, schema in flows if schema is not None}
        self._is_empty = not (self._agents or self._flows or self._main)

    def of(self, agent: str) -> Contract | None:
        """Return what an agent declares."""
        return self._agents.get(agent)

    def state_of(self, flow: str) -> Schema | None:
        """Return the schema of a named flow's state; of the main flow for ""."""
        return self._flows.get(flow) if flow else self._main

    def applied(self, plan: Node | None, flow: str = "") -> Node | None:
        """Return a linked plan with what its agents and flows declare; `flow` is the root's name, "" for the main flow."""
        if plan is None or self._is_empty:
            return plan
        return _Applied(self).root(plan, self.state_of(flow))

    def under(self, call: Call) -> Call:
        """Return a linked call with what its agent, and those that stand in for it, declare."""
        return call if self._is_empty else _Applied(self).call(call)

    def _contract(self, name: str, agent: AgentConfig) -> Contract | None:
        output = None if agent.output_schema is None else self._schema(agent.output_schema, ("agents", name, "output_schema"))
        contract = Contract(None if agent.writes is None else tuple(agent.writes), output)
        if contract == Contract():
            return None
        if agent.default_output is not None:
            try:
                hold_to(contract, Patch(dict(agent.default_output)), name, {})
            except AgentAnswerError as error:
                cure = error.hint or "give what the agent itself may answer"
                self.mistakes.append(Diagnostic(error.code, error.message, ("agents", name, "default_output"), help=cure))
        return contract

    def _state(self, flow: FlowConfig, path: KeyPath) -> Schema | None:
        if flow.state_schema is None:
            return None
        schema = self._schema(flow.state_schema, (*path, "state_schema"))
        try:
            if schema is not None:
                refuse_whole(schema)
        except SchemaError as error:
            self.mistakes.append(Diagnostic(error.code, error.message, (*path, "state_schema"), help=error.hint))
        return schema

    def _schema(self, told: Told, path: KeyPath) -> Schema | None:
        try:
            schema = self._read(told, path)
            kind = schema.source.get("type", "object")
            if kind != "object" and not (isinstance(kind, list) and "object" in kind):
                raise SchemaError(f"its type is {kind}, and what it is for is an object", hint='write type = "object"')  # noqa: TRY301
        except SchemaError as error:
            self.mistakes.append(Diagnostic(error.code, error.message, path, help=error.hint))
            return None
        return schema


class _Applied:
    """Puts contracts into one plan: each node once, so that what was shared stays shared."""

    def __init__(self, contracts: Contracts) -> None:
        self._contracts = contracts
        self._done: dict[int, tuple[Node, Node]] = {}  # by identity, with the node itself, so that nobody else gets it meanwhile

    def root(self, plan: Node, schema: Schema | None) -> Node:
        done = self._node(plan)
        if isinstance(done, Call) or done.flow is None:
            return done
        return replace(done, flow=replace(done.flow, state_schema=schema))

    def _node(self, node: Node) -> Node:
        if id(node) not in self._done:
            self._done[id(node)] = node, self._made(node)
        return self._done[id(node)][1]

    def _made(self, node: Node) -> Node:
        match node:
            case Call():
                return self.call(node)
            case Seq():
                return replace(node, steps=self._each(node.steps), flow=self._flow(node.flow))
            case Par():
                return replace(node, branches=self._each(node.branches), flow=self._flow(node.flow))
            case Branch():
                return replace(node, cases=self._each(node.cases), flow=self._flow(node.flow))
            case Loop() | Map():
                return replace(node, body=self._node(node.body), flow=self._flow(node.flow))

    def _each(self, nodes: tuple[Node, ...]) -> tuple[Node, ...]:
        return tuple(self._node(node) for node in nodes)

    def call(self, call: Call) -> Call:
        return replace(call, contract=self._contracts.of(call.agent), policy=self._policy(call.policy))

    def _policy(self, policy: Policy | None) -> Policy | None:
        if policy is None:
            return None
        compensate = None if policy.compensate is None else self.call(policy.compensate)
        return replace(policy, fallback=tuple(map(self.call, policy.fallback)), compensate=compensate)

    def _flow(self, flow: Flow | None) -> Flow | None:
        if flow is None:
            return None
        rescue = None if flow.rescue is None else self.call(flow.rescue)
        schema = self._contracts.state_of(flow.name) if flow.name else None
        return replace(flow, rescue=rescue, errors=self._errors(flow.errors), state_schema=schema)

    def _errors(self, errors: ErrorRoutes | None) -> ErrorRoutes | None:
        if errors is None:
            return None
        tables = ({key: self.call(call) for key, call in table.items()} for table in (errors.codes, errors.severities, errors.categories))
        return ErrorRoutes(None if errors.default is None else self.call(errors.default), *tables)


def mistakes_in_aggregate(flow: FlowConfig) -> Iterator[Diagnostic]:
    """Yield what contradicts a flow's `aggregate`, each with its place in the flow's table."""
    if flow.aggregate is None:
        return
    if "merge" in flow.given:
        told = "`aggregate` and `merge` both say what becomes of the branches' answers"
        yield Diagnostic("AF0253", told, ("aggregate",), "key", "take one of them out")
    waiting = next((index for index, step in enumerate(flow.steps) if step.depends_on), None)
    if flow.mode == "parallel" and waiting is not None:
        told = "`aggregate` makes one answer of steps that run at once, and here some wait for others"
        yield Diagnostic("AF0253", told, ("aggregate",), "key", "put those that run at once into a flow of their own, with the aggregate")
