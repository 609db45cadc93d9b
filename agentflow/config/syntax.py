"""TOML parsed with tomli; after a mistake the statement is set aside, so that one error hides no other."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import Any

import tomli

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.display import LONGEST_NAME, KeyPath, dotted, quoted
from agentflow.config.limits import breach
from agentflow.config.lookalike import character_name, is_unusual, skeleton, suspicious_key
from agentflow.config.source import Source
from agentflow.config.spans import Index, Statement, index

MOST_ERRORS = 20
MOST_CHARACTERS = 512 * 1024

_NEXT_STATEMENT = re.compile(
    r"""^[ \t]*+(?:\[\[?+[^\[\],\n]*+\]\]?+[ \t]*+(?:\#.*)?$|(?>(?:[\w.\- \t]++|"[^"\n]*+"|'[^'\n]*+')+)=)""",
    re.MULTILINE | re.VERBOSE,
)
_NEXT_HEADER = re.compile(r"^[ \t]*+\[\[?+[^\[\],\n]*+\]", re.MULTILINE)
_WORD = re.compile(r"[\w.\-]++|:")
_KEY_WORD = re.compile(r"[^\s=\[\]\"'.]{1,64}+")
_LAST_WORD = re.compile(r"[\w\-]++\Z")
_STRINGS = re.compile(r"""\"(?>(?:[^"\\\n]++|\\[^\n])*)"|'[^'\n]*+'""")
_TWICE = ("Cannot", "Duplicate")
_ADVICE = {
    "Invalid value": "write a value after `=`; text stands in quotes",
    "Invalid initial character": "a key is letters, digits, `_` and `-`, or stands in quotes",
    "Invalid statement": "each line is `key = value` or a `[table]`",
    "Expected '='": "a key with spaces stands in quotes; `=` goes between key and value",
    "Expected newline": "one `key = value` a line; text stands in quotes",
    "Expected ']": "close the header with a bracket",
    "Unterminated string": "close the string with a quote",
    "Illegal character": "close the string on the line it starts, or use three quotes",
    'Expected "\'"': "close the string with a quote",
    "Unescaped": r"write `\\` for a backslash, or put the text in single quotes",
    "Unclosed array": "a `,` or a `]` is missing",
    "Unclosed inline table": "a `,` or a `}` is missing",
}


@dataclass
class Parsed:
    """What could be read of a text.

    `broken` holds the key paths of statements that were set aside; `is_complete` is False when
    something was set aside and it is not known which keys it would have set.
    """

    data: dict[str, Any] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    broken: set[KeyPath] = field(default_factory=set)
    is_complete: bool = True


def parse(source: Source) -> Parsed:
    """Parse the text of *source*; never raises, whatever the text is."""
    parsed = Parsed()
    beyond = breach(source.text)
    if beyond is not None:
        at, diagnostic = beyond
        parsed.diagnostics.append(_placed(diagnostic, source, at, at + 1))
        parsed.is_complete = False
        return parsed
    budget = min(MOST_ERRORS, MOST_CHARACTERS // (len(source.text) + 1))
    while True:
        try:
            parsed.data = tomli.loads(source.parsed)
        except tomli.TOMLDecodeError as error:
            _set_aside(source, parsed, error)
            if len(parsed.diagnostics) > budget:
                parsed.is_complete = False
                return parsed
        except (ValueError, RecursionError) as error:
            parsed.diagnostics.append(_placed(Diagnostic("AF0101", str(error)), source, 0, 0))
            parsed.is_complete = False
            return parsed
        else:
            return parsed


def _set_aside(source: Source, parsed: Parsed, error: tomli.TOMLDecodeError) -> None:
    """Report *error* and blank the statement it is in."""
    text, at = source.parsed, error.pos
    line_end = text.find("\n", at)
    if error.msg.startswith("Found invalid") and "#" in _STRINGS.sub("", text[text.rfind("\n", 0, at) + 1 : at]):
        diagnostic = Diagnostic("AF0101", f"a comment cannot have {character_name(text[at])} in it")
        parsed.diagnostics.append(_placed(diagnostic, source, at, at + 1))
        _blank(source, at, len(text) if line_end < 0 else line_end)
        return
    found = index(text if line_end < 0 else text[:line_end])
    number = bisect_right(found.statements, at, key=lambda statement: statement.start)
    statement = found.statements[number - 1] if number else Statement(at, (), None, False)
    is_twice = error.msg.startswith(_TWICE)
    parsed.diagnostics.append(_set_twice(source, found, statement, at) if is_twice else _malformed(source, error, statement))
    _note_lost(source, parsed, found, statement, is_twice=is_twice)
    _blank(source, statement.start, _end_of_damage(text, statement, at))


def _note_lost(source: Source, parsed: Parsed, found: Index, statement: Statement, *, is_twice: bool) -> None:
    """Note what the text says and the data will lack; of a key set twice the first stays."""
    lost = statement.path or _intended(source.text, statement)
    first = found.spans.get(lost)
    if is_twice and not statement.is_header and first is not None and first.key < statement.start:
        return
    if lost:
        parsed.broken.add(lost)
    if not lost or (statement.is_header and not is_twice):
        parsed.is_complete = False


def _blank(source: Source, start: int, end: int) -> None:
    blank = re.sub(r"[^\n]", " ", source.parsed[start:end])
    source.parsed = source.parsed[:start] + blank + source.parsed[end:]


def _intended(text: str, statement: Statement) -> KeyPath:
    """Return the path that a statement with an unreadable key most likely sets, else its table's."""
    word = _KEY_WORD.match(text, statement.start)
    plain = skeleton(word[0]) if word else ""
    return (*statement.table, plain) if plain.isascii() and plain else statement.table


def _end_of_damage(text: str, statement: Statement, at: int) -> int:
    """Return where reading may go on: the next line, from the mistake on, that looks like a statement."""
    if at >= len(text):
        return len(text)
    line_end = text.find("\n", statement.start)
    search_from = max(text.rfind("\n", 0, at) + 1, len(text) if line_end < 0 else line_end + 1)
    pattern = _NEXT_HEADER if statement.is_header else _NEXT_STATEMENT
    match = pattern.search(text, search_from)
    return match.start() if match else len(text)


def _set_twice(source: Source, found: Index, statement: Statement, at: int) -> Diagnostic:
    repeat = next((repeat for repeat in found.repeats if statement.start <= repeat.key <= at), None)
    path = statement.path or ()
    if repeat is None:
        end = source.text.find("\n", statement.start, at)
        message = "this table or key is set in two ways"
        diagnostic = Diagnostic("AF0115", message, path, "key", "set it in one place")
        return _placed(diagnostic, source, statement.start, at if end < 0 else end)
    name = quoted(dotted(path) if statement.is_header else source.text[repeat.key : repeat.key_end])
    line = source.text.count("\n", 0, repeat.first) + 1
    diagnostic = Diagnostic("AF0115", f"{name} is set twice", path, "key", f"first set in line {line}; keep one")
    return _placed(diagnostic, source, repeat.key, repeat.key_end)


def _malformed(source: Source, error: tomli.TOMLDecodeError, statement: Statement) -> Diagnostic:
    text, at = source.text, error.pos
    here = text[at : at + 1]
    if is_unusual(here):
        return _unusual(source, at, in_value="=" in text[statement.start : at])
    if at >= len(text.rstrip()) and "\n" in text[statement.start : at]:
        at = statement.start  # nothing is left to point at: the statement that does not end
    word = _WORD.match(text, at)
    end = word.end() if word else at + 1
    message = "the line ends inside a string" if error.msg == "Illegal character '\\n'" else f"{error.msg[:1].lower()}{error.msg[1:]}"
    return _placed(Diagnostic("AF0101", message, help=_advice(error.msg, "" if source.is_hidden(at) else text[at:end])), source, at, end)


def _unusual(source: Source, at: int, *, in_value: bool) -> Diagnostic:
    """Report a character that looks like another or cannot be seen: it reads as if all were well."""
    text = source.text
    name = character_name(text[at])
    if text[at] == "\r":
        diagnostic = Diagnostic("AF0101", "a carriage return that ends no line", help="end lines with a line feed")
    elif in_value:
        diagnostic = Diagnostic("AF0101", f"a value cannot have {name} here", help=_straight(text[at]))
    else:
        before = _LAST_WORD.search(text, max(0, at - LONGEST_NAME), at)
        after = _KEY_WORD.match(text, at)
        start, end = before.start() if before else at, after.end() if after else at + 1
        return _placed(suspicious_key(text[start:end]), source, start, end)
    return _placed(diagnostic, source, at, at + 1)


def _straight(char: str) -> str:
    return 'use straight quotes: "..."' if char in "\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb" else ""


def _advice(message: str, word: str) -> str:
    """Return the likely cure of tomli's *message* for a text that goes on with *word*."""
    if message == "Invalid value" and word.lower() in {"true", "false"}:
        return f"write {word.lower()} in lower case"
    if message == "Invalid value" and word[:1].isalpha():
        return f'text stands in quotes: "{word}"'
    if message.startswith("Expected '='") and word == ":":
        return "TOML writes key = value"
    return next((advice for start, advice in _ADVICE.items() if message.startswith(start)), "")


def _placed(diagnostic: Diagnostic, source: Source, start: int, end: int) -> Diagnostic:
    return replace(diagnostic, place=source.place(start, end))
