"""Chains: a pipeline takes each item through the stages by itself; nothing waits between two stages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from inspect import isawaitable
from typing import Any, TypeAlias

from agentflow.core.failure import failure_of
from agentflow.workflow.session import Session, together
from agentflow.workflow.specs import AgentStepSpec, StepOutcome

Stage: TypeAlias = Callable[[StepOutcome | None, Any], AgentStepSpec | Awaitable[AgentStepSpec | None] | None]


async def run_pipeline(session: Session, scope: str, items: Iterable[Any], stages: Sequence[Stage]) -> list[StepOutcome | None]:
    """Return each item's last outcome, in the order of the items; None where no stage had anything to do."""
    chains = [_chain(session, f"{scope}[{index}]", item, stages) for index, item in enumerate(items)]
    if not chains:
        return []
    async with session.working():
        return await together(chains)


async def _chain(session: Session, place: str, item: Any, stages: Sequence[Stage]) -> StepOutcome | None:
    outcome: StepOutcome | None = None
    for number, stage in enumerate(stages, 1):
        try:
            spec = stage(outcome, item)
            if isawaitable(spec):
                spec = await spec
        except BaseException as error:
            if is_being_cancelled(error):
                raise
            failure = failure_of(error)
            return StepOutcome.failed(f"stage {number}", "", f"stage {number} of {place}: {failure}", attempts=0, code=failure.code)
        if spec is None:
            return outcome
        outcome = await session.step(spec, f"{place}.{number}/")
        if not outcome.success:
            return outcome
    return outcome


def is_being_cancelled(error: BaseException) -> bool:
    """Say whether an exception is somebody's wish that the calling task should end, and no failure of what it called."""
    task = asyncio.current_task()
    is_wish = isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0
    return is_wish or isinstance(error, GeneratorExit)
