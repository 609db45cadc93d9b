"""Events for `agentflow run`: one from the options, or many from a file or stdin, read while they are run."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Semaphore, Thread
from typing import IO, Any

from agentflow.cli import terminal
from agentflow.cli.sources import pairs
from agentflow.cli.usage import EventInputError, UsageError
from agentflow.config.display import LONGEST_NAME
from agentflow.config.source import reason_of
from agentflow.core.event import Event
from agentflow.errors import AgentflowError

LONGEST = 16 * 1024 * 1024  # of a data file, a line, and a file that holds one event; data over 4 MiB is refused by the runner
_TOO_LONG = f"longer than {LONGEST // 1024**2} MiB"
READ_AHEAD = 100
_FORM = 'one object {"target": ..., "data": {...}}, or one on each line'


@dataclass(frozen=True)
class Entry:
    """One event, or why there is none, and where it stands ("" for the options)."""

    place: str
    event: Event | AgentflowError


@dataclass(frozen=True)
class Wish:
    """What the options of `run` say about the event."""

    target: str | None = None
    data: str | None = None
    changes: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    session_id: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no option says anything."""
        return self == Wish()

    def event(self) -> Event:
        """Return the event that the options describe.

        Raises:
            UsageError: an option's value cannot be used.
        """
        data = _object(self.data) if self.data is not None else {}
        for key, text in pairs("--set", list(self.changes)).items():
            _put(data, key, _value(key, text))
        return Event(self.target or "", data, pairs("--meta", list(self.metadata)), session_id=self.session_id)


def parsed(text: str) -> Any:
    """Return JSON text as a value.

    Raises:
        ValueError: it is no JSON, has a key twice, or is nested too deeply to be read.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _unique(found: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(found)
    if len(table) != len(found):
        seen: set[str] = set()
        twice = next(key for key, _ in found if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice!r} is there twice")
    return table


def _object(given: str) -> dict[str, Any]:
    text = _text_of(given[1:]) if given.startswith("@") else given
    try:
        data = parsed(text)
    except ValueError as error:
        raise UsageError(f"--data is not JSON: {error}", hint=_cure(given)) from None
    if not isinstance(data, dict):
        raise UsageError("--data is no JSON object", hint="""e.g. --data '{"text": "hello"}'""")
    return data


def _text_of(name: str) -> str:
    """Return the text of a file, or of a pipe until its writer closes it; never reads more than LONGEST bytes of it."""
    shown = repr(name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…")
    try:
        with Path(name).open("rb") as stream:
            content = stream.read(LONGEST + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"--data: {shown} cannot be read: {reason_of(error)}", hint="after @ stands the name of a JSON file") from None
    if len(content) > LONGEST:
        raise UsageError(f"--data: {shown} is {_TOO_LONG}", hint="an event's data has at most 4 MiB; pass the name of large data")
    try:
        return content.decode("utf-8-sig")
    except ValueError:
        raise UsageError(f"--data: {shown} is not UTF-8", hint="save it as UTF-8") from None


def _cure(given: str) -> str:
    """Return what to write in place of data that is no JSON."""
    name = given.removeprefix("@")
    if not given.startswith("@") and _is_file(name):
        return f"to read a file: --data @{name}"
    quotes = "JSON needs double quotes, " if "'" in given else ""
    return f"""{quotes}e.g. --data '{{"text": "hello"}}' or --data @file.json"""


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # too long for a name, or with a NUL
        return False


def _value(key: str, text: str) -> object:
    try:
        return parsed(text)
    except ValueError as error:
        if text.startswith(("{", "[")):
            terminal.note(terminal.safe(f"warning: --set {key}: taken as text, since it is not JSON: {error}"))
        return text


def _put(data: dict[str, Any], key: str, value: object) -> None:
    *above, last = key.split(".")
    table = data
    for part in above:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            raise UsageError(f"--set {key}: `{part}` is a value and has no keys")
        table = inner
    table[last] = value


class EventSource:
    """Reads events in a thread of its own, a bounded number ahead, so that a slow writer holds up nobody.

    Args:
        name: a file, or `-` for stdin. It holds one JSON object, or one on each line.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Entry | None] = asyncio.Queue()
        self._room = Semaphore(READ_AHEAD)
        self._is_closed = False
        self._thread = Thread(target=self._read, name="agentflow-events", daemon=True)
        self._thread.start()

    def is_reading(self, within_s: float) -> bool:
        """Say whether its thread still waits for input after so many seconds."""
        self._thread.join(within_s)
        return self._thread.is_alive()

    def close(self) -> None:
        """Hand out no more events; those read ahead are dropped."""
        self._is_closed = True
        self._queue.put_nowait(None)
        self._room.release()  # for the thread to see that it is over

    async def __aiter__(self) -> AsyncIterator[Entry]:
        while (entry := await self._queue.get()) is not None and not self._is_closed:
            self._room.release()
            yield entry

    def _read(self) -> None:
        with suppress(RuntimeError):  # the loop was closed: nobody wants events any more
            try:
                for entry in self._entries():
                    self._room.acquire()
                    if self._is_closed:
                        return
                    self._hand_over(entry)
            except (OSError, ValueError) as error:
                shown = self._name if len(self._name) <= LONGEST_NAME else f"{self._name[:LONGEST_NAME]}…"
                self._hand_over(Entry(shown, EventInputError(f"it cannot be read: {reason_of(error)}", hint="name a file, or - for stdin")))
            self._hand_over(None)

    def _hand_over(self, entry: Entry | None) -> None:
        self._loop.call_soon_threadsafe(self._queue.put_nowait, entry)

    def _entries(self) -> Iterator[Entry]:
        with self._opened() as stream:
            yield from events_of(stream, self._name)

    def _opened(self) -> IO[str]:
        if self._name != "-":
            return Path(self._name).open(encoding="utf-8-sig", errors="surrogateescape")
        if sys.stdin is None:
            raise OSError("standard input is closed")
        return io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig", errors="surrogateescape")


def events_of(stream: IO[str], name: str) -> Iterator[Entry]:
    """Yield the events of a stream; what cannot be one is yielded as the error that says so."""
    is_first = True
    for number in count(1):
        line = stream.readline(LONGEST)
        if not line:
            if is_first:
                told = "stdin has" if name == "-" else "there is"
                yield Entry(name, EventInputError(f"{told} no event at all", hint=_FORM))
            return
        place = f"{name}:{number}"
        if not line.endswith("\n") and len(line) == LONGEST:
            yield Entry(place, EventInputError(f"the line is {_TOO_LONG}", hint=_FORM))
            return
        if not line.strip():
            continue
        try:
            row = parsed(line)
        except ValueError as error:
            if is_first:  # not one event a line: then one event over many
                yield _whole(line + stream.read(LONGEST - len(line) + 1), name, error)
                return
            yield Entry(place, EventInputError(f"not JSON: {error}"))
            continue
        is_first = False
        yield Entry(place, _event_of(row))


def _whole(text: str, name: str, first_error: ValueError) -> Entry:
    if len(text) > LONGEST:
        return Entry(name, EventInputError(f"not JSON: {first_error}; and as one event it is {_TOO_LONG}", hint=_FORM))
    try:
        row = parsed(text)
    except ValueError as error:
        told = first_error if "Extra data" in str(error) else error
        return Entry(name, EventInputError(f"not JSON: {told}", hint=_FORM))
    return Entry(name, _event_of(row))


def _event_of(row: object) -> Event | AgentflowError:
    try:
        return Event.from_dict(row)  # type: ignore[arg-type] # it says so itself
    except AgentflowError as error:
        return EventInputError(error.message, hint=error.hint)
