"""`ctx.emit`: what a handler emits is accepted with the answer of its step, once, under its parent and root, and is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from agentflow import AgentResult, Event, Hook, Runner
from agentflow.core.records import StepCompleted, WorkflowCreated
from agentflow.errors import EventLimitError, InvalidEventError, InvalidValueError, RoutingError, RunnerStateError
from agentflow.testing import VirtualLoop

KEPT = [None, "memory:"]
Make = Callable[..., Runner]


@pytest.fixture(params=KEPT, ids=["unrecorded", "recorded"])
def make(request: pytest.FixtureRequest) -> Make:
    """Make a runner with and without a journal."""

    def made(handlers: dict[str, Any], flow: dict[str, Any] | None = None, **sections: Any) -> Runner:
        tables = {name: {} for name in handlers} | sections.pop("agents", {})
        journal = {} if request.param is None else {"journal": {"url": request.param}}
        config = {"orchestration": flow or {"mode": "route"}, "agents": tables, **journal, **sections}
        runner = Runner.from_dict(config, environ={}, seed=7)
        for name, handler in handlers.items():
            runner.register_agent(name, handler)
        return runner

    return made


def run(main: Any) -> Any:
    """Run a coroutine on virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as loop:
        return loop.run(main)


async def quick(event: Event, state: Any) -> dict[str, Any]:
    """Answer what it was told."""
    return {"told": event.data}


def emitting(*events: Event) -> Any:
    """Return a handler that emits events and answers their runs' ids."""

    async def emit(event: Event, state: Any, ctx: Any) -> dict[str, Any]:
        return {"runs": [ctx.emit(one) for one in events]}

    return emit


def test_what_a_handler_emits_runs_under_the_id_that_it_was_told(make: Make) -> None:
    """The id is there at once, and its run's result is in the tree, in the order in which they were emitted."""

    async def main() -> None:
        async with make({"a": emitting(Event("b", {"n": 1}), Event("b", {"n": 2})), "b": quick}) as runner:
            handle = await runner.emit(Event("a"))
            result, tree = await handle.result(), await handle.tree()
            assert [handle.run_id, *result.state["runs"]] == list(tree)
            assert [{"n": 1}, {"n": 2}] == [tree[run_id].state["told"] for run_id in result.state["runs"]]
            assert [("b", ["b"])] * 2 == [(child._run.event.target, list(child._run.result.outputs)) for child in handle.children]

    run(main())


def test_a_child_waits_until_its_step_is_done(make: Make) -> None:
    """It begins with the answer, not before."""
    seen: list[str] = []

    async def slow(event: Event, state: Any, ctx: Any) -> None:
        ctx.emit(Event("b"))
        await asyncio.sleep(10)
        seen.append("parent")

    async def child(event: Event, state: Any) -> None:
        seen.append("child")

    async def main() -> None:
        async with make({"a": slow, "b": child}) as runner:
            await (await runner.emit(Event("a"))).tree()

    run(main())
    assert ["parent", "child"] == seen


@pytest.mark.parametrize("way", ["raises", "times out", "breaks", "is cancelled"])
def test_a_failed_step_emits_nothing(make: Make, way: str) -> None:
    """However it fails."""
    seen: list[str] = []

    async def bad(event: Event, state: Any, ctx: Any) -> Any:
        ctx.emit(Event("b"))
        if way == "raises":
            raise OSError("no")
        if way == "breaks":
            return 3
        await asyncio.sleep(100)
        return None

    async def child(event: Event, state: Any) -> None:
        seen.append("child")

    async def main() -> None:
        async with make({"a": bad, "b": child}, agents={"a": {"timeout_seconds": 5}}) as runner:
            handle = await runner.emit(Event("a"))
            await asyncio.sleep(1)
            if way == "is cancelled":
                handle.cancel()
            tree = await handle.tree()
            assert [handle.run_id] == list(tree)
            assert tree[handle.run_id].status in ("failed", "timed_out", "cancelled")

    run(main())
    assert [] == seen


