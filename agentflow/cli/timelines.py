"""`agentflow trace`: when each step ran and for how long, which way the run went, or both as a diagram."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

from agentflow.cli import terminal
from agentflow.cli.journals import Place
from agentflow.cli.progress import duration
from agentflow.cli.tables import columns
from agentflow.core.records import Record
from agentflow.core.timeline import Attempt, attempts_of, flow_of, sequence_diagram

Form = Literal["table", "flow", "diagram"]
_TITLES = ("SEQ", "START", "POSITION", "AGENT", "ATTEMPT", "OUTCOME", "TOOK", "WHAT")


def show_trace(place: Place, run_id: str, form: Form, agent: str | None, *, is_json: bool) -> None:
    """Print a run's attempts with their times, its way through the plan, or a sequence diagram.

    Raises:
        AgentflowError: the journal cannot be read, or has no such run.
    """

    async def read() -> list[Record]:
        async with place.found().opened() as (_, history):
            return await history.events(run_id)

    records = asyncio.run(read())
    if form == "diagram":
        text = sequence_diagram(records, agent)
        terminal.out(terminal.as_json({"diagram": text}) if is_json else text.rstrip("\n"))
    elif form == "flow":
        _show_flow(records, agent, is_json=is_json)
    else:
        _show_table(records, agent, is_json=is_json)


def _show_flow(records: Sequence[Record], agent: str | None, *, is_json: bool) -> None:
    way = [(position, told) for position, told in flow_of(records) if agent in (None, told)]
    if is_json:
        terminal.out(terminal.as_json([{"position": position, "name": told} for position, told in way], is_indented=True))
    else:
        width = max((len(position) for position, _ in way), default=0)
        terminal.out(terminal.safe("\n".join(f"{position:{width}}  {told}" for position, told in way)))


def _show_table(records: Sequence[Record], agent: str | None, *, is_json: bool) -> None:
    attempts = [attempt for attempt in attempts_of(records) if agent in (None, attempt.agent)]
    if is_json:
        terminal.out(terminal.as_json([attempt.to_dict() for attempt in attempts], is_indented=True))
    else:
        terminal.out("\n".join(columns(_TITLES, [_cells(attempt, records[0].at) for attempt in attempts])))


def _cells(attempt: Attempt, began: float) -> tuple[str, ...]:
    what = ", ".join(attempt.keys) + (f" on to {attempt.route}" if attempt.route else "")
    if attempt.failure is not None:
        what = f"{attempt.failure.type}: {attempt.failure.message}"
    took = "" if attempt.duration_s is None else duration(attempt.duration_s)
    start = f"+{attempt.started_at - began:.3f} s"
    return str(attempt.seq), start, attempt.position, attempt.agent, str(attempt.attempt), attempt.outcome, took, what.strip()
