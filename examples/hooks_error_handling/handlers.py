"""What to do when an agent fails: another answer for every pattern, each given by one AGENT_ERROR hook.

A hook that returns a state recovers the step; one that raises replaces its error; one that
returns nothing only watches.
"""

from __future__ import annotations

from typing import Any

from agentflow import Event, Hook, HookArgs, Runner, RunResult, State

MAX_RETRIES = 3


class PipelineFailed(RuntimeError):  # noqa: N818 - what happened, said as a fact
    """A sequential pipeline stopped at one of its stages."""


def register_collaborative(runner: Runner) -> None:
    """Mark the agent that failed and go on with the others."""
    _register_agents(runner, "steady", "fragile")

    async def mark_and_go_on(args: HookArgs) -> State:
        args.state.meta[f"{args.agent}_failed"] = "true"
        args.state.meta[f"{args.agent}_error"] = str(args.error)
        return args.state

    runner.register_callback(Hook.AGENT_ERROR, "collaborative-error-handler", mark_and_go_on)


def register_sequential(runner: Runner) -> None:
    """Stop the pipeline with an error that names the stage, and record both in the final state."""
    _register_agents(runner, "steady", "fragile", "last")

    async def stop_with_stage(args: HookArgs) -> None:
        raise PipelineFailed(f"pipeline failed at stage {args.agent}: {args.error}") from args.error

    async def record_failure(args: HookArgs) -> None:
        if isinstance(args.result, RunResult) and args.result.error is not None:
            args.state["pipeline_failed"] = True
            args.state["failed_stage"] = args.result.error.stage
            args.state.meta["pipeline_error"] = args.result.error.message

    runner.register_callback(Hook.AGENT_ERROR, "sequential-error-handler", stop_with_stage)
    runner.register_callback(Hook.AFTER_EVENT_HANDLING, "failure-recorder", record_failure)


def register_loop(runner: Runner) -> None:
    """Count the failure and let the loop try again, three times at most."""
    runner.register_agent("fragile", _fails_while("rounds_to_fail"))

    async def retry_next_round(args: HookArgs) -> State:
        retries = args.state.get("retry_count", 0)
        if retries >= MAX_RETRIES:
            raise RuntimeError(f"loop failed after {retries} retries: {args.error}") from args.error
        args.state["retry_count"] = retries + 1
        args.state.meta["last_error"] = str(args.error)
        return args.state

    runner.register_callback(Hook.AGENT_ERROR, "loop-error-handler", retry_next_round)


def _register_agents(runner: Runner, *names: str) -> None:
    for name in names:
        runner.register_agent(name, _fragile if name == "fragile" else _marks(f"{name}_done"))


async def _fragile(event: Event, state: State) -> dict[str, Any]:
    raise ConnectionError("the price service does not answer")


def _marks(key: str) -> Any:
    async def handle(event: Event, state: State) -> dict[str, Any]:
        return {key: True}

    return handle


def _fails_while(key: str) -> Any:
    async def handle(event: Event, state: State) -> dict[str, Any]:
        if state.get("retry_count", 0) < event.data.get(key, 2):
            raise ConnectionError(f"round {state['iteration']}: the price service does not answer")
        return {"price": 42, "loop_complete": True}

    return handle