def test_each_attempt_begins_anew_and_the_ids_stay(make: Make) -> None:
    """Of attempts that failed nothing is emitted; what the last one emits has the ids that it had in the first."""
    told: list[list[str]] = []

    async def flaky(event: Event, state: Any, ctx: Any) -> None:
        told.append([ctx.emit(Event("b", {"n": n})) for n in range(4 - ctx.attempt)])
        if ctx.attempt < 3:
            raise OSError("again")

    async def main() -> None:
        async with make({"a": flaky, "b": quick}, {"mode": "route", "retry_attempts": 2}) as runner:
            handle = await runner.emit(Event("a"))
            tree = await handle.tree()
            assert told[2] == [*tree][1:]
            assert told[0][:1] == told[1][:1] == told[2]
            assert [3, 2, 1] == [len(one) for one in told]

    run(main())


def test_a_recovered_step_has_emitted_what_its_last_answer_did(make: Make) -> None:
    """A default output, a fallback or a hook that answers in its place does not bring back what a failed attempt emitted."""

    async def bad(event: Event, state: Any, ctx: Any) -> None:
        ctx.emit(Event("lost"))
        raise OSError("no")

    async def main() -> None:
        handlers = {"a": bad, "b": bad, "c": bad, "helper": emitting(Event("kept")), "lost": quick, "kept": quick}
        agents = {"a": {"default_output": {"x": 1}}, "b": {"fallback": ["helper"]}}
        flow = {"mode": "sequential", "sequential_agents": ["a", "b", "c"]}
        runner = make(handlers, {"mode": "route", "max_hops": 3}, agents=agents, flows={"all": flow})

        @runner.on(Hook.AGENT_ERROR)
        def recover(args: Any) -> Any:
            return args.state if args.agent == "c" else None

        async with runner:
            handle = await runner.emit(Event("all"))
            tree = await handle.tree()
            assert ["all", "kept"] == [handle._run.event.target, *[child._run.event.target for child in handle.children]]
            assert {"completed"} == {result.status for result in tree.values()}

    run(main())


@pytest.mark.parametrize("cancellations", [0, 2])
def test_an_attempt_that_took_too_long_has_emitted_nothing(make: Make, cancellations: int) -> None:
    """Although its step has an answer all the same, and whether the handler ends when it is cancelled or is left behind."""

    async def slow(event: Event, state: Any, ctx: Any) -> None:
        ctx.emit(Event("lost"))
        for _ in range(cancellations):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(1000)
        await asyncio.sleep(1000)

    async def main() -> None:
        agents = {"a": {"timeout_seconds": 5, "default_output": {"x": 1}}}
        async with make({"a": slow, "lost": quick}, agents=agents) as runner:
            handle = await runner.emit(Event("a"))
            assert [("completed", "degraded")] == [(one.status, one.reason) for one in (await handle.tree()).values()]
            await asyncio.sleep(5000)

    run(main())


def test_a_child_does_not_wait_for_the_hooks_behind_its_parent(make: Make) -> None:
    """It is accepted with the step, before the callbacks of the event's end have run."""
    seen: list[str] = []

    async def child(event: Event, state: Any) -> None:
        seen.append("child")

    async def main() -> None:
        runner = make({"a": emitting(Event("b")), "b": child})

        @runner.on(Hook.AFTER_EVENT_HANDLING)
        async def hold(args: Any) -> None:
            await asyncio.sleep(20)
            seen.append("hook")

        async with runner:
            await (await runner.emit(Event("a"))).tree()

    run(main())
    assert ["child", "hook", "hook"] == seen


