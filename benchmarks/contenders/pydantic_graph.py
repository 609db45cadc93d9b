"""pydantic-graph: GraphBuilder with steps, decisions and joins; the state travels as input and output of the steps."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic_graph import GraphBuilder, StepContext, reduce_dict_update

from benchmarks.contender import Contender, Run
from benchmarks.workloads import KINDS, Data, Handler, Workload, copying, handlers, split_mixed


def body(handler: Handler) -> Callable[[StepContext[None, None, Data]], Awaitable[Data]]:
    """Return a handler in the shape of a step."""

    async def step(context: StepContext[None, None, dict]) -> dict:  # type: ignore[type-arg]
        state: Data = await handler(None, context.inputs)
        return state

    return step


class PydanticGraph(Contender):
    """Builds each workload with the edge builder; instrumentation is switched off, as nothing here would read it."""

    distributions = ("pydantic-graph", "pydantic")

    async def build(self, workload: Workload) -> Run:
        """Build the graph."""
        agents = handlers(workload, copying)
        builder: Any = GraphBuilder(input_type=dict, output_type=dict, auto_instrument=False)
        steps = {name: builder.step(body(handler), node_id="run_" + name) for name, handler in agents.items()}
        match workload.mode:
            case "route":
                draw_route(builder, steps)
            case "loop":
                draw_loop(builder, steps["counter"], workload.agents)
            case "sequential":
                draw_joined(builder, [], list(steps.values()))
            case "collaborative":
                draw_joined(builder, list(steps.values()), [])
            case "mixed":
                first, then = split_mixed(list(steps))
                draw_joined(builder, [steps[name] for name in first], [steps[name] for name in then])
        graph = builder.build()

        async def run(data: Data) -> Any:
            return await graph.run(inputs=data, infer_name=False)

        return run


def draw_route(builder: Any, steps: dict[str, Any]) -> None:
    """Add a decision between the four kinds."""
    decision = builder.decision()
    for kind in KINDS:
        match = builder.match(dict, matches=lambda state, kind=kind: state["kind"] == kind)
        decision = decision.branch(match.to(steps["a_" + kind]))
    builder.add(builder.edge_from(builder.start_node).to(decision))
    builder.add(builder.edge_from(*steps.values()).to(builder.end_node))


def draw_loop(builder: Any, step: Any, rounds: int) -> None:
    """Add a decision that goes back to the step until all rounds are done."""
    again = builder.match(dict, matches=lambda state: state["i"] < rounds).to(step)
    decision = builder.decision().branch(again).branch(builder.match(dict).to(builder.end_node))
    builder.add(builder.edge_from(builder.start_node).to(step), builder.edge_from(step).to(decision))


def draw_joined(builder: Any, parallel: list[Any], sequence: list[Any]) -> None:
    """Add parallel steps and their join, where there are any, and the steps that follow one another."""
    chain = [builder.start_node, *sequence, builder.end_node]
    if parallel:
        join = builder.join(reduce_dict_update, initial_factory=dict)
        builder.add(builder.edge_from(builder.start_node).to(*parallel), builder.edge_from(*parallel).to(join))
        chain[0] = join
    builder.add(*[builder.edge_from(one).to(other) for one, other in itertools.pairwise(chain)])
