"""Part: what a flow says of one of its members: the name of its outputs, its own input, and what its failure does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from agentflow.core.values import Json

REDUCE, SYNTHESIS, REPLAN = "reduce", "synthesis", "replan"


@dataclass(frozen=True, slots=True)
class Template:
    """A member's own input: JSON in whose strings `{{ outputs.gather.text }}` stands for what the run knows when the member begins.

    A string that is one such place has the value found there, whatever its type; inside a longer one its text. The event data is
    `{"input": value}`, or with `is_data` the value itself where it is a mapping.
    """

    value: Json
    is_data: bool = False


@dataclass(frozen=True, slots=True)
class Previous:
    """The member's event data is what the member before it set; `instruction` is for `ctx.input`."""

    instruction: Template | None = None


@dataclass(frozen=True, slots=True)
class Results:
    """The member's event data is what the items of the Map before it came to, in one of three forms.

    REDUCE: `{"input": instruction, "results": [patch, …], "failed": [index or id, …]}`. SYNTHESIS: `{"plan": [item, …], "results":
    [{"id", "agent", "output"}, …], "failed": […]}`. REPLAN: the flow's event data with `done`, `failed` and `remaining`.
    """

    form: str
    instruction: Template | None = None


Input: TypeAlias = Template | Previous | Results


@dataclass(frozen=True, slots=True)
class Part:
    """What a flow says of one of its members, an agent or a flow.

    Attributes:
        id: the name of its outputs; "" for the agent's or flow's own.
        input: what it is given in the place of the flow's event data; None for just that.
        on_error: what its failure does to the flow: "" as the flow says; "stop", "continue", or in a graph "route:" and a node.
        title: what people read in its place in plans and diagrams; "" for its id or name.
        order: where it is declared among its flow's members, from 1, if they run in another order; 0 for where it stands in the plan.
    """

    id: str = ""
    input: Input | None = None
    on_error: str = ""
    title: str = ""
    order: int = 0
