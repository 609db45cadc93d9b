"""Codec: records survive bytes, every change of a byte is found, and hostile bytes are inert."""

from __future__ import annotations

import json
import subprocess
import sys
import timeit
from dataclasses import MISSING, fields
from dataclasses import replace as changed
from math import inf, nan
from random import Random
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow.core import codec
from agentflow.core.codec import Written, decode, encode, fault_in, sealed, written
from agentflow.core.entry import Entry
from agentflow.core.failure import Failure, failure_of
from agentflow.core.packing import pack_patch
from agentflow.core.records import (
    EffectRecorded,
    Fact,
    Record,
    StepCompleted,
    StepFailed,
    StepStarted,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowCreated,
)
from agentflow.core.state import REMOVED, Patch
from agentflow.errors import InvalidValueError, JournalDamagedError, JournalVersionError

RUN = "run-1"


def encoded_body(fact: Any) -> bytes:
    return encode(RUN, 0, 1, 0.0, fact, b"").body


# --- facts of all kinds, built from their annotations ---

words = st.text(max_size=8)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(words, json_values, max_size=3)
changes = st.dictionaries(words, json_values | st.just(REMOVED), max_size=4)
meta_changes = st.none() | st.dictionaries(words, words | st.just(REMOVED), min_size=1, max_size=3)
patches = st.builds(Patch, changes, meta_changes)
whole_numbers = st.integers(0, 2**63 - 1)
lists = st.lists(words, max_size=3).map(tuple)
failures = st.builds(Failure, words, words, words, words, words, words, whole_numbers, lists)
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "Position": words,
    "str": words,
    "str | None": st.none() | words,
    "bool": st.booleans(),
    "int": whole_numbers,
    "float": numbers,
    "float | None": st.none() | numbers,
    "tuple[str, ...]": lists,
    "Json": json_values,
    "Mapping[str, Json]": objects,
    "Mapping[str, Json] | None": st.none() | objects,
    "Patch": patches,
    "Failure": failures,
    "Failure | None": st.none() | failures,
}
FACTS: list[type[Any]] = list(get_args(Fact))


def facts_of(kind: type[Any]) -> st.SearchStrategy[Any]:
    return st.builds(kind, **{field.name: KINDS[str(field.type)] for field in fields(kind)})


facts = st.sampled_from(FACTS).flatmap(facts_of)


@settings(max_examples=400)
@given(facts, st.integers(0, 2**40), st.integers(0, 2**40), st.floats(0, 1e11))
def test_a_record_comes_back_as_it_was(fact: Any, seq: int, epoch: int, at: float) -> None:
    """Encoding, decoding and encoding again gives the same bytes; what comes back says what was put in."""
    entry = encode(RUN, seq, epoch, at, fact, b"before")
    record = decode(RUN, entry)
    assert encode(RUN, seq, epoch, at, record.fact, b"before") == entry
    assert (record.run_id, record.at, record.seq, record.type) == (RUN, at, seq, type(fact).__name__)
    assert record.to_dict() == Record(RUN, at, fact, seq).to_dict()
    assert json.loads(entry.body) is not None


@pytest.mark.parametrize("kind", FACTS)
@settings(max_examples=20)
@given(data=st.data())
def test_each_type_of_fact_is_known(kind: type[Any], data: st.DataObject) -> None:
    """Each fact can be written and read."""
    fact = data.draw(facts_of(kind))
    found = decode(RUN, encode(RUN, 0, 1, 0.0, fact, b""))
    assert type(found.fact) is kind
    assert found.to_dict()["type"] == kind.__name__


def test_the_order_of_a_patch_comes_back() -> None:
    """Removed keys come back removed and where they stood, since order decides the order of a state."""
    data: dict[str, object] = {"a": REMOVED, "b": 1, "c": REMOVED, "d": None, "e": REMOVED}
    patch = Patch(data, {"m": REMOVED, "n": "t"})
    entry = encode(RUN, 0, 1, 0.0, StepCompleted("0", "a", 1, 0.5, patch), b"")
    row = json.loads(entry.body)["patch"]
    assert row == {
        "data": {"b": 1, "d": None},
        "removed": ["a", "c", "e"],
        "removed_at": [0, 2, 4],
        "meta": {"n": "t"},
        "meta_removed": ["m"],
        "meta_removed_at": [0],
    }
    found = decode(RUN, entry).fact
    assert isinstance(found, StepCompleted)
    assert list(found.patch.data.items()) == list(data.items())
    assert list((found.patch.meta or {}).items()) == [("m", REMOVED), ("n", "t")]
    assert found.patch.is_removing
    assert json.loads(encoded_body(StepCompleted("0", "a", 1, 0.5, Patch({"b": 1, "a": REMOVED}))))["patch"] == {
        "data": {"b": 1},
        "removed": ["a"],
    }
    assert json.loads(encoded_body(StepCompleted("0", "a", 1, 0.5, Patch({}))))["patch"] == {}


