"""Further events: the runs that have come of an event, waited for and told of."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agentflow.cli import terminal
from agentflow.core.result import RunResult
from agentflow.engine.run import RunHandle
from agentflow.errors import AgentflowError

MOST_TOLD = 20  # failures that are named


async def outcome(handle: RunHandle) -> RunResult | AgentflowError | None:
    """Wait until nothing of a run goes on; return its result, why it goes on here no more, or None when it rests."""
    while await handle.wait() == "running":
        pass  # it was paused, and is not any more
    asking = asyncio.get_running_loop().create_task(handle.result())
    await asyncio.wait({asking}, timeout=0)
    if not asking.done():
        asking.cancel()
        return None
    try:
        return asking.result()
    except AgentflowError as error:
        return error


async def further(handle: RunHandle, opened: dict[str, RunHandle], aside: list[RunHandle]) -> list[RunResult]:
    """Wait until nothing goes on of what has come of a run's event; return the results in order of acceptance.

    Args:
        handle: the run.
        opened: has the run, so that it is cancelled with its children; gets those of them that go aside.
        aside: gets those that are paused, or wait behind what does not go on here.
    """
    results: list[RunResult] = []
    count = 0
    while count < len(children := handle.children):  # those of a run are there before it has ended
        child, count = children[count], count + 1
        found = await outcome(child)
        if found is None:
            opened[child.run_id] = child
            aside.append(child)
        elif isinstance(found, RunResult):
            results.append(found)
        else:
            terminal.show_error(found)
    return results


def failed_of(children: Sequence[RunResult]) -> list[RunResult]:
    """Return those that did not complete."""
    return [child for child in children if child.status not in ("completed", "partial")]


def told_of(result: RunResult, children: Sequence[RunResult]) -> str:
    """Return how many further events ran, and which of them failed, in words."""
    failed = failed_of(children)
    told = f"{result.run_id}: {len(children)} further event{'s' * (len(children) != 1)} ran"
    if not failed:
        return told
    named = [f"{child.run_id} ({child.error or child.reason})" for child in failed[:MOST_TOLD]]
    more = f" and {len(failed) - MOST_TOLD} more" if len(failed) > MOST_TOLD else ""
    return f"warning: {told}; failed: {', '.join(named)}{more}"
