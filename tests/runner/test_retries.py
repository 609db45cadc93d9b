"""Retries: how often, after which waits, for which errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentflow import Event, Runner, State
from agentflow.errors import AgentflowError

SEQUENCE = {"mode": "sequential", "sequential_agents": ["a"]}
Make = Callable[..., Runner]


class RateLimitedError(AgentflowError):
    """An error with a code of its own."""

    code = "rate_limit"


class Flaky:
    """A handler that fails the first `times` times, and notes when it was called."""

    def __init__(self, times: int = 99, error: BaseException | None = None) -> None:
        self.times, self.error = times, error or ValueError("no")
        self.at: list[float] = []

    async def __call__(self, event: Event, state: State) -> dict[str, int]:
        self.at.append(asyncio.get_running_loop().time())
        if len(self.at) <= self.times:
            raise self.error
        return {"calls": len(self.at)}


async def _run(make_runner: Make, flow: dict[str, Any], handler: Any, event: Event | None = None, **more: Any) -> Any:
    async with make_runner({**SEQUENCE, **flow}, {"a": handler}, **more) as runner:
        return await runner.run(event or Event())


@pytest.mark.parametrize("retries", [0, 1, 3])
async def test_n_retries_are_n_plus_one_calls(make_runner: Make, retries: int) -> None:
    """`retry_attempts = n` makes n + 1 calls, and the error says how many there were."""
    handler = Flaky()
    result = await _run(make_runner, {"retry_attempts": retries}, handler)
    assert retries + 1 == len(handler.at) == result.error.attempts == result.usage.calls


async def test_retry_that_succeeds(make_runner: Make) -> None:
    """A step that succeeds in the end completes its run; nothing of the failed attempts is left."""
    result = await _run(make_runner, {"retry_attempts": 3}, Flaky(2))
    assert ("completed", {"calls": 3}, None, {}) == (result.status, dict(result.state), result.error, result.errors)


@pytest.mark.parametrize(
    ("policy", "waits"),
    [
        ({}, [1, 2, 4, 8]),
        ({"max_delay_seconds": 3}, [1, 2, 3, 3]),
        ({"initial_delay_seconds": 0.5, "backoff_factor": 3}, [0.5, 1.5, 4.5, 13.5]),
        ({"backoff_factor": 1}, [1, 1, 1, 1]),
    ],
)
async def test_waits_grow_to_the_cap(make_runner: Make, policy: dict[str, Any], waits: list[float]) -> None:
    """Waits are initial · factor^n, capped at the longest."""
    handler = Flaky()
    await _run(make_runner, {"retry": {"max_retries": 4, "jitter": False, **policy}}, handler)
    assert waits == [pytest.approx(later - sooner) for sooner, later in zip(handler.at, handler.at[1:], strict=False)]


async def test_jitter_is_small_and_repeatable(make_runner: Make) -> None:
    """Jitter spreads waits by at most 10 %, and the same seed gives the same waits."""
    seen = []
    for seed in (1, 1, 2):
        handler = Flaky()
        await _run(make_runner, {"retry": {"max_retries": 20, "backoff_factor": 1, "initial_delay_seconds": 10}}, handler, seed=seed)
        waits = [round(later - sooner, 6) for sooner, later in zip(handler.at, handler.at[1:], strict=False)]
        assert all(9 <= wait <= 11 for wait in waits)
        assert len(set(waits)) > 10
        seen.append(waits)
    assert seen[0] == seen[1] != seen[2]


@pytest.mark.parametrize(
    ("listed", "error", "retried"),
    [
        (["TimeoutError"], TimeoutError(), True),
        (["OSError"], ConnectionResetError(), True),
        (["ConnectionResetError"], OSError(), False),
        (["rate_limit"], RateLimitedError("slow down"), True),
        (["RateLimitedError"], RateLimitedError("slow down"), True),
        (["AgentflowError"], RateLimitedError("slow down"), True),
        (["TimeoutError"], ValueError(), False),
        ([], ValueError(), False),
        (None, ValueError(), True),
        (None, MemoryError(), True),
        (None, SystemExit(), False),
        (None, KeyboardInterrupt(), False),
        (None, asyncio.CancelledError(), False),
    ],
)
async def test_which_errors_are_tried_again(make_runner: Make, listed: list[str] | None, error: BaseException, retried: bool) -> None:
    """A list names classes, base classes or codes; without one everything is tried again but what is no `Exception`."""
    handler = Flaky(error=error)
    policy = {"max_retries": 1} | ({} if listed is None else {"retryable_errors": listed})
    await _run(make_runner, {"retry": policy}, handler)
    assert (2 if retried else 1) == len(handler.at)


@pytest.mark.parametrize("answer", [7, {"x": object()}, {"x": float("nan")}, {1: 2}, [1]])
async def test_bad_answers_are_not_tried_again(make_runner: Make, answer: Any) -> None:
    """What is wrong with an answer does not change by asking again."""
    calls: list[int] = []

    async def a(event: Event, state: State) -> Any:
        calls.append(1)
        return answer

    result = await _run(make_runner, {"retry_attempts": 3}, a)
    assert ([1], "failed") == (calls, result.status)
    assert result.error.code in ("AF0301", "AF0303")


async def test_agent_policy_goes_before_the_flow(make_runner: Make) -> None:
    """An agent's own keys win over its flow's, one by one."""
    handler = Flaky()
    flow = {"retry": {"max_retries": 5, "initial_delay_seconds": 4, "jitter": False}}
    await _run(make_runner, flow, handler, agents={"a": {"retry": {"max_retries": 1}}})
    assert [0, 4] == handler.at


async def test_step_timeout_is_tried_again(make_runner: Make) -> None:
    """An attempt that takes too long counts as failed, and is tried again."""
    attempts: list[Any] = []

    async def a(event: Event, state: State, ctx: Any) -> dict[str, int]:
        attempts.append((ctx.attempt, asyncio.get_running_loop().time()))
        if ctx.attempt == 1:
            await asyncio.sleep(99)
        return {"done": ctx.attempt}

    agents = {"a": {"timeout_seconds": 2, "retry": {"max_retries": 1, "jitter": False, "retryable_errors": ["TimeoutError"]}}}
    result = await _run(make_runner, {}, a, agents=agents)
    assert ([(1, 0), (2, 3)], "completed", {"done": 2}) == (attempts, result.status, dict(result.state))


@pytest.mark.parametrize(("told", "limit_s"), [("2", 2), ("1.5s", 1.5), ("250ms", 0.25), ("1m", 30), ("1h", 30)])
async def test_agent_timeout_metadata_shortens_a_step(make_runner: Make, told: str, limit_s: float) -> None:
    """The event's `agent_timeout` shortens the time of its steps, and never lengthens it."""

    async def a(event: Event, state: State) -> None:
        await asyncio.sleep(99)

    result = await _run(make_runner, {}, a, Event(metadata={"agent_timeout": told}), agents={"a": {"timeout_seconds": 30}})
    assert ("timed_out", "StepTimeoutError") == (result.status, result.error.type)
    assert limit_s == pytest.approx(asyncio.get_running_loop().time())