def test_what_has_its_default_is_left_out() -> None:
    """A step's record holds its answer and little else."""
    fact = StepCompleted("0.1", "a", 1, 0.0123, Patch({"draft": "é", "n": 3}))
    assert (
        encoded_body(fact)
        == '{"position":"0.1","agent":"a","attempts":1,"duration_s":0.0123,"patch":{"data":{"draft":"é","n":3}}}'.encode()
    )
    assert encoded_body(StepStarted("0.1", "a")) == b'{"position":"0.1","agent":"a"}'


def test_a_failure_comes_back_without_its_exception() -> None:
    """Type, code, message, place, attempts and kinds come back; the exception object does not."""
    failure = failure_of(ValueError("no"), attempts=3).at(agent="a", position="0.1", stage="s")
    found = decode(RUN, encode(RUN, 0, 1, 0.0, StepFailed("0.1", "a", 3, 0.5, failure), b"")).fact
    assert isinstance(found, StepFailed)
    assert found.failure == changed(failure, exception=None)
    assert found.failure.kinds == ("ValueError", "Exception", "BaseException")


def test_text_without_a_utf8_form_does_not_stop_a_run() -> None:
    """A reason with a lone surrogate is recorded with a mark in its place."""
    entry = encode(RUN, 0, 1, 0.0, WorkflowCancelled("a\ud800b"), b"")
    assert decode(RUN, entry).fact == WorkflowCancelled("a?b")


@pytest.mark.parametrize(
    "fact",
    [
        StepCompleted("0", "a", 1, nan, Patch({})),
        StepCompleted("0", "a", 1, inf, Patch({})),
        EffectRecorded("0", "k", {"x": inf}),
        EffectRecorded("0", "k", {1, 2}),  # type: ignore[arg-type]
        StepStarted("0", 5),  # type: ignore[arg-type]
        StepStarted("0", "a", 1.5),  # type: ignore[arg-type]
    ],
)
def test_what_is_not_json_is_not_recorded(fact: Any) -> None:
    """NaN, infinities and values of other kinds are refused, naming the record."""
    with pytest.raises(InvalidValueError, match=f"{type(fact).__name__} cannot be recorded"):
        encode(RUN, 0, 1, 0.0, fact, b"")


# --- the chain ---


