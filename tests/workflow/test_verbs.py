"""The verbs: order, bounds, isolation, pipelines, loops, phases."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest

from agentflow import AgentflowError, Hook, HookArgs, Workflow
from agentflow.errors import InvalidValueError, WorkflowError
from agentflow.workflow import AgentStepSpec, Emit, LoopDecision, StepOutcome, TaskExecutor, WorkflowBuilder
from tests.workflow.conftest import Counting, spec


async def test_results_of_parallel_come_in_the_order_of_the_specs() -> None:
    """A step that ends last stands first when its spec does."""
    gate = asyncio.Event()
    ended: list[str] = []

    async def act(one: AgentStepSpec) -> str:
        if one.task_id == "slow":
            await gate.wait()
        gate.set()
        ended.append(one.task_id)
        return one.task_id

    outcomes = await Workflow(Counting(act)).parallel([spec("slow"), spec("fast")])
    assert ["slow", "fast"] == [one.output for one in outcomes]
    assert ["fast", "slow"] == ended


@pytest.mark.parametrize(("hint", "override", "peak"), [(2, None, 2), (0, None, 1), (8, None, 6), (8, 3, 3)])
async def test_no_more_steps_run_at_once_than_the_hint_says(hint: int, override: int | None, peak: int) -> None:
    """Six steps under a hint of 2 run two at a time, under 0 one at a time, and an override wins."""
    executor = Counting(hint=hint)
    outcomes = await Workflow(executor, max_concurrency=override).parallel([spec(f"s{n}") for n in range(6)])
    assert all(one.success for one in outcomes)
    assert peak == executor.peak


@pytest.mark.parametrize("crash", [ValueError("no"), asyncio.CancelledError("gone"), SystemExit("out"), KeyboardInterrupt("key")])
async def test_a_crash_reaches_only_its_own_step(crash: BaseException) -> None:
    """Of ok, fail, crash and ok the two in the middle fail, the crash under its own id and agent with type and message."""

    def act(one: AgentStepSpec) -> object:
        if one.task_id == "crash":
            raise crash
        return StepOutcome.failed("", "", "no luck") if one.task_id == "fail" else "fine"

    outcomes = await Workflow(Counting(act)).parallel([spec("a"), spec("fail"), spec("crash", agent="tester"), spec("d")])
    assert [True, False, False, True] == [one.success for one in outcomes]
    assert "no luck" == outcomes[1].error
    assert ("crash", "tester", f"{type(crash).__name__}: {crash}") == (outcomes[2].task_id, outcomes[2].agent, outcomes[2].error)


async def test_nothing_in_gives_nothing_out() -> None:
    """Empty input gives empty output for parallel, pipeline and loop, and no decision is asked for."""

    def never(*_: object) -> Any:
        raise AssertionError("asked")

    workflow = Workflow(Counting(never))
    assert [] == await workflow.parallel([])
    assert [] == await workflow.pipeline([], [never])
    assert [] == await workflow.loop([], never, 3)


async def test_each_item_of_a_pipeline_sees_its_own_outcomes() -> None:
    """Stage two is asked with what stage one gave for the same item; stages may be async."""

    async def second(before: StepOutcome | None, item: int) -> AgentStepSpec:
        assert before is not None
        return spec("two", f"{before.output} then {item}")

    outcomes = await Workflow(Counting()).pipeline([1, 2], [lambda _, item: spec("one", f"#{item}"), second])
    assert [f"worker did worker did #{n} then {n}" for n in (1, 2)] == [one.output for one in outcomes if one]


async def test_a_chain_ends_where_it_has_nothing_more_to_do() -> None:
    """A failure keeps the next stage from running, None ends the chain with what it has, None at first gives None."""
    executor = Counting(lambda one: StepOutcome.failed("", "", "no") if one.prompt == "bad" else "ok")
    stages = [
        lambda _, item: None if item == "none" else spec("one", item),
        lambda _, item: None if item == "short" else spec("two", item),
    ]
    bad, short, none, whole = await Workflow(executor).pipeline(["bad", "short", "none", "whole"], stages)
    assert bad is not None
    assert short is not None
    assert whole is not None
    assert none is None
    assert ("one", False) == (bad.task_id, bad.success)
    assert ("one", True) == (short.task_id, short.success)
    assert "two" == whole.task_id
    assert ["one", "one", "one", "two"] == sorted(executor.ran)


async def test_a_stage_that_raises_fails_its_own_chain() -> None:
    """The outcome names the stage and what it raised; the other chains go on."""

    def second(_: object, item: int) -> AgentStepSpec:
        if item == 1:
            raise ValueError("no such thing")
        return spec("two")

    first, other = await Workflow(Counting()).pipeline([1, 2], [lambda _, __: spec("one"), second])
    assert first is not None
    assert not first.success
    assert other is not None
    assert other.success
    assert "stage 2 of pipeline-1[0]: ValueError: no such thing" == first.error


async def test_a_pipeline_has_no_barrier() -> None:
    """A fast item is done with stage two while a slow one is still in stage one."""
    gate = asyncio.Event()

    async def act(one: AgentStepSpec) -> str:
        if one.prompt == "slow" and one.task_id == "one":
            await gate.wait()
        if one.prompt == "fast" and one.task_id == "two":
            gate.set()  # else the slow one would wait for ever
        return "ok"

    stages = [lambda _, item: spec("one", item), lambda _, item: spec("two", item)]
    async with asyncio.timeout(10):
        outcomes = await Workflow(Counting(act)).pipeline(["slow", "fast"], stages)
    assert all(one and one.success for one in outcomes)


async def test_a_loop_has_a_bound() -> None:
    """A decision that never stops makes as many rounds as the bound says."""
    executor = Counting()
    outcome = await Workflow(executor).loop([spec("a")], lambda _: LoopDecision.go_on(), 3)
    assert (3, 3, "max_iterations") == (len(executor.ran), outcome.iterations, outcome.reason)
    for bound in (0, -1, None, True):
        with pytest.raises(WorkflowError, match="max_iterations"):
            await Workflow(executor).loop([spec("a")], lambda _: LoopDecision.stop(), bound)  # type: ignore[arg-type]


async def test_a_loop_ends_when_a_round_has_nothing_to_run() -> None:
    """To go on with no specs is to stop after this round, with its outcomes."""
    outcome = await Workflow(Counting()).loop([spec("a", "x")], lambda _: LoopDecision.go_on([]), 3)
    assert (["worker did x"], 1, "condition_met") == ([one.output for one in outcome], outcome.iterations, outcome.reason)


async def test_a_loop_runs_what_its_function_and_its_decisions_say() -> None:
    """A function gives a round's specs by its number; a decision, which may be async, gives others."""

    async def decide(outcomes: list[StepOutcome]) -> LoopDecision:
        last = outcomes[0].output
        return LoopDecision.stop() if last == "other" else LoopDecision.go_on(None if last == "1" else [spec("b", "other")])

    executor = Counting(lambda one: one.prompt)
    outcome = await Workflow(executor).loop(lambda number: [spec("a", str(number))], decide, 5)
    assert (["a", "a", "b"], "condition_met", 3) == (executor.ran, outcome.reason, outcome.iterations)


