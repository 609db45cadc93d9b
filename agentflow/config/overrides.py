"""Single values set over the files: by `AGENTFLOW__SECTION__KEY` variables, or by dotted keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentflow.config.diagnostics import Diagnostic, Place
from agentflow.config.display import KeyPath, dotted, quoted
from agentflow.config.later import keys_for_later
from agentflow.config.layers import Layer, LayerKind
from agentflow.config.shape import Shape, root
from agentflow.config.source import Source
from agentflow.config.spans import key_parts
from agentflow.config.unknown import MOST_LISTED, closest
from agentflow.config.values import plain, toml_value

PREFIX = "AGENTFLOW__"


class UnknownKeyError(Exception):
    """The name of an override leads nowhere; the text is the likely cure."""


@dataclass
class Overrides:
    """Gathers the values that one place sets; names of agents and flows are those in *known*."""

    kind: LayerKind
    known: Mapping[str, Any]
    source: Source | None = None
    data: dict[str, Any] = field(default_factory=dict)
    names: dict[KeyPath, str] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def add_variables(self, variables: Mapping[str, str]) -> None:
        """Add those *variables* that begin with the prefix, tables before the keys in them."""
        found = [name for name in variables if name.upper().startswith(PREFIX)]
        for name in sorted(found, key=lambda name: (name.count("__"), name)):
            self._add(name, name[len(PREFIX) :].split("__"), variables[name], is_variable=True)

    def add_dotted(self, values: Mapping[str, object]) -> None:
        """Add values by dotted key, as `orchestration.mode`."""
        for name, value in values.items():
            self._add(name, key_parts(name), value, is_variable=False)

    def layer(self) -> Layer:
        """Return what was gathered."""
        return Layer(self.kind, self.data, self.source, names=self.names)

    def _add(self, name: str, parts: list[str], value: object, *, is_variable: bool) -> None:
        try:
            path, shape = find(parts, self.known, is_variable=is_variable)
        except UnknownKeyError as error:
            self._report(f"unknown setting {quoted(name)}", name, str(error))
            return
        if isinstance(value, str) and (shape is None or shape.kind != "text"):
            value = toml_value(value)
        kept, problems = plain({name: value})
        if problems:
            self._report(f"{quoted(name)} has a value that cannot be read", name, problems[0].message)
            return
        self.names[path] = name
        _put(self.data, path, kept.get(name))

    def _report(self, message: str, name: str, advice: str) -> None:
        place = self.source.locate((name,), "key") if self.source else Place(file=self.kind, source_line=name)
        self.diagnostics.append(Diagnostic("AF0113", message, help=advice, place=place))


def _put(data: dict[str, Any], path: KeyPath, value: object) -> None:
    table = data
    for part in path[:-1]:
        inner = table.get(str(part))
        if not isinstance(inner, dict):
            inner = table[str(part)] = {}
        table = inner
    table[str(path[-1])] = value


def find(parts: list[str], known: Mapping[str, Any], *, is_variable: bool) -> tuple[KeyPath, Shape | None]:
    """Return the key path that *parts* lead to, and what may stand there (None: anything).

    The parts of a variable's name match in any case, `_` stands for `-` and `.` too, and a name of an
    agent may span several parts. Raises UnknownKeyError, with the likely cure, where no key matches.
    """
    shape, path, rest = root(), KeyPath(), parts
    while rest:
        lowered = [part.lower() for part in rest] if is_variable else rest
        if shape.kind == "open" or lowered[0] in keys_for_later(path):
            return (*path, *lowered), None
        if shape.kind not in {"table", "names"}:
            raise UnknownKeyError(f"{quoted(dotted(path))} is {shape.noun} and has no keys")
        choices = list(shape.keys) if shape.kind == "table" else _names_at(path, known)
        key, taken = _longest_match(rest, choices) if is_variable else (rest[0], int(rest[0] in choices))
        if not taken:
            raise UnknownKeyError(_advice(path, rest, choices, is_variable=is_variable))
        path, rest = (*path, key), rest[taken:]
        shape = shape.at(key) or shape
    return path, shape


def _names_at(path: KeyPath, known: Mapping[str, Any]) -> list[str]:
    table = known.get(str(path[0]))
    return list(table) if isinstance(table, Mapping) else []


def _longest_match(parts: list[str], choices: list[str]) -> tuple[str, int]:
    """Return the choice that most of the first *parts* name together, and how many; ("", 0) for none."""
    for taken in range(len(parts), 0, -1):
        name = "__".join(parts[:taken])
        for same in (str.casefold, _as_variable):
            match = next((choice for choice in choices if same(choice) == same(name)), "")
            if match:
                return match, taken
    return "", 0


def _as_variable(name: str) -> str:
    return re.sub(r"[.-]", "_", name).upper()


def _advice(path: KeyPath, rest: list[str], choices: list[str], *, is_variable: bool) -> str:
    meant = closest(rest[0], choices)
    if not meant:
        return f"known here: {', '.join(choices[:MOST_LISTED])}" if choices else "there is none"
    full = (*path, meant, *rest[1:])
    name = PREFIX + "__".join(_as_variable(str(part)) for part in full) if is_variable else dotted(full)
    return f"did you mean {quoted(name)}?"
