"""Conditions: whether what they ask about can be there, as far as agents and flows declare what they set.

Outputs are those of the flow's members and of those around it. A key of an output is checked where its agent declares `writes`, or an
`output_schema` without other keys. A key of the state is checked where a `state_schema` allows no others, or all agents declare theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.display import KeyPath
from agentflow.config.model import Config
from agentflow.core.agenda import KINDS
from agentflow.core.aggregate import is_function
from agentflow.core.contract import LOOP_KEYS
from agentflow.core.plan import Call, Condition, Map, Node, Par, calls_beside, key_of, walk_nodes
from agentflow.modes.contracts import Contracts

STEERING = frozenset({*LOOP_KEYS, "tasks", *(key for kind in KINDS.values() for key in kind.controls)})  # no agent declares these
RESULTS = "results"  # the key that a Map sets whose results nobody is given

Near = Callable[[str, Collection[str]], str]


@runtime_checkable
class Asking(Protocol):
    """A condition that can say what it asks about."""

    @property
    def paths(self) -> Sequence[tuple[str, tuple[str, ...]]]:
        """What it asks about: `state`, `meta`, `event` or `outputs`, and the names below."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A condition and where it stands in the configuration."""

    condition: Condition
    path: KeyPath

    @property
    def flow(self) -> str:
        """The flow whose condition it is, "" for the main flow."""
        return str(self.path[1]) if self.path[0] == "flows" else ""


def mistakes_in_conditions(
    asked: Sequence[Asked], plans: Mapping[str, Node | None], config: Config, contracts: Contracts, near: Near
) -> Iterator[Diagnostic]:
    """Yield what conditions ask about that cannot be there.

    Args:
        asked: the conditions.
        plans: each flow's linked plan by name, the main flow's by ""; None for one with mistakes: then only
            names that nothing has are told.
        config: the configuration.
        contracts: what it declares.
        near: gives a hint at the nearest of some names.
    """
    if not asked:
        return
    known = _Known(plans, config, contracts)
    for one in asked:
        paths = one.condition.paths if isinstance(one.condition, Asking) else ()
        for root, path in paths:
            if root == "outputs" and path:
                yield from _output(known, one, path, near)
            elif root == "state" and path:
                yield from _key(known, one, path[0], near)


@dataclass
class _Place:
    """What can be there in a flow and around it: None of keys says that there may be any."""

    outputs: dict[str, frozenset[str] | None] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    is_open: bool = False
    closed: list[tuple[str, frozenset[str]]] = field(default_factory=list)  # the flows around that allow no other keys