async def test_a_decision_that_raises_ends_its_loop() -> None:
    """The loop ends with `error`, what was raised, and the outcomes of its last round."""

    def decide(_: list[StepOutcome]) -> LoopDecision:
        raise ValueError("cannot say")

    outcome = await Workflow(Counting()).loop([spec("a", "x")], decide, 3)
    assert ("error", "ValueError: cannot say", ["worker did x"]) == (outcome.reason, outcome.error, [one.output for one in outcome])
    wrong = await Workflow(Counting()).loop([spec("a")], lambda _: True, 3)  # type: ignore[arg-type, return-value]
    assert wrong.error is not None
    assert "a loop's decision is bool" in wrong.error


async def test_retries_are_counted_in_the_outcome() -> None:
    """A step that fails once and is tried again has two attempts."""
    tries = iter([ValueError("first")])

    def act(_: AgentStepSpec) -> str:
        for error in tries:
            raise error
        return "ok"

    workflow = Workflow(Counting(act), max_retries=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agentflow.engine.phases.wait_after", lambda *_, **__: 0.0)
        outcome = await workflow.agent(spec("a"))
    assert (True, 2) == (outcome.success, outcome.attempts)


async def test_a_step_that_asks_for_steps_does_not_wait_for_its_own_place() -> None:
    """With one place a step may still run another one, and wait for it."""

    async def act(one: AgentStepSpec) -> object:
        return (await workflow.agent(spec("inner"))).output if one.task_id == "outer" else "from within"

    workflow = Workflow(Counting(act, hint=1))
    async with asyncio.timeout(10):
        outcome = await workflow.agent(spec("outer"))
    assert "from within" == outcome.output


async def test_tool_rounds_are_bounded() -> None:
    """More tool rounds than max_steps fail the step, even where the executor goes on regardless."""
    seen: list[tuple[str, Any]] = []

    class Rounds:
        async def execute_step(self, one: AgentStepSpec, emit: Emit) -> str:
            for _ in range(3):
                try:
                    emit({"type": "tool_round", "tool": "search"})
                except AgentflowError:
                    if one.task_id == "obeys":
                        raise
            return "done"

    workflow = Workflow(Rounds(), step_events=lambda task_id, event: seen.append((task_id, event["tool"])))
    told = [(await workflow.agent(spec(name, max_steps=most))).error for name, most in (("obeys", 2), ("ignores", 2), ("enough", 3))]
    assert told[2] is None
    assert all(error is not None and "max_steps exceeded" in error for error in told[:2])
    assert 2 + 2 + 3 == len(seen)


async def test_the_executor_in_the_box_runs_handlers() -> None:
    """Handlers are those of a configured flow, sync or async; an agent without one makes a failed outcome that names it."""

    def sync(event: Any, state: Any) -> str:
        return f"{event.data['prompt']}!"

    async def sets(event: Any, state: Any, ctx: Emit) -> None:
        state["words"] = len(state["prompt"].split())
        ctx.context.record_usage(tokens=5)

    workflow = Workflow(TaskExecutor({"sync": sync, "sets": sets}))
    said, counted, nobody = await workflow.parallel([spec("a", "one two", "sync"), spec("b", "one two", "sets"), spec("c", "", "nobody")])
    assert ("one two!", {"words": 2}, 5) == (said.output, counted.output, counted.tokens)
    assert not nobody.success
    assert "`nobody`" in (nobody.error or "")
    assert 5 == workflow.budget_snapshot().consumed["tokens"]


class _Subprocess:
    """Runs each step in a process of its own."""

    async def execute_step(self, one: AgentStepSpec, emit: Emit) -> StepOutcome:
        code = "import json, sys; row = json.load(sys.stdin); print(json.dumps(row['agent'] + ' did ' + row['prompt']))"
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdin=pipe, stdout=pipe)
        told, _ = await process.communicate(json.dumps(one.to_dict()).encode())
        return StepOutcome(one.task_id, "s", one.agent, json.loads(told), tokens=3)


