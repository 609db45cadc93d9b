"""A worker that is killed: it goes on with all recorded runs, emits what was not acknowledged yet, and says so outside.

Two files tell what it did, whatever becomes of its journal: `acks`, written and synced once `emit` has returned, and `ledger`,
to which handlers add what they do: `S run position agent attempt key pid` when they begin, `E run position attempt key` for an
effect, `END event status state` when a result was seen, `UP` and `IDLE` around the work.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentflow import AgentResult, Event, Hook, Runner

AGENTS = "abcpqr"
SESSIONS = 3
TARGETS = ("line", "both", "rounds", "fan", "a", "hand")
_LIMITS = {
    "max_process_deaths": 100,
    "retry_attempts": 2,
    "retry": {"initial_delay_seconds": 0.02, "max_delay_seconds": 0.02, "jitter": False},
}
CONFIG: dict[str, Any] = {
    "orchestration": {"mode": "route", **_LIMITS},
    "agents": {name: {} for name in AGENTS},
    "flows": {
        "fan": {"mode": "collaborative", "collaborative_agents": ["p", "q", "r"], **_LIMITS},
        "small": {"mode": "sequential", "sequential_agents": ["a", "b"], **_LIMITS},
        "line": {"mode": "sequential", "sequential_agents": ["a", "fan", "c", "b"], **_LIMITS},
        "both": {"mode": "mixed", "collaborative_agents": ["p", "small"], "sequential_agents": ["c", "q"], **_LIMITS},
        "rounds": {"mode": "loop", "loop_agent": "small", "max_iterations": 4, "until": "state.b >= 3", **_LIMITS},
        "hand": {"mode": "route", "default_agent": "a", **_LIMITS},
    },
}


def build(journal: str, write: Callable[[str], None], pace_s: float = 0.004) -> Runner:
    """Make the worker's runner; all it does is written down."""
    runner = Runner.from_dict({**CONFIG, "journal": {"url": journal, "snapshot_every": 7}}, environ={})

    async def answer(event: Any, state: Any, ctx: Any) -> Any:
        write(f"S {ctx.run_id} {ctx.position} {ctx.agent} {ctx.attempt} {ctx.idempotency_key} {os.getpid()}")
        await asyncio.sleep(random.random() * pace_s)
        if ctx.agent in "bq" and ctx.attempt == 1:
            raise OSError("busy")

        def pay() -> str:
            write(f"E {ctx.run_id} {ctx.position} {ctx.attempt} {ctx.idempotency_key}")
            return f"paid at {ctx.position}"

        if ctx.agent in "cp":
            state[f"{ctx.agent}-paid"] = await ctx.once("pay", pay)
            await asyncio.sleep(random.random() * pace_s)
        state[ctx.agent] = state.get(ctx.agent, 0) + 1
        hands_on = event.target == "a" and ctx.agent in "ab"
        return AgentResult(state, route={"a": "b", "b": "c"}[ctx.agent] if hands_on else None)

    for name in AGENTS:
        runner.register_agent(name, answer)
    runner.register_callback(
        Hook.BEFORE_EVENT_HANDLING, "opens", lambda args: args.state.update({"opened": args.state.get("opened", 0) + 1})
    )
    runner.register_callback(Hook.BEFORE_AGENT_RUN, "injects", lambda args: args.state.update({f"saw-{args.agent}": True}))
    runner.register_callback(
        Hook.AFTER_EVENT_HANDLING, "closes", lambda args: args.state.update({"closed": args.state.get("closed", 0) + 1})
    )
    return runner


def event(number: int) -> Event:
    """Return the event number `number`: the same whoever emits it. Every second one belongs to a session."""
    session_id = f"session-{number % SESSIONS}" if number % 2 else None
    return Event(TARGETS[number % len(TARGETS)], {"number": number}, id=f"event-{number}", session_id=session_id)


def line(path: Path) -> Callable[[str], None]:
    """Return what appends a line to a file, in one write."""
    file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)

    def write(text: str) -> None:
        os.write(file, f"{text}\n".encode())

    return write


async def main(folder: str, until: str) -> None:
    """Do what is left to do, up to event number `until`."""
    place = Path(folder)
    write = line(place / "ledger")
    acks = os.open(place / "acks", os.O_APPEND | os.O_CREAT | os.O_RDWR, 0o600)
    known = {told.split()[0] for told in os.pread(acks, 1 << 24, 0).decode().splitlines()}
    runner = build(f"sqlite:{place / 'journal.db'}", write)
    seen: list[asyncio.Task[None]] = []

    async def see(handle: Any) -> None:
        result = await handle.result()
        write(f"END {handle.event_id} {result.status} {json.dumps(dict(result.state), sort_keys=True)}")

    async with runner:
        write(f"UP {os.getpid()}")
        seen += [asyncio.create_task(see(handle)) for handle in await runner.resume()]
        for number in range(int(until)):
            if f"event-{number}" not in known:
                handle = await runner.emit(event(number))
                os.write(acks, f"event-{number} {handle.run_id}\n".encode())
                os.fsync(acks)
                seen.append(asyncio.create_task(see(handle)))
                await asyncio.sleep(0.002)
        await asyncio.gather(*seen)
        write(f"IDLE {os.getpid()}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
