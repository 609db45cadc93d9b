"""Text made safe to show: control and bidi characters escaped, widths counted, long lines cut."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

KeyPath = tuple[str | int, ...]
Range = tuple[int, int]

LONGEST_NAME = 60
LONGEST_LINE = 100
LEAD = 30
TAB = "    "
MASK = "***"

_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Excerpt(NamedTuple):
    """A source line as it is shown, and where the caret run stands, in terminal cells."""

    text: str
    caret: int
    length: int


def printable(text: str) -> str:
    """Return *text* with every character that could move the cursor or hide text escaped."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_cell(char) for char in text)


def quoted(name: object) -> str:
    """Return a key, name or value between backquotes, escaped, and cut when it is long."""
    text = str(name)
    if len(text) > LONGEST_NAME:
        text = text[: LONGEST_NAME - 1] + "…"
    return f"`{printable(text)}`"


def dotted(path: Sequence[str | int]) -> str:
    """Return a key path as TOML writes it, with positions in brackets: `flows.x.switch[0].when`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        escaped = part.replace("\\", "\\\\").replace('"', '\\"')
        text += ("." if text else "") + (part if _BARE_KEY.fullmatch(part) else f'"{escaped}"')
    return text


def excerpt(line: str, start: int, end: int, hidden: Sequence[Range] = ()) -> Excerpt:
    """Return *line* for display with the caret run under `line[start:end]`.

    Ranges in *hidden* are replaced by a mask. A line of more than 100 characters is cut around the place.
    """
    first = 0 if end <= LONGEST_LINE else max(0, start - LEAD)
    last = min(len(line), first + LONGEST_LINE)
    cells = ["…"] if first else []
    caret, length = 0, 0
    for index in range(first, last):
        if index == start:
            caret = sum(map(_width, cells))
        cell = _masked(index, first, hidden)
        cells.append(_cell(line[index]) if cell is None else cell)
        length += _width(cells[-1]) if start <= index < end else 0
    if start >= last:
        caret = sum(map(_width, cells))
    if last < len(line):
        cells.append("…")
    return Excerpt("".join(cells).rstrip(), caret, max(1, length))


def _masked(index: int, first: int, hidden: Sequence[Range]) -> str | None:
    """Return what stands for the character at *index*: the mask, nothing, or None for itself."""
    for begin, end in hidden:
        if begin <= index < end:
            return MASK if index in {begin, first} else ""
    return None


def _cell(char: str) -> str:
    if char == "\t":
        return TAB
    if char == " " or unicodedata.category(char) not in _ESCAPED:
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _width(text: str) -> int:
    """Return how many terminal cells *text* takes: none for a combining mark, two for a wide character."""
    if text.isascii():
        return len(text)
    return sum(_char_width(char) for char in text)


def _char_width(char: str) -> int:
    if unicodedata.category(char) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in {"W", "F"} else 1
