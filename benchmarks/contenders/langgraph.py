"""LangGraph: one compiled StateGraph, `ainvoke` per event; nodes answer with updates."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph

from benchmarks.contender import Contender, Run
from benchmarks.workloads import Data, Handler, Workload, handlers, split_mixed, updating


def node(handler: Handler) -> Callable[[Data], Awaitable[Data]]:
    """Return a handler in the shape of a node."""

    async def call(state: Data) -> Data:
        update: Data = await handler(None, state)
        return update

    return call


class LangGraph(Contender):
    """Draws each workload with edges; a join is an edge from a list of nodes. No checkpointer."""

    distributions: tuple[str, ...] = ("langgraph", "langgraph-checkpoint", "langchain-core")

    async def build(self, workload: Workload) -> Run:
        """Compile the graph."""
        compiled = self.graph(workload).compile()
        config: Any = {"recursion_limit": workload.agents + 25}

        async def run(data: Data) -> Any:
            return await compiled.ainvoke(data, config)

        return run

    def graph(self, workload: Workload) -> Any:
        """Return the graph of a workload."""
        agents = handlers(workload, updating)
        keys = {"kind": str, "i": int, "doc": str, "lines": list, **dict.fromkeys(agents, int)}
        graph = StateGraph(TypedDict("Channels", keys, total=False))  # type: ignore[operator]
        nodes = ["run_" + name for name in agents]
        for name, handler in zip(nodes, agents.values(), strict=True):
            graph.add_node(name, node(handler))
        draw(graph, workload, nodes)
        return graph


class LangGraphSqlite(LangGraph):
    """The asynchronous SQLite checkpointer with `durability="sync"`: a step is committed before the next one starts.

    The checkpointer sets WAL and leaves `synchronous` at SQLite's default, FULL. Each event has a thread of its own.
    """

    distributions = ("langgraph", "langgraph-checkpoint", "langgraph-checkpoint-sqlite", "aiosqlite")

    async def build(self, workload: Workload) -> Run:
        """Open the checkpointer and compile the graph."""
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        self._opening = AsyncSqliteSaver.from_conn_string(str(self.make_folder() / "checkpoints.db"))
        saver = await self._opening.__aenter__()
        await saver.setup()
        compiled = self.graph(workload).compile(checkpointer=saver)
        limit = workload.agents + 25
        numbers = itertools.count()

        async def run(data: Data) -> Any:
            config: Any = {"configurable": {"thread_id": f"event{next(numbers)}"}, "recursion_limit": limit}
            return await compiled.ainvoke(data, config, durability="sync")

        return run

    async def close(self) -> None:
        """Close the checkpointer."""
        await self._opening.__aexit__(None, None, None)


def draw(graph: Any, workload: Workload, nodes: list[str]) -> None:
    """Add the edges of a workload."""
    match workload.mode:
        case "route":
            graph.add_conditional_edges(START, lambda state: "run_a_" + state["kind"], nodes)
            _to_end(graph, nodes)
        case "loop":
            rounds = workload.agents
            graph.add_edge(START, nodes[0])
            graph.add_conditional_edges(nodes[0], lambda state: nodes[0] if state["i"] < rounds else END, [nodes[0], END])
        case "sequential":
            _chain(graph, [START, *nodes, END])
        case "collaborative":
            _from_start(graph, nodes)
            _to_end(graph, nodes)
        case "mixed":
            first, then = split_mixed(nodes)
            _from_start(graph, first)
            graph.add_edge(first, then[0])
            _chain(graph, [*then, END])


def _chain(graph: Any, nodes: list[str]) -> None:
    for before, after in itertools.pairwise(nodes):
        graph.add_edge(before, after)


def _from_start(graph: Any, nodes: list[str]) -> None:
    for name in nodes:
        graph.add_edge(START, name)


def _to_end(graph: Any, nodes: list[str]) -> None:
    for name in nodes:
        graph.add_edge(name, END)
