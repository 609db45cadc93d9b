"""The file and the files it extends, base first."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.display import KeyPath, quoted
from agentflow.config.expand import Expansion
from agentflow.config.layers import Layer, LayerKind
from agentflow.config.source import Source, open_source
from agentflow.config.syntax import parse
from agentflow.config.unknown import closest

MOST_FILES = 8
EXTENDS: KeyPath = ("extends",)


@dataclass
class Files:
    """Reads a file and those it extends; *variables* serve `${NAME}` in their names.

    `is_complete` is False when part of them could not be read, so that what is missing means nothing.
    """

    variables: Mapping[str, str]
    layers: list[Layer] = field(default_factory=list)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    broken: set[KeyPath] = field(default_factory=set)
    is_complete: bool = True
    _chain: list[Path] = field(default_factory=list)

    def read(self, path: Path) -> None:
        """Read the file at *path*, then the one it extends, and so on."""
        kind: LayerKind = "file"
        opened: Source | Diagnostic | None = open_source(path, str(path))
        while isinstance(opened, Source):
            path = Path(opened.name)
            self._chain.append(Path(os.path.realpath(path)))
            data = self._parse(opened)
            extends = data.pop("extends", None)
            self.layers.insert(0, Layer(kind, data, opened, path.parent))
            kind = "base file"
            opened = None if extends is None else self._base(extends, opened, path.parent)
        if opened is not None:
            self.diagnostics.append(opened)
            self.is_complete = False

    def _parse(self, source: Source) -> dict[str, Any]:
        parsed = parse(source)
        self.diagnostics.extend(parsed.diagnostics)
        self.broken.update(parsed.broken)
        self.is_complete = self.is_complete and parsed.is_complete
        return parsed.data

    def _base(self, extends: object, source: Source, folder: Path) -> Source | Diagnostic:
        """Open the file that *source* extends, or tell why that cannot be."""
        opened = self._open_base(extends, source, folder)
        if isinstance(opened, Source) or opened.place is not None:
            return opened
        return replace(opened, path=EXTENDS, place=source.locate(EXTENDS, "value"))

    def _open_base(self, extends: object, source: Source, folder: Path) -> Source | Diagnostic:
        if not isinstance(extends, str):
            return Diagnostic("AF0103", "`extends` must be a string: one file")
        expansion = Expansion(self.variables)
        path = folder / expansion.text(extends, EXTENDS)
        problem = next(iter(expansion.diagnostics), None) or self._misplaced(path, extends)
        if problem is not None:
            return problem
        opened = open_source(path, str(path))
        if isinstance(opened, Source) or opened.code != "AF0107":
            return opened
        reason = opened.message.partition(": ")[2]
        beside = sorted(other.name for other in path.parent.glob("*.toml"))
        meant = closest(path.name, [name for name in beside if name != Path(source.name).name])
        advice = f"did you mean {quoted(meant)}?" if meant else ""
        return Diagnostic("AF0112", f"cannot read {quoted(extends)}: {reason}", help=advice)

    def _misplaced(self, path: Path, extends: str) -> Diagnostic | None:
        """Return why the file at *path* may not be extended, or None."""
        try:
            real = Path(os.path.realpath(path))
        except ValueError:
            return Diagnostic("AF0112", f"{quoted(extends)} is not the name of a file")
        top = Path(os.path.realpath(self.layers[-1].folder or "."))
        if real in self._chain:
            names = [*(file.name for file in self._chain[self._chain.index(real) :]), real.name]
            return Diagnostic("AF0112", f"`extends` goes in a circle: {' -> '.join(names)}")
        if not real.is_relative_to(top):
            advice = "keep base files beside the first file, or in folders below it"
            return Diagnostic("AF0112", f"{quoted(extends)} is outside the configuration's folder", help=advice)
        if len(self._chain) >= MOST_FILES:
            return Diagnostic("AF0112", f"more than {MOST_FILES} files extend one another")
        return None
