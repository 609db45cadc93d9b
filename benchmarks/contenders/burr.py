"""Apache Burr: a graph built once, one Application per event (an Application is one run)."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

from burr.core import ApplicationBuilder, GraphBuilder, State, action, default, expr
from burr.core.parallelism import MapActions

from benchmarks.contender import Contender, Run
from benchmarks.workloads import KINDS, Data, Handler, Workload, handlers, split_mixed, updating

PAYLOAD = ["kind", "i", "doc", "lines"]


def acting(key: str, handler: Handler) -> Any:
    """Return a handler in the shape of an action that writes one key."""

    @action(reads=PAYLOAD, writes=[key])  # type: ignore[untyped-decorator]
    async def call(state: State) -> State:
        return state.update(**await handler(None, state))

    return call


@action(reads=["kind"], writes=[])  # type: ignore[untyped-decorator]
async def unchanged(state: State) -> State:
    """Stand where the graph needs a node that does nothing."""
    return state


class SideBySide(MapActions):  # type: ignore[misc]
    """Runs the parallel agents and folds what each wrote into the state."""

    def __init__(self, agents: dict[str, Handler]) -> None:
        super().__init__()
        self._keys = list(agents)
        self._branches = [acting(name, handler) for name, handler in agents.items()]

    def actions(self, state: State, context: Any, inputs: Any) -> Iterator[Any]:
        """Yield the branches."""
        yield from self._branches

    def is_async(self) -> bool:
        """Tell Burr to await the branches."""
        return True

    def state(self, state: State, inputs: Any) -> State:
        """Return the state a branch starts from."""
        return state

    async def reduce(self, state: State, states: AsyncGenerator[State, None]) -> State:
        """Fold the branches' states into one."""
        async for branch in states:
            data = branch.get_all()
            state = state.update(**{key: data[key] for key in self._keys if key in data})
        return state

    @property
    def reads(self) -> list[str]:
        """The keys the branches read."""
        return PAYLOAD

    @property
    def writes(self) -> list[str]:
        """The keys the branches write."""
        return self._keys


class Burr(Contender):
    """Starts a new Application for each event, as its documentation does for each request."""

    distributions: tuple[str, ...] = ("apache-burr",)

    async def build(self, workload: Workload) -> Run:
        """Build the graph."""
        agents = handlers(workload, updating)
        graph, entry, halt = {
            "route": _route,
            "loop": _loop,
        }.get(workload.mode, _joined)(workload, agents)
        numbers = itertools.count()
        keep = await self.keeping()

        async def run(data: Data) -> Any:
            builder = keep(ApplicationBuilder().with_graph(graph).with_entrypoint(entry).with_state(**data))
            application = await builder.with_identifiers(app_id=f"event{next(numbers)}").abuild()
            return (await application.arun(halt_after=halt))[2]

        return run

    async def keeping(self) -> Callable[[Any], Any]:
        """Return what adds persistence to an application's builder; here nothing is kept."""
        return lambda builder: builder

    def read(self, answer: Any) -> Data:
        """Return the data of the last state."""
        state: Data = answer.get_all()
        return state


class BurrSqlite(Burr):
    """Keeps the whole state after each action with the asynchronous SQLite persister, its settings as they come.

    That is a rollback journal, and `synchronous` at SQLite's default, FULL.
    """

    distributions = ("apache-burr", "aiosqlite")

    async def keeping(self) -> Callable[[Any], Any]:
        """Open the persister."""
        from burr.integrations.persisters.b_aiosqlite import AsyncSQLitePersister

        self._persister = await AsyncSQLitePersister.from_values(db_path=str(self.make_folder() / "burr.db"))
        await self._persister.initialize()
        return lambda builder: builder.with_state_persister(self._persister)

    async def close(self) -> None:
        """Close the persister."""
        await self._persister.cleanup()


def _route(workload: Workload, agents: dict[str, Handler]) -> tuple[Any, str, list[str]]:
    actions = {name: acting(name, handler) for name, handler in agents.items()}
    arrows = [("router", "a_" + kind, expr(f"kind == '{kind}'")) for kind in KINDS]
    graph = GraphBuilder().with_actions(router=unchanged, **actions).with_transitions(*arrows).build()
    return graph, "router", list(actions)


def _loop(workload: Workload, agents: dict[str, Handler]) -> tuple[Any, str, list[str]]:
    graph = (
        GraphBuilder()
        .with_actions(counter=acting("i", agents["counter"]), done=unchanged)
        .with_transitions(("counter", "counter", expr(f"i < {workload.agents}")), ("counter", "done", default))
        .build()
    )
    return graph, "counter", ["done"]


def _joined(workload: Workload, agents: dict[str, Handler]) -> tuple[Any, str, list[str]]:
    names = list(agents)
    parallel = {"collaborative": names, "mixed": split_mixed(names)[0]}.get(workload.mode, [])
    actions: dict[str, Any] = {}
    if parallel:
        actions["side_by_side"] = SideBySide({name: agents[name] for name in parallel})
    for name in names[len(parallel) :]:
        actions[name] = acting("i" if workload.counts else name, agents[name])
    builder = GraphBuilder().with_actions(**actions)
    order = list(actions)
    if len(order) > 1:
        builder = builder.with_transitions(*itertools.pairwise(order))
    return builder.build(), order[0], [order[-1]]
