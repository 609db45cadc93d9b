"""Reads a configuration from all its layers in one pass: what it says, and all that is wrong with it."""

from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from agentflow.config.check import check
from agentflow.config.diagnostics import Diagnostic, Place
from agentflow.config.display import KeyPath
from agentflow.config.dotenv import DotenvFile
from agentflow.config.expand import Expansion
from agentflow.config.files import EXTENDS, Files
from agentflow.config.layers import Layer, Origin, merged, saying
from agentflow.config.model import Config, named
from agentflow.config.overrides import Overrides
from agentflow.config.repairs import Repairs
from agentflow.config.settings import Setting, settings_of
from agentflow.config.values import plain

# What a mode lacks, takes or leaves unused: follow-ups where it is not known which mode was meant.
OF_THE_MODE = frozenset({"AF0203", "AF0212", "AF0214", "AF0290"})


class Draft:
    """What could be read: the best `config` there is (None: too little is known), and all `diagnostics`.

    `path` is the file (None for a mapping) and `folder` the one it stands in.
    """

    def __init__(self, reading: _Reading) -> None:
        self.path = reading.path
        self.folder = reading.folder
        self._layers = reading.layers
        self._repairs = reading.repairs
        self._written = reading.expansion.written
        self.config = reading.config
        self.diagnostics = self._in_order(reading.diagnostics)

    def locate(self, diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
        """Return *diagnostics* about the config with their places, in the order of the text.

        Those about a value that was reported before are left out: the config has a default in its place.
        """
        return self._in_order(
            replace(diagnostic, path=self._repairs.original(diagnostic.path))
            for diagnostic in diagnostics
            if not self._repairs.is_broken(diagnostic.path) and not self._is_guessed(diagnostic)
        )

    def _is_guessed(self, diagnostic: Diagnostic) -> bool:
        """Report whether *diagnostic* holds only for the default mode, which stands in for one that could not be read."""
        if diagnostic.code not in OF_THE_MODE:
            return False
        path = diagnostic.path
        flow = path[:1] if path[:1] == ("orchestration",) else path[:2]
        if diagnostic.code == "AF0212":
            flow = ("flows", str(self._repairs.value(path)))
        mode = (*flow, "mode")
        return self._repairs.is_broken(mode) and not self._repairs.has(mode)

    def folder_of(self, path: KeyPath) -> Path:
        """Return the folder of the file that says *path*; relative paths in its value start there."""
        layer = saying(self._layers, self._repairs.original(path))
        return (layer.folder if layer else None) or self.folder

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the files that say something, and the `.env` beside them that may; none for a mapping."""
        named = [Path(layer.source.name) for layer in self._layers if layer.source is not None]
        return () if self.path is None else tuple(dict.fromkeys([self.path, *named, self.folder / ".env"]))

    @property
    def origins(self) -> dict[str, Origin]:
        """Return where each effective value comes from, by dotted key."""
        return {setting.key: setting.origin for setting in self.settings}

    @cached_property
    def settings(self) -> list[Setting]:
        """Return each effective value with its origin, in the order of the reference; secrets are masked."""
        return settings_of(self.config, self._origin, self._text) if self.config else []

    def _origin(self, path: KeyPath) -> Origin:
        written = self._repairs.original(path)
        layer = saying(self._layers, written)
        return layer.origin(written) if layer else Origin("default")

    def _text(self, path: KeyPath) -> str:
        return self._written.get(self._repairs.original(path), "")

    def _in_order(self, diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
        placed = [diagnostic if diagnostic.place else replace(diagnostic, place=self._place(diagnostic)) for diagnostic in diagnostics]
        files = [layer.source.name for layer in reversed(self._layers) if layer.source]
        rank = {name: number for number, name in enumerate(files)}
        return sorted(placed, key=lambda one: (rank.get(one.file or "", len(rank)), one.line or 0, one.column or 0))

    def _place(self, diagnostic: Diagnostic) -> Place | None:
        """Return where the path of *diagnostic* is said; where it misses, the table that lacks it."""
        path = diagnostic.path
        files = [layer for layer in self._layers if layer.is_file]
        layer = saying(self._layers, path) if path else None
        for end in range(len(path), -1, -1):
            layer = layer or saying(files, path[:end])
        return layer.locate(path, diagnostic.on) if layer else None


def read(
    source: Path | str | Mapping[str, object],
    *,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Draft:
    """Read a configuration from a file or a mapping; bad content never raises, it is told in the Draft.

    *overrides* are values by dotted key, from the command line; *environ* (default: the process's) serves
    `AGENTFLOW__SECTION__KEY` and `${NAME}`. Later wins: defaults, base file, file, `.env`, environment,
    overrides.
    """
    reading = _Reading(os.environ if environ is None else environ)
    if isinstance(source, Mapping):
        reading.open_mapping(source)
    else:
        reading.open_file(Path(source))
    reading.set_over(overrides or {})
    reading.check()
    return Draft(reading)


class _Reading:
    """The steps from layers to a checked configuration."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.path: Path | None = None
        self.folder = Path()
        self.layers: list[Layer] = []
        self.diagnostics: list[Diagnostic] = []
        self.config: Config | None = None
        self.repairs = Repairs({})
        self.expansion = Expansion(environ)
        self._environ = environ
        self._dotenv: DotenvFile | None = None
        self._broken: set[KeyPath] = set()
        self._is_complete = True

    def open_mapping(self, mapping: Mapping[Any, Any]) -> None:
        with suppress(OSError):  # the current folder may be gone
            self.folder = Path.cwd()
        data, problems = plain(mapping)
        self.diagnostics.extend(problems)
        self._broken.update(problem.path for problem in problems)
        if data.pop("extends", None) is not None:
            message = "a configuration without a file cannot extend one"
            self.diagnostics.append(Diagnostic("AF0112", message, EXTENDS, "key"))
        self.layers.append(Layer("mapping", data))

    def open_file(self, path: Path) -> None:
        self.path, self.folder = path, path.parent
        self._dotenv = DotenvFile(path.parent / ".env")
        self.expansion = Expansion(ChainMap(dict(self._environ), self._dotenv.variables))
        files = Files(self.expansion.variables)
        files.read(path)
        self.layers.extend(files.layers)
        self.diagnostics.extend([*files.diagnostics, *self._dotenv.diagnostics])
        self._broken, self._is_complete = files.broken, files.is_complete

    def set_over(self, overrides: Mapping[str, object]) -> None:
        """Put the variables and the command line over the files."""
        known = merged(self.layers)
        variables = Overrides("environment", known)
        variables.add_variables(self._environ)
        dotted_keys = Overrides("command line", known)
        dotted_keys.add_dotted(overrides)
        gathered = [variables, dotted_keys]
        if self._dotenv is not None:
            beside = Overrides(".env", known, self._dotenv.source)
            beside.add_variables(self._dotenv.variables)
            gathered.insert(0, beside)
        for layer in gathered:
            self.layers.append(layer.layer())
            self.diagnostics.extend(layer.diagnostics)

    def check(self) -> None:
        """Fill variables in, check the shape, and give the project its name."""
        self.repairs = Repairs(merged(self.layers), self._broken)
        self.expansion.tree(self.repairs.data, self._is_said_by_file)
        self.repairs.drop(self.expansion.failed)
        config, found = check(self.repairs, self.expansion.written)
        if self._is_complete and config is not None:
            self.config = named(config, _name_of(self.folder))
        elif not self._is_complete:  # what is missing may stand in what could not be read
            found = [diagnostic for diagnostic in found if diagnostic.code != "AF0105"]
        self.diagnostics.extend([*self.expansion.diagnostics, *found])

    def _is_said_by_file(self, path: KeyPath) -> bool:
        layer = saying(self.layers, path)
        return layer is not None and layer.is_file


def _name_of(folder: Path) -> str:
    try:
        return folder.absolute().name
    except OSError:  # the current folder is gone
        return ""
