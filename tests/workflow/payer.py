"""A workflow with a budget that tells on stdout what it runs, and may be killed at any time: payer.py JOURNAL [STEP THAT HANGS]."""

from __future__ import annotations

import asyncio
import sys

from agentflow import Workflow
from agentflow.workflow import AgentStepSpec, Budget, Emit, StepOutcome


class Payer:
    """Uses ten tokens a step; one hangs."""

    concurrency_hint = 1

    async def execute_step(self, spec: AgentStepSpec, emit: Emit) -> StepOutcome:
        print(f"ran {spec.task_id}", flush=True)
        if spec.task_id == sys.argv[2]:
            await asyncio.Event().wait()
        return StepOutcome("", "", "", "ok", tokens=10)


async def main() -> None:
    """Twelve steps of ten tokens for a budget of a hundred."""
    workflow = Workflow(Payer(), root_id="w", store=f"sqlite:{sys.argv[1]}", resume=True, budget=Budget(tokens=100))
    events = workflow.subscribe()
    specs = [AgentStepSpec(f"s{number}", "worker", reserve_tokens=10) for number in range(12)]
    outcomes = await workflow.parallel(specs)
    used = float(workflow.budget_snapshot().consumed["tokens"])
    await workflow.close()
    told = [event async for event in events if event["type"] == "budget_exhausted"]
    print(f"used {used} denied {sum(one.code == 'budget' for one in outcomes)} events {len(told)}", flush=True)


asyncio.run(main())
