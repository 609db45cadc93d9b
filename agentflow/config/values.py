"""Values that do not come from parsed TOML: made plain, or read from the text of a variable."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, time
from typing import Any

import tomli

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.display import KeyPath, dotted, quoted
from agentflow.config.limits import DEEPEST, LARGEST_INTEGER, breach, too_deep

MOST_VALUES = 100_000


def toml_value(text: str) -> object:
    """Return *text* read as one TOML value, or *text* itself where it is none."""
    if "\n" in text or "\r" in text or breach(text) is not None:
        return text
    try:
        read = tomli.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return read["value"] if list(read) == ["value"] else text


def scalar(text: str) -> object:
    """Return *text* read as a TOML number or boolean, or *text* itself where it is neither."""
    value = toml_value(text)
    return value if isinstance(value, bool | int | float) else text


def plain(mapping: Mapping[Any, Any]) -> tuple[dict[str, Any], list[Diagnostic]]:
    """Return a copy of *mapping* that holds TOML values only, and what had to be left out.

    A value of None counts as not given; a tuple is read as an array.
    """
    copy = _Copy()
    return copy.table(mapping, ()), copy.problems


class _Nothing:
    """Stands for a value that was left out."""


_NOTHING = _Nothing()


class _Copy:
    def __init__(self) -> None:
        self.problems: list[Diagnostic] = []
        self._values = 0

    def table(self, table: Mapping[Any, Any], path: KeyPath) -> dict[str, Any]:
        copied = {}
        for key, value in table.items():
            if not isinstance(key, str) or not _is_text(key):
                shown = ascii(key)
                self._refuse(Diagnostic("AF0103", f"the key {quoted(shown)} is not text", (*path, shown), "key"))
                continue
            kept = _NOTHING if value is None else self._value(value, (*path, key))
            if kept is not _NOTHING:
                copied[key] = kept
        return copied

    def _value(self, value: object, path: KeyPath) -> object:
        self._values += 1
        if self._values > MOST_VALUES:
            return _NOTHING
        if self._values == MOST_VALUES:
            return self._refuse(Diagnostic("AF0109", f"the configuration has more than {MOST_VALUES} values", path))
        if len(path) > DEEPEST:
            return self._refuse(too_deep(path[:2]))
        if isinstance(value, Mapping):
            return self.table(value, path)
        if isinstance(value, list | tuple):
            items = [self._value(item, (*path, number)) for number, item in enumerate(value)]
            return [item for item in items if item is not _NOTHING]
        problem = _problem(value, path)
        return value if problem is None else self._refuse(problem)

    def _refuse(self, problem: Diagnostic) -> _Nothing:
        self.problems.append(problem)
        return _NOTHING


def _problem(value: object, path: KeyPath) -> Diagnostic | None:
    """Return why TOML could not hold the single *value*."""
    name = quoted(dotted(path[-1:]))
    if isinstance(value, str):
        return None if _is_text(value) else Diagnostic("AF0103", f"{name} has characters that are not text", path)
    if isinstance(value, int) and abs(value) >= LARGEST_INTEGER:
        return Diagnostic("AF0104", f"{name} is beyond the integers of 64 bits", path)
    if isinstance(value, bool | int | float | date | time):
        return None
    return Diagnostic("AF0103", f"{name} is a {type(value).__name__}, which TOML has no type for", path)


def _is_text(text: str) -> bool:
    """Report whether *text* has no lone surrogates."""
    return not any("\ud800" <= char <= "\udfff" for char in text) if not text.isascii() else True