@pytest.mark.parametrize("told", ["soon", "-1", "0", "", "1d", "1e3"])
async def test_bad_agent_timeout_is_refused_at_emit(make_runner: Make, told: str) -> None:
    """An `agent_timeout` that is no duration above 0 is refused when the event is emitted."""
    async with make_runner(SEQUENCE, {"a": Flaky(0)}) as runner:
        with pytest.raises(AgentflowError, match="agent_timeout"):
            await runner.emit(Event(metadata={"agent_timeout": told}))


async def test_context_tells_attempt_and_key(make_runner: Make) -> None:
    """`ctx.attempt` counts from 1 in each step; the idempotency key is one a step: the same for its attempts, another elsewhere."""
    seen: list[Any] = []

    async def a(event: Event, state: State, ctx: Any) -> None:
        seen.append((ctx.run_id, ctx.position, ctx.attempt, ctx.idempotency_key))
        if ctx.attempt == 1:
            raise ValueError("no")

    flow = {"mode": "loop", "loop_agent": "a", "max_iterations": 2, "retry_attempts": 1}
    async with make_runner(flow, {"a": a}) as runner:
        first, second = await runner.run(Event()), await runner.run(Event())
    assert first.run_id != second.run_id
    expected = [(run, position, attempt) for run in (first.run_id, second.run_id) for position in ("0#1", "0#2") for attempt in (1, 2)]
    assert expected == [one[:3] for one in seen]
    keys: dict[Any, set[str]] = {}
    for run_id, position, _, key in seen:
        keys.setdefault((run_id, position), set()).add(key)
    assert all(len(each) == 1 for each in keys.values())
    assert 4 == len(set.union(*keys.values()))


async def test_context_tells_its_surroundings(make_runner: Make) -> None:
    """`ctx` knows agent, session, deadline, outputs so far and the agent's own table, and adds usage to the run."""
    seen: dict[str, Any] = {}

    async def a(event: Event, state: State) -> dict[str, int]:
        return {"n": 1}

    async def b(event: Event, state: State, ctx: Any) -> None:
        before = ctx.deadline
        await asyncio.sleep(2)
        seen.update(agent=ctx.agent, session=ctx.session_id, outputs=ctx.outputs, role=ctx.config["role"], passed=before - ctx.deadline)
        ctx.log.info("nobody listens at this level")
        ctx.record_usage(tokens=5, cost_usd=0.5)
        ctx.record_usage(input_tokens=1, output_tokens=2)

    flow = {"mode": "sequential", "sequential_agents": ["a", "b"]}
    async with make_runner(flow, {"a": a, "b": b}, agents={"b": {"role": "checker"}}) as runner:
        result = await runner.run(Event(session_id="s1"))
    assert pytest.approx(2, abs=0.1) == seen.pop("passed")
    assert {"agent": "b", "session": "s1", "outputs": {"a": {"n": 1}}, "role": "checker"} == seen
    assert {"input_tokens": 1, "output_tokens": 2, "total_tokens": 8, "cost_usd": 0.5, "calls": 2} == result.usage.to_dict()
