"""What is wrong with a configuration, where, and the likely cure: as text, as rows, as annotations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from agentflow.config.display import KeyPath, dotted, printable
from agentflow.errors import AgentflowError

On = Literal["key", "value"]
Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something is said: a file and a position in it, or a variable of the environment.

    `line` and `column` count characters from 1 (None: the whole file). `source_line` is the line as it
    is shown, or the variable's name; `caret` and `length` place the caret run under it, in cells.
    """

    file: str
    line: int | None = None
    column: int | None = None
    source_line: str = ""
    caret: int = 0
    length: int = 0

    def __str__(self) -> str:
        """Return `file:line:column`, or `environment: VARIABLE`."""
        if self.line is not None:
            return f"{printable(self.file)}:{self.line}:{self.column}"
        return printable(f"{self.file}: {self.source_line}" if self.source_line else self.file)


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One mistake, or one piece of advice.

    `path` is the key path in the merged configuration, `on` whether the key or its value is wrong.
    `place` is None until the diagnostic is located, and stays None for a configuration without a file.
    """

    code: str
    message: str
    path: KeyPath = ()
    on: On = "value"
    help: str = ""
    severity: Severity = "error"
    place: Place | None = None

    @property
    def file(self) -> str | None:
        """Return the file that says it, `environment`, `command line`, or None."""
        return self.place.file if self.place else None

    @property
    def line(self) -> int | None:
        """Return the line, from 1."""
        return self.place.line if self.place else None

    @property
    def column(self) -> int | None:
        """Return the column, in characters from 1."""
        return self.place.column if self.place else None

    @property
    def _variable(self) -> str:
        """The variable, or the key of the command line, that says it ("": a file does, or nothing)."""
        return self.place.source_line if self.place and self.place.line is None else ""

    @property
    def _full_message(self) -> str:
        """The message for a form that has no room for the variable's name beside it."""
        is_named = not self._variable or self._variable in self.message
        return self.message if is_named else f"{self._variable}: {self.message}"

    def render(self) -> str:
        """Return the text block: what, where, the source line, a caret run, the help."""
        lines = [f"{self.severity}[{self.code}]: {printable(self.message)}"]
        where = str(self.place) if self.place else printable(dotted(self.path))
        advice = f"help: {printable(self.help)}" if self.help else ""
        number = "" if self.line is None else str(self.line)
        margin = " " * max(1, len(number))
        if where:
            lines.append(f" {margin}--> {where}")
        if self.place and number and self.place.source_line:
            carets = " " * self.place.caret + "^" * self.place.length
            lines.append(f" {margin} |")
            lines.append(f" {number} | {self.place.source_line}")
            lines.append(f" {margin} | {carets} {advice}".rstrip())
        elif advice:
            lines.append(f" {margin} = {advice}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, str | int | None]:
        """Return the row of `validate --format json`: code, severity, file, line, column, message, help."""
        return {
            "code": self.code,
            "severity": self.severity,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "message": printable(self._full_message),
            "help": printable(self.help),
        }

    def annotation(self) -> str:
        """Return the GitHub workflow command that shows this on the changed file."""
        file = None if self._variable else self.file
        given = {"file": file, "line": self.line, "col": self.column, "title": self.code}
        properties = ",".join(f"{key}={_property(value)}" for key, value in given.items() if value is not None)
        text = f"{self._full_message} ({self.help})" if self.help else self._full_message
        return f"::{self.severity} {properties}::{_escaped(printable(text))}"


class ConfigError(AgentflowError):
    """The configuration has mistakes; `diagnostics` lists all of them, with their places."""

    code = "AF0100"

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__(report(self.diagnostics))


def report(diagnostics: Iterable[Diagnostic]) -> str:
    """Return all text blocks, a blank line between them, and last how many there are of each kind."""
    listed = list(diagnostics)
    errors = sum(diagnostic.severity == "error" for diagnostic in listed)
    total = f"{_counted(errors, 'error')}, {_counted(len(listed) - errors, 'warning')}"
    return "\n\n".join([*(diagnostic.render() for diagnostic in listed), total])


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str | int) -> str:
    return _escaped(str(value)).replace(":", "%3A").replace(",", "%2C")


def in_order_of(diagnostic: Diagnostic) -> tuple[bool, str, int, int]:
    """Return what diagnostics are sorted by: errors first, then by their places."""
    return diagnostic.severity != "error", diagnostic.file or "", diagnostic.line or 0, diagnostic.column or 0