class _Remote:
    """Sends each step as JSON through a queue to somebody else, as a cluster would."""

    async def execute_step(self, one: AgentStepSpec, emit: Emit) -> StepOutcome:
        wire: asyncio.Queue[str] = asyncio.Queue()
        await wire.put(json.dumps(one.to_dict()))
        there = AgentStepSpec.from_dict(json.loads(await wire.get()))
        return StepOutcome(there.task_id, "s", there.agent, f"{there.agent} did {there.prompt}", tokens=3)


async def test_it_does_not_matter_where_steps_run() -> None:
    """The same workflow has equal outcomes on a local, a subprocess and a remote executor."""
    local = Counting(lambda one: StepOutcome("", "s", "", f"{one.agent} did {one.prompt}", tokens=3))
    told = []
    for executor in (local, _Subprocess(), _Remote()):
        workflow = Workflow(executor)
        first = await workflow.parallel([spec("a", "x"), spec("b", "y")])
        told.append([*first, await workflow.agent(spec("c", str(first[0].output)))])
    assert told[0] == told[1] == told[2]
    assert "worker did worker did x" == told[0][2].output


async def test_hooks_run_around_each_step() -> None:
    """Agent hooks see every step of a workflow, and what they set is what its executor gets."""
    seen: list[str] = []

    def before(args: HookArgs) -> None:
        seen.append(args.state["task_id"])
        args.state["prompt"] = "changed"

    workflow = Workflow(Counting())
    workflow.register_callback(Hook.BEFORE_AGENT_RUN, "before", before)
    assert "worker did changed" == (await workflow.agent(spec("a", "x"))).output
    assert ["a"] == seen


async def test_the_same_specs_come_to_the_same_each_time() -> None:
    """In 100 runs outcomes, ids and events are the same, in the same order."""
    told = set()
    for _ in range(100):
        workflow = Workflow(Counting(), root_id="same")
        events = workflow.subscribe()
        async with workflow:
            outcomes = await workflow.phase("p", [spec("a", "x"), spec("b", "y")])
            looped = await workflow.loop([spec("a")], lambda _: LoopDecision.go_on(), 2)
        told.add(repr(([{**one.to_dict(), "duration": 0} for one in [*outcomes, *looped]], [event async for event in events])))
    assert 1 == len(told)


def test_what_is_not_supported_is_refused() -> None:
    """An executor that is none is a TypeError; resume without a root_id is refused."""
    for wrong in (None, object()):
        with pytest.raises(TypeError, match="execute_step"):
            Workflow(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="execute_step"):
            WorkflowBuilder(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        WorkflowBuilder()  # type: ignore[call-arg]
    builder = WorkflowBuilder(Counting())
    with pytest.raises(WorkflowError, match="without a root_id"):
        builder.resume().build()
    assert "r" == builder.root_id("r").store("memory:").max_concurrency(2).step_events(lambda *_: None).build().root_id
    for wrong_id in ("", "a b", "x" * 101):
        with pytest.raises(WorkflowError, match="root_id"):
            Workflow(Counting(), root_id=wrong_id)


async def test_steps_that_cannot_be_run_are_refused() -> None:
    """An output schema, two equal ids and something that is no spec are refused before anything runs."""
    executor = Counting()
    workflow = Workflow(executor)
    with pytest.raises(WorkflowError, match="output_schema"):
        await workflow.agent(spec("a", output_schema={"type": "object"}))
    with pytest.raises(WorkflowError, match="two steps have the id `a`"):
        await workflow.parallel([spec("a"), spec("a")])
    with pytest.raises(InvalidValueError, match="AgentStepSpec"):
        await workflow.agent("a")  # type: ignore[arg-type]
    assert [] == executor.ran
