"""Fallbacks, default outputs and dead letters: what answers when an agent has failed for good, and what is kept when nobody does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentflow import Event, Hook, Runner
from agentflow.core.records import FallbackTaken, StepDegraded, StepFailed, StepStarted

MakeRunner = Callable[..., Runner]
SEQUENCE = {"mode": "sequential", "sequential_agents": ["a"]}
CHAIN = {"a": {"fallback": ["b", "c"]}}
ANSWERED = {"by": "c"}


class Called:
    """Makes handlers that note the order of their calls: `name` fails as often as it is told, and answers who it is."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.at: list[float] = []

    def failing(self, name: str, times: float = float("inf"), error: BaseException | None = None, seconds: float = 0.0) -> Any:
        left = times

        async def answer(event: Event, state: Any) -> dict[str, str]:
            nonlocal left
            self.names.append(name)
            self.at.append(asyncio.get_running_loop().time())
            await asyncio.sleep(seconds)
            left -= 1
            if left >= 0:
                raise error or OSError(f"{name} is busy")
            return {"by": name}

        return answer


def trio(called: Called, **times: float) -> dict[str, Any]:
    """Return `a` and `b`, which fail, and `c`, which does not."""
    return {name: called.failing(name, times.get(name, 0 if name == "c" else float("inf"))) for name in "abc"}


async def idle(event: Event, state: Any) -> None:
    """Do nothing, and well."""


@pytest.mark.parametrize("is_recorded", [False, True])
@pytest.mark.parametrize(
    ("flow", "flows", "target"),
    [
        (SEQUENCE, {}, ""),
        ({"mode": "collaborative", "collaborative_agents": ["a", "c"]}, {}, ""),
        ({"mode": "loop", "loop_agent": "a", "max_iterations": 1}, {}, ""),
        ({"mode": "route"}, {}, "a"),
        ({"mode": "mixed", "collaborative_agents": ["d"], "sequential_agents": ["a"]}, {}, ""),
        ({"mode": "sequential", "sequential_agents": ["inner"]}, {"inner": {"mode": "collaborative", "collaborative_agents": ["a"]}}, ""),
    ],
)
async def test_who_stands_in_answers_in_every_mode(make_runner: MakeRunner, flow: Any, flows: Any, target: str, is_recorded: bool) -> None:
    """A fallback that fails gives way to the next one; the answer is the step's, under the name of the agent that the flow names."""
    called = Called()
    sections = {"journal": {"url": "memory:"}} if is_recorded else {}
    handlers = {**trio(called), "d": idle}
    async with make_runner(flow, handlers, agents=CHAIN, flows=flows, **sections) as runner:
        result = await runner.run(Event(target))
    assert (result.status, result.flags, result.error, result.errors) == ("completed", (), None, {})
    assert [name for name in called.names if name != "c"] == ["a", "b"]
    assert called.names[-1] == "c"
    assert result.outputs["a"] == ANSWERED
    assert "b" not in result.outputs
    assert result.usage.calls == len(called.names) + (flow["mode"] == "mixed")


async def test_a_chain_that_fails_to_its_end_fails_with_its_last_error(make_runner: MakeRunner) -> None:
    """The error names the agent of the flow, the message is that of whoever tried last, and all attempts count."""
    called = Called()
    async with make_runner({**SEQUENCE, "retry_attempts": 1}, trio(called, c=9), agents=CHAIN) as runner:
        result = await runner.run(Event())
    assert called.names == ["a", "a", "b", "b", "c", "c"]
    assert (result.status, result.error.agent, result.error.message, result.error.attempts) == ("failed", "a", "c is busy", 6)


async def test_each_of_a_chain_has_its_own_retries_and_waits(make_runner: MakeRunner) -> None:
    """Retries come before the fallback, its waits begin anew, and the fallback itself comes at once."""
    called = Called()
    agents = {"a": {"fallback": ["b"], "retry": {"max_retries": 3, "jitter": False}}, "b": {"retry": {"max_retries": 1, "jitter": False}}}
    async with make_runner(SEQUENCE, trio(called, b=1), agents=agents) as runner:
        result = await runner.run(Event())
    assert "".join(called.names) == "aaaabb"
    assert called.at == pytest.approx([0, 1, 3, 7, 7, 8])
    assert result.status == "completed"


