"""The five modes: who runs, in which order, on which state, and what a failure does. Case numbers are those of the feature list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentflow import AgentResult, ConfigError, Event, Runner, State
from agentflow.testing import StubCalls, stub_agents


def _stubbed(flow: dict[str, Any], names: str, answers: dict[str, Any] | None = None, **sections: Any) -> tuple[Runner, StubCalls]:
    runner = Runner.from_dict({"orchestration": flow, "agents": {name: {} for name in names.split()}, **sections}, environ={})
    return runner, stub_agents(runner, answers)


ROUTE = {"mode": "route"}
ALL = {"mode": "collaborative"}
ABC = {"mode": "sequential", "sequential_agents": ["a", "b", "c"]}
LOOP = {"mode": "loop", "loop_agent": "a"}


# --- route ---


async def test_case_03_each_handler_sees_its_own_event() -> None:
    """Events go to the agent that they name, and to no other."""
    runner, calls = _stubbed(ROUTE, "a b c")
    async with runner:
        for name in "cab":
            await runner.run(Event(name, {"for": name}))
    assert [("c", "c"), ("a", "a"), ("b", "b")] == [(call.agent, call.event.data["for"]) for call in calls]


async def test_case_04_failure_of_one_event_is_its_own() -> None:
    """A handler that raises fails its own event, keeps its exception, and stops nobody else."""
    boom = LookupError("boom")
    runner, calls = _stubbed(ROUTE, "a b c", {"b": boom})
    async with runner:
        results = [await runner.run(Event(name)) for name in "abc"]
    assert ["completed", "failed", "completed"] == [result.status for result in results]
    assert results[1].error.exception is boom
    with pytest.raises(Exception, match="failed") as caught:
        results[1].raise_for_status()
    assert caught.value.__cause__ is boom
    assert ["a", "b", "c"] == calls.agents


async def test_case_05_no_target() -> None:
    """An event with neither target nor route fails, naming the missing routing key, and calls nobody."""
    runner, calls = _stubbed(ROUTE, "a")
    async with runner:
        result = await runner.run(Event())
    assert ("failed", "error", "RoutingError") == (result.status, result.reason, result.error.type)
    assert "missing routing key" in result.error.message
    assert [] == calls


async def test_case_05_target_is_enough() -> None:
    """A target alone routes; `metadata.route` goes before it."""
    runner, calls = _stubbed(ROUTE, "a b")
    async with runner:
        assert "completed" == (await runner.run(Event("a"))).status
        assert "completed" == (await runner.run(Event("a", metadata={"route": "b"}))).status
    assert ["a", "b"] == calls.agents
    assert "route" not in calls[1].meta


async def test_case_06_unknown_target_names_the_nearest() -> None:
    """A target that is no agent fails with its name and the nearest known one."""
    runner, calls = _stubbed(ROUTE, "analyzer")
    async with runner:
        result = await runner.run(Event("analyser"))
    assert "no agent or flow named `analyser`" in str(result.error)
    assert "analyzer" in str(result.error)
    assert [] == calls


@pytest.mark.parametrize("event", [None, "a", {"target": "a"}, 7])
async def test_case_07_something_that_is_no_event(event: Any) -> None:
    """Only events can be emitted."""
    runner, _ = _stubbed(ROUTE, "a")
    async with runner:
        with pytest.raises(Exception, match="emit takes an Event") as caught:
            await runner.emit(event)
    assert "AF0302" == caught.value.code


async def test_case_08_many_at_once_are_each_handled_once() -> None:
    """Of many events emitted at once each is handled once."""
    runner, calls = _stubbed(ROUTE, "a b c")
    async with runner:
        results = await asyncio.gather(*(runner.run(Event("abc"[number % 3], {"n": number})) for number in range(300)))
    assert {"completed"} == {result.status for result in results}
    assert list(range(300)) == sorted(call.event.data["n"] for call in calls)


async def test_hand_offs_follow_the_route_of_the_result() -> None:
    """A route in the result, or in the metadata that the step sets, hands on; an empty one ends."""

    def to_c(event: Event, state: State) -> State:
        state.meta["route"] = "c"
        return state

    runner, calls = _stubbed(ROUTE, "a b c", {"a": AgentResult({"a": 1}, route="b"), "b": to_c, "c": AgentResult({"c": 3}, route="")})
    async with runner:
        result = await runner.run(Event("a"))
    assert ["a", "b", "c"] == calls.agents
    assert ("completed", {"a": 1, "c": 3}) == (result.status, dict(result.state))
    assert "route" not in result.state.meta
    assert ["0#1.0", "0#2.1", "0#3.2"] == [call.position for call in calls]


async def test_complex_case_45_goes_to_the_specialist_once() -> None:
    """The analyzer's choice decides who runs; the formatter's output is the last word."""
    answers = {
        "analyzer": AgentResult(route="specialist"),
        "specialist": AgentResult({"text": "deep"}, route="formatter"),
        "formatter": {"text": "final"},
    }
    runner, calls = _stubbed(ROUTE, "analyzer specialist general formatter", answers)
    async with runner:
        result = await runner.run(Event("analyzer"))
    assert ["analyzer", "specialist", "formatter"] == calls.agents
    assert "final" == result.state["text"]


async def test_hop_limit_names_the_agents_of_the_cycle() -> None:
    """Agents that hand on for ever are stopped at max_hops, and the error names the cycle."""
    answers = {"a": AgentResult(route="b"), "b": AgentResult(route="a")}
    runner, calls = _stubbed({**ROUTE, "max_hops": 4}, "a b", answers)
    async with runner:
        result = await runner.run(Event("a"))
    assert ("failed", "hop_limit", "HopLimitError") == (result.status, result.reason, result.error.type)
    assert ["a", "b", "a", "b", "a"] == calls.agents
    assert "a -> b -> a" in result.error.message


async def test_route_to_a_stranger_fails_the_step() -> None:
    """A route that names no member of the flow fails the step that answered it."""
    runner, _ = _stubbed(ROUTE, "analyzer", {"analyzer": AgentResult({"x": 1}, route="analyser")})
    async with runner:
        result = await runner.run(Event("analyzer"))
    assert ("failed", "analyzer", "RoutingError") == (result.status, result.error.agent, result.error.type)


# --- collaborative ---


async def test_case_10_each_agent_sees_the_event_once() -> None:
    """All agents see the same event, each once."""
    runner, calls = _stubbed(ALL, "a b c")
    async with runner:
        await runner.run(Event("x", {"n": 1}, id="the-event"))
    assert ["a", "b", "c"] == sorted(calls.agents)
    assert {"the-event"} == {call.event.id for call in calls}


async def test_case_11_no_agents() -> None:
    """A collaborative flow with nobody in it is refused when the runner starts: until then somebody may be registered."""
    with pytest.raises(ConfigError, match="no agents registered"):
        await Runner.from_dict({"orchestration": ALL}, environ={}).start()


async def test_case_12_errors_of_all_branches_are_told() -> None:
    """When too many branches fail, all were called and the error carries each one's message."""
    runner, calls = _stubbed(ALL, "a b c", {"b": ValueError("first trouble"), "c": KeyError("second trouble")})
    async with runner:
        result = await runner.run(Event())
    assert ("failed", "threshold", "JoinError") == (result.status, result.reason, result.error.type)
    assert ["a", "b", "c"] == sorted(calls.agents)
    assert "first trouble" in str(result.error)
    assert "second trouble" in str(result.error)
    assert {"b", "c"} == set(result.errors)