@pytest.mark.parametrize("hook", [None, Hook.BEFORE_AGENT_RUN, Hook.AFTER_AGENT_RUN, Hook.AFTER_EVENT_HANDLING])
@pytest.mark.parametrize("nesting", ["alone", "sequential", "collaborative", "loop", "nested"])
def test_handlers_emit_wherever_their_step_stands(make: Make, nesting: str, hook: Hook | None) -> None:
    """In each mode and nesting, with and without hooks, once for each time that the step is done."""
    flows: dict[str, Any] = {
        "sequential": {"mode": "sequential", "sequential_agents": ["a", "quick"]},
        "collaborative": {"mode": "collaborative", "collaborative_agents": ["a", "quick"]},
        "loop": {"mode": "loop", "loop_agent": "a", "max_iterations": 3},
        "nested": {"mode": "sequential", "sequential_agents": ["loop", "collaborative"]},
    }

    async def main() -> None:
        runner = make({"a": emitting(Event("b")), "b": quick, "quick": quick}, flows=flows)
        if hook is not None:
            runner.register_callback(hook, "looks", lambda args: None)
        async with runner:
            handle = await runner.emit(Event("a" if nesting == "alone" else nesting))
            tree = await handle.tree()
            assert {"loop": 4, "nested": 5}.get(nesting, 2) == len(tree)
            assert {"completed"} == {result.status for result in tree.values()}

    run(main())


def test_a_line_of_steps_goes_on_by_the_short_way_after_an_emission(make: Make) -> None:
    """What one step has emitted does not stay with the record that the next step of its line uses."""
    steps: list[Any] = []

    async def look(event: Event, state: Any, ctx: Any) -> None:
        steps.append(ctx._step.changed)

    async def main() -> None:
        flow = {"mode": "sequential", "sequential_agents": ["a", "look"]}
        async with make({"a": emitting(Event("x")), "look": look}, flow) as runner:
            await (await runner.emit(Event("", metadata={"orchestration_override": "sequential"}))).result()

    run(main())
    assert {None} == set(steps)


WRONG: list[tuple[Any, type[Exception]]] = [
    ({"target": "b"}, InvalidEventError),
    (None, InvalidEventError),
    (Event("b", {"x": {1}}), InvalidValueError),
    (Event("b", metadata={"n": 3}), InvalidValueError),  # type: ignore[dict-item]
    (Event("b", id="mine"), InvalidEventError),
    (Event("b", metadata={"orchestration_override": "nothing"}), RoutingError),
]


@pytest.mark.parametrize(("wrong", "kind"), WRONG)
def test_a_bad_event_is_an_error_where_it_is_emitted(make: Make, wrong: Any, kind: type[Exception]) -> None:
    """The handler sees it, and may go on."""
    raised: list[BaseException] = []

    async def emit(event: Event, state: Any, ctx: Any) -> None:
        try:
            ctx.emit(wrong)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
            raised.append(error)
        ctx.emit(Event("b"))

    async def main() -> None:
        async with make({"a": emit, "b": quick}) as runner:
            assert 2 == len(await (await runner.emit(Event("a"))).tree())

    run(main())
    assert [kind] == [type(error) for error in raised]


@pytest.mark.parametrize("most", [1, 7, 100])
def test_one_event_brings_forth_at_most_max_events(make: Make, most: int) -> None:
    """Counted over all that come of it, however they come: then a step that emits one more fails."""

    async def two(event: Event, state: Any, ctx: Any) -> None:
        ctx.emit(Event("a"))
        ctx.emit(Event("a"))

    async def main() -> None:
        flow = {"mode": "route"} if most == 100 else {"mode": "route", "max_events": most}
        async with make({"a": two}, flow) as runner:
            handle = await runner.emit(Event("a"))
            tree = await handle.tree()
            assert most - (most % 2) + 1 == len(tree)
            failed = [result for result in tree.values() if result.status == "failed"]
            assert {EventLimitError.code} == {result.error.code for result in failed if result.error}
            assert len(failed) >= 1
            again = await (await runner.emit(Event("a"))).tree()  # each root has its own
            assert len(tree) == len(again)

    run(main())


