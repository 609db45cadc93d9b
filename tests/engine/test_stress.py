"""Stress: thousands of events with everything that can go wrong, on virtual time, from a seed."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from typing import Any

import pytest

from agentflow import AgentResult, Event, Hook, Runner, State
from agentflow.errors import QueueFullError
from agentflow.testing import run_virtual

EVENTS = 1500
NAMES = ("a", "b", "c", "d")
CONFIG: dict[str, Any] = {
    "orchestration": {"mode": "route", "max_hops": 4, "retry_attempts": 1},
    "flows": {
        "together": {"mode": "collaborative", "collaborative_agents": ["a", "b", "c"], "max_concurrency": 2},
        "row": {"mode": "sequential", "sequential_agents": ["a", "together", "b"], "timeout_seconds": 40},
        "rounds": {"mode": "loop", "loop_agent": "row", "max_iterations": 3, "until": "state.calls >= 6", "timeout_seconds": 60},
        "both": {"mode": "mixed", "collaborative_agents": ["together", "d"], "sequential_agents": ["c", "rounds"], "timeout_seconds": 90},
    },
    "agents": {
        "a": {"timeout_seconds": 5},
        "b": {},
        "c": {"retry": {"max_retries": 3, "initial_delay_seconds": 0.5}},
        "d": {"timeout_seconds": 3},
    },
    "runner": {"queue_size": 50, "queue_wait_seconds": 20, "max_running": 60, "cancel_grace_seconds": 2},
}


class Chaos:
    """One handler for all agents: it answers, waits, fails, hands on, hangs or ignores its cancellation, as chance has it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.over = asyncio.Event()
        self.calls = self.stubborn = 0

    async def __call__(self, event: Event, state: State) -> Any:
        self.calls += 1
        dice = self.random.random()
        state["calls"] = state.get("calls", 0) + 1
        if dice < 0.25:
            return {"quick": dice}
        await asyncio.sleep(self.random.random() * 2)
        if dice < 0.6:
            return State({"calls": state["calls"], "slow": dice})
        if dice < 0.75:
            raise self.random.choice(
                [ValueError("no"), KeyError("k"), SystemExit(1), GeneratorExit(), asyncio.CancelledError(), RecursionError()]
            )
        if dice < 0.8:
            return self.random.choice([7, {"x": object()}])
        if dice < 0.9:
            return AgentResult(route=self.random.choice([*NAMES, "nobody"]))
        return await self._misbehave(dice)

    async def _misbehave(self, dice: float) -> Any:
        try:
            await asyncio.sleep(self.random.choice([3, 30, 300]))
        except asyncio.CancelledError:
            if dice < 0.95:
                await asyncio.sleep(self.random.random() * 6)
                return {"late": True}
            if dice < 0.97:
                raise ValueError("on cancel") from None
            if dice < 0.975:
                self.stubborn += 1
                while not self.over.is_set():
                    try:
                        await self.over.wait()
                    except asyncio.CancelledError:
                        continue
                return {"late": True}
            raise


def _add_hooks(runner: Runner, chance: random.Random, counts: Counter[str]) -> None:
    async def note(args: Any) -> State | None:
        counts[args.hook.name] += 1
        if chance.random() < 0.1:
            await asyncio.sleep(chance.random() * 6)
        if chance.random() < 0.03:
            raise ValueError("hook")
        return args.state if chance.random() < 0.3 else None

    runner.register_callback(Hook.ALL, "note", note)


async def _emit_all(runner: Runner, chance: random.Random) -> tuple[list[Any], int]:
    loop, handles, refused = asyncio.get_running_loop(), [], 0
    for number in range(EVENTS):
        metadata = {"n": str(number)}
        if chance.random() < 0.7:
            metadata["orchestration_override"] = chance.choice(list(CONFIG["flows"]))
        if chance.random() < 0.1:
            metadata["agent_timeout"] = chance.choice(["1s", "2.5s", "700ms"])
        session = f"s{chance.randrange(40)}" if chance.random() < 0.5 else None
        try:
            handle = await runner.emit(Event(chance.choice([*NAMES, "nobody", ""]), {"n": number}, metadata, session_id=session))
        except QueueFullError:
            refused += 1
            continue
        handles.append(handle)
        if chance.random() < 0.1:
            loop.call_later(chance.random() * 20, handle.cancel)
        if chance.random() < 0.2:
            await asyncio.sleep(chance.random())
    return handles, refused


async def _storm(seed: int, *, with_hooks: bool) -> Counter[str]:
    chance, chaos, counts = random.Random(seed), Chaos(seed), Counter[str]()
    runner = Runner.from_dict(CONFIG, environ={}, seed=seed)
    for name in NAMES:
        runner.register_agent(name, chaos)
    ended: Counter[str] = Counter()
    runner.observe(
        lambda record: ended.update([record.run_id] if record.type in ("WorkflowCompleted", "WorkflowFailed", "WorkflowCancelled") else [])
    )
    if with_hooks:
        _add_hooks(runner, chance, counts)
    await runner.start()
    handles, refused = await _emit_all(runner, chance)
    report = await runner.stop(timeout=chance.choice([0.5, 50]))
    results = [await handle.result() for handle in handles]
    before = [result.to_dict() for result in results]
    chaos.over.set()
    await asyncio.sleep(400)

    assert before == [result.to_dict() for result in results]
    assert not any("late" in result.state or any("late" in patch for patch in result.outputs.values()) for result in results)
    assert EVENTS == refused + len(handles)
    assert {handle.run_id: 1 for handle in handles} == ended
    assert chaos.calls == sum(result.usage.calls for result in results)
    assert {result.run_id for result in results if result.reason == "stopped"} <= set(report.cancelled)
    assert chaos.stubborn >= len(report.abandoned)
    engine: Any = runner._engine
    intake = engine.intake
    assert (set(), 0, {}) == (engine.runs, len(engine.deadlines), engine.supervision.abandoned)
    assert (0, 0, {}, 0) == (intake._running, intake.waiting, intake._sessions, len(intake._blocked))
    assert not any(handle._run.steps for handle in handles)
    if with_hooks:
        assert (
            counts["BEFORE_EVENT_HANDLING"]
            == counts["AFTER_EVENT_HANDLING"]
            == sum(result.timing.duration_s is not None for result in results)
        )
    return Counter(result.status for result in results)


@pytest.mark.parametrize("with_hooks", [False, True])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_storm(seed: int, with_hooks: bool) -> None:
    """Whatever happens at once, each accepted event ends with one result, no late answer counts, and the engine keeps nothing."""
    statuses = run_virtual(_storm(seed, with_hooks=with_hooks))
    gc.collect()
    assert {"completed", "partial", "failed", "timed_out", "cancelled"} == set(statuses), statuses


def test_storm_is_repeatable() -> None:
    """The same seed on virtual time gives the same outcomes: nothing depends on how fast the machine is."""
    assert run_virtual(_storm(4, with_hooks=True)) == run_virtual(_storm(4, with_hooks=True))