async def test_case_13_and_18_output_of_the_others_is_kept() -> None:
    """A failure below the threshold leaves the others' output, and the run is partial."""
    runner, _ = _stubbed(ALL, "a b c", {"a": {"a": 1}, "b": ValueError("no"), "c": {"c": 3}})
    async with runner:
        result = await runner.run(Event())
    assert ("partial", "partial", None) == (result.status, result.reason, result.error)
    assert ({"a": 1, "c": 3}, {"a": {"a": 1}, "c": {"c": 3}}) == (dict(result.state), result.outputs)
    assert ["b"] == list(result.errors)


@pytest.mark.parametrize(
    ("threshold", "failing", "status"), [(0, 1, "failed"), (0.5, 2, "partial"), (0.49, 2, "failed"), (1, 3, "partial"), (1, 4, "failed")]
)
async def test_threshold_is_the_share_that_may_fail(threshold: float, failing: int, status: str) -> None:
    """A join fails when more than the threshold failed, and always when nobody succeeded."""
    answers = {name: ValueError("no") for name in "abcd"[:failing]}
    runner, _ = _stubbed({**ALL, "failure_threshold": threshold}, "a b c d", answers)
    async with runner:
        assert status == (await runner.run(Event())).status


async def test_case_14_fifty_events_at_once() -> None:
    """Fifty concurrent events are each handled by each of three agents."""
    runner, calls = _stubbed(ALL, "a b c")
    async with runner:
        await asyncio.gather(*(runner.run(Event(data={"n": number})) for number in range(50)))
    assert 150 == len({(call.agent, call.event.data["n"]) for call in calls}) == len(calls)


