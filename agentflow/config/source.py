"""One file of configuration: read within bounds, decoded, and able to say where each key stands."""

from __future__ import annotations

import stat
from bisect import bisect_right
from functools import cached_property
from pathlib import Path

from agentflow.config.diagnostics import Diagnostic, On, Place
from agentflow.config.display import LONGEST_LINE, KeyPath, Range, excerpt
from agentflow.config.limits import LARGEST_FILE
from agentflow.config.secret import resembles_secret, secret_ranges
from agentflow.config.spans import Span, index

_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class Source:
    """The text of one file, line ends as `\\n` and without a byte order mark.

    `name` is the path as it is shown. `parsed` is the text as it was parsed: the same length,
    statements that could not be read blanked out.
    """

    def __init__(self, name: str, text: str, *, spans: dict[KeyPath, Span] | None = None, hidden: list[Range] | None = None) -> None:
        self.name = name
        self.text = text.removeprefix("\ufeff").replace("\r\n", "\n")
        self.parsed = self.text
        self._spans = spans
        self._hidden = hidden

    @cached_property
    def spans(self) -> dict[KeyPath, Span]:
        """Return where each key path stands; read off the text on first use, unless given."""
        return index(self.parsed).spans if self._spans is None else self._spans

    @cached_property
    def hidden(self) -> list[Range]:
        """Return the ranges that are never shown, in order; those of secret keys, unless given."""
        return secret_ranges(self.text) if self._hidden is None else self._hidden

    def locate(self, path: KeyPath, on: On) -> Place:
        """Return the place of a key or its value; of a missing key: the header of the table it misses in."""
        known = path
        while known and known not in self.spans:
            known = known[:-1]
        if not known:
            return self.place(0, 0)
        span = self.spans[known]
        hidden = [(span.value, span.value_end)] if self._holds_secret(known) else []
        if known == path and on == "key":
            return self.place(span.key, span.key_end, hidden)
        return self.place(span.value, span.value_end, hidden)

    def _holds_secret(self, path: KeyPath) -> bool:
        span = self.spans[path]
        return span.key != span.value and any(isinstance(part, str) and resembles_secret(part) for part in path)

    def place(self, start: int, end: int, hidden: list[Range] | None = None) -> Place:
        """Return the place of `text[start:end]`, as far as it stands on its first line."""
        start = min(start, len(self.text))
        number = bisect_right(self._starts, start)
        begin = self._starts[number - 1]
        line = self.text[begin : self._end_of_line(begin)]
        near = self._hidden_between(start - LONGEST_LINE, start + LONGEST_LINE)
        ranges = [(max(0, first - begin), last - begin) for first, last in [*near, *(hidden or [])]]
        shown = excerpt(line, start - begin, min(end - begin, len(line)), ranges)
        return Place(
            file=self.name,
            line=number,
            column=start - begin + 1,
            source_line=shown.text,
            caret=shown.caret,
            length=shown.length,
        )

    def line_of(self, path: KeyPath) -> int | None:
        """Return the line, from 1, that says the value of *path*."""
        span = self.spans.get(path)
        return None if span is None else bisect_right(self._starts, span.key)

    @cached_property
    def _starts(self) -> list[int]:
        starts, at = [0], self.text.find("\n")
        while at >= 0:
            starts.append(at + 1)
            at = self.text.find("\n", at + 1)
        return starts

    def is_hidden(self, at: int) -> bool:
        """Report whether the character at *at* is never shown."""
        return any(first <= at < last for first, last in self._hidden_between(at, at + 1))

    def _hidden_between(self, begin: int, end: int) -> list[Range]:
        """Return the hidden ranges near a place; a text may have thousands."""
        first = bisect_right(self.hidden, (begin, begin))
        return self.hidden[max(0, first - 1) : bisect_right(self.hidden, (end, end))]

    def _end_of_line(self, begin: int) -> int:
        end = self.text.find("\n", begin)
        return len(self.text) if end < 0 else end


def open_source(path: Path, name: str) -> Source | Diagnostic:
    """Read the file at *path*; return its text, or why it cannot be had."""
    whole = Place(file=name)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a folder" if path.is_dir() else "not a regular file"
            return Diagnostic("AF0107", f"cannot read the configuration: it is {kind}", place=whole, help="name a TOML file")
        with path.open("rb") as stream:
            content = stream.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        message = f"cannot read the configuration: {reason_of(error)}"
        absent = isinstance(error, FileNotFoundError)
        advice = "`agentflow create` writes a project with a configuration" if absent else "check the name and its permissions"
        return Diagnostic("AF0107", message, place=whole, help=advice)
    if len(content) > LARGEST_FILE:
        message = f"the file is larger than {LARGEST_FILE // 1024} KB"
        return Diagnostic("AF0109", message, place=whole, help="split it with `extends`")
    return _decoded(content, name)


def reason_of(error: OSError | ValueError) -> str:
    """Return why a file cannot be opened, as the end of a sentence: "no such file or directory"."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return reason[:1].lower() + reason[1:]


def _decoded(content: bytes, name: str) -> Source | Diagnostic:
    advice = "save the file as UTF-8"
    if content.startswith(_UTF16):
        return Diagnostic("AF0108", "the file is UTF-16, not UTF-8", place=Place(file=name), help=advice)
    try:
        return Source(name, content.decode())
    except UnicodeDecodeError as error:
        readable = Source(name, content[: error.start].decode())
        place = readable.place(len(readable.text), len(readable.text) + 1)
        message = f"the file is not UTF-8: byte 0x{content[error.start]:02x}"
        return Diagnostic("AF0108", message, place=place, help=advice)
