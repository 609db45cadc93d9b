"""The journal's file, and the process that has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from agentflow.cli.checks.finding import Finding, Level
from agentflow.cli.tables import moment
from agentflow.errors import AgentflowError, StoreVersionError
from agentflow.stores.checkup import Checkup, damages

LEAST_BYTES = 64 * 1024 * 1024  # with less room the service takes no events
LITTLE_BYTES = 1024 * 1024 * 1024
LONG_LOG_BYTES = 64 * 1024 * 1024
QUICK_CHECK_S = 5.0

_MEBIBYTE = 1024 * 1024


def file(found: Checkup) -> Iterator[Finding]:
    """Yield what there is to say of the file, but for what is in it."""
    if found.fault is not None:
        yield _unreadable(found.fault)
    elif found.is_there:
        yield Finding("journal", "ok", f"{found.path}, last written {moment(found.written_at)}")
    else:
        yield Finding("journal", "ok", f"{found.path} is not there yet: nothing was recorded; the first run makes it")
    if not found.is_writable:
        told = f"{found.path} cannot be written by this user"
        yield Finding("journal", "problem", told, f"look at the rights of {found.path.parent}, or run as the user who owns it")
    if found.network:
        told = f"{found.path} is on a network filesystem ({found.network}), whose locks cannot be trusted"
        yield Finding("journal", "problem", told, "put the journal on a local disk")
    for path, mode, wanted in found.loose:
        yield Finding("modes", "problem", f"{path} may be read by others (mode {mode:o})", f"chmod {wanted:o} {path}")
    yield _room(found)
    if found.wal_bytes > LONG_LOG_BYTES:
        told = f"the log of the journal has grown to {found.wal_bytes // _MEBIBYTE} MiB"
        yield Finding("journal", "advice", told, "something reads the journal without a pause, a backup perhaps: let it end")


def _unreadable(fault: AgentflowError) -> Finding:
    if isinstance(fault, StoreVersionError) and fault.found < fault.known:
        told = f"the journal has schema {fault.found}, this release has {fault.known}"
        return Finding("journal", "advice", told, "the next start brings it up to date, or `agentflow journal migrate` does")
    return Finding("journal", "problem", fault.message, fault.hint or f"agentflow explain {fault.code}")


def _room(found: Checkup) -> Finding:
    told = f"{found.free_bytes // _MEBIBYTE:,} MiB are free for the journal"
    if found.free_bytes < LEAST_BYTES:
        advice = f"make room: with less than {LEAST_BYTES // _MEBIBYTE} MiB the service takes no events"
        return Finding("disk", "problem", told, advice)
    if found.free_bytes < LITTLE_BYTES:
        return Finding("disk", "advice", told, "make room; `agentflow runs gc` deletes what is older than retention_days")
    return Finding("disk", "ok", told)


def integrity(found: Checkup, monotonic: Callable[[], float], within_s: float = QUICK_CHECK_S) -> Finding:
    """Say whether the pages of the journal are whole, as far as that can be seen within some seconds."""
    try:
        damaged = damages(found.path, monotonic, within_s)
    except AgentflowError as error:
        return Finding("integrity", "problem", error.message, error.hint)
    if damaged is None:
        told = f"the journal is too large to be looked through within {within_s:g} s"
        return Finding("integrity", "advice", told, "agentflow journal verify")
    if damaged:
        told = f"the journal is damaged: {'; '.join(damaged)}"
        return Finding(
            "integrity", "problem", told, "stop what writes it, and put a backup back; `agentflow journal verify` says which runs it hits"
        )
    return Finding("integrity", "ok", "the journal's pages are whole; `agentflow journal verify` looks at each record")


def owner(found: Checkup, live: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Yield who has the journal, and how that process does by what it answers."""
    holder = found.holder
    if not found.is_held:
        left = "" if holder is None else "; the last one has ended"
        yield Finding("owner", "ok", f"no process has the journal open{left}")
        return
    who = "another process" if holder is None or holder.pid is None else f"process {holder.pid}"
    since = "" if holder is None else f" since {moment(holder.started_at)}"
    if live is None:
        told = f"{who} has the journal{since}, and does not answer"
        yield Finding(
            "owner", "problem", told, "look what it does, e.g. with its log; end it, and start it again: nothing acknowledged is lost"
        )
        return
    yield Finding("owner", "ok", f"{who} has the journal{since}, and answers")
    health = live.get("health") or {}
    level: Level = "problem" if health.get("status") == "failing" else "advice"
    for reason in health.get("reasons", ()):
        yield Finding("owner", level, f"{who} says: {reason}", "see its log, and `agentflow status`")
    if live.get("fault"):
        yield Finding("owner", "advice", f"{who} takes no events now: {live['fault']}", "`agentflow status` says when that has changed")
