"""Failure policies at work: joins that are closed, flows that go on, handlers and compensators, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentflow import Event, Hook, Runner
from agentflow.core.records import FlowCut, JoinClosed, Record, StepCompleted, StepFailed, StepStarted

MakeRunner = Callable[..., Runner]
MEMORY = {"url": "memory:"}
ABC = {"mode": "collaborative", "collaborative_agents": ["a", "b", "c"]}


class Cast:
    """Handlers by name, and when each began, ended or was cancelled, on the loop's clock."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, float]] = []
        self.data: dict[str, Any] = {}
        self.records: list[Record] = []

    def tell(self, name: str, what: str) -> None:
        self.told.append((name, what, round(asyncio.get_running_loop().time(), 3)))

    def agent(self, seconds: float = 0.0, *, fails: bool = False, stubborn_s: float = 0.0, **answer: Any) -> Callable[..., Any]:
        """Return a handler that takes its time; once cancelled it goes on for `stubborn_s`."""

        async def handler(event: Event, state: Any, ctx: Any) -> Any:
            self.tell(ctx.agent, "begins")
            self.data[ctx.agent] = event.data
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                self.tell(ctx.agent, "cancelled")
                await asyncio.sleep(stubborn_s)
                if not stubborn_s:
                    raise
            self.tell(ctx.agent, "ends")
            if fails:
                raise ValueError(f"no {ctx.agent}")
            return answer

        return handler

    def facts(self, *kinds: type) -> list[Any]:
        return [record.fact for record in self.records if isinstance(record.fact, kinds)]

    def places(self) -> list[str]:
        return [f"{fact.position} {fact.agent}" for fact in self.facts(StepStarted)]


@pytest.fixture
def cast() -> Cast:
    return Cast()


@pytest.fixture(params=["kept", "unkept"])
def run(request: pytest.FixtureRequest, make_runner: MakeRunner, cast: Cast) -> Callable[..., Any]:
    """Run one event through a flow, with a journal and without."""

    async def once(flow: dict[str, Any], handlers: dict[str, Any], **sections: Any) -> Any:
        journal = {"journal": MEMORY} if request.param == "kept" else {}
        async with make_runner(flow, handlers, **journal, **sections) as runner:
            runner.observe(cast.records.append)
            return await runner.run(Event("a", {"n": 1}))

    return once


# --- joins ---


async def test_fail_fast_cancels_the_rest(run: Any, cast: Cast) -> None:
    """Once too many have failed the others are cancelled, those that wait never begin, and the run ends when all have ended."""
    handlers = {"a": cast.agent(1.0, fails=True), "b": cast.agent(60.0, stubborn_s=2.0, late=1), "c": cast.agent(0.0)}
    result = await run({**ABC, "fail_fast": True, "failure_threshold": 0.0, "max_concurrency": 2}, handlers)
    assert (result.status, result.reason, dict(result.state)) == ("failed", "threshold", {"n": 1})
    assert cast.told[2:] == [("a", "ends", 1.0), ("b", "cancelled", 1.0), ("b", "ends", 3.0)]
    assert cast.facts(JoinClosed) == [JoinClosed("0", ("0.0",), "fail_fast")]
    assert {name: failure.code for name, failure in result.errors.items()} == {"a": "ValueError", "b": "join_closed", "c": "join_closed"}


async def test_what_follows_a_lost_join_waits_for_those_it_cancelled(run: Any, cast: Cast) -> None:
    """The next step does not run beside them, however long they take to obey."""
    flow = {"mode": "mixed", "collaborative_agents": ["a", "b"], "sequential_agents": ["c"], "on_error": "continue"}
    handlers = {"a": cast.agent(1.0, fails=True), "b": cast.agent(60.0, stubborn_s=4.0), "c": cast.agent(x=1)}
    result = await run({**flow, "fail_fast": True, "failure_threshold": 0.0}, handlers)
    assert (result.status, dict(result.state)) == ("partial", {"n": 1, "x": 1})
    assert cast.told[-3:] == [("b", "ends", 5.0), ("c", "begins", 5.0), ("c", "ends", 5.0)]