@pytest.mark.parametrize(
    ("listed", "error", "calls"),
    [
        (["TimeoutError"], OSError("no"), "a"),
        (["OSError"], ConnectionError("no"), "ab"),
        (["rate_limit"], OSError("no"), "a"),
        ([], OSError("no"), "a"),
        (None, SystemExit(3), "ab"),
        (None, KeyboardInterrupt(), "ab"),
    ],
)
async def test_fallbacks_are_for_the_errors_that_are_listed(make_runner: MakeRunner, listed: Any, error: BaseException, calls: str) -> None:
    """Classes, their bases, or codes; without a list it is for all."""
    called = Called()
    agents = {"a": {"fallback": ["b"]} | ({} if listed is None else {"fallback_on": listed})}
    handlers = {"a": called.failing("a", error=error), "b": called.failing("b", 0)}
    async with make_runner(SEQUENCE, handlers, agents=agents) as runner:
        result = await runner.run(Event())
    assert "".join(called.names) == calls
    assert result.status == ("completed" if calls == "ab" else "failed")


@pytest.mark.parametrize("is_stubborn", [False, True])
async def test_a_timeout_of_the_first_lets_the_next_one_answer(make_runner: MakeRunner, is_stubborn: bool) -> None:
    """Each has its own time limit; also a handler that does not end when it is cancelled is passed over."""
    called = Called()

    async def a(event: Event, state: Any) -> None:
        called.names.append("a")
        for _ in range(9 if is_stubborn else 1):
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                if not is_stubborn:
                    raise

    handlers = {"a": a, "b": called.failing("b", 0, seconds=4)}
    agents = {"a": {"timeout_seconds": 2, "fallback": ["b"]}, "b": {"timeout_seconds": 5}}
    async with make_runner(SEQUENCE, handlers, agents=agents, runner={"cancel_grace_seconds": 1, "drain_timeout_seconds": 1}) as runner:
        result = await runner.run(Event())
        assert asyncio.get_running_loop().time() == pytest.approx(12 if is_stubborn else 6)  # 2 + grace 1 + 5, then 4
    assert (result.status, dict(result.state), called.names) == ("completed", {"by": "b"}, ["a", "b"])
    assert result.flags == (("abandoned",) if is_stubborn else ())


async def test_an_open_circuit_lets_the_fallback_answer_at_once(make_runner: MakeRunner) -> None:
    """The agent is not called, and not waited for."""
    called = Called()
    agents = {"a": {"fallback": ["c"], "circuit_breaker": {"failure_threshold": 1}}}
    async with make_runner({**SEQUENCE, "retry_attempts": 5}, trio(called), agents=agents) as runner:
        results = [await runner.run(Event()) for _ in range(3)]
    assert called.names == ["a", "c", "c", "c"]
    assert {result.status for result in results} == {"completed"}


async def test_what_happened_is_recorded(make_runner: MakeRunner) -> None:
    """Each fallback says from whom to whom, why, and after which attempt."""
    told: list[Any] = []
    async with make_runner(SEQUENCE, trio(Called()), agents=CHAIN) as runner:
        runner.observe(lambda record: told.append(record.fact))
        await runner.run(Event())
    taken = [(fact.agent, fact.to, fact.fallback, fact.attempt, fact.failure.message) for fact in told if isinstance(fact, FallbackTaken)]
    assert taken == [("a", "b", 1, 1, "a is busy"), ("a", "c", 2, 2, "b is busy")]
    assert [fact.attempt for fact in told if isinstance(fact, StepStarted)] == [1, 2, 3]


# --- default output ---


@pytest.mark.parametrize("is_recorded", [False, True])
async def test_default_output_is_the_last_answer(make_runner: MakeRunner, is_recorded: bool) -> None:
    """The run completes, says that it is degraded, and keeps the error that it has covered."""
    called = Called()
    agents = {"a": {"fallback": ["b"], "default_output": {"by": "nobody", "list": [1]}}}
    sections = {"journal": {"url": "memory:"}} if is_recorded else {}
    flow = {**SEQUENCE, "retry_attempts": 1, "sequential_agents": ["a", "c"]}

    async def c(event: Event, state: Any) -> dict[str, Any]:
        return {"saw": state["by"]}

    async with make_runner(flow, {**trio(called), "c": c}, agents=agents, **sections) as runner:
        result = await runner.run(Event())
        if is_recorded:
            (kept,) = await runner.runs()
            assert (kept.status, kept.reason, kept.flags) == ("completed", "degraded", ("degraded",))
    assert (result.status, result.reason, result.flags, result.error) == ("completed", "degraded", ("degraded",), None)
    assert dict(result.state) == {"by": "nobody", "list": [1], "saw": "nobody"}
    assert (result.errors["a"].message, result.errors["a"].position, result.errors["a"].attempts) == ("b is busy", "0.0", 4)
    assert called.names == ["a", "a", "b", "b"]