async def test_case_15_agents_that_are_not_listed_stay_out() -> None:
    """Only the listed agents are called, though others are registered."""
    runner, calls = _stubbed({**ALL, "collaborative_agents": ["a", "b"]}, "a b c")
    async with runner:
        await runner.run(Event())
    assert ["a", "b"] == sorted(calls.agents)


@pytest.mark.parametrize("slowest", ["a", "b", "c"])
async def test_case_16_same_key_is_merged_in_list_order(slowest: str) -> None:
    """Whoever ends last, the last in the list wins, and the conflict is on record."""

    def answer(name: str) -> Any:
        async def handler(event: Event, state: State) -> dict[str, str]:
            await asyncio.sleep(2 if name == slowest else 1)
            return {"k": name}

        return handler

    flow = {**ALL, "collaborative_agents": ["c", "a", "b"]}
    runner, _ = _stubbed(flow, "a b c", {name: answer(name) for name in "abc"})
    async with runner:
        result = await runner.run(Event())
    assert "b" == result.state["k"]
    (conflict,) = result.conflicts
    assert ("k", ("c", "a", "b"), "b") == (conflict.key, conflict.agents, conflict.winner)
    assert ["c", "a", "b"] == list(result.outputs)


async def test_case_17_everything_is_merged() -> None:
    """The state has what was there and what each agent added."""
    runner, _ = _stubbed(ALL, "p1 p2 p3", {name: {name: True} for name in ("p1", "p2", "p3")})
    async with runner:
        result = await runner.run(Event(data={"initial": 1}))
    assert {"initial": 1, "p1": True, "p2": True, "p3": True} == dict(result.state)


async def test_case_19_event_timeout_keeps_the_quick_results() -> None:
    """A time limit ends the event at once, as a timeout, and keeps what the quick ones set."""

    async def slow(event: Event, state: State) -> None:
        await asyncio.sleep(60)

    runner, _ = _stubbed({**ALL, "timeout_seconds": 0.05}, "quick slow", {"quick": {"quick": 1}, "slow": slow})
    async with runner:
        result = await runner.run(Event())
    assert 0.05 == pytest.approx(asyncio.get_running_loop().time())
    assert ("timed_out", "EventTimeoutError", {"quick": 1}) == (result.status, result.error.type, dict(result.state))


async def test_case_20_cancel_from_outside_is_prompt() -> None:
    """A cancelled event returns at once."""

    async def slow(event: Event, state: State) -> None:
        await asyncio.sleep(60)

    runner, _ = _stubbed(ALL, "a b", {"a": slow, "b": slow})
    async with runner:
        handle = await runner.emit(Event())
        await asyncio.sleep(0.01)
        handle.cancel()
        result = await handle.result()
    assert ("cancelled", 0.01) == (result.status, asyncio.get_running_loop().time())


@pytest.mark.parametrize("most", [1, 2, 3])
async def test_concurrency_is_bounded(most: int) -> None:
    """Never more than max_concurrency agents of a flow run at once, and as many as may do."""
    running = peak = 0

    async def work(event: Event, state: State) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(1)
        running -= 1

    runner, _ = _stubbed({**ALL, "max_concurrency": most}, "a b c d e f", dict.fromkeys("abcdef", work))
    async with runner:
        assert "completed" == (await runner.run(Event())).status
    assert most == peak


# --- sequential ---


