"""What may stand at each place of a configuration, read off the models."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from agentflow.config.display import KeyPath
from agentflow.config.model import Config
from agentflow.config.section import Section, key_of

Kind = Literal["table", "names", "free", "list", "text", "integer", "number", "boolean", "open"]

_PLAIN: dict[object, Kind] = {str: "text", int: "integer", float: "number", bool: "boolean"}
NOUNS: dict[Kind, str] = {
    "table": "a table",
    "names": "a table of tables",
    "list": "an array",
    "text": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "free": "a table",
    "open": "any value",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """What may stand at one place: a table with known keys, tables by name, a list, a plain value, or one of several `forms`.

    `names` are tables by name, `free` is a table of which nothing more is known, `open` is any value, or one of its forms.
    """

    kind: Kind
    keys: Mapping[str, Shape] = field(default_factory=dict)
    item: Shape | None = None
    forms: tuple[Shape, ...] = ()

    def at(self, part: str | int) -> Shape | None:
        """Return the shape of one key or item, or None where there may be none."""
        if self.kind == "table" or (self.forms and isinstance(part, str)):
            return self.keys.get(part) if isinstance(part, str) else None
        return self.item

    @property
    def noun(self) -> str:
        """Return what stands here, in the words of a message."""
        if self.kind == "list" and self.item is not None:
            return "an array of tables" if self.item.kind == "table" else "an array of strings"
        if self.forms:
            *others, last = (form.noun for form in self.forms)
            return f"{', '.join(others)} or {last}"
        return NOUNS[self.kind]


@cache
def root() -> Shape:
    """Return the shape of a whole configuration."""
    return _of(Config)


def shape_at(path: KeyPath) -> Shape | None:
    """Return the shape at *path*, or None where nothing may stand."""
    shape: Shape | None = root()
    for part in path:
        if shape is None:
            return None
        shape = shape.at(part)
    return shape


def sections_with(key: str) -> list[str]:
    """Return the sections that have *key*, as their headers name them, the most usual first."""
    return [header for header, shape in _tables().items() if key in shape.keys]


@cache
def _tables() -> dict[str, Shape]:
    found: dict[str, Shape] = {}
    for name in (
        *("orchestration", "agents", "agent_flow", "llm", "logging", "runner"),
        *("journal", "limits", "telemetry", "workers", "error_routing"),
    ):
        shape = root().keys[name]
        if shape.kind == "names" and shape.item is not None:
            found[f"{name}.<name>"] = shape.item
        else:
            found[name] = shape
    flow = root().keys["orchestration"]
    for name, shape in flow.keys.items():
        if shape.kind == "table":
            found[f"orchestration.{name}"] = shape
        elif shape.kind == "list" and shape.item is not None and shape.item.kind == "table":
            found[f"[orchestration.{name}]"] = shape.item
    return found


_KNOWN: dict[type[Section], Shape] = {}


def _of(annotation: Any) -> Shape:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _of(arguments[0])
    if origin in {Union, types.UnionType}:
        choices = [argument for argument in arguments if argument is not type(None)]
        return _of(choices[0]) if len(choices) == 1 else _either(tuple(map(_of, choices)))
    if origin is Literal:
        return Shape("text")
    if origin is list:
        return Shape("list", item=_of(arguments[0]))
    if origin is dict:
        item = _of(arguments[1])
        return Shape("names", item=item) if item.kind == "table" else Shape("free")
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return _table(annotation)
    return Shape("open" if annotation is Any else _PLAIN[annotation])


def _either(forms: tuple[Shape, ...]) -> Shape:
    """Return the shape of a value that has one of several forms: the keys are those of a table, the item that of an array."""
    keys = next((form.keys for form in forms if form.kind == "table"), {})
    return Shape("open", keys, next((form.item for form in forms if form.kind == "list"), None), forms)


def _table(section: type[Section]) -> Shape:
    """Return the shape of a table, once for each: one may hold others of its own kind."""
    if section not in _KNOWN:
        keys: dict[str, Shape] = {}
        _KNOWN[section] = Shape("table", keys=keys)
        keys.update({key_of(section, name): _of(info.annotation) for name, info in section.model_fields.items()})
    return _KNOWN[section]
