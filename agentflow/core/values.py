"""JSON values: the one kind of data that events, states and patches hold.

`adopt` checks and copies in one pass, so that what a caller does to his objects later cannot reach a run.
Limits: depth 64, 100,000 values, keys of 256 characters, integers within ±2^63, and a size of 4 MiB, counted as the UTF-8
bytes of all text plus 8 for each value, so that no second pass has to encode it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import TypeAlias, cast

from agentflow.errors import InvalidValueError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

MAX_DEPTH = 64
MAX_NODES = 100_000
MAX_KEY_CHARS = 256
MAX_INT = 2**63
MIN_INT = -MAX_INT
MAX_BYTES = 4 * 1024 * 1024

BYTES_PER_VALUE = 8
_FEW_NODES = MAX_NODES // 2  # below both there is nothing to check: most values are
_FEW_BYTES = MAX_BYTES // 2

_ATOMS = frozenset({bool, type(None)})
_SCALARS = frozenset({str, int, float, bool, type(None)})
_TEXTS = {str}


class _Budget:
    """What one pass has taken so far, counted so that a huge value is refused early."""

    nodes = 0
    size = 0

    def check(self, path: str) -> None:
        """Refuse what is over a limit."""
        if self.nodes > MAX_NODES:
            raise _too_many(path)
        size = self.size + self.nodes * BYTES_PER_VALUE
        if size > MAX_BYTES:
            raise InvalidValueError(f"{path} is {size:,} bytes; the limit is {MAX_BYTES:,}", hint="pass a reference to large data instead")


def adopt(value: object, path: str) -> Json:
    """Return a checked deep copy of `value`, which must be JSON.

    `path` names the value in errors, e.g. `event.data`. Tuples are refused: JSON has lists only.

    Raises:
        InvalidValueError: the value is not JSON or is over a limit; path and type are named.
    """
    budget = _Budget()
    copy = _adopt(value, path, 0, budget)
    budget.check(path)
    return copy


def adopt_mapping(value: object, path: str) -> dict[str, Json]:
    """Return a checked deep copy of a mapping, as `adopt` does, refusing anything but a mapping.

    Raises:
        InvalidValueError: it is no mapping, not JSON, or over a limit.
    """
    if type(value) is not dict:
        if not isinstance(value, Mapping):
            raise InvalidValueError(f"{path} is {_article(value)}, not a mapping", hint="pass a dict with string keys")
        value = dict(value)
    budget = _Budget()
    budget.nodes = len(value)
    copy = _adopt_dict(value, path, 0, budget)
    if budget.nodes > _FEW_NODES or budget.size > _FEW_BYTES:
        budget.check(path)
    return copy


def _adopt(value: object, path: str, depth: int, budget: _Budget) -> Json:
    kind = type(value)
    if kind is str:
        budget.size += check_text(value, path)  # type: ignore[arg-type]
    elif kind is int or kind is float:
        check_number(value, path)  # type: ignore[arg-type]
    elif kind is dict or kind is list:
        return _adopt_container(value, path, depth, budget)  # type: ignore[arg-type]
    elif kind not in _ATOMS:
        return _adopt_kin(value, path, depth, budget)
    return value  # type: ignore[return-value]


def _adopt_container(value: dict[str, object] | list[object], path: str, depth: int, budget: _Budget) -> Json:
    if depth >= MAX_DEPTH:
        raise InvalidValueError(
            f"{_short(path)} is nested deeper than {MAX_DEPTH} levels", hint="flatten it, or look for a value that holds itself"
        )
    budget.nodes += len(value)
    if budget.nodes > MAX_NODES:
        raise _too_many(path)
    if type(value) is dict:
        return _adopt_dict(value, path, depth, budget)
    items = cast("list[object]", value)
    kinds = set(map(type, items))
    if kinds == _TEXTS:
        budget.size += _size_of(items, path)  # type: ignore[arg-type]
        return items.copy()  # type: ignore[return-value]
    if kinds <= _ATOMS:
        return items.copy()  # type: ignore[return-value]
    return [_adopt(item, f"{path}[{index}]", depth + 1, budget) for index, item in enumerate(items)]


def _size_of(items: list[str], path: str) -> int:
    text = "".join(items)
    return len(text) if text.isascii() else sum(check_text(item, f"{path}[{index}]") for index, item in enumerate(items))


def _adopt_dict(value: dict[str, object], path: str, depth: int, budget: _Budget) -> dict[str, Json]:
    copy = value.copy()  # what is wrong in it is refused, what can change is replaced
    size = key_chars = 0
    for key, item in copy.items():
        if type(key) is not str or not key.isascii():
            check_key(key, path)
        key_chars += len(key)
        kind = type(item)
        if kind is str:
            size += len(item) if item.isascii() else check_text(item, f"{path}.{key}")  # type: ignore[arg-type, attr-defined]
        elif kind is int:
            if not MIN_INT <= item < MAX_INT:  # type: ignore[operator]
                check_number(item, f"{path}.{key}")  # type: ignore[arg-type]
        elif kind in _ATOMS:
            pass
        elif kind is list and [*map(type, item)].count(str) == len(item) and depth < MAX_DEPTH - 1:  # type: ignore[call-overload, arg-type]
            budget.nodes += len(item)  # type: ignore[arg-type]
            if budget.nodes > MAX_NODES:
                raise _too_many(path)
            text = "".join(item)  # type: ignore[arg-type]
            size += len(text) if text.isascii() else _size_of(item, f"{path}.{key}")  # type: ignore[arg-type]
            copy[key] = item.copy()  # type: ignore[attr-defined]
        else:
            copy[key] = _adopt(item, f"{path}.{key}", depth + 1, budget)
    if key_chars > MAX_KEY_CHARS:  # together; only then can one alone be too long
        for key in value:
            check_key(key, path)
    budget.size += size + key_chars
    return copy  # type: ignore[return-value] # all of it is JSON, as just seen


def _adopt_kin(value: object, path: str, depth: int, budget: _Budget) -> Json:
    """Take what is JSON by kind but not by exact type: subclasses such as OrderedDict, IntEnum, str enums."""
    if isinstance(value, Mapping):
        return _adopt_container(dict(value), path, depth, budget)
    if isinstance(value, list):
        return _adopt_container(list(value), path, depth, budget)
    for plain in (str, int, float):
        if isinstance(value, plain):
            return _adopt(plain(value) if plain is not str else str.__str__(value), path, depth, budget)
    raise InvalidValueError(f"{path} is {_article(value)}: {_show(value)}", hint=_cure(value))


def check_text(value: str, path: str) -> int:
    """Return the length of text in UTF-8 bytes; refuse text that has no such form.

    Raises:
        InvalidValueError: it holds a lone surrogate.
    """
    if value.isascii():
        return len(value)
    try:
        return len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidValueError(
            f"{path} is a str with a lone surrogate (U+{ord(value[error.start]):04X}) at character {error.start}",
            hint="decode the bytes as UTF-8, with errors='replace' if need be",
        ) from None


def check_number(value: float, path: str) -> None:
    """Refuse NaN, infinities and integers beyond 64 bits.

    Raises:
        InvalidValueError: the number has no JSON form that every store keeps.
    """
    if type(value) is int:
        if not MIN_INT <= value < MAX_INT:
            raise InvalidValueError(f"{path} is an int outside ±2^63", hint="pass it as a string")
    elif not isfinite(value):
        raise InvalidValueError(f"{path} is the float {value}, which JSON does not have", hint="pass None or leave the key out")


def check_key(key: object, path: str) -> None:
    """Refuse a key that is no string, is too long, or has no UTF-8 form.

    Raises:
        InvalidValueError: naming the path that holds it.
    """
    if type(key) is not str:
        raise InvalidValueError(f"{path} has a key that is {_article(key)}: {_show(key)}", hint="JSON keys are strings")
    if len(key) > MAX_KEY_CHARS:
        raise InvalidValueError(f"{path} has a key of {len(key):,} characters: {key[:32]!r}…", hint=f"keys have at most {MAX_KEY_CHARS}")
    check_text(key, f"a key of {path}")


def copy_json(value: Json) -> Json:
    """Return a deep copy of a JSON value; flat lists and dicts are copied in one go."""
    kind = type(value)
    if kind is list:
        items = cast("list[Json]", value)
        if set(map(type, items)) <= _SCALARS:
            return items.copy()
        return [item if type(item) in _SCALARS else copy_json(item) for item in items]
    if kind is dict:
        table = cast("dict[str, Json]", value)
        return {key: item if type(item) in _SCALARS else copy_json(item) for key, item in table.items()}
    if kind not in _SCALARS and isinstance(value, (Mapping, list)):  # e.g. an OrderedDict that a handler has set
        return copy_json(list(value) if isinstance(value, list) else dict(value))
    return value


def same(left: object, right: object) -> bool:
    """Say whether two JSON values are the same JSON: `1`, `1.0` and `true` are three different ones."""
    if left is right:
        return True
    if type(left) is not type(right) or left != right:
        return False
    if type(left) is list:
        return all(map(same, left, cast("list[object]", right)))
    if type(left) is dict:
        other = cast("dict[str, object]", right)
        return all(same(item, other[key]) for key, item in left.items())
    return True


def _too_many(path: str) -> InvalidValueError:
    return InvalidValueError(f"{_short(path)} has more than {MAX_NODES:,} values", hint="pass a reference to large data instead")


def _article(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _show(value: object) -> str:
    try:
        text = repr(value)
    except BaseException:  # noqa: BLE001 - a repr may raise anything, and the error at hand matters more
        return "<a value whose repr raises>"
    return text if len(text) <= 60 else text[:57] + "…"


def _short(path: str) -> str:
    return path if len(path) <= 80 else f"{path[:60]}…"


def _cure(value: object) -> str:
    if isinstance(value, (set, frozenset, tuple)):
        return "make it a list"
    if isinstance(value, (bytes, bytearray)):
        return "decode it to text, or encode it as base64"
    return "JSON has null, booleans, numbers, strings, lists and dicts with string keys"
