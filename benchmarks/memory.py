"""Reads how much memory a piece of work needed at its highest point."""

from __future__ import annotations

import gc
import resource
import sys
import tracemalloc
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


class ResidentPeak:
    """Measures how far the resident memory of the process rises above what it was when this object was made.

    On Linux the kernel's high-water mark is set back first; elsewhere the mark of the whole process has to do.
    """

    def __init__(self) -> None:
        gc.collect()
        if CLEAR.exists():
            CLEAR.write_text("5")
        self._before = _field("VmRSS") if STATUS.exists() else _highest()

    def kilobytes(self) -> float:
        """Return the rise so far in KB."""
        return (_field("VmHWM") if STATUS.exists() else _highest()) - self._before


class TracedPeak:
    """Measures how many bytes Python itself held at the highest point; exact and repeatable, but it slows the work."""

    def __enter__(self) -> TracedPeak:
        gc.collect()
        tracemalloc.start()
        self.kilobytes = 0.0
        self._before = tracemalloc.get_traced_memory()[0]
        return self

    def __exit__(self, *failure: object) -> None:
        self.kilobytes = (tracemalloc.get_traced_memory()[1] - self._before) / 1024
        tracemalloc.stop()


def _field(name: str) -> float:
    for line in STATUS.read_text().splitlines():
        if line.startswith(name + ":"):
            return float(line.split()[1])
    raise LookupError(f"the kernel tells no {name}")


def _highest() -> float:
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest / 1024 if sys.platform == "darwin" else highest