class _Known:
    """What is known of the flows of one configuration."""

    def __init__(self, plans: Mapping[str, Node | None], config: Config, contracts: Contracts) -> None:
        self._config = config
        self._contracts = contracts
        self._plans = {name: plan for name, plan in plans.items() if plan is not None}
        self._is_whole = "" in plans and len(self._plans) == len(plans)
        self._inside: dict[str, frozenset[str]] = {}  # the flows in each flow
        self._own: dict[str, _Place] = {}
        self._places: dict[str, _Place] = {}
        self._keys: dict[str, frozenset[str] | None] = {}

    def place(self, flow: str) -> _Place:
        """Return what can be there in a flow, by itself or of the flows around it."""
        if flow not in self._places:
            self._places[flow] = self._around(flow) if self._is_whole else _Place(dict.fromkeys(self._everybody()), is_open=True)
        return self._places[flow]

    def _everybody(self) -> Iterator[str]:
        """Yield the names of all outputs that there can be, where the plans are not known."""
        yield from (*self._config.agents, *self._config.flows)
        for table in (self._config.orchestration, *self._config.flows.values()):
            yield from (step.id or step.agent for step in table.steps)
            yield from (node.name for node in table.nodes)
        for plan in self._plans.values():
            yield from map(key_of, walk_nodes(plan))

    def _around(self, flow: str) -> _Place:
        place = _Place()
        for name in self._plans:
            own = self._own_place(name)
            if name == flow or (flow and flow in self._inside[name]):
                for output, keys in own.outputs.items():
                    _note(place, output, keys)
                place.keys |= own.keys
                place.is_open |= own.is_open
                place.closed += own.closed
        return place

    def _own_place(self, name: str) -> _Place:
        if name not in self._own:
            plan = self._plans[name]
            nodes = list(walk_nodes(plan))
            flows = (None if isinstance(node, Call) else node.flow for node in nodes[1:])
            self._inside[name] = frozenset(flow.name for flow in flows if flow is not None)
            place = self._own[name] = _Place(keys={*LOOP_KEYS, RESULTS})
            schema = self._contracts.state_of(name)
            if schema is not None:
                place.keys.update(_properties(schema.source))
                if schema.keys is not None:
                    place.closed.append((name, schema.keys))
            self._add(place, nodes[:1], has_flows=bool(name))  # the main flow has no output of its own
            self._add(place, nodes[1:])
        return self._own[name]

    def _add(self, place: _Place, nodes: Sequence[Node], *, has_flows: bool = True) -> None:
        for node in nodes:
            calls = calls_beside(node)
            for call in (*calls, *([node] if isinstance(node, Call) else ())):
                keys = self._keys_of(call)
                _note(place, key_of(call), keys)
                place.is_open |= keys is None
                place.keys.update(keys or ())
                table = self._config.agents.get(call.agent)
                place.keys.update((table.reads if table is not None else None) or ())
            if isinstance(node, Par) and node.aggregate is not None and is_function(node.aggregate.source):
                place.is_open = True
            if isinstance(node, Map) and node.key:
                place.keys.add(node.key)
            if has_flows and not isinstance(node, Call) and node.flow is not None:
                _note(place, key_of(node), self._keys_of_flow(node, node.flow.name))

    def _keys_of(self, call: Call) -> frozenset[str] | None:
        """Return the keys that a call can set, whoever answers; None for any."""
        found: set[str] = set()
        policy = call.policy
        for agent in (call.agent, *(other.agent for other in (policy.fallback if policy is not None else ()))):
            contract = self._contracts.of(agent)
            written = None if contract is None or contract.writes is None else frozenset(contract.writes)
            allowed = None if contract is None or contract.output is None else contract.output.keys
            if written is None and allowed is None:
                return None
            found |= written & allowed if written is not None and allowed is not None else written or allowed or frozenset()
        return frozenset(found | set((policy.default_output if policy is not None else None) or ()))

    def _keys_of_flow(self, node: Node, name: str) -> frozenset[str] | None:
        if name not in self._keys:
            inner = _Place()
            self._add(inner, list(walk_nodes(node)), has_flows=False)
            schema = self._contracts.state_of(name)
            allowed = None if schema is None else schema.keys
            self._keys[name] = allowed if inner.is_open else frozenset({*inner.keys, RESULTS})
        return self._keys[name]


def _note(place: _Place, name: str, keys: frozenset[str] | None) -> None:
    before = place.outputs.get(name, frozenset())
    place.outputs[name] = None if keys is None or before is None else keys | before


def _output(known: _Known, one: Asked, path: tuple[str, ...], near: Near) -> Iterator[Diagnostic]:
    name, place = path[0], known.place(one.flow)
    source = one.condition.source
    if name not in place.outputs:
        told = f"`outputs.{name}` in `{source}`: no member of the flow, or of one around it, has that name"
        yield Diagnostic("AF0254", told, one.path, help=near(name, place.outputs))
        return
    keys = place.outputs[name]
    if keys is not None and len(path) > 1 and path[1] not in keys | STEERING:
        told = f"`outputs.{name}.{path[1]}` in `{source}`: `{name}` declares no such key"
        yield Diagnostic("AF0255", told, one.path, help=near(path[1], keys))


def _key(known: _Known, one: Asked, key: str, near: Near) -> Iterator[Diagnostic]:
    place, source = known.place(one.flow), one.condition.source
    if key in LOOP_KEYS:
        return
    for flow, allowed in place.closed:
        if key not in allowed:
            whose = f"flow `{flow}`" if flow else "the main flow"
            yield Diagnostic(
                "AF0255", f"`state.{key}` in `{source}`: the state_schema of {whose} has no such key", one.path, help=near(key, allowed)
            )
            return
    if place.is_open or place.closed or key in place.keys:
        return
    hint = near(key, place.keys)
    if hint.startswith("did you mean"):
        yield Diagnostic("AF0255", f"`state.{key}` in `{source}`: no agent declares that it sets this key", one.path, help=hint)
        return
    told = f"`state.{key}` in `{source}`: no agent declares that it sets this key, so it must come with the event"
    yield Diagnostic(
        "AF0295", told, one.path, help="name it in the `writes` of who sets it, or in the `reads` of who needs it", severity="warning"
    )


def _properties(source: Mapping[str, object]) -> Collection[str]:
    properties = source.get("properties")
    return properties if isinstance(properties, dict) else ()
