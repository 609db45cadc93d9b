"""Logging through structlog: lines for people or JSON, with run, position and agent on each."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import structlog

from agentflow.config.display import printable
from agentflow.core.records import (
    ApprovalRequested,
    EffectRecorded,
    EventPatched,
    LoopEnded,
    Record,
    StepAbandoned,
    StepCompleted,
    StepFailed,
    StepRetried,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowCreated,
    WorkflowFailed,
    WorkflowPaused,
    WorkflowRecovering,
)
from agentflow.core.redaction import KNOWN

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_WARNINGS = (StepRetried, StepFailed, StepAbandoned)
_ENDS = (LoopEnded, WorkflowCompleted, WorkflowFailed, WorkflowCancelled)
_NEWS = (*_ENDS, WorkflowPaused, WorkflowRecovering, ApprovalRequested)
_PLAIN = frozenset({int, bool, type(None)})
_NO_FILE = "it is a device or a pipe, not a regular file"


class StructuredLog:
    """Writes the engine's warnings, handlers' lines and, as an observer, a line for each record.

    Args:
        level: the least severe level that is written: debug, info, warning, error or critical.
        style: `console` for people, `json` for one object a line.
        file: where lines are appended; None is standard error.

    Raises:
        OSError, ValueError: the file cannot be opened, or is none that lines can be appended to.
    """

    def __init__(self, level: str = "warning", style: str = "console", file: Path | None = None) -> None:
        self._stream: TextIO | None = _opened(file) if file is not None else None
        target = self._stream or sys.stderr
        render: list[Any] = [_as_json]
        if style == "console":
            is_colourful = self._stream is None and sys.stderr.isatty()
            plain = structlog.dev.plain_traceback
            render = [_escaped, structlog.dev.ConsoleRenderer(colors=is_colourful, exception_formatter=plain), _redacted]
        self._logger: Any = structlog.wrap_logger(
            structlog.WriteLogger(target),
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,  # with a plain traceback: no locals
                *render,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
            cache_logger_on_first_use=False,
        )

    def warn(self, event: str, fields: Mapping[str, object], error: BaseException | None = None) -> None:
        """Write one warning with its fields, and the traceback of `error` where given."""
        if error is None:
            self._logger.warning(event, **fields)
        else:
            self._logger.error(event, **{**fields, "exc_info": error})

    def bind(self, fields: Mapping[str, object]) -> object:
        """Return a logger for a handler, with these fields on each of its lines."""
        return self._logger.bind(**fields)

    def observe(self, record: Record) -> None:
        """Write a record as a line: troubles as warnings, ends as info, the rest as debug."""
        write = self._logger.warning if isinstance(record.fact, _WARNINGS) else self._logger.debug
        if isinstance(record.fact, _NEWS):
            write = self._logger.info
        write(record.type, **_fields(record))

    def close(self) -> None:
        """Close the log file, if there is one."""
        if self._stream is not None:
            self._stream.close()


def _opened(file: Path) -> TextIO:
    """Open a regular file for appending. A pipe is never opened: that would wait for its reader."""
    if file.is_dir():
        raise OSError("it is a folder")
    if file.exists() and not file.is_file():
        raise OSError(_NO_FILE)
    stream = open(file, "a", encoding="utf-8", buffering=1, opener=_without_waiting)  # noqa: SIM115 - Path.open takes no opener
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):  # it was replaced meanwhile
        stream.close()
        raise OSError(_NO_FILE)
    return stream


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK, 0o600)  # one that is there keeps its mode


def _fields(record: Record) -> dict[str, Any]:
    """Return a record's fields for a line: what users and handlers put into events, states and effects is not for the log."""
    fields: dict[str, Any] = record.to_dict()
    for name in ("type", "at", "patch", "handlers", "event"):
        fields.pop(name, None)
    if record.seq is None:
        del fields["seq"]
    fact = record.fact
    if isinstance(fact, StepCompleted | EventPatched):
        fields["keys"] = list(fact.patch.data)
    elif isinstance(fact, WorkflowCreated):
        fields |= {"event_id": fact.event_id, "target": fact.target, "session_id": fact.session_id}
    elif isinstance(fact, EffectRecorded):
        del fields["value"]
    return fields


def _as_json(logger: object, method: str, line: Mapping[str, Any]) -> str:
    """Return a line as JSON in ASCII, without a line end or a secret in it, whatever handlers have put there."""
    try:
        text = json.dumps(line, default=_as_text, allow_nan=False)
    except (TypeError, ValueError, RecursionError):  # a key that is no text, a circle, a number that JSON lacks
        text = json.dumps({_as_text(key): value if type(value) in _PLAIN else _as_text(value) for key, value in line.items()})
    told = KNOWN.redacted(text)
    if told is not text and not _is_json(told):  # a mask took a part of an escape with it
        told = json.dumps({KNOWN.redacted(_as_text(key)): KNOWN.redacted(_as_text(value)) for key, value in line.items()})
    return told


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _escaped(logger: object, method: str, line: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line for people with all escaped that would move the cursor, hide text or look like another line."""
    told = {printable(_as_text(key)): value if type(value) in _PLAIN else printable(_as_text(value)) for key, value in line.items()}
    for name in ("exception", "stack"):
        if name in line:
            told[name] = "\n".join(f"    {printable(row)}" for row in _as_text(line[name]).splitlines())
    return told


def _redacted(logger: object, method: str, line: Any) -> str:
    return KNOWN.redacted(line)


def _as_text(value: object) -> str:
    """Return the text of a value; never raises, whatever a handler's object does when it is printed."""
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - as above
        return f"<{type(value).__name__} whose text raises {type(error).__name__}>"
