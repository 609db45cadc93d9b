"""Says what a contender is: something that takes one event through a workload."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.workloads import Data, Workload

Run = Callable[[Data], Awaitable[Any]]


class Contender:
    """Runs workloads through one framework; one instance serves one workload.

    Subclasses write `build`, and `read` when the framework's answer is not the final state as a dict. What `build` does
    is outside the clock (compile the graph there); what the function it returns does is inside. `read` is outside.
    """

    distributions: tuple[str, ...] = ()  # whose versions the report names
    folder: Path  # of a durable contender: where its journal is, and nothing else

    async def build(self, workload: Workload) -> Run:
        """Return the function that takes one event's data through the workload."""
        raise NotImplementedError

    def read(self, answer: Any) -> Data:
        """Return the final state that an answer of the built function holds."""
        state: Data = answer
        return state

    def make_folder(self) -> Path:
        """Make the folder for a journal; the driver says where by TMPDIR, and removes it."""
        self.folder = Path(tempfile.mkdtemp(prefix="journal_"))
        return self.folder

    async def close(self) -> None:
        """Release what `build` opened."""
