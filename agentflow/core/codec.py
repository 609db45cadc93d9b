"""Codec: records as bytes and back, each entry chained to the one before it by a hash.

A body is compact UTF-8 JSON with the fact's fields under their names; what has its default is left out. How a field is
written follows from its annotation. Decoding makes plain data only: nothing is imported, called or run.
"""

from __future__ import annotations

import json.encoder
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from hashlib import sha256
from json import JSONDecoder, JSONEncoder
from json.encoder import encode_basestring
from math import isfinite
from typing import Never, Protocol, TypeAlias, get_args

from agentflow.core.entry import Entry
from agentflow.core.failure import Failure
from agentflow.core.packing import (
    MisfitError,
    mapping,
    number,
    pack_failure,
    pack_patch,
    sound,
    text,
    texts,
    unpack_failure,
    unpack_patch,
    whole,
)
from agentflow.core.records import Fact, Record
from agentflow.core.values import MAX_DEPTH, Json
from agentflow.errors import InvalidValueError, JournalDamagedError, JournalVersionError

HASH_BYTES = 16
MAX_BODY_DEPTH = MAX_DEPTH + 8  # a value may be as deep as it likes within its limit, and stands a few levels down

Upcast: TypeAlias = Callable[[dict[str, Json]], dict[str, Json]]

# What each type's body is at now, where it is not 1, and what makes a body of (type, version) one of the version after it.
VERSIONS: dict[str, int] = {}
UPCASTERS: dict[tuple[str, int], Upcast] = {}


def encode(run_id: str, seq: int, epoch: int, at: float, fact: Fact, previous: bytes) -> Entry:
    """Return a fact as the entry number `seq` of a run; `previous` is the hash of the entry before it, b"" for the first.

    Raises:
        InvalidValueError: the fact holds something that is not JSON.
    """
    body = encoded_body(fact)
    kind = type(fact).__name__
    version = VERSIONS.get(kind, 1)
    return Entry(seq, epoch, at, kind, version, body, _hash(run_id, (seq, epoch, at, version), kind, body, previous))