async def test_fail_fast_leaves_a_handler_behind_that_obeys_nothing(run: Any, cast: Cast) -> None:
    """The run ends after the grace and the last wait, whatever the handler does."""

    async def deaf(event: Event, state: Any) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    release = asyncio.Event()
    result = await run(
        {**ABC, "fail_fast": True, "failure_threshold": 0.0}, {"a": cast.agent(1.0, fails=True), "b": deaf, "c": cast.agent(0.5)}
    )
    assert (asyncio.get_running_loop().time(), result.flags[:1]) == (pytest.approx(16.0), ("abandoned",))
    release.set()
    await asyncio.sleep(0)


async def test_a_join_goes_on_at_its_deadline(run: Any, cast: Cast) -> None:
    """What is missing then counts as failed, and what there is is merged."""
    handlers = {"a": cast.agent(1.0, a=1), "b": cast.agent(60.0), "c": cast.agent(2.0, c=1)}
    result = await run({**ABC, "join_timeout_seconds": 5}, handlers)
    assert (result.status, result.reason, dict(result.state)) == ("partial", "partial", {"n": 1, "a": 1, "c": 1})
    name, what, at_s = cast.told[-1]
    assert (name, what) == ("b", "cancelled")
    assert 4.5 < at_s <= 5.0, "what is recorded counts by the wall clock, which goes on a little while the loop's own stands"
    assert cast.facts(JoinClosed) == [JoinClosed("0", ("0.0", "0.2"), "deadline")]


async def test_a_join_that_ends_in_time_is_not_closed(run: Any, cast: Cast) -> None:
    """Nor is what follows it disturbed by its deadline."""
    flow = {"mode": "mixed", "collaborative_agents": ["a", "b"], "sequential_agents": ["c"], "join_timeout_seconds": 5}
    result = await run(flow, {"a": cast.agent(1.0), "b": cast.agent(2.0), "c": cast.agent(10.0, x=1)})
    assert (result.status, cast.facts(JoinClosed)) == ("completed", [])


async def test_default_outputs_serve_a_deadline(run: Any, cast: Cast) -> None:
    """The run is complete and degraded, also where the agent had not even begun."""
    agents = {name: {"default_output": {name: "default"}} for name in "bc"}
    handlers = {"a": cast.agent(1.0, a=1), "b": cast.agent(60.0), "c": cast.agent(60.0)}
    flow = {**ABC, "join_timeout_seconds": 5, "failure_threshold": 0.0, "max_concurrency": 2}
    result = await run(flow, handlers, agents=agents)
    assert (result.status, result.reason, result.flags) == ("completed", "degraded", ("degraded",))
    assert dict(result.state) == {"n": 1, "a": 1, "b": "default", "c": "default"}


async def test_a_deadline_and_a_lost_join_meet(run: Any, cast: Cast) -> None:
    """A join that is being closed already is closed once."""
    handlers = {"a": cast.agent(1.0, fails=True), "b": cast.agent(60.0, stubborn_s=9.0), "c": cast.agent(60.0, stubborn_s=3.0)}
    await run({**ABC, "fail_fast": True, "failure_threshold": 0.0, "join_timeout_seconds": 2}, handlers)
    assert cast.facts(JoinClosed) == [JoinClosed("0", ("0.0",), "fail_fast")]


async def test_a_flow_whose_time_is_up_ends_its_joins(run: Any, cast: Cast) -> None:
    """The flow is cut; a join below it that is being closed is closed no more."""
    flows = {
        "side": {**ABC, "fail_fast": True, "failure_threshold": 0.0},
        "inner": {"mode": "sequential", "sequential_agents": ["side"], "timeout_seconds": 3},
    }
    flow = {"mode": "sequential", "sequential_agents": ["inner", "d"], "on_error": "continue"}
    handlers = {"a": cast.agent(1.0, fails=True), "b": cast.agent(60.0, stubborn_s=9.0), "c": cast.agent(60.0), "d": cast.agent(x=1)}
    result = await run(flow, handlers, flows=flows)
    assert (result.status, result.state["x"]) == ("partial", 1)
    assert (cast.facts(JoinClosed), [fact.position for fact in cast.facts(FlowCut)]) == ([], ["0.0"])
    assert result.errors["inner"].code == "timeout"


