"""How a value is written as what its key wants, where that can be told from the value."""

from __future__ import annotations

import re

from agentflow.config.values import scalar

LONGEST_ADVISED = 200

_AMOUNT = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?([a-z]{1,12})", re.IGNORECASE)
_UNITS = {"ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "hour": 3600, "d": 86400, "day": 86400}
_UNITS |= {"second": 1, "minute": 60, "millisecond": 0.001}
_TRUTHS = {"true": "true", "yes": "true", "on": "true", "y": "true", "1": "true"}
_TRUTHS |= {"false": "false", "no": "false", "off": "false", "n": "false", "0": "false"}
_TYPES: dict[str, tuple[type, ...]] = {"an integer": (int,), "a number": (int, float)}
_PART = r"[A-Za-z][A-Za-z0-9_]*"
_MODULE = re.compile(rf"{_PART}(?:\.{_PART})*")
_NAME = re.compile(_PART)


def conversion(value: object, wanted: str, key: str) -> str:
    """Return how *value* is written as the type that *key* wants ("": nobody can tell)."""
    if wanted == "true or false" and isinstance(value, str | int) and str(value).lower() in _TRUTHS:
        truth = _TRUTHS[str(value).lower()]
        return f"write {truth} without quotes" if value == truth else f"write {truth}"
    if isinstance(value, str) and wanted in _TYPES:
        return _number(value, wanted, key)
    if isinstance(value, str) and wanted.startswith("an array"):
        inner = value.strip().removeprefix("[").removesuffix("]")
        items = [item.strip().strip("\"'") for item in inner.split(",")]
        return "write [" + ", ".join(f'"{item}"' for item in items) + "]"
    if isinstance(value, bool | int | float) and wanted == "a string":
        return "put it in quotes"
    if isinstance(value, list) and wanted == "a table":
        return "write [table], not [[table]]"
    return ""


def _number(value: str, wanted: str, key: str) -> str:
    read = scalar(value)
    if isinstance(read, _TYPES[wanted]) and not isinstance(read, bool):
        return f"write {value} without quotes"
    amount = _AMOUNT.fullmatch(value.strip()) if key.endswith("_seconds") else None
    if amount is None:
        return ""
    unit = amount[2].lower()
    factor = _UNITS.get(unit) or _UNITS.get(unit.removesuffix("s"))
    return f"write {float(amount[1]) * factor:.12g}" if factor else ""


def journal_fault(url: str) -> tuple[str, str, str] | None:
    """Return the code, message and help for a *url* that names no journal, or None where it names one.

    None of them repeats the *url*: there may be a password in it.
    """
    scheme, _, path = url.partition(":")
    if url == "memory:" or (scheme == "sqlite" and _is_file(path)):
        return None
    if scheme.lower() in {"postgresql", "postgres"}:
        return "AF0106", "names a PostgreSQL server, which is not supported yet", "today it is `memory:` or `sqlite:PATH`"
    advice = ""
    if url.strip(":/").lower().removeprefix("sqlite").strip(":/") == "memory":
        advice = "write memory:"
    elif scheme.lower() == "sqlite":
        advice = "write the file's path right after `sqlite:`, without `//` or `~`, e.g. sqlite:.agentflow/journal.db"
    elif "://" not in url:
        advice = "write `sqlite:` before the path of a file"
    return "AF0104", "must be `memory:` or `sqlite:PATH`", advice


def _is_file(path: str) -> bool:
    """Report whether *path* may be a file's: none of a URL's slashes, no shell's `~`, no folder."""
    is_plain = path.isprintable() and path == path.strip() and not path.startswith(("//", "~", ":"))
    return is_plain and path.rpartition("/")[2] not in {"", ".", ".."}


def is_reference(text: str, *, may_lack_function: bool) -> bool:
    """Report whether *text* is `module:function`, or a module alone where that is enough."""
    module, colon, function = text.partition(":")
    has_function = _NAME.fullmatch(function) is not None if colon else may_lack_function
    return has_function and _MODULE.fullmatch(module) is not None


def reference_advice(text: str, *, may_lack_function: bool) -> str:
    """Return what to write instead of a *text* that does not name a function, or a module where that is enough."""
    forms = "module or module:function" if may_lack_function else "module:function"
    first, colon, function = text.strip().partition(":")
    is_path = "/" in first or first.endswith(".py")
    path = first.rpartition("/")[2] if first.startswith(("/", "..", "~")) else first.removeprefix("./")
    module = path.removesuffix(".py").replace("/", ".").replace("-", "_")
    function = function.replace("-", "_")
    if len(text) > LONGEST_ADVISED or not _MODULE.fullmatch(module) or (function and not _NAME.fullmatch(function)):
        return f"write {forms}; names are of letters A-Z a-z, digits and `_`; no private names"
    if not colon and not may_lack_function and not is_path and "." in module:
        module, _, function = module.rpartition(".")
    meant = f"{module}:{function}" if function else module if may_lack_function else f"{module}:function"
    if "-" in text:
        return f"write {meant}, and name it so in Python: no module or function has `-` in its name"
    return f"write {meant}; a module is named as in `import`, not by its file" if is_path else f"write {meant}"
