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
from agentflow.core.records import Fact, Record, StepCompleted, StepStarted, WorkflowCreated
from agentflow.core.state import Patch
from agentflow.core.values import MAX_DEPTH, Json
from agentflow.errors import InvalidValueError, JournalDamagedError, JournalVersionError

HASH_BYTES = 16
_SHORT = 4096  # bytes of a body that are hashed in one piece with what comes before them, since copying them costs less than a call
_pack_head = struct.Struct(">qqdqqqq").pack
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
    kind = type(fact)
    try:
        body = _WRITERS[kind](fact)  # type: ignore[arg-type] # the one for its type
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValueError(f"{kind.__name__} cannot be recorded: {error}", hint="records hold JSON values") from error
    name = kind.__name__
    return sealed(run_id, seq, epoch, at, name, VERSIONS.get(name, 1), body, previous)


def sealed(run_id: str, seq: int, epoch: int, at: float, kind: str, version: int, body: bytes, previous: bytes) -> Entry:  # noqa: PLR0913 - all that the hash is over
    """Return an entry with its hash, which is over everything that is given here."""
    # Lengths and numbers first: so no two entries are written alike.
    names = f"{run_id}{kind}"
    if names.isascii():
        head, told = _pack_head(seq, epoch, at, version, len(previous), len(run_id), len(kind)), names.encode()
    else:
        name, told = run_id.encode("utf-8", "surrogatepass"), kind.encode("utf-8", "surrogatepass")
        head, told = _pack_head(seq, epoch, at, version, len(previous), len(name), len(told)), name + told
    if len(body) <= _SHORT:
        digest = sha256(b"".join((head, previous, told, body)))  # the quickest one where the processor knows it
    else:
        digest = sha256(b"".join((head, previous, told)))
        digest.update(body)
    return Entry(seq, epoch, at, kind, version, body, digest.digest()[:HASH_BYTES])


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
            expected = sealed(run_id, seq, entry.epoch, entry.at, entry.type, entry.version, entry.body, previous).hash
        except (TypeError, ValueError, AttributeError, struct.error):
            expected = None
        if expected is None or entry.hash != expected:
            return seq, "does not have the checksum it was written with"
        previous, epoch, seq = entry.hash, entry.epoch, seq + 1
    return None


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
quoted = encode_basestring  # text as JSON


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
    """A JSON object with its JSON, in pieces, so that it is written out once. Neither may be changed."""

    __slots__ = ("pieces",)
    pieces: tuple[bytes, ...]


def written(value: Mapping[str, Json]) -> Written:
    """Return a JSON object with its JSON."""
    told = Written(value)
    told.pieces = (dumps(dict(value)).encode("utf-8", "replace"),)
    return told


def _plain(value: Mapping[str, Json]) -> str:
    if type(value) is Written:
        return b"".join(value.pieces).decode()
    return dumps(value if type(value) is dict else dict(value))


def _listed(values: tuple[str, ...]) -> str:
    return dumps(list(values))


def _patch(patch: Patch) -> str:
    if patch.meta or patch.is_removing:
        return dumps(pack_patch(patch))
    return f'{{"data":{_few(patch.data)}}}' if patch.data else "{}"


def _few(values: Mapping[str, object]) -> str:
    """Return an object as text; one of a few plain values costs less piece by piece than the encoder takes to begin."""
    if len(values) > _FEW:
        return dumps(values)
    parts: list[str] = []
    for key, value in values.items():
        pack = _SCALARS.get(type(value))
        if pack is None:
            return dumps(values)
        parts.append(f"{quoted(key)}:{pack(value)}")  # type: ignore[arg-type] # the one for its type
    return f"{{{','.join(parts)}}}"


_FEW = 3
_SCALARS: Mapping[type, Pack] = {
    str: quoted,
    int: int.__repr__,
    float: _number,
    bool: dumps,
    type(None): dumps,
}

_KINDS: Mapping[str, tuple[Pack, Unpack]] = {
    "Position": (quoted, text),
    "str": (quoted, text),
    "str | None": (dumps, _or_none(text)),
    "bool": (dumps, _flag),
    "int": (int.__repr__, whole),
    "float": (_number, number),
    "float | None": (_number, _or_none(number)),
    "tuple[str, ...]": (_listed, texts),
    "Json": (dumps, _anything),
    "Mapping[str, Json]": (_plain, mapping),
    "Mapping[str, Json] | None": (_plain, _or_none(mapping)),
    "Patch": (_patch, unpack_patch),
    "Failure": (_failure, unpack_failure),
    "Failure | None": (_failure, _or_none(unpack_failure)),
}

_NO_DEFAULT = object()
Writer: TypeAlias = Callable[[Never], bytes]


def _writer(kind: type[Fact], skipped: str = "") -> Callable[[Fact], bytes]:
    plan = tuple(
        (field.name, f'"{field.name}":', _KINDS[str(field.type)][0], _NO_DEFAULT if field.default is MISSING else field.default)
        for field in fields(kind)
        if field.name != skipped
    )

    def write(fact: Fact) -> bytes:
        parts: list[str] = []
        for name, prefix, pack, default in plan:
            value = getattr(fact, name)
            if value is not default and value != default:
                parts.append(prefix + pack(value))
        # A lone surrogate, in a reason or a note, has no UTF-8 form; values of a state were refused with one.
        return f"{{{','.join(parts)}}}".encode("utf-8", "replace")

    return write


# What most records are, written in one go: the same bytes as `_writer` gives.


def _write_created(fact: WorkflowCreated) -> bytes:
    event = fact.event
    pieces = (event if type(event) is Written else written(event)).pieces
    return b"".join((b'{"event":', *pieces, b",", _write_rest_of_created(fact)[1:]))


def _write_started(fact: StepStarted) -> bytes:
    told = f'{{"position":{quoted(fact.position)},"agent":{quoted(fact.agent)}'
    told = f"{told}}}" if fact.attempt == 1 else f'{told},"attempt":{int.__repr__(fact.attempt)}}}'
    return told.encode("utf-8", "replace")


def _write_completed(fact: StepCompleted) -> bytes:
    told = (
        f'{{"position":{quoted(fact.position)},"agent":{quoted(fact.agent)},"attempts":{int.__repr__(fact.attempts)}'
        f',"duration_s":{_number(fact.duration_s)},"patch":{_patch(fact.patch)}'
    )
    if fact.route is not None:
        told = f'{told},"route":{dumps(fact.route)}'
    if fact.usage is not None:
        told = f'{told},"usage":{_plain(fact.usage)}'
    if fact.emitted:
        told = f'{told},"emitted":{_listed(fact.emitted)}'
    return f"{told}}}".encode("utf-8", "replace")


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


_write_rest_of_created = _writer(WorkflowCreated, "event")
_WRITERS: dict[type[Fact], Writer] = {
    **{kind: _writer(kind) for kind in get_args(Fact)},
    WorkflowCreated: _write_created,
    StepStarted: _write_started,
    StepCompleted: _write_completed,
}
_READERS = {kind.__name__: _reader(kind) for kind in get_args(Fact)}
