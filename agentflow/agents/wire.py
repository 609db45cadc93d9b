"""Wire: what a runner and the process of a handler say to each other, as JSON behind its length.

To the process: `hello`, `call`, and while it answers `do` (work of `ctx.once`) and `reply`. From it: `usage`, `log`, `ask`,
`done` (work of `ctx.once`) and, as the last of a call, `answer` or `failed`. Each carries the number of its call.
"""

from __future__ import annotations

import builtins
import json
import struct
import traceback
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from agentflow import errors
from agentflow.core.event import Event, accept, require_no_id
from agentflow.core.failure import failure_of
from agentflow.core.result import AgentResult, Usage
from agentflow.core.state import REMOVED, Scope, State
from agentflow.errors import AgentAnswerError

Message = dict[str, Any]

_LENGTH = struct.Struct("!I")
_MOST_OF_TRACE = 20_000  # characters of a traceback: the end says most


def packed(message: Mapping[str, Any]) -> bytes:
    """Return a message as it goes over the pipe."""
    body = json.dumps(message, separators=(",", ":"), default=str).encode()
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Takes bytes as they come, and gives the messages in them."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take bytes, and yield each message that is complete now."""
        self._bytes += data
        while len(self._bytes) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._bytes)[0]
            if len(self._bytes) < end:
                return
            body = bytes(self._bytes[_LENGTH.size : end])
            del self._bytes[:end]
            yield json.loads(body)


# --- answers ---


def answer_row(agent: str, returned: object, state: State, scope: Scope) -> Message:
    """Return what a handler returned, and what it did to its state, as a message has it.

    Raises:
        AgentAnswerError: it returned no State, mapping, AgentResult or None.
        InvalidValueError: what it set is not JSON, or its usage is none.
    """
    row: Message = {}
    if isinstance(returned, AgentResult):
        State().meta.update(returned.metadata or {})
        Usage().add(**(returned.usage or {}))
        row["result"] = {"route": returned.route, "usage": returned.usage, "metadata": returned.metadata}
        returned = returned.state
    if isinstance(returned, State) and returned is not state:
        row["state"] = _patch_row(returned, Scope({}))
        return row
    if isinstance(returned, Mapping) and returned is not state:
        for key, value in returned.items():
            state[key] = value
        row["told"] = list(returned)
    elif returned is not None and returned is not state:
        told = f"agent `{agent}` returned {type(returned).__name__}"
        raise AgentAnswerError(told, hint="return a State, a mapping, an AgentResult or None")
    row["patch"] = _patch_row(state, scope)
    row["same"] = {key: state[key] for key in row.get("told", []) if key not in row["patch"]["data"]}  # returned, and there already
    return row


def answer_of(row: Message, state: State) -> State | Mapping[str, Any] | AgentResult:
    """Do to a state what a handler did to its own, and return what stands for the handler's answer."""
    if "state" in row:
        state = State(row["state"]["data"], row["state"]["meta"])
    else:
        patch = row["patch"]
        for mapping, set_, removed in ((state, patch["data"], patch["removed"]), (state.meta, patch["meta"], patch["removed_meta"])):
            mapping.update(set_)
            for key in removed:
                mapping.pop(key, None)
    told = state if "told" not in row else {key: state[key] if key in row["patch"]["data"] else row["same"][key] for key in row["told"]}
    return AgentResult(told, **row["result"]) if "result" in row else told


def _patch_row(state: State, scope: Scope) -> Message:
    patch = state.patch_to(scope)
    meta = patch.meta or {}
    return {
        "data": {key: value for key, value in patch.data.items() if value is not REMOVED},
        "removed": [key for key, value in patch.data.items() if value is REMOVED],
        "meta": {key: value for key, value in meta.items() if value is not REMOVED},
        "removed_meta": [key for key, value in meta.items() if value is REMOVED],
    }


# --- events ---


def emitted_row(event: Event) -> Message:
    """Return an event that a handler emits as a message has it: `Event.from_dict` reads it.

    Raises:
        InvalidEventError, InvalidValueError: it is not valid, or has an id.
    """
    require_no_id(event)
    accept(event, "", float)
    row = {"target": event.target, "data": event.data, "metadata": event.metadata}
    return {**row, "session_id": event.session_id, "timestamp": event.timestamp}


# --- errors ---


def error_row(error: BaseException) -> Message:
    """Return an exception as a message has it. Never raises, whatever the exception's own methods do."""
    failure = failure_of(error)
    row: Message = {"message": failure.message, "kinds": failure.kinds, "code": failure.code, "trace": _trace(error)}
    for name in ("category", "severity"):
        told = _told(error, name)
        if told is not None:
            row[name] = told
    return row


def error_of(row: Message, where: str = "") -> BaseException:
    """Return an exception with the class names, bases, code and text of one that was raised in another process.

    Those of its bases that Python or agentflow itself has are the real ones. `where` is said above its traceback.
    """
    kind = _kind(tuple(row["kinds"]), row["code"], row.get("category"), row.get("severity"))
    error = kind(row["message"])
    if row["trace"]:
        error.add_note(f"{where}\n{row['trace']}" if where else row["trace"])
    return error


def _trace(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))[-_MOST_OF_TRACE:].strip()
    except BaseException:  # noqa: BLE001 - an exception may do anything when it is printed
        return ""


def _told(error: BaseException, name: str) -> str | None:
    try:
        told = getattr(error, name, None)
    except BaseException:  # noqa: BLE001 - as above
        return None
    return str(told) if isinstance(told, str) else None


def _names_of(kind: type) -> tuple[str, ...]:
    return tuple(base.__name__ for base in kind.__mro__ if base is not object)


_KNOWN: dict[tuple[str, ...], type[BaseException]] = {
    _names_of(kind): kind
    for kind in (*vars(builtins).values(), *vars(errors).values())
    if isinstance(kind, type) and issubclass(kind, BaseException) and not issubclass(kind, BaseExceptionGroup)  # a group has parts
}


@lru_cache(maxsize=256)
def _kind(kinds: tuple[str, ...], code: str, category: str | None, severity: str | None) -> type[BaseException]:
    """Return an exception class with these names; how the real one is made, and shows itself, its text does not tell."""
    first = next(number for number in range(len(kinds)) if kinds[number:] in _KNOWN)  # each ends with BaseException
    kind: type[BaseException] = _KNOWN[kinds[first:]]
    for name in reversed(kinds[1:first]):
        kind = type(name, (kind,), {})
    said = {"category": category, "severity": severity}
    members = {"__init__": _keep_text, "__str__": _text, "code": code, **{name: value for name, value in said.items() if value is not None}}
    return type(kinds[0], (kind,), members)


def _keep_text(self: Any, text: str) -> None:
    self.args = (text,)
    self.message, self.hint = text, ""  # as each error of agentflow has them


def _text(self: BaseException) -> str:
    return str(self.args[0])
