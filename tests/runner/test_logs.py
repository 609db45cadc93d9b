"""Log lines name what they are about: the run on each of them, position and agent on each that is about a step."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from agentflow import Event, Hook, HookArgs, State
from tests.runner.conftest import MakeRunner

IDS = ("run_id", "position", "agent")
OF_STEPS = {"StepStarted", "StepCompleted", "StepFailed", "StepRetried", "StepAbandoned"}


@pytest.fixture
def logging(tmp_path: Path) -> dict[str, str]:
    """A log of JSON lines, with all there is to be told."""
    return {"level": "debug", "format": "json", "file": str(tmp_path / "log")}


def lines(logging: dict[str, str]) -> list[dict[str, Any]]:
    """Return what was logged."""
    return [json.loads(line) for line in Path(logging["file"]).read_text(encoding="utf-8").splitlines()]


async def test_each_record_of_a_step_has_run_position_and_agent(make_runner: MakeRunner, logging: dict[str, str]) -> None:
    """Also those of attempts that failed; the others name their run."""
    attempts = 0

    async def flaky(event: Event, state: State) -> None:
        nonlocal attempts
        attempts += 1
        raise ConnectionError(f"attempt {attempts}")

    flow = {"mode": "sequential", "sequential_agents": ["a", "b"]}
    retry = {"b": {"retry": {"max_retries": 1}}}

    async def quick(event: Event, state: State) -> None:
        """Do nothing."""

    async with make_runner(flow, {"a": quick, "b": flaky}, agents=retry, logging=logging) as runner:
        result = await runner.run(Event("x"))
    told = lines(logging)
    assert {result.run_id} == {line["run_id"] for line in told}
    of_steps = [tuple(line[name] for name in IDS[1:]) for line in told if line["event"] in OF_STEPS]
    assert [("0.0", "a")] * 2 + [("0.1", "b")] * 4 == of_steps
    assert {"WorkflowCreated", "WorkflowFailed"} == {line["event"] for line in told} - OF_STEPS


async def test_what_a_handler_logs_has_them_too(make_runner: MakeRunner, logging: dict[str, str]) -> None:
    """For each of several branches its own, however they take turns."""

    async def speak(event: Event, state: State, ctx: Any) -> None:
        await asyncio.sleep(1)
        ctx.log.info("working", at=ctx.position)
        await asyncio.sleep(1)
        ctx.log.info("done", at=ctx.position)

    flow = {"mode": "collaborative", "collaborative_agents": ["a", "b"]}
    async with make_runner(flow, {"a": speak, "b": speak}, logging=logging) as runner:
        result = await runner.run(Event("x"))
    told = [line for line in lines(logging) if line["event"] in ("working", "done")]
    assert 4 == len(told)
    assert {(result.run_id, "0.0", "a"), (result.run_id, "0.1", "b")} == {tuple(line[name] for name in IDS) for line in told}
    assert [] == [line for line in told if line["at"] != line["position"]]


async def test_warnings_about_a_step_have_them_too(make_runner: MakeRunner, logging: dict[str, str]) -> None:
    """A handler that is left behind, its late result, and a callback that fails."""
    release = asyncio.Event()

    async def stubborn(event: Event, state: State) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async def quick(event: Event, state: State) -> None:
        """Do nothing."""

    flow = {"mode": "collaborative", "collaborative_agents": ["a", "b"]}
    runner = make_runner(flow, {"a": stubborn, "b": quick}, agents={"a": {"timeout_seconds": 1}}, logging=logging)

    @runner.on(Hook.AFTER_AGENT_RUN)
    async def fail(args: HookArgs) -> None:
        raise ValueError("no")

    async with runner:
        result = await runner.run(Event("x"))
        release.set()
        await asyncio.sleep(1)
    told = {line["event"]: tuple(line[name] for name in IDS) for line in lines(logging) if not line["event"][0].isupper()}
    a, b = (result.run_id, "0.0", "a"), (result.run_id, "0.1", "b")
    assert {"step_abandoned": a, "late_result": a, "hook_failed": b} == told