async def test_a_flow_that_was_cut_is_not_cut_again_by_those_inside(run: Any, cast: Cast) -> None:
    """The clock of a flow inside it stops with it."""
    flows = {
        "inner": {"mode": "sequential", "sequential_agents": ["a"], "timeout_seconds": 3},
        "outer": {"mode": "sequential", "sequential_agents": ["inner"], "timeout_seconds": 2},
    }
    flow = {"mode": "sequential", "sequential_agents": ["outer", "b", "c"], "on_error": "continue"}
    result = await run(flow, {"a": cast.agent(60.0), "b": cast.agent(5.0, b=1), "c": cast.agent(c=1)}, flows=flows)
    assert (dict(result.state), [fact.position for fact in cast.facts(FlowCut)]) == ({"n": 1, "b": 1, "c": 1}, ["0.0"])


async def test_a_cancelled_run_closes_no_joins(make_runner: MakeRunner, cast: Cast) -> None:
    """The cancellation ends all."""
    handlers = {"a": cast.agent(1.0, fails=True), "b": cast.agent(60.0, stubborn_s=5.0), "c": cast.agent(60.0)}
    async with make_runner({**ABC, "fail_fast": True, "failure_threshold": 0.0}, handlers, journal=MEMORY) as runner:
        runner.observe(cast.records.append)
        handle = await runner.emit(Event())
        await asyncio.sleep(2.0)
        await handle.cancel("enough")
        assert ((await handle.result()).status, cast.facts(JoinClosed)) == ("cancelled", [])


ASKED = {"requires_approval": True, "approval_timeout_seconds": 4}


async def test_who_waits_for_approval_in_a_closed_join_waits_no_more(make_runner: MakeRunner, cast: Cast) -> None:
    """The step is missing like any other: nobody is asked any more, and its deadline is nobody's."""
    flow = {"mode": "mixed", "collaborative_agents": ["a", "b"], "sequential_agents": ["c"], "on_error": "continue"}
    handlers = {"a": cast.agent(1.0, fails=True), "b": cast.agent(), "c": cast.agent(9.0, c=1)}
    limits = {"fail_fast": True, "failure_threshold": 0.0}
    async with make_runner({**flow, **limits}, handlers, agents={"b": ASKED}, journal=MEMORY) as runner:
        handle = await runner.emit(Event())
        await asyncio.sleep(2.0)
        assert await handle.approve("b") is False
        result = await handle.result()
        assert (result.status, dict(result.state), asyncio.get_running_loop().time()) == (
            "partial",
            {"c": 1},
            pytest.approx(10.0, abs=0.01),
        )
        assert [name for name, what, _ in cast.told if what == "begins"] == ["a", "c"]


async def test_who_waits_for_approval_in_a_flow_that_is_cut_waits_no_more(make_runner: MakeRunner, cast: Cast) -> None:
    """A flow whose time is up ends, whoever is asked in it, and the run goes on without that answer."""
    flows = {"inner": {"mode": "collaborative", "collaborative_agents": ["a", "b"], "timeout_seconds": 3}}
    flow = {"mode": "sequential", "sequential_agents": ["inner", "c"], "on_error": "continue"}
    handlers = {"a": cast.agent(60.0), "b": cast.agent(), "c": cast.agent(9.0, c=1)}
    async with make_runner(flow, handlers, flows=flows, agents={"b": ASKED}, journal=MEMORY) as runner:
        handle = await runner.emit(Event())
        assert await handle.wait() == "partial"
        assert asyncio.get_running_loop().time() == pytest.approx(12.0, abs=0.01)
        assert await runner._history.verify() == []  # nobody has answered for the step


async def test_what_a_pause_holds_below_a_flow_that_is_cut_does_not_begin(make_runner: MakeRunner, cast: Cast) -> None:
    """A step that was to begin when the pause is over is gone with its flow."""
    flows = {"inner": {"mode": "mixed", "collaborative_agents": ["a", "line"], "timeout_seconds": 3}}
    flows["line"] = {"mode": "sequential", "sequential_agents": ["b", "c"]}
    flow = {"mode": "sequential", "sequential_agents": ["inner", "d"], "on_error": "continue"}
    handlers = {"a": cast.agent(60.0), "b": cast.agent(2.0), "c": cast.agent(c=1), "d": cast.agent(d=1)}
    async with make_runner(flow, handlers, flows=flows, journal=MEMORY) as runner:
        handle = await runner.emit(Event())
        await asyncio.sleep(1.0)
        await handle.pause()
        await asyncio.sleep(9.0)
        await handle.resume()
        result = await handle.result()
        assert (result.status, dict(result.state)) == ("partial", {"d": 1})
        assert [name for name, what, _ in cast.told if what == "begins"] == ["a", "b", "d"]


