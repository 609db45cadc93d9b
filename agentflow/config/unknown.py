"""A key that is not known at its place: what was likely meant, or where it belongs."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.display import KeyPath, dotted, quoted
from agentflow.config.later import keys_for_later
from agentflow.config.lookalike import is_unusual, skeleton, suspicious_key
from agentflow.config.shape import sections_with, shape_at

MOST_GUESSES = 200
LONGEST_GUESSED = 64
MOST_LISTED = 10


def closest(name: str, known: Collection[str]) -> str:
    """Return the known name that *name* most likely stands for, or ""."""
    if len(name) > LONGEST_GUESSED:
        return ""
    plain = skeleton(name).casefold().replace("-", "_")
    folded = {other.casefold().replace("-", "_"): other for other in known}
    if plain in folded:
        return folded[plain]
    close = get_close_matches(plain, list(folded), n=1)
    return folded[close[0]] if close else ""


class Guesses:
    """Diagnoses unknown keys; after many of them it stops to guess, since each guess takes time."""

    def __init__(self) -> None:
        self._left = MOST_GUESSES

    def diagnose(self, path: KeyPath, written: KeyPath, *, is_table: bool) -> tuple[Diagnostic, str]:
        """Return the diagnostic for the unknown key at *path*, and the key it is read as ("": none).

        *written* is the path as the text has it: a table in it may be misspelt too.
        """
        table, key = path[:-1], str(path[-1])
        if key in keys_for_later(table):
            return Diagnostic(
                "AF0106", f"{quoted(key)} is not supported yet", written, "key", "take it out; a later version honours it"
            ), ""
        shape = shape_at(table)
        known = list(shape.keys) if shape else []
        self._left -= 1
        owners = [] if key == "extends" else sections_with(key)
        is_common = bool(owners) and not owners[0].startswith("[")  # a key of [[tables]] only is as often a slip
        meant = closest(key, known) if self._left > 0 and not is_common else ""
        owners = [] if meant else owners
        if any(map(is_unusual, key)):
            return suspicious_key(key, written), meant
        advice = f"it belongs in [{owners[0]}]" if owners else self._advice(key, table, known, meant)
        noun = "section" if is_table and not table else "key"
        return Diagnostic("AF0102", f"unknown {noun} {quoted(key)}", written, "key", advice), meant

    def _advice(self, key: str, table: KeyPath, known: list[str], meant: str) -> str:
        if key == "extends":
            return "it belongs at the top of the file, before the first [table]"
        if meant:
            return f"did you mean {quoted(meant)}?"
        later = closest(key, keys_for_later(table)) if self._left > 0 else ""
        if later:
            return f"did you mean {quoted(later)}? (not supported yet)"
        if len(known) <= MOST_LISTED:
            return f"known: {', '.join(known)}"
        return f"`agentflow schema` lists the keys of [{dotted(table)}]"
