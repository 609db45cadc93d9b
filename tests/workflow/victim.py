"""A workflow that tells on stdout what it runs, and may be killed at any time: victim.py JOURNAL [STEP THAT HANGS]."""

from __future__ import annotations

import asyncio
import sys

from agentflow import Workflow
from agentflow.workflow import AgentStepSpec, Emit, LoopDecision, StepOutcome


class Telling:
    """Writes each step down as it begins; one hangs."""

    async def execute_step(self, spec: AgentStepSpec, emit: Emit) -> str:
        print(f"ran {emit.context.run_id} {emit.context.attempt} {emit.context.idempotency_key}", flush=True)
        if emit.context.run_id == sys.argv[2]:
            await asyncio.Event().wait()
        return f"{spec.task_id} of {spec.prompt}"


async def main() -> None:
    """Two steps, a phase, a pipeline and a loop of four rounds."""
    decisions = 0

    def decide(outcomes: list[StepOutcome]) -> LoopDecision:
        nonlocal decisions
        decisions += 1
        return LoopDecision.go_on([AgentStepSpec("again", "worker", prompt=outcomes[0].output[-40:])])

    async with Workflow(Telling(), root_id="w", store=f"sqlite:{sys.argv[1]}", resume=True) as workflow:
        first = await workflow.parallel([AgentStepSpec("a", "worker", prompt="1"), AgentStepSpec("b", "worker", prompt="2")])
        workflow.log("begun")
        async with workflow.phase("p"):
            await workflow.agent(AgentStepSpec("a", "worker", prompt=first[1].output))
        await workflow.pipeline(["x"], [lambda _, item: AgentStepSpec("s", "worker", prompt=item)] * 2)
        looped = await workflow.loop([AgentStepSpec("again", "worker")], decide, 4)
    print(f"done {[one.output for one in looped]} {decisions}", flush=True)


asyncio.run(main())