def encoded_body(fact: Fact) -> bytes:
    """Return a fact's fields as compact JSON.

    Raises:
        InvalidValueError: one of them holds something that is not JSON.
    """
    parts: list[str] = []
    try:
        for name, prefix, pack, default in _WRITERS[type(fact)]:
            value = getattr(fact, name)
            if value is not default and value != default:
                parts.append(prefix + pack(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValueError(f"{type(fact).__name__} cannot be recorded: {error}", hint="records hold JSON values") from error
    # A lone surrogate, in a reason or a note, has no UTF-8 form; values of a state were refused with one.
    return f"{{{','.join(parts)}}}".encode("utf-8", "replace")


def decode(run_id: str, entry: Entry) -> Record:
    """Return the record that an entry holds; a body of an older version is brought up to date first.

    Raises:
        JournalVersionError: this version of agentflow does not know the type, or not that version of it.
        JournalDamagedError: the body is not what its type says.
    """
    kind, version = entry.type, entry.version
    reader = _READERS.get(kind)
    if reader is None or type(version) is not int or version > VERSIONS.get(kind, 1):
        raise JournalVersionError(run_id, entry.seq, f"{kind} version {version}")
    try:
        row = mapping(loads(entry.body))
        while version < VERSIONS.get(kind, 1):
            row = UPCASTERS[kind, version](row)
            version += 1
        fact = reader(row)
    except (MisfitError, KeyError, TypeError, AttributeError) as error:
        raise JournalDamagedError(run_id, entry.seq, f"its {kind} cannot be read: {error}") from error
    return Record(run_id, entry.at, fact, entry.seq)


def fault_in(run_id: str, entries: Sequence[Entry], previous: bytes = b"") -> str:
    """Say what is wrong with a run of entries, and at which seq; "" when nothing is.

    Args:
        run_id: whose they are.
        entries: entries of one run in order; from the first one on when `previous` is b"".
        previous: the hash of the entry before them.
    """
    found = first_fault(run_id, entries, previous)
    return f"record {found[0]} {found[1]}" if found is not None else ""


def first_fault(run_id: str, entries: Sequence[Entry], previous: bytes = b"") -> tuple[int, str] | None:
    """Return the seq of the first entry that is not what was written, and what is wrong with it; None when all are sound."""
    seq = entries[0].seq if entries and previous else 0
    epoch = 0
    for entry in entries:
        if entry.seq != seq:
            return seq, f"is missing, {entry.seq} stands in its place"
        if type(entry.epoch) is not int or entry.epoch < epoch:
            return seq, f"has epoch {entry.epoch} after {epoch}"
        expected: bytes | None
        try:
            figures = seq, entry.epoch, entry.at, entry.version
            expected = _hash(run_id, figures, entry.type, entry.body, previous)
        except (TypeError, ValueError, AttributeError, struct.error):
            expected = None
        if expected is None or entry.hash != expected:
            return seq, "does not have the checksum it was written with"
        previous, epoch, seq = entry.hash, entry.epoch, seq + 1
    return None


def _hash(run_id: str, figures: tuple[int, int, float, int], kind: str, body: bytes, previous: bytes) -> bytes:
    name, told = run_id.encode("utf-8", "surrogatepass"), kind.encode("utf-8", "surrogatepass")
    # Lengths and numbers first: so no two entries are written alike.
    head = struct.pack(">qqdqqqq", *figures, len(previous), len(name), len(told))
    state = sha256(b"".join((head, previous, name, told)))  # the quickest one where the processor knows it
    state.update(body)
    return state.digest()[:HASH_BYTES]


# --- JSON, strictly ---


def _refuse(told: str) -> float:
    raise MisfitError(f"{told} is not JSON")


def _finite(told: str) -> float:
    value = float(told)
    return value if isfinite(value) else _refuse(told)


_DECODER = JSONDecoder(parse_constant=_refuse, parse_float=_finite)


class _MakeEncoder(Protocol):
    def __call__(self, *settings: object) -> Callable[[object, int], tuple[str, ...]]: ...


def _text_encoder(*, is_sorted: bool) -> Callable[[object], str]:
    """Return what makes compact JSON text of a value; the C encoder is made once, since making it costs more than a small value."""
    slow = JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False, sort_keys=is_sorted)
    make: _MakeEncoder | None = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return slow.encode
    chunks = make(None, slow.default, encode_basestring, None, ":", ",", is_sorted, False, False)
    return lambda value: "".join(chunks(value, 0))


dumps = _text_encoder(is_sorted=False)
canonical = _text_encoder(is_sorted=True)


def loads(body: bytes) -> Json:
    """Read JSON as inert data.

    Raises:
        MisfitError: it is not JSON, or nested too deeply.
    """
    try:
        value: Json = _DECODER.decode(body.decode())
    except (ValueError, RecursionError, AttributeError, TypeError) as error:
        raise MisfitError(f"{type(error).__name__}: {error}"[:200]) from error
    if body.count(b"[") + body.count(b"{") > MAX_BODY_DEPTH and _is_deep(value):
        raise MisfitError("it is nested too deeply")
    return value


def _is_deep(value: Json) -> bool:
    level: list[Json] = [value]
    for _ in range(MAX_BODY_DEPTH):
        level = [
            item
            for outer in level
            for item in (outer.values() if type(outer) is dict else outer)  # type: ignore[union-attr]
            if type(item) in (dict, list)
        ]
        if not level:
            return False
    return True


# --- how fields are written and read, by their annotation ---

Pack: TypeAlias = Callable[[Never], str]
Unpack: TypeAlias = Callable[[object], object]


def _flag(value: object) -> bool:
    if type(value) is not bool:
        raise MisfitError(f"{type(value).__name__} in the place of true or false")
    return value


def _anything(value: object) -> object:
    return value


def _or_none(unpack: Unpack) -> Unpack:
    return lambda value: None if value is None else unpack(value)


def _failure(failure: Failure | None) -> str:
    return "null" if failure is None else dumps(pack_failure(failure))


def _number(value: float | None) -> str:
    if value is None:
        return "null"
    if not isfinite(value):
        raise ValueError(f"{value} is not JSON")
    return repr(value)


class Written(dict[str, Json]):
    """A JSON object with its text, so that what is large is written out once. Neither may be changed."""

    __slots__ = ("text",)
    text: str


def _plain(value: Mapping[str, Json]) -> str:
    if type(value) is Written:
        return value.text
    return dumps(value if type(value) is dict else dict(value))


def _listed(values: tuple[str, ...]) -> str:
    return dumps(list(values))


_KINDS: Mapping[str, tuple[Pack, Unpack]] = {
    "Position": (encode_basestring, text),
    "str": (encode_basestring, text),
    "str | None": (dumps, _or_none(text)),
    "bool": (dumps, _flag),
    "int": (int.__repr__, whole),
    "float": (_number, number),
    "float | None": (_number, _or_none(number)),
    "tuple[str, ...]": (_listed, texts),
    "Json": (dumps, _anything),
    "Mapping[str, Json]": (_plain, mapping),
    "Mapping[str, Json] | None": (_plain, _or_none(mapping)),
    "Patch": (lambda patch: dumps(pack_patch(patch)), unpack_patch),
    "Failure": (_failure, unpack_failure),
    "Failure | None": (_failure, _or_none(unpack_failure)),
}

_NO_DEFAULT = object()


def _writer(kind: type[Fact]) -> tuple[tuple[str, str, Pack, object], ...]:
    return tuple(
        (field.name, f'"{field.name}":', _KINDS[str(field.type)][0], _NO_DEFAULT if field.default is MISSING else field.default)
        for field in fields(kind)
    )


def _reader(kind: type[Fact]) -> Callable[[dict[str, Json]], Fact]:
    readers = {field.name: _KINDS[str(field.type)][1] for field in fields(kind)}
    needed = [field.name for field in fields(kind) if field.default is MISSING]
    known = frozenset(readers)

    def read(row: dict[str, Json]) -> Fact:
        sound(row, known)
        for name in needed:
            if name not in row:
                raise MisfitError(f"{name} is missing")
        return kind(**{name: readers[name](value) for name, value in row.items()})  # type: ignore[arg-type]

    return read


_WRITERS = {kind: _writer(kind) for kind in get_args(Fact)}
_READERS = {kind.__name__: _reader(kind) for kind in get_args(Fact)}
