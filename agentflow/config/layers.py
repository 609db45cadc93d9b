"""The layers of a configuration: base files, file, `.env`, environment, command line; each over the last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from agentflow.config.diagnostics import On, Place
from agentflow.config.display import KeyPath
from agentflow.config.source import Source

LayerKind = Literal["base file", "file", "mapping", ".env", "environment", "command line"]
OriginKind = LayerKind | Literal["default"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from: the kind of place, and `file:line`, a variable, or nothing."""

    kind: OriginKind
    where: str = ""

    def __str__(self) -> str:
        """Return the place where there is one, else its kind."""
        return self.where or self.kind


@dataclass(frozen=True)
class Layer:
    """What one place says, as data; a file has a *source*, variables have *names* by key path."""

    kind: LayerKind
    data: Mapping[str, Any]
    source: Source | None = None
    folder: Path | None = None
    names: Mapping[KeyPath, str] = field(default_factory=dict)

    @property
    def is_file(self) -> bool:
        """Report whether variables are filled in in this layer's strings."""
        return self.kind in {"base file", "file", "mapping"}

    def says(self, path: KeyPath) -> bool:
        """Report whether this layer has a value or table at *path*."""
        found: Any = self.data
        for part in path:
            if not _has(found, part):
                return False
            found = found[part]
        return True

    def locate(self, path: KeyPath, on: On) -> Place | None:
        """Return where this layer says *path*, or the table that lacks it."""
        variable = self._variable(path)
        if self.source is None:
            return Place(file=self.kind, source_line=variable) if variable else None
        return self.source.locate((variable,) if variable else path, on)

    def origin(self, path: KeyPath) -> Origin:
        """Return where this layer says *path*, in short."""
        variable = self._variable(path)
        if self.source is None:
            return Origin(self.kind, variable)
        line = self.source.line_of((variable,) if variable else path)
        return Origin(self.kind, self.source.name if line is None else f"{self.source.name}:{line}")

    def _variable(self, path: KeyPath) -> str:
        """Return the variable that sets *path*, a table it is in, or a key in it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.names:
                return self.names[path[:end]]
        return next((name for other, name in self.names.items() if other[: len(path)] == path), "")


def _has(container: Any, part: str | int) -> bool:
    if isinstance(container, list):
        return isinstance(part, int) and part < len(container)
    return isinstance(container, Mapping) and part in container


def saying(layers: Sequence[Layer], path: KeyPath) -> Layer | None:
    """Return the layer whose word counts for *path*: the last that has it."""
    return next((layer for layer in reversed(layers) if layer.says(path)), None)


def merged(layers: Sequence[Layer]) -> dict[str, Any]:
    """Return all layers in one: tables meet key by key, anything else is replaced."""
    data: dict[str, Any] = {}
    for layer in layers:
        _merge(data, layer.data)
    return data


def _merge(data: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, Mapping):
            table = data.get(key)
            data[key] = table if isinstance(table, dict) else {}
            _merge(data[key], value)
        else:
            data[key] = _copied(value)


def _copied(value: Any) -> Any:
    if isinstance(value, list):
        return [_copied(item) for item in value]
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return value
