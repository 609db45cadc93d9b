"""Single values set over the files: by `AGENTFLOW__SECTION__KEY` variables, or by dotted keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentflow.config.diagnostics import Diagnostic, Place
from agentflow.config.display import LONGEST_LINE, KeyPath, dotted, quoted
from agentflow.config.later import keys_for_later
from agentflow.config.layers import Layer, LayerKind
from agentflow.config.limits import DEEPEST
from agentflow.config.shape import Shape, root
from agentflow.config.source import Source
from agentflow.config.spans import key_parts
from agentflow.config.unknown import MOST_LISTED, closest
from agentflow.config.values import plain, toml_value

PREFIX = "AGENTFLOW__"


# A search for the nearest name compares it with every name there is: so many comparisons one place of overrides may cost.
MOST_COMPARED = 20_000


class Choices:
    """The names that may stand at one place, found as they are, or as a variable writes them."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self._exact = frozenset(names)
        self._folded = {fold(name): name for fold in (_as_variable, str.casefold) for name in reversed(names)}

    def longest(self, parts: list[str]) -> tuple[str, int]:
        """Return the name that most of the first *parts* of a variable make together, and how many; ("", 0) for none."""
        for taken in range(len(parts), 0, -1):
            name = "__".join(parts[:taken])
            match = self._folded.get(name.casefold()) or self._folded.get(_as_variable(name))
            if match is not None:
                return match, taken
        return "", 0

    def first(self, parts: list[str]) -> tuple[str, int]:
        """Return the first of *parts*, and 1, when it is a name; else ("", 0)."""
        return (parts[0], 1) if parts[0] in self._exact else ("", 0)


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
    _choices: dict[KeyPath, Choices] = field(default_factory=dict)
    _compared: int = 0

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
            path, shape = self._find(parts, is_variable=is_variable)
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
        shown = name if len(name) <= LONGEST_LINE else f"{name[: LONGEST_LINE - 1]}…"
        place = self.source.locate((name,), "key") if self.source else Place(file=self.kind, source_line=shown)
        self.diagnostics.append(Diagnostic("AF0113", message, help=advice, place=place))

    def _find(self, parts: list[str], *, is_variable: bool) -> tuple[KeyPath, Shape | None]:
        """Return the key path that *parts* lead to, and what may stand there (None: anything).

        The parts of a variable's name match in any case, `_` stands for `-` and `.` too, and a name of an
        agent may span several parts. Raises UnknownKeyError, with the likely cure, where no key matches.
        """
        if len(parts) > DEEPEST:
            raise UnknownKeyError(f"it has {len(parts)} parts, and keys nest at most {DEEPEST} levels deep")
        shape, path, rest = root(), KeyPath(), parts
        while rest:
            lowered = [part.lower() for part in rest] if is_variable else rest
            if shape.kind in {"open", "free"} or lowered[0] in keys_for_later(path):
                return (*path, *lowered), None
            if shape.kind not in {"table", "names"}:
                raise UnknownKeyError(f"{quoted(dotted(path))} is {shape.noun} and has no keys")
            choices = self._choices_at(path, shape)
            key, taken = choices.longest(rest) if is_variable else choices.first(rest)
            if not taken:
                raise UnknownKeyError(self._advice(path, rest, choices.names, is_variable=is_variable))
            path, rest = (*path, key), rest[taken:]
            shape = shape.at(key) or shape
        return path, shape

    def _choices_at(self, path: KeyPath, shape: Shape) -> Choices:
        at = path if shape.kind == "names" else (id(shape),)  # all agents have the same keys
        if at not in self._choices:
            table = self.known.get(str(path[0])) if shape.kind == "names" else shape.keys
            self._choices[at] = Choices(list(table) if isinstance(table, Mapping) else [])
        return self._choices[at]

    def _advice(self, path: KeyPath, rest: list[str], choices: list[str], *, is_variable: bool) -> str:
        meant = ""
        if self._compared < MOST_COMPARED:
            self._compared += len(choices)
            meant = closest(rest[0], choices)
        if not meant:
            return f"known here: {', '.join(choices[:MOST_LISTED])}" if choices else "there is none"
        full = (*path, meant, *rest[1:])
        name = PREFIX + "__".join(_as_variable(str(part)) for part in full) if is_variable else dotted(full)
        return f"did you mean {quoted(name)}?"


def _put(data: dict[str, Any], path: KeyPath, value: object) -> None:
    table = data
    for part in path[:-1]:
        inner = table.get(str(part))
        if not isinstance(inner, dict):
            inner = table[str(part)] = {}
        table = inner
    table[str(path[-1])] = value


def _as_variable(name: str) -> str:
    return re.sub(r"[.-]", "_", name).upper()