async def test_case_23_each_sees_what_those_before_set() -> None:
    """Each agent starts after the one before ended, on the state that it left."""
    runner, calls = _stubbed(ABC, "a b c", {name: {name: 1} for name in "abc"})
    async with runner:
        result = await runner.run(Event(data={"in": 0}))
    assert [{"in": 0}, {"in": 0, "a": 1}, {"in": 0, "a": 1, "b": 1}] == [call.state for call in calls]
    assert ["0.0", "0.1", "0.2"] == [call.position for call in calls]
    assert ["a", "b", "c"] == list(result.outputs)


async def test_case_24_and_47_a_failure_stops() -> None:
    """A failing step stops the sequence, is named as the stage, and the state up to it stays."""
    runner, calls = _stubbed(ABC, "a b c", {"a": {"a": 1}, "b": ValueError("no")})
    async with runner:
        result = await runner.run(Event())
    assert ["a", "b"] == calls.agents
    assert ("failed", "b", "b", "0.1", 1) == (
        result.status,
        result.error.stage,
        result.error.agent,
        result.error.position,
        result.error.attempts,
    )
    assert ({"a": 1}, {"a": {"a": 1}}) == (dict(result.state), result.outputs)


@pytest.mark.parametrize(("flow", "ran"), [(ABC, 3), (ALL, 3), ({**LOOP, "max_iterations": 1}, 1)])
async def test_route_metadata_does_not_rerun_other_modes(flow: dict[str, Any], ran: int) -> None:
    """Route metadata, of the event or of a result, is of no consequence outside route: each agent runs once."""
    runner, calls = _stubbed(flow, "a b c", {"a": AgentResult({"a": 1}, route="a")})
    async with runner:
        result = await runner.run(Event("a", metadata={"route": "a"}))
    assert ("completed", ran) == (result.status, len(calls))


async def test_failing_agent_runs_as_often_as_retries_say() -> None:
    """One event of a failing sequential agent is one run of it, and its retries."""
    runner, calls = _stubbed(ABC, "a b c", {"a": ValueError("no")})
    async with runner:
        await runner.run(Event())
    assert ["a"] == calls.agents
    runner, calls = _stubbed({**ABC, "retry_attempts": 2}, "a b c", {"a": ValueError("no")})
    async with runner:
        await runner.run(Event())
    assert ["a", "a", "a"] == calls.agents


# --- loop ---


async def test_case_26_loop_ends_when_the_condition_holds() -> None:
    """The loop runs until its condition holds, and says so."""
    runner, calls = _stubbed({**LOOP, "until": "state.count >= 3"}, "a", {"a": lambda event, state: {"count": state.get("count", 0) + 1}})
    async with runner:
        result = await runner.run(Event())
    assert (3, "completed", "condition_met", {"count": 3}) == (len(calls), result.status, result.reason, dict(result.state))


async def test_case_27_loop_ends_at_its_bound() -> None:
    """A loop that is never done ends after max_iterations rounds, completed, with a reason of its own."""
    runner, calls = _stubbed(LOOP, "a")
    async with runner:
        result = await runner.run(Event())
    assert ("completed", "max_iterations") == (result.status, result.reason)
    assert [0, 1, 2, 3, 4] == [call.state["iteration"] for call in calls]
    assert ["0#1", "0#2", "0#3", "0#4", "0#5"] == [call.position for call in calls]


async def test_case_28_error_in_a_round_names_the_round() -> None:
    """An error in the second round ends the loop; its position names the round."""
    runner, calls = _stubbed(LOOP, "a", {"a": [{"x": 1}, ValueError("no")]})
    async with runner:
        result = await runner.run(Event())
    assert (2, "failed", "error", "0#2", {"x": 1}) == (len(calls), result.status, result.reason, result.error.position, dict(result.state))


@pytest.mark.parametrize("key", ["loop_complete", "loop_completed"])
async def test_loop_accepts_both_words(key: str) -> None:
    """`loop_complete` and `loop_completed` end a loop, and neither is left in the state."""
    runner, calls = _stubbed(LOOP, "a", {"a": [None, {key: True, "x": 1}]})
    async with runner:
        result = await runner.run(Event(data={key: True}))
    assert (2, "condition_met", {"x": 1}) == (
        len(calls),
        result.reason,
        {name: value for name, value in result.state.items() if name != key},
    )
    assert "iteration" not in result.state