# --- handlers and compensators ---


async def test_a_failed_run_is_handled_and_undone(run: Any, cast: Cast) -> None:
    """First the handler, then each compensator in the reverse order, one at a time, each recorded with its own outcome."""
    flow = {"mode": "sequential", "sequential_agents": ["a", "b", "c"]}
    handlers = {
        "a": cast.agent(a=1),
        "b": cast.agent(b=1),
        "c": cast.agent(fails=True),
        "undo_a": cast.agent(1.0, a=0),
        "undo_b": cast.agent(1.0, fails=True),
        "triage": cast.agent(1.0, noted=True),
    }
    agents = {"a": {"compensate": "undo_a"}, "b": {"compensate": "undo_b"}}
    result = await run(flow, handlers, agents=agents, error_routing={"error_handler": "triage"})
    assert (result.status, result.reason, str(result.error)) == ("failed", "error", "c at 0.2: ValueError: no c")
    assert dict(result.state) == {"n": 1, "a": 0, "b": 1, "noted": True}
    assert list(result.errors) == ["c", "undo_b"]
    assert cast.places() == ["0.0 a", "0.1 b", "0.2 c", "! triage", "~0.1 undo_b", "~0.0 undo_a"]
    assert [fact.position for fact in cast.facts(StepCompleted, StepFailed)] == ["0.0", "0.1", "0.2", "!", "~0.1", "~0.0"]
    assert [at for name, what, at in cast.told if what == "begins" and name.startswith(("t", "u"))] == [0.0, 1.0, 2.0]
    assert (cast.data["triage"]["agent"], cast.data["triage"]["event"]["data"]) == ("c", {"n": 1})
    assert cast.data["undo_a"] == {"position": "0.0", "agent": "a", "output": {"a": 1}, "error": cast.data["triage"]["error"]}
    assert result.flags == ()


async def test_a_handler_that_recovers_ends_the_run_well(run: Any, cast: Cast) -> None:
    """The run is partial, and nothing is undone."""
    handlers = {"a": cast.agent(a=1), "b": cast.agent(fails=True), "triage": cast.agent(recovered=True), "undo": cast.agent()}
    flow = {"mode": "sequential", "sequential_agents": ["a", "b"]}
    result = await run(flow, handlers, agents={"a": {"compensate": "undo"}}, error_routing={"error_handler": "triage"})
    assert (result.status, result.reason, result.error, dict(result.state)) == ("partial", "partial", None, {"n": 1, "a": 1})
    assert (list(result.errors), result.flags) == (["b"], ())


async def test_a_handler_that_fails_is_retried_and_called_once(run: Any, cast: Cast) -> None:
    """Its retries are those of any agent; its failure is routed to nobody, not even to the handler of its own code."""
    routing = {"error_handler": "triage", "code_handlers": {"OSError": "other"}}

    async def triage(event: Event, state: Any, ctx: Any) -> None:
        cast.tell(ctx.agent, "begins")
        raise OSError("busy")

    flow = {"mode": "sequential", "sequential_agents": ["a"], "retry": {"max_retries": 1, "jitter": False}}
    handlers = {"a": cast.agent(fails=True), "triage": triage, "other": cast.agent()}
    result = await run(flow, handlers, error_routing=routing)
    assert (str(result.error), result.errors["triage"].attempts) == ("a at 0.0: ValueError: no a", 2)
    assert [name for name, what, _ in cast.told if what == "begins"] == ["a", "a", "triage", "triage"]


async def test_a_run_whose_time_is_up_is_handled_in_time_of_its_own(run: Any, cast: Cast) -> None:
    """The limit of the event does not bound the handler: that has the time limit of its agent."""
    flow = {"mode": "sequential", "sequential_agents": ["a"], "timeout_seconds": 5}
    routing = {"category_handlers": {"timeout": "triage"}}
    result = await run(flow, {"a": cast.agent(60.0), "triage": cast.agent(10.0, noted=1)}, error_routing=routing)
    assert (result.status, result.state["noted"], asyncio.get_running_loop().time()) == ("timed_out", 1, 15.0)
    slow = {"a": cast.agent(60.0), "triage": cast.agent(60.0)}
    result = await run(flow, slow, error_routing=routing, agents={"triage": {"timeout_seconds": 2}})
    assert (result.status, result.errors["triage"].code) == ("timed_out", "timeout")


