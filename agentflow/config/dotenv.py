"""The `.env` file beside a configuration: its variables, and where each stands."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.display import KeyPath, Range
from agentflow.config.source import Source, open_source
from agentflow.config.spans import Span


class DotenvFile:
    """The variables of one `.env` file, as written: `${...}` in a value stays as it is.

    `source` locates a variable by the path `(name,)`; no value of the file is ever shown.
    """

    def __init__(self, path: Path) -> None:
        self.variables: dict[str, str] = {}
        self.diagnostics: list[Diagnostic] = []
        self.source: Source | None = None
        if _is_file(path):
            self._open(path)

    def _open(self, path: Path) -> None:
        opened = open_source(path, str(path))
        if isinstance(opened, Diagnostic):
            self.diagnostics.append(opened)
            return
        self.source = self._read(opened)

    def _read(self, file: Source) -> Source:
        from dotenv.parser import parse_stream  # noqa: PLC0415  # most projects have no .env, and need not pay for it

        spans: dict[KeyPath, Span] = {}
        hidden: list[Range] = []
        start = 0
        for binding in parse_stream(io.StringIO(file.text)):
            written = binding.original.string
            end = start + len(written.rstrip())
            if binding.error:
                self._refuse(file, start + len(written) - len(written.lstrip()))
            elif binding.key is not None and binding.value is not None:
                key = file.text.find(binding.key, start, end)
                value = file.text.find("=", key, end) + 1
                spans[(binding.key,)] = Span(key, key + len(binding.key), value, end)
                hidden.append((value, end))
                self.variables[binding.key] = binding.value
            start += len(written)
        return Source(file.name, file.text, spans=spans, hidden=hidden)

    def _refuse(self, source: Source, at: int) -> None:
        place = replace(source.place(at, at), source_line="")
        problem = Diagnostic("AF0101", "this line is not NAME=value", place=place, help="put the value in quotes")
        self.diagnostics.append(problem)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False  # the folder may not be read: then the configuration itself cannot be, and that is told
