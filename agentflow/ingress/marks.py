"""Marks: up to when the due times of each schedule are dealt with, in a file beside the journal.

Nothing depends on it but what is known of due times that were missed: that none has two events is seen to by their ids.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

_LARGEST = 4 * 1024 * 1024


@dataclass
class Mark:
    """How far one schedule is.

    Attributes:
        when: its due times in words; with other words it is another schedule.
        after: every due time until then is dealt with, in seconds since the epoch.
        next: the first due time later than that, once it is known; None when there is none.
    """

    when: str
    after: float
    next: float | None = 0.0


def read_marks(path: Path | None) -> dict[str, Mark]:
    """Return the marks by the schedules' titles; none where there is no file, or nothing in it that can be used."""
    if path is None:
        return {}
    try:
        with path.open("rb") as stream:
            told = json.loads(stream.read(_LARGEST))
        marks = {str(title): Mark(str(row["when"]), float(row["after"])) for title, row in told["schedules"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return {title: mark for title, mark in marks.items() if isfinite(mark.after)}


def write_marks(path: Path, marks: Mapping[str, tuple[str, float]]) -> None:
    """Put the file with these marks (`when`, `after`) in its place as a whole, for its user alone.

    Raises:
        OSError: it cannot be written.
    """
    rows = {title: {"when": when, "after": after} for title, (when, after) in marks.items()}
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # 0600
    try:
        with os.fdopen(number, "w", encoding="utf-8") as stream:
            json.dump({"schedules": rows}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, path)  # noqa: PTH105 - as it reads everywhere
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