def test_what_branches_hold_counts_before_it_is_accepted(make: Make) -> None:
    """Ten that emit three each while the others still work do not get more than there is, and one that fails gives its own back."""

    async def three(event: Event, state: Any, ctx: Any) -> None:
        for _ in range(3):
            ctx.emit(Event("b"))
        await asyncio.sleep(1)
        if ctx.agent == "a0":
            raise OSError("no")

    async def late(event: Event, state: Any, ctx: Any) -> None:
        await asyncio.sleep(5)
        ctx.emit(Event("b"))

    async def main() -> None:
        names = [f"a{n}" for n in range(5)]
        flow = {"mode": "collaborative", "collaborative_agents": [*names, "late"], "failure_threshold": 1}
        handlers = {**dict.fromkeys(names, three), "late": late, "b": quick}
        runner = make(handlers, {"mode": "route", "max_events": 9}, flows={"all": flow})
        async with runner:
            handle = await runner.emit(Event("all"))
            tree = await handle.tree()
            assert {"a0": "OSError", "a3": "EventLimitError", "a4": "EventLimitError"} == {
                name: failure.type for name, failure in tree[handle.run_id].errors.items()
            }
            assert 1 + 3 + 3 + 1 == len(tree)

    run(main())


def test_what_a_step_holds_that_was_ended_counts_no_more(make: Make) -> None:
    """A member of the family that is cancelled gives back what it has emitted and nobody has accepted."""

    async def hold(event: Event, state: Any, ctx: Any) -> None:
        for _ in range(4):
            ctx.emit(Event("quick"))
        await asyncio.sleep(1000)

    async def four(event: Event, state: Any, ctx: Any) -> None:
        await asyncio.sleep(100)
        for _ in range(4):
            ctx.emit(Event("quick"))

    async def main() -> None:
        handlers = {"a": emitting(Event("hold"), Event("four")), "hold": hold, "four": four, "quick": quick}
        async with make(handlers, {"mode": "route", "max_events": 6}) as runner:
            handle = await runner.emit(Event("a"))
            await asyncio.sleep(50)
            handle.children[0].cancel()
            tree = await handle.tree()
            assert ["completed", "cancelled", *["completed"] * 5] == [result.status for result in tree.values()]

    run(main())


def test_a_handler_that_has_returned_emits_no_more(make: Make) -> None:
    """What it left behind gets an error: nobody would accept it."""
    raised: list[str] = []

    async def leave(event: Event, state: Any, ctx: Any) -> None:
        async def later() -> None:
            await asyncio.sleep(5)
            try:
                ctx.emit(Event("b"))
            except RunnerStateError as error:
                raised.append(error.code)

        state["task"] = "left"
        tasks.append(asyncio.ensure_future(later()))

    tasks: list[Any] = []

    async def main() -> None:
        flow = {"mode": "sequential", "sequential_agents": ["a", "pause"]}

        async def pause(event: Event, state: Any) -> None:
            await asyncio.sleep(20)

        async with make({"a": leave, "pause": pause, "b": quick}, flow) as runner:
            assert 1 == len(await (await runner.emit(Event(""))).tree())
            await asyncio.gather(*tasks)

    run(main())
    assert [RunnerStateError.code] == raised


def test_a_child_of_its_parents_session_does_not_wait_for_it(make: Make) -> None:
    """It is part of its parent's turn; the session's next event waits for both."""
    order: list[str] = []

    async def first(event: Event, state: Any, ctx: Any) -> AgentResult:
        ctx.emit(Event("child", session_id="s"))
        return AgentResult(route="second")

    async def note(event: Event, state: Any, ctx: Any) -> None:
        order.append(f"{ctx.agent} begins")
        await asyncio.sleep({"second": 2, "child": 5, "next": 1}[ctx.agent])
        order.append(f"{ctx.agent} ends")

    async def main() -> None:
        async with make({"first": first, "second": note, "child": note, "next": note}) as runner:
            one = await runner.emit(Event("first", session_id="s"))
            two = await runner.emit(Event("next", session_id="s"))
            await asyncio.gather(one.tree(), two.tree())

    run(main())
    assert {"child begins", "second begins"} == set(order[:2])
    assert ["second ends", "child ends", "next begins", "next ends"] == order[2:]


