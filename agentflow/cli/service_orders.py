"""`agentflow schedules|reload|drain`: what is due, and orders to the process that serves."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agentflow import app
from agentflow.cli import terminal
from agentflow.cli.exits import Exit
from agentflow.cli.journals import Place
from agentflow.cli.sources import config_file
from agentflow.cli.tables import columns
from agentflow.config.journal import JournalChoice
from agentflow.config.schedules import ScheduleConfig, zone_of
from agentflow.engine.due import next_due
from agentflow.errors import AgentflowError
from agentflow.served import DRAIN, RELOAD
from agentflow.system import SystemClock

LOOK_S = 0.2
_PATIENCE_S = 30.0  # beyond the drain's own time: handlers that do not end, and what is left to write


class NobodyServesError(AgentflowError):
    """No process has the journal open, or it does not answer."""

    code = "AF0851"


def show_schedules(config: Path | None, overrides: dict[str, str], *, is_json: bool) -> None:
    """Print the schedules of a configuration, each with its next due time.

    Raises:
        ConfigError: the configuration has mistakes.
    """
    project = app.load(config_file(config), overrides=overrides)
    project.require(may_lack_modes=True)
    now = SystemClock().time()
    rows = [_row(schedule, now) for schedule in project.config.schedules]
    if is_json:
        terminal.out(terminal.as_json(rows, is_indented=True))
    elif not rows:
        terminal.out("no schedules: add [[schedules]] with cron or every, and a target")
    else:
        shown = [[str(row[key] or "-") for key in ("name", "when", "target", "next_local", "missed")] for row in rows]
        for line in columns(("NAME", "WHEN", "TARGET", "NEXT", "MISSED"), shown):
            terminal.out(line)


def _row(schedule: ScheduleConfig, now: float) -> dict[str, Any]:
    due = next_due(schedule, now)
    local = None if due is None else datetime.fromtimestamp(due, zone_of(schedule.timezone)).isoformat(timespec="seconds")
    told = schedule.model_dump(include={"cron", "every", "timezone", "target", "session_id", "missed"})
    moment = None if due is None else datetime.fromtimestamp(due, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"name": schedule.title, "when": schedule.when, **told, "next": moment, "next_local": local}


def reload(place: Place, *, is_json: bool) -> int:
    """Let the process that serves read its configuration again, and say what came of it; return the exit code.

    Raises:
        AgentflowError: nobody serves the journal, or its configuration cannot be read.
    """
    told = asyncio.run(_asked(place.found().choice, RELOAD))
    error = told.get("error")
    if is_json:
        terminal.out(terminal.as_json(told, is_indented=True))
    elif error is not None:
        _complain(error)
    else:
        _show(told)
    return Exit.DONE if error is None else Exit.USAGE


def _show(told: dict[str, Any]) -> None:
    changed = ", ".join(told["changed"]) or "nothing has changed"
    plan = "the plan is the same" if told["plan"] == told["plan_before"] else f"new events follow plan {told['plan'][:12]}"
    terminal.out(terminal.safe(f"reloaded by process {told['pid']}: {changed}; {plan}"))
    if told["open_runs"]:
        terminal.out(f"{told['open_runs']} open, under the plan they were accepted with")
    for one in told["warnings"]:
        if one["code"] != terminal.UNUSED_KEY:
            terminal.note(terminal.safe(f"warning[{one['code']}]: {one['message']}"))


def _complain(error: dict[str, Any]) -> None:
    if error.get("diagnostics"):
        terminal.note(terminal.safe(f"{error['message']}\nthe configuration from before goes on"))
        return
    hint = f"\nhelp: {error['hint']}" if error.get("hint") else ""
    terminal.note(terminal.safe(f"error[{error['code']}]: {error['message']}{hint}\nthe configuration from before goes on"))


def drain(place: Place, *, is_waiting: bool, is_json: bool) -> int:
    """Let the process that serves take no more events and end in order; return the exit code, 1 when it still goes on.

    Raises:
        AgentflowError: nobody serves the journal.
    """
    told, is_over = asyncio.run(_drained(place.found().choice, is_waiting=is_waiting))
    if is_json:
        terminal.out(terminal.as_json({**told, "is_over": is_over}, is_indented=True))
    elif is_over:
        terminal.out(f"process {told['pid']} has let go of the journal")
    else:
        terminal.out(f"process {told['pid']} takes no more events; {told['open_runs']} open, given {told['drain_timeout_seconds']:g} s")
    return Exit.DONE if is_over or not is_waiting else Exit.FAILED


async def _drained(choice: JournalChoice, *, is_waiting: bool) -> tuple[dict[str, Any], bool]:
    first = told = await _asked(choice, DRAIN)
    if not is_waiting:
        return told, False
    loop = asyncio.get_running_loop()
    until = loop.time() + float(told["drain_timeout_seconds"]) + _PATIENCE_S
    while loop.time() < until:
        answer = await app.ask_live(choice, {"verb": DRAIN})
        if answer is None or answer.get("pid") != first["pid"]:
            return told, True
        told = answer
        await asyncio.sleep(LOOK_S)
    return told, False


async def _asked(choice: JournalChoice, verb: str) -> dict[str, Any]:
    told = await app.ask_live(choice, {"verb": verb})
    if told is None:
        where = "in memory" if choice.path is None else str(choice.path)
        raise NobodyServesError(f"no process that answers has the journal {where}", hint="name it: --config FILE or --journal PATH")
    return told