async def test_default_output_removes_nothing_and_cannot_be_changed(make_runner: MakeRunner) -> None:
    """It sets its keys; what somebody makes of the state does not reach the next run's."""

    async def spoil(event: Event, state: Any) -> None:
        state["list"].append(2)

    flow = {"mode": "sequential", "sequential_agents": ["a", "spoil"]}
    handlers = {"a": Called().failing("a"), "spoil": spoil}
    async with make_runner(flow, handlers, agents={"a": {"default_output": {"list": [1]}}}) as runner:
        for _ in range(2):
            result = await runner.run(Event("", {"kept": True}))
            assert dict(result.state) == {"kept": True, "list": [1, 2]}


async def test_default_output_counts_as_an_answer_in_a_join(make_runner: MakeRunner) -> None:
    """The branch has not failed."""
    flow = {"mode": "collaborative", "collaborative_agents": ["a", "b"], "failure_threshold": 0.0}
    handlers = {name: Called().failing(name) for name in "ab"}
    agents = {name: {"default_output": {name: 0}} for name in "ab"}
    async with make_runner(flow, handlers, agents=agents) as runner:
        result = await runner.run(Event())
    assert (result.status, result.reason, dict(result.state), sorted(result.errors)) == (
        "completed",
        "degraded",
        {"a": 0, "b": 0},
        ["a", "b"],
    )


async def test_a_cancelled_run_has_no_default_output(make_runner: MakeRunner) -> None:
    """Who ends a run wants no answer."""
    async with make_runner(SEQUENCE, {"a": Called().failing("a", 0, seconds=9)}, agents={"a": {"default_output": {"x": 1}}}) as runner:
        handle = await runner.emit(Event())
        await asyncio.sleep(1)
        handle.cancel()
        result = await handle.result()
    assert (result.status, dict(result.state), result.flags) == ("cancelled", {}, ())


# --- hooks ---


@pytest.mark.parametrize(("default", "c_fails"), [(None, False), (None, True), ({"by": "nobody"}, True)])
async def test_hooks_see_one_step_whoever_answers(make_runner: MakeRunner, default: Any, c_fails: bool) -> None:
    """BEFORE_AGENT_RUN comes once, AGENT_ERROR once and only after the last attempt of all, AFTER_AGENT_RUN with any answer."""
    seen: list[str] = []
    agents = {"a": {"fallback": ["b", "c"]} | ({} if default is None else {"default_output": default})}
    async with make_runner({**SEQUENCE, "retry_attempts": 1}, trio(Called(), c=9 * c_fails), agents=agents) as runner:
        runner.register_callback(Hook.BEFORE_AGENT_RUN, "before", lambda args: seen.append("before"))
        runner.register_callback(Hook.AGENT_ERROR, "error", lambda args: seen.append(f"error {args.error}"))
        runner.register_callback(Hook.AFTER_AGENT_RUN, "after", lambda args: seen.append(f"after {args.state['by']}"))
        await runner.run(Event())
    answered = (["error c is busy"] if c_fails else ["after c"]) + (["after nobody"] if default else [])
    assert seen == ["before", *answered]


async def test_a_veto_is_no_failure_of_the_agent(make_runner: MakeRunner) -> None:
    """Nobody stands in for an agent that a BEFORE_AGENT_RUN hook has kept from running; its default output does answer."""

    def veto(args: Any) -> None:
        raise PermissionError("not today")

    called = Called()
    for default, status in ((None, "failed"), ({"by": "nobody"}, "completed")):
        agents = {"a": {"fallback": ["b"], **({} if default is None else {"default_output": default})}}
        async with make_runner(SEQUENCE, trio(called), agents=agents) as runner:
            runner.register_callback(Hook.BEFORE_AGENT_RUN, "veto", veto)
            assert (await runner.run(Event())).status == status
    assert called.names == []