@pytest.mark.parametrize("limited", [True, False])
async def test_case_30_loop_is_stopped_in_the_middle(limited: bool) -> None:
    """A timeout or a cancel in the middle of a round stops a loop at once."""

    async def slow(event: Event, state: State) -> None:
        await asyncio.sleep(0.02)

    runner, calls = _stubbed({**LOOP, "max_iterations": 1000, **({"timeout_seconds": 0.05} if limited else {})}, "a", {"a": slow})
    async with runner:
        handle = await runner.emit(Event())
        if not limited:
            await asyncio.sleep(0.05)
            handle.cancel()
        result = await handle.result()
    assert ("timed_out" if limited else "cancelled", 3) == (result.status, len(calls))
    assert 0.05 == pytest.approx(asyncio.get_running_loop().time())


async def test_state_does_not_grow_with_rounds() -> None:
    """Rounds leave nothing behind: after many the state is what the last one set."""
    runner, calls = _stubbed({**LOOP, "max_iterations": 500}, "a", {"a": lambda event, state: {"n": state["iteration"]}})
    async with runner:
        result = await runner.run(Event())
    assert (500, {"n": 499}, {"a": {"n": 499}}) == (len(calls), dict(result.state), result.outputs)


# --- mixed and nested ---


async def test_mixed_is_a_collaborative_then_a_sequential_phase() -> None:
    """The sequential phase starts when all of the collaborative one have ended, on what they came to."""

    async def slow(event: Event, state: State) -> dict[str, int]:
        await asyncio.sleep(5)
        return {"a": 1}

    flow = {"mode": "mixed", "collaborative_agents": ["a", "b"], "sequential_agents": ["c", "d"]}
    runner, calls = _stubbed(flow, "a b c d", {"a": slow, "b": {"b": 1}, "c": {"c": 1}})
    async with runner:
        await runner.run(Event())
    assert ["a", "b", "c", "d"] == calls.agents
    assert [{"a": 1, "b": 1}, {"a": 1, "b": 1, "c": 1}] == [call.state for call in calls[2:]]


async def test_mixed_stops_when_the_collaborative_phase_fails() -> None:
    """A failed join ends a mixed flow; nothing of the sequential phase runs."""
    flow = {"mode": "mixed", "collaborative_agents": ["a", "b"], "sequential_agents": ["c"]}
    runner, calls = _stubbed(flow, "a b c", {"a": ValueError("no"), "b": ValueError("no")})
    async with runner:
        result = await runner.run(Event())
    assert ("failed", "threshold") == (result.status, result.reason)
    assert "c" not in calls.agents


@pytest.mark.parametrize("lists", [{"collaborative_agents": ["a", "b"]}, {"sequential_agents": ["a", "b"]}])
async def test_mixed_with_one_list(lists: dict[str, Any]) -> None:
    """Either phase of a mixed flow may be missing."""
    runner, calls = _stubbed({"mode": "mixed", **lists}, "a b")
    async with runner:
        assert "completed" == (await runner.run(Event())).status
    assert ["a", "b"] == sorted(calls.agents)


async def test_case_50_flows_stand_where_agents_may() -> None:
    """Nested flows are awaited, see the state around them, and their path is in the positions."""
    flows = {
        "deep": {"mode": "loop", "loop_agent": "a", "max_iterations": 2},
        "middle": {"mode": "collaborative", "collaborative_agents": ["deep", "b"]},
    }
    runner, calls = _stubbed(
        {"mode": "sequential", "sequential_agents": ["middle", "c"]},
        "a b c",
        {"a": lambda event, state: {"a": state["iteration"]}, "b": {"b": 2}},
        flows=flows,
    )
    async with runner:
        result = await runner.run(Event(data={"in": 0}))
    assert ["a", "a", "b", "c"] == sorted(calls.agents)
    assert ["0.0.0#1", "0.0.0#2"] == [call.position for call in calls.of("a")]
    assert {"in": 0, "a": 1, "b": 2} == calls.of("c")[0].state
    assert {"middle": {"a": 1, "b": 2}, "deep": {"a": 1}, "a": {"a": 1}, "b": {"b": 2}, "c": {}} == result.outputs