def chain(count: int = 5, run_id: str = RUN) -> list[Entry]:
    entries: list[Entry] = []
    for seq in range(count):
        fact = StepCompleted(f"0.{seq}", "a", 1, 0.5, Patch({"key": f"value {seq}"}))
        entries.append(encode(run_id, seq, 1 + seq // 2, 100.0 + seq, fact, entries[-1].hash if entries else b""))
    return entries


def test_a_sound_chain_has_no_fault() -> None:
    """A journal as it was written has no fault, nor has its tail after a known hash; an empty one has none either."""
    entries = chain()
    assert fault_in(RUN, entries) == ""
    assert fault_in(RUN, entries[3:], entries[2].hash) == ""
    assert fault_in(RUN, []) == ""
    assert len(entries[0].hash) == 16


def test_each_flipped_bit_is_found() -> None:
    """Any bit of any entry's body or hash that changed is found, at that entry or the one after it."""
    entries = chain(3)
    for at, entry in enumerate(entries):
        for name in ("body", "hash"):
            value = getattr(entry, name)
            for place in range(len(value) * 8):
                flipped = bytearray(value)
                flipped[place // 8] ^= 1 << place % 8
                told = fault_in(RUN, [*entries[:at], changed(entry, **{name: bytes(flipped)}), *entries[at + 1 :]])
                assert told == f"record {at} does not have the checksum it was written with"


@settings(max_examples=200)
@given(st.integers(0, 4), st.sampled_from(["seq", "epoch", "at", "type", "version"]), st.integers(1, 2**60), st.booleans())
def test_each_changed_field_is_found(at: int, name: str, by: int, is_negative: bool) -> None:
    """A number or type that changed is found."""
    entries = chain()
    value = getattr(entries[at], name)
    other = f"{value}x" if name == "type" else value + (-by if is_negative else by)
    if other == value:  # a float that is too large to change by so little
        return
    assert fault_in(RUN, [*entries[:at], changed(entries[at], **{name: other}), *entries[at + 1 :]]) != ""


def test_gaps_swaps_and_strangers_are_found() -> None:
    """A record that is missing, repeated, moved, or of another run is found, and the seq is named."""
    entries, other = chain(), chain(run_id="run-2")
    assert fault_in(RUN, [*entries[:2], *entries[3:]]) == "record 2 is missing, 3 stands in its place"
    assert fault_in(RUN, entries[1:]) == "record 0 is missing, 1 stands in its place"
    assert fault_in(RUN, [entries[0], entries[0]]).startswith("record 1 is missing")
    assert fault_in(RUN, [entries[0], entries[2], entries[1]]).startswith("record 1 is missing")
    assert fault_in(RUN, other).startswith("record 0 does not have the checksum")
    assert fault_in(RUN, entries[3:], entries[1].hash).startswith("record 3 does not have the checksum")
    back = encode(RUN, 2, 0, 1.0, StepStarted("0", "a"), entries[1].hash)
    assert fault_in(RUN, [*entries[:2], back]) == "record 2 has epoch 0 after 1"


@pytest.mark.parametrize(
    "entry",
    [
        Entry(0, 1, 0.0, "StepStarted", 2**70, b"{}", b""),
        Entry(0, 1, "soon", "StepStarted", 1, b"{}", b""),  # type: ignore[arg-type]
        Entry(0, None, 0.0, "StepStarted", 1, b"{}", b""),  # type: ignore[arg-type]
        Entry(0, 1, 0.0, None, 1, b"{}", b""),  # type: ignore[arg-type]
        Entry(0, 1, 0.0, "StepStarted", 1, "{}", b""),  # type: ignore[arg-type]
        Entry(0, 1, 0.0, "StepStarted", 1, b"{}", None),  # type: ignore[arg-type]
    ],
)
def test_a_fault_is_told_whatever_a_store_gives(entry: Entry) -> None:
    """Values of the wrong kind are faults, not errors."""
    assert fault_in(RUN, [entry]) != ""


def test_nothing_is_written_alike() -> None:
    """Run id and type have their lengths in the hash, so moving a letter from one to the other changes it."""
    assert encode("run-1S", 0, 1, 0.0, StepStarted("0", "a"), b"").hash != encode("run-1", 0, 1, 0.0, StepStarted("0", "a"), b"").hash
    figures = (0, 1, 0.0)
    assert sealed("ab", *figures, "c", 1, b"x", b"").hash != sealed("a", *figures, "bc", 1, b"x", b"").hash
    assert sealed("a", *figures, "c", 1, b"x", b"y").hash != sealed("a", *figures, "c", 1, b"yx", b"").hash


EVENT: Any = {"id": "e", "target": "a", "data": {"text": "é", "n": 1.5}, "metadata": {}, "session_id": None, "timestamp": 1.25}
WRITTEN = [  # facts, and the hash of each behind the one before; what wrote them was another release
    (WorkflowCreated(EVENT, "sequential", "ab12", {"a": {"handler": "m:f"}}, True, "run-0", "run-0"), "cd710c66f0650e7c278dc4da43f43f11"),
    (StepStarted("0.0", "a"), "14e1bccafaf075ab88b4670cf1960851"),
    (StepCompleted("0.0", "a", 1, 0.125, Patch({"k": 1}, None, False)), "4a27f69a1f43d95b26b23b2d3ab963f1"),
    (StepStarted("0.1", 'b"é', 2), "0029110802856c4d34f025c3333ab04e"),
    (
        StepCompleted("0.1", "b", 2, 1e-05, Patch({"s": 'q"\u2028', "z": None, "l": [1]}, {"m": "t"}, False, "c"), "c", {"n": 3}),
        "61cb0fe26310a49fa2a0e861d225880a",
    ),
    (StepCompleted("0.2", "c", 1, 2.0, Patch({"k": REMOVED, "x": False, "y": 0.5})), "6af795665b305134fbf8866d02bdbcfd"),
    (WorkflowCompleted("completed", "completed", 3.5, ("abandoned",)), "47a74d034ac43e7182af31c210eda58c"),
]


def test_what_is_written_stays_the_same() -> None:
    """Records are written byte for byte as earlier releases wrote them, so that their hashes hold."""
    previous = b""
    for seq, (fact, expected) in enumerate(WRITTEN):
        entry = encode(RUN, seq, 1, 1790000000.5 + seq, fact, previous)
        assert entry.hash.hex() == expected
        previous = entry.hash


@settings(max_examples=300)
@given(st.sampled_from([WorkflowCreated, StepStarted, StepCompleted]).flatmap(facts_of))
def test_the_usual_facts_are_written_as_all_others_are(fact: Any) -> None:
    """Those with a writer of their own say field by field what the annotations say, and nothing that has its default."""
    row = json.loads(encoded_body(fact))
    told = {field.name: getattr(fact, field.name) for field in fields(fact)}
    kept = {field.name for field in fields(fact) if field.default is MISSING or told[field.name] != field.default}
    assert list(row) == [name for name in told if name in kept]
    for name in kept:
        value = pack_patch(told[name]) if isinstance(told[name], Patch) else told[name]
        assert row[name] == (list(value) if isinstance(value, tuple) else value)


def test_an_object_that_comes_with_its_json_is_not_written_anew() -> None:
    """An event in pieces stands in its record as the pieces say."""
    told = Written(EVENT)
    told.pieces = b'{"data":', json.dumps(EVENT["data"]).encode(), b',"id":"e"}'
    assert json.loads(encoded_body(WorkflowCreated(told, "loop")))["event"] == {"data": EVENT["data"], "id": "e"}
    assert encoded_body(WorkflowCreated(written(EVENT), "loop")) == encoded_body(WorkflowCreated(EVENT, "loop"))


# --- versions ---


def test_older_bodies_are_brought_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body goes through one upcaster for each version it is behind."""
    monkeypatch.setitem(codec.VERSIONS, "StepStarted", 3)
    monkeypatch.setitem(codec.UPCASTERS, ("StepStarted", 1), lambda row: {"agent": row["who"], **row})
    monkeypatch.setitem(codec.UPCASTERS, ("StepStarted", 2), lambda row: {k: v for k, v in row.items() if k != "who"})
    old = Entry(0, 1, 0.0, "StepStarted", 1, b'{"position":"0","who":"a"}', b"")
    assert decode(RUN, old).fact == StepStarted("0", "a")
    assert decode(RUN, changed(old, version=3, body=b'{"position":"0","agent":"b"}')).fact == StepStarted("0", "b")
    assert encode(RUN, 0, 1, 0.0, StepStarted("0", "a"), b"").version == 3
    with pytest.raises(JournalDamagedError):
        decode(RUN, changed(old, version=2))
    with pytest.raises(JournalDamagedError):
        decode(RUN, changed(old, version=0))
    with pytest.raises(JournalDamagedError):
        decode(RUN, changed(old, version=-5))


@pytest.mark.parametrize(("kind", "version"), [("StepDreamed", 1), ("StepStarted", 2), ("", 1), ("Record", 1), ("StepStarted", None)])
def test_what_a_later_release_wrote_is_not_guessed_at(kind: str, version: Any) -> None:
    """An unknown type or a newer version has an error of its own, naming run, record and what was found."""
    with pytest.raises(JournalVersionError, match=f"{kind} version {version}") as caught:
        decode(RUN, Entry(7, 1, 0.0, kind, version, b"{}", b""))
    assert (caught.value.run_id, caught.value.seq, caught.value.code) == (RUN, 7, "AF0721")


# --- bytes from anywhere ---


@settings(max_examples=400)
@given(st.sampled_from(FACTS), st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_give_a_record_or_a_coded_error(kind: type[Any], body: bytes) -> None:
    """Decoding never raises anything but its own errors."""
    try:
        record = decode(RUN, Entry(3, 1, 0.0, kind.__name__, 1, body, b""))
    except JournalDamagedError:
        return
    assert type(record.fact) is kind


@settings(max_examples=400)
@given(facts, st.randoms(use_true_random=False), json_values)
def test_a_field_of_another_kind_is_refused_or_read(fact: Any, dice: Random, value: Any) -> None:
    """A body in which one field was put in another's place is a record of the right kinds, or damage."""
    row = json.loads(encoded_body(fact))
    row[dice.choice([*row, "other"])] = value
    entry = Entry(3, 1, 0.0, type(fact).__name__, 1, json.dumps(row).encode(), b"")
    try:
        found = decode(RUN, entry).fact
    except JournalDamagedError:
        return
    assert encoded_body(found) is not None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"{",
        b"\xff\xfe",
        b'{"position":"0"}',
        b'{"position":"0","agent":null}',
        b'{"position":"0","agent":"a","attempt":-1}',
        b'{"position":"0","agent":"a","attempt":1.0}',
        b'{"position":"0","agent":"a","attempt":true}',
        b'{"position":"0","agent":"a","attempt":9223372036854775808}',
        b'{"position":"0","agent":"a","attempt":NaN}',
        b'{"position":"0","agent":"a","attempt":Infinity}',
        b'{"position":"0","agent":"a","attempt":1e999}',
        b'{"position":"0","agent":"a","spare":1}',
        b'{"position":"0","agent":"a","__class__":"os.system"}',
        b'{"position":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"position":"0","agent":' + b"9" * 5000 + b"}",
    ],
)
def test_a_body_that_is_not_what_its_type_says_is_damage(body: bytes) -> None:
    """Missing, unknown and wrong fields, and what is not JSON, are damage, naming run and record."""
    with pytest.raises(JournalDamagedError, match="its StepStarted cannot be read") as caught:
        decode(RUN, Entry(4, 1, 0.0, "StepStarted", 1, body, b""))
    assert caught.value.seq == 4


@pytest.mark.parametrize(
    "patch",
    [
        5,
        {"spare": {}},
        {"data": []},
        {"removed": "x"},
        {"removed": [1]},
        {"meta": {"k": 1}},
        {"data": {"a": 1}, "removed": ["b"], "removed_at": [0, 1]},
        {"data": {"a": 1}, "removed": ["b"], "removed_at": [-1]},
        {"data": {"a": 1}, "removed": ["b"], "removed_at": {}},
    ],
)
def test_a_patch_of_another_shape_is_damage(patch: Any) -> None:
    """A patch has the parts it has, each of its kind."""
    row = {"position": "0", "agent": "a", "attempts": 1, "duration_s": 1, "patch": patch}
    with pytest.raises(JournalDamagedError):
        decode(RUN, Entry(0, 1, 0.0, "StepCompleted", 1, json.dumps(row).encode(), b""))


def test_depth_is_bounded() -> None:
    """A value as deep as a state may hold is read; one that is deeper than any state is damage."""

    def nested(depth: int) -> bytes:
        return b'{"position":"0","key":"k","value":' + b"[" * depth + b"]" * depth + b"}"

    assert isinstance(decode(RUN, Entry(0, 1, 0.0, "EffectRecorded", 1, nested(64), b"")).fact, EffectRecorded)
    with pytest.raises(JournalDamagedError, match="nested too deeply"):
        decode(RUN, Entry(0, 1, 0.0, "EffectRecorded", 1, nested(100), b""))
    wide = b'{"position":"0","key":"k","value":' + json.dumps([[1, {}]] * 500).encode() + b"}"
    assert isinstance(decode(RUN, Entry(0, 1, 0.0, "EffectRecorded", 1, wide, b"")).fact, EffectRecorded)


# --- a journal that means harm ---

SHAPES: list[Any] = [
    {"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {"command": "touch /tmp/owned"}},
    {"py/object": "os.system", "py/reduce": [{"py/function": "os.system"}, {"py/tuple": ["id"]}]},
    {"__reduce__": ["os.system", ["id"]]},
    {"__class__": "subprocess.Popen", "__init__": {"args": ["id"]}},
    {"$type": "System.Diagnostics.Process"},
    {"py/type": "builtins.eval"},
    {"__import__": "antigravity"},
    {"!!python/object/apply:os.system": ["id"]},
    {"pickle": "gASVFAAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOULg=="},
    "cos\nsystem\n(S'id'\ntR.",
]


def hostile_bodies() -> list[tuple[str, bytes]]:
    """Return 200 bodies of records in which harm stands where values may stand."""
    found: list[tuple[str, bytes]] = []
    for number in range(20):
        for shape in SHAPES:
            value: Any = shape
            for _ in range(number % 5):
                value = {"inner": [value], "__proto__": shape}
            if number % 4 == 0:
                row: dict[str, Any] = {"position": "0", "key": "k", "value": value}
                found.append(("EffectRecorded", json.dumps(row).encode()))
            elif number % 4 == 1:
                row = {"position": "0", "agent": "a", "attempts": 1, "duration_s": 1, "patch": {"data": {"x": value}}}
                found.append(("StepCompleted", json.dumps(row).encode()))
            elif number % 4 == 2:
                found.append(
                    ("WorkflowCreated", json.dumps({"event": {"data": {"x": value}}, "pattern": "x", "handlers": {"a": value}}).encode())
                )
            else:
                row = {
                    "position": "0",
                    "agent": "a",
                    "attempts": 1,
                    "duration_s": 1,
                    "failure": {"message": json.dumps(value), "type": "os.system"},
                }
                found.append(("StepFailed", json.dumps(row).encode()))
    return found


SCRIPT = """
import json, sys
from agentflow.core.codec import decode
from agentflow.core.entry import Entry
told = [Entry(0, 1, 0.0, kind, 1, body.encode(), b"") for kind, body in json.load(sys.stdin)]
decode("run-1", told[0])
seen = []
sys.addaudithook(lambda event, _: seen.append(event))
facts = [decode("run-1", entry).fact for entry in told]
harm = ("import", "exec", "open", "compile", "subprocess", "os.", "socket", "pickle", "marshal")
bad = [event for event in seen if event.startswith(harm)]
print(len(facts), bad)
"""


def test_hostile_bodies_load_as_inert_data() -> None:
    """200 bodies that pickles and their kin would run are read as plain data; an audit hook sees no import, exec or open."""
    bodies = hostile_bodies()
    assert len(bodies) == 200
    told = json.dumps([(kind, body.decode()) for kind, body in bodies])
    done = subprocess.run([sys.executable, "-c", SCRIPT], input=told, capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == ["200", "[]\n"]
    kinds = {dict, list, str, int, float, bool, type(None)}
    for kind, body in bodies:
        fact = decode(RUN, Entry(0, 1, 0.0, kind, 1, body, b"")).fact
        assert plain(fact.to_dict() if isinstance(fact, Failure) else Record(RUN, 0.0, fact).to_dict()) <= kinds


def plain(value: Any) -> set[type]:
    """Return the types of a value and all it holds."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {type(value)}.union(*map(plain, inner))


# --- in every process the same, and cheap ---

HASHES = """
from agentflow.core.codec import encode
from agentflow.core.records import StepCompleted
from agentflow.core.state import Patch, REMOVED
patch = Patch({"b": {"z": 1, "a": [1.5, None]}, "gone": REMOVED, "é": "ü"}, {"m": "t"})
print(encode("run-1", 3, 2, 1790000000.25, StepCompleted("0.1", "a", 1, 0.1, patch), b"x" * 16).hash.hex())
"""


def test_a_hash_is_the_same_in_every_process() -> None:
    """The hash of an entry does not depend on the hash seed, and stays what it was: journals of today are read tomorrow."""
    seeds = ("0", "1", "99", "random")
    found = {
        subprocess.run(
            [sys.executable, "-c", HASHES], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout.strip()
        for seed in seeds
    }
    assert found == {"3c63fbf1b665b4ed74261a4198eeb573"}


def test_encoding_is_cheap() -> None:
    """A small answer costs microseconds; the bound is far above what it takes, so that only a blunder is found."""
    fact = StepCompleted("0.1", "a", 1, 0.0123, Patch({"draft": "hello world", "n": 3}))
    best = min(timeit.repeat(lambda: encode("run-0123456789", 12, 1, 1790000000.5, fact, b"x" * 16), number=1000, repeat=5)) / 1000
    assert best < 60e-6
