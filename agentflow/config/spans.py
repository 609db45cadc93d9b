"""Where keys and values stand in a TOML text: read only when there is something to report.

The text is one that the parser accepts (or the part of it before a mistake); the walk is linear.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import tomli

from agentflow.config.display import KeyPath


class Span(NamedTuple):
    """Offsets of a key and of its value; for a table its header, for an item of an array the item."""

    key: int
    key_end: int
    value: int
    value_end: int


class Statement(NamedTuple):
    """One header or one `key = value`: where it starts, in which table, and the path it sets.

    `path` is None when the key could not be read.
    """

    start: int
    table: KeyPath
    path: KeyPath | None
    is_header: bool


class Repeat(NamedTuple):
    """A key or table that was set before: where it stands now, and where it was set first."""

    key: int
    key_end: int
    first: int


class Index(NamedTuple):
    """All spans by key path, all statements and all repeats in order."""

    spans: dict[KeyPath, Span]
    statements: list[Statement]
    repeats: list[Repeat]


_BLANK = re.compile(r"(?>(?:[ \t\n]++|#[^\n]*+)*)")
_BLANKS = (" ", "\t", "\n", "#")
_SPACE = re.compile(r"[ \t]*+")
_KEY = re.compile(r"""[A-Za-z0-9_-]++|"(?>(?:[^"\\\n]++|\\[^\n])*)"|'[^'\n]*+'""")
_STRING = re.compile(
    r'''"""(?>(?:[^"\\]++|\\.|"{1,2}(?!"))*)"{3,5}|\'\'\'(?>(?:[^']++|'{1,2}(?!'))*)'{3,5}'''
    r"""|(?!\"{3})"(?>(?:[^"\\\n]++|\\[^\n])*)"|(?!'{3})'[^'\n]*+'""",
    re.DOTALL,
)
_WORD = re.compile(r"[^,\]}#\n]++")


class _Part(NamedTuple):
    name: str
    start: int
    end: int


class _LostError(Exception):
    """The text is not TOML from here on."""


def index(text: str) -> Index:
    """Return the spans and statements of *text*, as far as it is TOML."""
    scanner = _Scanner(text)
    try:
        scanner.read()
    except _LostError:
        return scanner.found
    return scanner.found


def key_parts(dotted: str) -> list[str]:
    """Return the parts of a dotted key, quotes taken off; one part where it is not written as TOML."""
    scanner = _Scanner(dotted)
    try:
        parts = scanner.key()
    except _LostError:
        return [dotted]
    return [part.name for part in parts] if scanner.at == len(dotted) else [dotted]


def key_text(source: str) -> str:
    """Return the key that *source* (one part of a key, as written) stands for."""
    if source[0] == "'" or (source[0] == '"' and "\\" not in source):
        return source[1:-1]
    if source[0] != '"':
        return source
    try:
        return str(tomli.loads(f"key = {source}")["key"])
    except tomli.TOMLDecodeError as error:
        raise _LostError from error


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.table: KeyPath = ()
        self.lengths: dict[KeyPath, int] = {}
        self.explicit: set[KeyPath] = set()
        self.found = Index({}, [], [])

    def read(self) -> None:
        while True:
            self._skip(_BLANK)
            if self.at >= len(self.text):
                return
            is_header = self.text[self.at] == "["
            self.found.statements.append(Statement(self.at, self.table, None, is_header))
            if is_header:
                self._header()
            else:
                self._pair(self.table)

    def _header(self) -> None:
        start = self.at
        is_array = self.text.startswith("[[", start)
        self.at += 2 if is_array else 1
        parts = self.key()
        self._expect("]]" if is_array else "]")
        path: KeyPath = ()
        for part in parts[:-1]:
            path = (*path, part.name)
            self._add_table(path, part)
            if path in self.lengths:
                path = (*path, self.lengths[path] - 1)
        last = parts[-1]
        path = (*path, last.name)
        self._note(path)
        span = Span(last.start, last.end, start, self.at)
        if is_array:
            self._check_repeat(path, last, is_repeat=path in self.found.spans and path not in self.lengths)
            self.found.spans.setdefault(path, span)
            self.explicit.add(path)
            number = self.lengths.get(path, 0)
            self.lengths[path] = number + 1
            path = (*path, number)
        else:
            self._check_repeat(path, last, is_repeat=path in self.explicit)
        self.found.spans[path] = span
        self.explicit.add(path)
        self.table = path

    def _pair(self, table: KeyPath) -> None:
        parts = self.key()
        self._expect("=")
        path = table
        for part in parts[:-1]:
            path = (*path, part.name)
            self._add_table(path, part)
        last = parts[-1]
        path = (*path, last.name)
        self._note(path)
        self._check_repeat(path, last, is_repeat=path in self.found.spans)
        self._skip(_SPACE)
        start = self.at
        self._value(path)
        self.found.spans.setdefault(path, Span(last.start, last.end, start, self.at))
        self.explicit.add(path)

    def key(self) -> list[_Part]:
        parts = []
        while True:
            self._skip(_SPACE)
            match = _KEY.match(self.text, self.at)
            if match is None:
                raise _LostError
            parts.append(_Part(key_text(match[0]), match.start(), match.end()))
            self.at = match.end()
            self._skip(_SPACE)
            if not self.text.startswith(".", self.at):
                return parts
            self.at += 1

    def _value(self, path: KeyPath) -> None:
        first = self.text[self.at : self.at + 1]
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        else:
            match = (_STRING if first in {'"', "'"} else _WORD).match(self.text, self.at)
            if match is None:
                raise _LostError
            self.at += len(match[0].rstrip())

    def _array(self, path: KeyPath) -> None:
        self.at += 1
        number = 0
        while not self._ends("]"):
            start = self.at
            item = (*path, number)
            self._value(item)
            self.found.spans.setdefault(item, Span(start, self.at, start, self.at))
            self._separate("]")
            number += 1

    def _inline_table(self, path: KeyPath) -> None:
        self.at += 1
        while not self._ends("}"):
            self._pair(path)
            self._separate("}")

    def _note(self, path: KeyPath) -> None:
        """Give the statement being read its path: the first key of a line, not those within its value."""
        start, table, known, is_header = self.found.statements[-1]
        if known is None:
            self.found.statements[-1] = Statement(start, table, path, is_header)

    def _ends(self, bracket: str) -> bool:
        self._skip(_BLANK)
        if self.text.startswith(bracket, self.at):
            self.at += 1
            return True
        return False

    def _separate(self, bracket: str) -> None:
        self._skip(_BLANK)
        if self.text.startswith(",", self.at):
            self.at += 1
        elif not self.text.startswith(bracket, self.at):
            raise _LostError

    def _skip(self, pattern: re.Pattern[str]) -> None:
        if not self.text.startswith(_BLANKS, self.at):
            return
        match = pattern.match(self.text, self.at)
        if match is not None:
            self.at = match.end()

    def _expect(self, token: str) -> None:
        if not self.text.startswith(token, self.at):
            raise _LostError
        self.at += len(token)

    def _add_table(self, path: KeyPath, part: _Part) -> None:
        self.found.spans.setdefault(path, Span(part.start, part.end, part.start, part.end))

    def _check_repeat(self, path: KeyPath, part: _Part, *, is_repeat: bool) -> None:
        if is_repeat:
            self.found.repeats.append(Repeat(part.start, part.end, self.found.spans[path].key))