def test_the_journal_says_who_came_of_whom() -> None:
    """Parent and root stand in WorkflowCreated and in the rows; the step that emitted names its children."""

    async def main() -> None:
        tables: dict[str, Any] = {"a": {}, "b": {}, "c": {}}
        runner = Runner.from_dict({"orchestration": {"mode": "route"}, "agents": tables, "journal": {"url": "memory:"}}, environ={})
        for name, handler in {"a": emitting(Event("b"), Event("c")), "b": emitting(Event("c")), "c": quick}.items():
            runner.register_agent(name, handler)
        async with runner:
            handle = await runner.emit(Event("a"))
            tree = [*await handle.tree()]
            root, of_a, last, of_b = tree
            created: dict[str, WorkflowCreated] = {}
            for run_id in tree:
                (created[run_id],) = [one.fact for one in await runner.events(run_id) if isinstance(one.fact, WorkflowCreated)]
            expected = {root: (None, None), of_a: (root, root), last: (root, root), of_b: (of_a, root)}
            assert expected == {run_id: (fact.parent_id, fact.root_id) for run_id, fact in created.items()}
            assert expected == {row.run_id: (row.parent_id, row.root_id) for row in await runner.runs(children=True)}
            assert [of_b, last, of_a] == [row.run_id for row in await runner.runs(root=root)]
            (done,) = [one.fact for one in await runner.events(root) if isinstance(one.fact, StepCompleted)]
            assert (of_a, last) == done.emitted
            assert [of_a, of_b] == [*await (await runner.handle(of_a)).tree()]

    run(main())


def test_a_fork_has_children_of_its_own_only() -> None:
    """Steps that it takes over have brought forth the old run's; steps that it makes anew emit under ids of its own."""

    async def main() -> None:
        flow = {"mode": "sequential", "sequential_agents": ["a", "b"]}
        runner = Runner.from_dict({"orchestration": flow, "agents": {"a": {}, "b": {}, "x": {}}, "journal": {"url": "memory:"}}, environ={})
        override = {"orchestration_override": "route"}
        for name in "ab":
            runner.register_agent(name, emitting(Event("x", {"from": name}, override)))
        runner.register_agent("x", quick)
        async with runner:
            handle = await runner.emit(Event(""))
            tree = [*await handle.tree()]
            assert 3 == len(tree)
            (first,) = [one.seq for one in await runner.events(handle.run_id) if isinstance(one.fact, StepCompleted)][:1]
            fork = await runner.fork(handle.run_id, at=first)
            forked = [*await fork.tree()]
            assert 2 == len(forked)
            assert not set(tree) & set(forked)
            done = [one.fact.emitted for one in await runner.events(fork.run_id) if isinstance(one.fact, StepCompleted)]
            assert [(), (forked[1],)] == done
            assert (await runner.get(forked[1])).row.root_id == fork.run_id

    run(main())


@pytest.mark.parametrize("isolation", ["task", "thread"])
def test_sync_handlers_emit_from_their_threads(make: Make, isolation: str) -> None:
    """As others do, from many threads at once, and no more than there may be."""

    def emit(event: Event, state: Any, ctx: Any) -> None:
        for _ in range(5):
            ctx.emit(Event("b"))

    async def main() -> None:
        names = [f"a{n}" for n in range(8)]
        flow = {"mode": "collaborative", "collaborative_agents": names, "failure_threshold": 1}
        handlers = {**dict.fromkeys(names, emit), "b": quick}
        agents = {name: {"isolation": isolation} for name in names}
        runner = make(handlers, {"mode": "route", "max_events": 22}, flows={"all": flow}, agents=agents)
        async with runner:
            handle = await runner.emit(Event("all"))
            tree = await handle.tree()
            assert 8 - len(tree[handle.run_id].errors) == (len(tree) - 1) / 5
            assert 1 <= len(tree[handle.run_id].errors)
            assert 22 >= len(tree) - 1

    asyncio.run(main())