async def test_same_handlers_run_under_each_mode() -> None:
    """Changing the one word `mode` changes the orchestration, with the same handlers and the same event."""
    lists = {"collaborative_agents": ["a", "b"], "sequential_agents": ["b", "c"], "loop_agent": "a", "max_iterations": 2}
    expected = {"route": ["a"], "collaborative": ["a", "b"], "sequential": ["b", "c"], "loop": ["a", "a"], "mixed": ["a", "b", "b", "c"]}
    for mode, ran in expected.items():
        runner, calls = _stubbed({"mode": mode, **lists}, "a b c")
        async with runner:
            result = await runner.run(Event("a", {"x": 1}, metadata={"route": "a"}))
        assert ("completed", ran) == (result.status, calls.agents), mode


async def test_case_46_ten_requests_that_fan_out() -> None:
    """Ten concurrent requests that each fan out all come back."""

    async def work(event: Event, state: State) -> dict[str, int]:
        await asyncio.sleep(1)
        return {"n": event.data["n"]}

    runner, _ = _stubbed(ALL, "a b c", dict.fromkeys("abc", work))
    async with runner:
        results = await asyncio.gather(*(runner.run(Event(data={"n": number})) for number in range(10)))
    assert [("completed", number) for number in range(10)] == [(result.status, result.state["n"]) for result in results]
    assert 1 == asyncio.get_running_loop().time()


@pytest.mark.parametrize("mode", ["collaborative", "sequential"])
async def test_mutations_reach_nobody_else(mode: str) -> None:
    """What a handler does to event data and state in place is seen by no parallel branch, and the event's data by no later step."""
    seen: list[Any] = []

    async def vandal(event: Event, state: State) -> None:
        event.data["list"].append("vandal")
        event.data["new"] = 1
        state["list"].append("vandal")
        state["deep"]["x"]["y"] = "vandal"
        await asyncio.sleep(1)

    async def looker(event: Event, state: State) -> None:
        await asyncio.sleep(0.5)
        seen.append((event.data, state["list"], state["deep"]))

    flow = {"mode": mode, "collaborative_agents": ["vandal", "looker"], "sequential_agents": ["vandal", "looker"]}
    data: dict[str, Any] = {"list": [1], "deep": {"x": {"y": 0}}}
    runner, _ = _stubbed(flow, "vandal looker", {"vandal": vandal, "looker": looker})
    async with runner:
        handle = await runner.emit(Event(data=data))
        data["list"].append("caller")
        result = await handle.result()
    in_sequence = mode == "sequential"
    assert [
        ({"list": [1], "deep": {"x": {"y": 0}}}, [1, "vandal"] if in_sequence else [1], {"x": {"y": "vandal" if in_sequence else 0}})
    ] == seen
    assert {"list": [1, "vandal"], "deep": {"x": {"y": "vandal"}}} == result.outputs["vandal"]


async def test_kept_event_stays_as_it_was(make_runner: Callable[..., Runner]) -> None:
    """A handler that keeps its event does not see what a later step does to its data."""
    kept: list[Event] = []

    async def keep(event: Event, state: State) -> None:
        kept.append(event)

    async def change(event: Event, state: State) -> None:
        event.data["n"] = 2

    async with make_runner({"mode": "sequential", "sequential_agents": ["keep", "change"]}, {"keep": keep, "change": change}) as runner:
        assert "completed" == (await runner.run(Event("", {"n": 1}))).status
    assert {"n": 1} == kept[0].data


async def test_event_has_its_id_and_time_from_the_start(make_runner: Callable[..., Runner]) -> None:
    """Each new event has an id and a time of its own, and its handler sees the same ones."""
    seen: list[Event] = []

    async def see(event: Event, state: State) -> None:
        seen.append(event)

    event = Event("see")
    async with make_runner({}, {"see": see}) as runner:
        await runner.run(event)
    assert (event.id, event.timestamp) == (seen[0].id, seen[0].timestamp)
    assert 100 == len({Event("a").id for _ in range(100)})
