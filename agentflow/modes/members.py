"""Members: who works in a flow, as a mode's function names them in its plan: with what their own key or table says of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from agentflow.config.display import KeyPath
from agentflow.config.model import FlowConfig
from agentflow.config.patterns import StepConfig
from agentflow.core.part import Input, Part, Template
from agentflow.core.plan import Call


@dataclass(frozen=True, slots=True)
class Member(Part):
    """What a flow says of a member while the plan is not linked.

    Attributes:
        at: where its name stands in the flow's table, e.g. `("steps", 2, "agent")`, so that a mistake in it is shown there.
        max_retries, requires_approval, approval_timeout_s: what its own table says instead of its agent's; None: nothing.
    """

    at: KeyPath = ()
    max_retries: int | None = None
    requires_approval: bool | None = None
    approval_timeout_s: float | None = None

    @property
    def part(self) -> Part | None:
        """What is left of it in a linked plan; None for nothing."""
        part = Part(self.id, self.input, self.on_error, self.title, self.order)
        return None if part == Part() else part


def named(flow: FlowConfig, key: str, told: Input | None = None) -> Call:
    """Return the member that a key names; `told` is what it is given."""
    return Call(getattr(flow, key) or "", part=Member(input=told, at=(key,)))


def listed(flow: FlowConfig, key: str) -> tuple[Call, ...]:
    """Return the members that a list, or a single name in its place, names."""
    names = getattr(flow, key) or ()
    if isinstance(names, str):
        return (named(flow, key),)
    return tuple(Call(name, part=Member(at=(key, index))) for index, name in enumerate(names))


def specialists(flow: FlowConfig, key: str) -> tuple[Call, ...]:
    """Return the members that a list names, and after them the flow's default agent where it is none of them."""
    members = listed(flow, key)
    is_listed = flow.default_agent is None or flow.default_agent in [call.agent for call in members]
    return members if is_listed else (*members, named(flow, "default_agent"))


def step(flow: FlowConfig, index: int, told: Input | None) -> Call:
    """Return the member that does a step; `told` is what it is given."""
    table = flow.steps[index]
    member = Member(
        id=table.id or "",
        input=told,
        on_error=table.on_error or "",
        title=table.name,
        at=("steps", index, "agent"),
        max_retries=table.max_retries,
        requires_approval=table.requires_approval,
        approval_timeout_s=table.approval_timeout_seconds,
    )
    return Call(table.agent, part=member)


def own_input(table: StepConfig) -> Template | None:
    """Return a step's own input; None where its table has none."""
    return None if table.input is None else Template(table.input)


def own_steps(flow: FlowConfig, phase: str | None = None) -> tuple[Call, ...]:
    """Return the members that do the steps, of one phase where it is given, each with its own input."""
    return tuple(step(flow, index, own_input(table)) for index, table in enumerate(flow.steps) if phase in {None, table.phase})


def id_of(table: StepConfig) -> str:
    """Return the name of a step's outputs."""
    return table.id or table.agent


def routes_to(members: Iterable[Call]) -> dict[str, int]:
    """Return the case of each member by the name of its outputs."""
    routes: dict[str, int] = {}
    for index, call in enumerate(members):
        routes.setdefault((call.part.id if call.part is not None else "") or call.agent, index)
    return routes


def retold(call: Call, told: Input) -> Call:
    """Return a member that is given something else than the event's data."""
    return replace(call, part=replace(call.part or Member(), input=told))
