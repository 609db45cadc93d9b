"""The public API as a user's code writes it. Nothing here runs: mypy checks that it type-checks, and as what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_type

from agentflow import AgentResult, Context, Event, Hook, HookArgs, RunHandle, Runner, RunResult, State, agent

runner = Runner.from_config("agentflow.toml", overrides={"orchestration.mode": "loop"}, seed=1)
also = Runner.from_dict({"agents": {"a": {}}})


async def analyze(event: Event, state: State) -> State:
    """Count: values of a state may be used as what they are."""
    state["count"] = state.get("count", 0) + event.data["step"]
    state.meta["seen"] = "yes"
    return state


def with_context(event: Event, state: State, ctx: Context) -> Mapping[str, object]:
    """Answer with a mapping, from a sync handler that asks for its context."""
    ctx.record_usage(tokens=3, cost_usd=0.1)
    return {"attempt": ctx.attempt, "key": ctx.idempotency_key}


@agent("marked")
async def marked(event: Event, state: State) -> AgentResult:
    """Hand on."""
    return AgentResult({"a": 1}, route="next", usage={"tokens": 1}, metadata={"k": "v"})


@runner.agent("inline")
async def inline(event: Event, state: State) -> None:
    """Leave the state as it is."""


@runner.on(Hook.BEFORE_AGENT_RUN)
async def note(args: HookArgs) -> State | None:
    """See what agents get."""
    return args.state if args.error is None else None


runner.register_agent("analyze", analyze)
runner.register_agent("with_context", with_context, replace=True)
runner.register_callback(Hook.ALL, "note", note)


async def main() -> None:
    """Emit, wait, read."""
    async with runner:
        handle = await runner.emit(Event("analyze", {"step": 1}, metadata={"k": "v"}, session_id="s"))
        assert_type(handle, RunHandle)
        result = await handle.result()
        assert_type(result, RunResult)
        assert_type(result.raise_for_status(), RunResult)
        assert_type(result.status, str)
        assert_type(result.outputs, dict[str, dict[str, Any]])
        assert_type(result.state, State)
        if result.error is not None:
            assert_type(result.error.message, str)
        assert_type(result.errors["a"].attempts, int)
        assert_type(result.usage.total_tokens, int)
        assert_type(await runner.run(Event("analyze")), RunResult)
        assert_type(runner.metrics(), dict[str, Any])
        async with runner.workers.lease("analyze", timeout_s=1) as worker:
            assert_type(worker.avg_latency_ms, float)
    report = await runner.stop(timeout=1)
    assert_type(report.is_clean, bool)