async def test_a_cancelled_run_is_neither_handled_nor_undone(make_runner: MakeRunner, cast: Cast) -> None:
    """After a cancellation nothing begins; one that comes while a handler works ends that, too."""
    flow = {"mode": "sequential", "sequential_agents": ["a", "b"]}
    handlers = {"a": cast.agent(), "b": cast.agent(9.0), "triage": cast.agent(9.0), "undo": cast.agent()}
    more = {"agents": {"a": {"compensate": "undo"}}, "error_routing": {"error_handler": "triage"}}
    async with make_runner(flow, handlers, journal=MEMORY, **more) as runner:
        runner.observe(cast.records.append)
        handle = await runner.emit(Event())
        await asyncio.sleep(1.0)
        await handle.cancel()
        assert (await handle.result()).status == "cancelled"
        assert cast.places() == ["0.0 a", "0.1 b"]
    async with make_runner(flow, {**handlers, "b": cast.agent(fails=True)}, journal=MEMORY, **more) as runner:
        runner.observe(cast.records.append)
        handle = await runner.emit(Event())
        await asyncio.sleep(1.0)
        await handle.cancel("enough")
        result = await handle.result()
        assert (result.status, result.reason) == ("cancelled", "enough")
        assert cast.places()[2:] == ["0.0 a", "0.1 b", "! triage"]


async def test_a_compensator_may_require_approval(make_runner: MakeRunner, cast: Cast) -> None:
    """It waits as any step does; a rejection is its own failure, and the next one is undone."""
    flow = {"mode": "sequential", "sequential_agents": ["a", "b", "c"]}
    handlers = {"a": cast.agent(), "b": cast.agent(), "c": cast.agent(fails=True), "undo": cast.agent(x=1)}
    agents = {"a": {"compensate": "undo"}, "b": {"compensate": "undo"}, "undo": {"requires_approval": True}}
    async with make_runner(flow, handlers, agents=agents, journal=MEMORY) as runner:
        handle = await runner.emit(Event())
        assert await handle.wait() == "paused"
        assert await handle.reject("~0.1")
        assert await handle.wait() == "paused"
        assert await handle.approve("~0.0")
        result = await handle.result()
        assert (result.status, result.state["x"], result.errors["undo"].position) == ("failed", 1, "~0.1")


async def test_hooks_see_the_calls_of_the_last_phases(run: Any, cast: Cast, make_runner: MakeRunner) -> None:
    """Agent hooks run around them with their positions, event hooks after them."""
    seen: list[str] = []
    handlers = {"a": cast.agent(fails=True), "triage": cast.agent()}
    flow = {"mode": "sequential", "sequential_agents": ["a"]}
    runner = make_runner(flow, handlers, error_routing={"error_handler": "triage"})
    runner.register_callback(Hook.BEFORE_AGENT_RUN, "before", lambda args: seen.append(f"{args.agent} {args.position}"))
    runner.register_callback(Hook.AFTER_EVENT_HANDLING, "after", lambda args: seen.append(f"after {args.result.status}"))
    async with runner:
        await runner.run(Event())
    assert seen == ["a 0.0", "triage !", "after failed"]


async def test_the_agent_of_on_error_is_a_step_of_its_flow(run: Any, cast: Cast) -> None:
    """It stands within the flow's time limit, and what it is told is data of its own."""
    flows = {"inner": {"mode": "sequential", "sequential_agents": ["a"], "on_error": "route:mend", "timeout_seconds": 5}}
    flow = {"mode": "sequential", "sequential_agents": ["inner", "b"]}
    result = await run(flow, {"a": cast.agent(1.0, fails=True), "mend": cast.agent(1.0, x=1), "b": cast.agent()}, flows=flows)
    assert (result.status, result.state["x"], cast.places()) == ("partial", 1, ["0.0.0 a", "0.0.1 mend", "0.1 b"])
    assert (cast.data["mend"]["agent"], cast.data["b"]) == ("a", {"n": 1})
    late = await run(flow, {"a": cast.agent(1.0, fails=True), "mend": cast.agent(60.0), "b": cast.agent()}, flows=flows)
    assert (late.status, late.error.agent) == ("timed_out", "inner")