async def test_a_hook_that_recovers_a_step_leaves_it_whole(make_runner: MakeRunner) -> None:
    """AGENT_ERROR comes before the default output: the run is not degraded."""

    def recover(args: Any) -> Any:
        args.state["by"] = "hook"
        return args.state

    told: list[Any] = []
    async with make_runner(SEQUENCE, trio(Called()), agents={"a": {"default_output": {"by": "nobody"}}}) as runner:
        runner.register_callback(Hook.AGENT_ERROR, "recover", recover)
        runner.observe(lambda record: told.append(type(record.fact)))
        result = await runner.run(Event())
    assert (result.reason, dict(result.state), result.flags) == ("completed", {"by": "hook"}, ())
    assert not {StepDegraded, StepFailed} & set(told)


# --- the bound on all of it ---


@pytest.mark.parametrize(
    ("agent", "calls"),
    [
        ({"retry": {"max_retries": 100, "jitter": False}}, "aaaa"),
        ({"self_correct": 100}, "aaaa"),
        ({"fallback": ["b", "c"], "retry": {"max_retries": 1, "jitter": False}}, "aabb"),
    ],
)
async def test_attempts_of_a_run_are_bounded_together(make_runner: MakeRunner, agent: dict[str, Any], calls: str) -> None:
    """Retries, corrections and fallbacks count together; the step then fails, says why, and what the last attempt failed of."""
    called = Called()
    agents = {"a": agent, "b": {"retry": {"max_retries": 9}}}
    async with make_runner({**SEQUENCE, "max_total_attempts": 3}, trio(called, c=9), agents=agents) as runner:
        result = await runner.run(Event())
    assert "".join(called.names) == calls
    assert (result.status, result.reason, result.error.code) == ("failed", "attempt_limit", "attempt_limit")
    assert "is busy" in result.error.message
    assert "max_total_attempts" in result.error.message


async def test_the_bound_is_the_whole_runs(make_runner: MakeRunner) -> None:
    """Also steps of other agents and of nested flows count, and 0 means that nothing is tried again; 1000 is the default."""
    flows = {"inner": {**SEQUENCE, "retry": {"max_retries": 100, "backoff_factor": 1, "jitter": False}, "max_total_attempts": 1}}
    loop = {"mode": "loop", "loop_agent": "inner", "on_error": "continue", "max_iterations": 20}
    for limit, most in ((None, 1000), (7, 7), (0, 0)):
        called = Called()
        flow = loop if limit is None else {**loop, "max_total_attempts": limit}
        async with make_runner(flow, {"a": called.failing("a")}, flows=flows) as runner:
            result = await runner.run(Event())
        assert (result.status, len(called.names)) == ("partial", 20 + most)
        assert result.errors["inner"].code == "attempt_limit"


async def test_a_failure_that_would_not_be_tried_again_keeps_its_own_error(make_runner: MakeRunner) -> None:
    """The bound has nothing to do with it."""
    async with make_runner({**SEQUENCE, "max_total_attempts": 0}, {"a": Called().failing("a")}) as runner:
        assert (await runner.run(Event())).error.code == "OSError"


# --- dead letters ---


async def test_what_nobody_handled_is_a_dead_letter(make_runner: MakeRunner) -> None:
    """A recorded run that failed is kept as one; not one that completed, was cancelled, or whose error handler has seen to it."""
    handlers = {**trio(Called()), "slow": Called().failing("slow", 0, seconds=9)}

    async def flags(target: str, **sections: Any) -> tuple[str, ...]:
        async with make_runner({"mode": "route"}, handlers, journal={"url": "memory:"}, **sections) as runner:
            result = await runner.run(Event(target))
            assert [row.flags for row in await runner.runs()] == [result.flags]
            return result.flags  # type: ignore[no-any-return]

    assert await flags("a") == ("dead_lettered",)
    assert await flags("c") == ()
    assert await flags("a", error_routing={"error_handler": "c"}) == ()
    assert await flags("a", error_routing={"error_handler": "b"}) == ("dead_lettered",)
    assert await flags("a", agents={"a": {"fallback": ["c"]}}) == ()
    async with make_runner({"mode": "route"}, handlers, journal={"url": "memory:"}) as runner:
        handle = await runner.emit(Event("slow"))
        await handle.cancel()
        assert (await handle.result()).flags == ()
    async with make_runner({"mode": "route"}, handlers) as runner:
        assert (await runner.run(Event("a"))).flags == ()
