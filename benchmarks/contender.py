"""Says what a contender is: something that takes one event through a workload."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.workloads import Data, Workload

Run = Callable[[Data], Awaitable[Any]]


class Contender:
    """Runs workloads through one framework; one instance serves one workload.

    Subclasses write `build`, and `read` when the framework's answer is not the final state as a dict. What `build` does
    is outside the clock (compile the graph there); what the function it returns does is inside. `read` is outside.
    """

    distributions: tuple[str, ...] = ()  # whose versions the report names

    async def build(self, workload: Workload) -> Run:
        """Return the function that takes one event's data through the workload."""
        raise NotImplementedError

    def read(self, answer: Any) -> Data:
        """Return the final state that an answer of the built function holds."""
        state: Data = answer
        return state

    async def close(self) -> None:
        """Release what `build` opened."""
