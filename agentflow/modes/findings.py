"""Findings: what a linker tells of a configuration, each thing once, and so much of it that somebody can read it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeAlias

from agentflow.config.diagnostics import Diagnostic, On, Severity
from agentflow.config.display import KeyPath
from agentflow.errors import did_you_mean

MOST_DIAGNOSTICS = 500
MAX_HINTS = 20  # the search for the nearest name takes its time, and nobody reads more of them
MAX_COMPARED = 20_000  # names, over all hints
MAX_LISTED = 20  # names that one hint lists

Near: TypeAlias = Callable[[str, Collection[str]], str]  # gives a hint at the nearest of some names


class Findings:
    """Collects diagnostics, in the order in which they were found."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []
        self._said: set[Diagnostic] = set()
        self._hints = self._compared = 0

    def say(
        self,
        code: str,
        message: str,
        path: KeyPath,
        on: On = "value",
        help: str = "",  # noqa: A002 - a diagnostic's own word
        severity: Severity = "error",
    ) -> None:
        """Note a diagnostic, given by its fields."""
        self.note(Diagnostic(code, message, path, on, help, severity))

    def note(self, found: Diagnostic) -> None:
        """Note a diagnostic, unless it was noted before or there are very many."""
        if len(self._said) < MOST_DIAGNOSTICS and found not in self._said:
            self._said.add(found)
            self.diagnostics.append(found)

    def near(self, name: str, known: Collection[str]) -> str:
        """Return a hint at the known name that is nearest, as long as the search for it does not take long."""
        if self._hints >= MAX_HINTS or self._compared >= MAX_COMPARED:
            return ""
        self._hints += 1
        self._compared += len(known)
        hint = did_you_mean(name, known)
        return hint if len(known) <= MAX_LISTED or hint.startswith("did") else f"{len(known):,} names are known"

    def has_errors(self, since: int) -> bool:
        """Say whether a mistake was noted after the first `since` diagnostics."""
        return any(found.severity == "error" for found in self.diagnostics[since:])
