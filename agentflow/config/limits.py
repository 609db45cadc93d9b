"""The bounds a TOML text is held to before it is parsed, checked in one linear scan.

The parser's time grows with the square of a dotted key's length, and deep nesting exhausts its stack.
"""

from __future__ import annotations

import re

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.display import KeyPath

LARGEST_FILE = 256 * 1024
DEEPEST = 64
LONGEST_NUMBER = 400
LARGEST_INTEGER = 2**63

_TOKEN = re.compile(
    r'''
      """(?>(?:[^"\\]++|\\.|"{1,2}(?!"))*)"{0,5}
    | \'\'\'(?>(?:[^']++|'{1,2}(?!'))*)'{0,5}
    | "(?>(?:[^"\\\n]++|\\[^\n])*)"?
    | '[^'\n]*+'?
    | \#[^\n]*+
    | (?<![A-Za-z0-9_])[0-9][0-9A-Za-z_]{400,}
    | [\[\]{}.,=\n]
    ''',
    re.DOTALL | re.VERBOSE,
)


def breach(text: str) -> tuple[int, Diagnostic] | None:
    """Return where *text* first goes beyond a bound, and the diagnostic for it, or None.

    Depth counts brackets and the parts of dotted keys together: both make a value deeper.
    """
    depth = _Depth()
    for token in _TOKEN.finditer(text):
        first = token[0][0]
        if first.isdigit():
            if depth.in_value:
                return token.start(), Diagnostic("AF0104", f"a number of more than {LONGEST_NUMBER} digits")
        elif depth.after(first) > DEEPEST:
            return token.start(), too_deep()
    return None


def too_deep(path: KeyPath = ()) -> Diagnostic:
    """Return the diagnostic for nesting beyond the bound."""
    message = f"keys and brackets nest more than {DEEPEST} levels deep"
    return Diagnostic("AF0114", message, path, help="flatten the value")


class _Depth:
    """Counts how deep the place being scanned is: open brackets and dots, those of the header included."""

    def __init__(self) -> None:
        self.in_value = False
        self._dots = 0
        self._open: list[int] = []
        self._outer = 0
        self._header = 0
        self._in_header = False
        self._at_line_start = True

    def after(self, mark: str) -> int:
        """Take one mark in; return the depth after it."""
        if mark == ".":
            self._dots += 1
        elif mark in "[{":
            self._enter()
        elif mark in "]}":
            self._leave()
        elif mark == "=":
            self.in_value = True
        elif mark == ",":
            self._dots = 0
        elif mark == "\n" and not self._open:
            self._dots, self.in_value, self._in_header = 0, False, False
        self._at_line_start = mark == "\n" and not self._open
        return self._header + self._outer + self._dots

    def _enter(self) -> None:
        if self._at_line_start:
            self._in_header, self._header = True, 0
        self._open.append(self._dots + 1)
        self._outer += self._dots + 1
        self._dots = 0

    def _leave(self) -> None:
        if not self._open:
            return
        if self._in_header:
            self._header = max(self._header, self._dots)
        self._outer -= self._open.pop()
        self._dots = 0
