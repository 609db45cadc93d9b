"""Characters that look like others, or like nothing: named in full, since no reader can see them."""

from __future__ import annotations

import unicodedata

from agentflow.config.diagnostics import Diagnostic
from agentflow.config.display import KeyPath, quoted

_CYRILLIC_AND_GREEK = (
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u04bb\u051b\u051d\u044c"
    "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u03b1\u03bf\u03c1\u03b9\u03c5\u03bd\u03ba"
)
_LATIN = "aeopcyxijsdhqwbABEZHIKMNOPTYXaopiuvk"
_LATIN_FOR = str.maketrans(_CYRILLIC_AND_GREEK + "\u2010\u2011\u2012\u2013\u2014\u2212", _LATIN + "------")


def is_unusual(char: str) -> bool:
    """Report whether *char* is neither plain ASCII text nor white space of TOML."""
    return char != "" and (not char.isascii() or not (char.isprintable() or char in "\t\n"))


def character_name(char: str) -> str:
    """Return the code and Unicode name of *char*: `U+043E CYRILLIC SMALL LETTER O`."""
    return f"U+{ord(char):04X} {unicodedata.name(char, 'CONTROL CHARACTER')}"


def skeleton(name: str) -> str:
    """Return *name* with look-alikes replaced by Latin letters, and what cannot be seen taken out."""
    plain = unicodedata.normalize("NFKC", name).translate(_LATIN_FOR)
    return "".join(char for char in plain if unicodedata.category(char) not in {"Cf", "Cc", "Zs", "Mn"})


def suspicious_key(name: str, path: KeyPath = ()) -> Diagnostic:
    """Return the diagnostic for a key with characters that are not what they seem."""
    strange = next(char for char in name if is_unusual(char))
    meant = skeleton(name)
    advice = "keys are letters, digits, `_` and `-`"
    if meant and meant.isascii() and meant.isprintable():
        advice = f"did you mean {quoted(meant)}?"
    return Diagnostic("AF0118", f"the key {quoted(name)} has {character_name(strange)}", path, "key", advice)
