"""Cursors: how far the reader of a live stream has come, as the text that stands behind `id:` and comes back as `Last-Event-ID`.

Of one run it is the number of its last record. Of all runs it has to say how far each run is that had not ended: records of
runs that go on side by side have no other order that the journal keeps. It is `journal.base.changes`: the journal's id, how
things stood some records ago, packed, and the runs that have changed since. Nobody but this module reads it.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Iterable, Iterator

from agentflow.core.entry import Entry
from agentflow.core.reach import Reach
from agentflow.ingress.problems import refused

LONGEST = 12 * 1024  # characters; a header of a request may have no more than 16 KiB
BEGINNING = "0"  # from the first record of the journal on
_MOST_CHANGES = 32
_MOST_BYTES = 1024 * 1024  # of a base, unpacked
_MOST_NUMBER = 1 << 39  # a record's key has 63 bits, 24 of which are its seq
_FORM = re.compile(r"([0-9a-f]{1,40})\.([A-Za-z0-9_-]*)\.((?:[0-9]{1,12}-[0-9]{0,8})?(?:_[0-9]{1,12}-[0-9]{0,8})*)")
_SEQ = re.compile(r"[0-9]{1,8}")


class Cursor:
    """A `Reach` that tells its text after each record, at the cost of what has changed since it was packed last."""

    def __init__(self, reach: Reach) -> None:
        self.reach = reach
        self._base: str | None = None
        self._changes: dict[int, int | None] = {}

    def take(self, number: int, entry: Entry) -> None:
        """Go on by one record."""
        self.reach.take(number, entry)
        self._changes[number] = self.reach.next_seqs.get(number)

    def text(self) -> str:
        """Return it as text."""
        if self._base is None or len(self._changes) > _MOST_CHANGES:
            self._base = _packed(self.reach)
            self._changes.clear()
        changes = "_".join(f"{number}-{'' if seq is None else seq}" for number, seq in self._changes.items())
        return f"{self.reach.journal}.{self._base}.{changes}"


def seq_of(text: str) -> int:
    """Return the number of a run's record that a `Last-Event-ID` names.

    Raises:
        RefusedError: it names none.
    """
    if not _SEQ.fullmatch(text):
        raise _unusable("it is no number of a record")
    return int(text)


def reach_of(text: str, present: Reach) -> Reach:
    """Return how far the reader of a stream of all runs has come.

    Args:
        text: the `Last-Event-ID`.
        present: how far the journal goes.

    Raises:
        RefusedError: it is none, or one of another journal.
    """
    if text == BEGINNING:
        return Reach(present.journal)
    found = _FORM.fullmatch(text) if len(text) <= LONGEST else None
    if found is None:
        raise _unusable("it is none that a stream of all runs has given")
    if found[1] != present.journal:
        raise _unusable("it is of another journal")
    reach = Reach(found[1])
    try:
        reach.last, reach.next_seqs = _unpacked(found[2])
    except (ValueError, zlib.error, StopIteration):
        raise _unusable("it is none that a stream of all runs has given") from None
    for change in filter(None, found[3].split("_")):
        number, _, seq = change.partition("-")
        reach.last = max(reach.last, int(number))
        if seq:
            reach.next_seqs[int(number)] = int(seq)
        else:
            reach.next_seqs.pop(int(number), None)
    if reach.last > present.last:
        raise _unusable("it is of a journal that had more runs")
    return reach


def _unusable(why: str) -> Exception:
    return refused(422, "AF0816", f"Last-Event-ID: {why}", "leave it out, and read what is recorded from GET /v1/runs")


def _packed(reach: Reach) -> str:
    packed = zlib.compress(bytes(_written(_numbers_of(reach))), 6)
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def _numbers_of(reach: Reach) -> Iterator[int]:
    yield reach.last
    before = 0
    for number, seq in sorted(reach.next_seqs.items()):
        yield number - before
        yield seq
        before = number


def _unpacked(text: str) -> tuple[int, dict[int, int]]:
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("it is not packed") from error
    unpacking = zlib.decompressobj()
    told = unpacking.decompress(packed, _MOST_BYTES)
    if not unpacking.eof:
        raise ValueError("it is not whole, or too large")
    numbers = list(_read(told))
    if len(numbers) % 2 != 1 or max(numbers) >= _MOST_NUMBER:
        raise ValueError("it says nothing")
    next_seqs: dict[int, int] = {}
    number = 0
    for step, seq in zip(numbers[1::2], numbers[2::2], strict=True):
        number += step
        next_seqs[number] = seq
    if number > numbers[0]:
        raise ValueError("it has a run that there was not")
    return numbers[0], next_seqs


def _written(numbers: Iterable[int]) -> Iterator[int]:
    """Write numbers as bytes of seven bits each, the last one of each number below 128."""
    for number in numbers:
        left = number
        while left >= 0x80:
            yield left & 0x7F | 0x80
            left >>= 7
        yield left


def _read(told: bytes) -> Iterator[int]:
    number, shift = 0, 0
    for byte in told:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield number
            number, shift = 0, 0
        elif shift > 63:
            raise ValueError("it has a number that there is not")
    if shift:
        raise ValueError("it ends within a number")
