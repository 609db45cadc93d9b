"""`${NAME}` and `${NAME:-default}` in string values, filled in after parsing and never read again."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.display import KeyPath, quoted
from agentflow.config.secret import is_secret
from agentflow.config.shape import shape_at
from agentflow.config.values import scalar
from agentflow.core.redaction import KNOWN

MOST_DIAGNOSTICS = 500
SECRETS: frozenset[KeyPath] = frozenset({("llm", "api_key")})

_EXPRESSION = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^${}]*(?:\$(?!\{)[^${}]*)*))?\})?")


@dataclass
class Expansion:
    """Fills variables in; keeps what the text said, and what could not be filled in."""

    variables: Mapping[str, str]
    diagnostics: list[Diagnostic] = field(default_factory=list)
    written: dict[KeyPath, str] = field(default_factory=dict)
    failed: list[KeyPath] = field(default_factory=list)
    _unsaid: int = 0

    def text(self, text: str, path: KeyPath) -> str:
        """Return *text* with its variables filled in; report those that are not set."""
        problems: dict[str, Diagnostic] = {}

        def fill(match: re.Match[str]) -> str:
            if match[0] == "$${":
                return "${"
            name, default = match[1], match[2]
            if name is None:
                problems[""] = _bad_expression(path)
                return ""
            value = self.variables.get(name, "")
            if value == "" and default is not None:
                return default
            if name not in self.variables:
                problems[name] = _unset(name, path)
            if is_secret(name):
                KNOWN.learn(value)
            return value

        filled = _EXPRESSION.sub(fill, text)
        if problems:
            if len(self.diagnostics) < MOST_DIAGNOSTICS:
                self.diagnostics.extend(problems.values())
            else:
                self._unsaid += len(problems)
            self.failed.append(path)
        if filled != text:
            self.written[path] = text
        return filled

    def tree(self, data: dict[str, Any], says: Callable[[KeyPath], bool]) -> None:
        """Fill variables in throughout *data*, in place, where *says* tells that a file says the value."""
        self._walk(data, (), says)
        if self._unsaid:
            self.diagnostics.append(Diagnostic("AF0100", f"{self._unsaid} more variables that cannot be filled in are not listed"))

    def _walk(self, container: Any, path: KeyPath, says: Callable[[KeyPath], bool]) -> None:
        entries = enumerate(container) if isinstance(container, list) else list(container.items())
        for key, value in entries:
            here = (*path, key)
            if isinstance(value, dict | list):
                self._walk(value, here, says)
            elif isinstance(value, str) and "${" in value and here not in SECRETS and says(here):
                container[key] = self._value(value, here)

    def _value(self, text: str, path: KeyPath) -> object:
        filled = self.text(text, path)
        shape = shape_at(path)
        whole = _EXPRESSION.fullmatch(text)
        if whole is None or shape is None or shape.kind not in {"integer", "number", "boolean"}:
            return filled
        return scalar(filled)


def _unset(name: str, path: KeyPath) -> Diagnostic:
    advice = f"set it, or give a default: ${{{name}:-...}}"
    return Diagnostic("AF0110", f"the variable {quoted(name)} is not set", path, help=advice)


def _bad_expression(path: KeyPath) -> Diagnostic:
    advice = "write ${NAME} or ${NAME:-default}; $${ stands for a plain ${"
    return Diagnostic("AF0111", "`${` does not begin a variable", path, help=advice)
