"""Health: whether a runner can do its work now. A store is asked by writing to it, as an event would be."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from agentflow.core.failure import failure_of
from agentflow.core.values import Json
from agentflow.ports import Store

STATUS = "status"  # the order of another process that is answered with how the whole process stands

ANSWER_S = 5.0  # a store that has not written for so long cannot be written to
LOOK_S = 1.0  # how old an answer may be: whoever asks all the time makes no more than one write a second

Status: TypeAlias = Literal["ok", "degraded", "failing"]

_PROBE = "health"  # the lease whose taking is the write


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """Whether a store can be written to.

    Attributes:
        url: which one.
        durability: what a write survives: full, relaxed or none.
        is_writable: whether it has just taken a write as durable as any other.
        detail: why not, "" when it has.
    """

    url: str
    durability: str
    is_writable: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """How a runner stands.

    Attributes:
        status: `ok`; `degraded`: it works, and somebody should look; `failing`: what is accepted now would not get on.
        reasons: why it is not `ok`, each a word and what it is about, e.g. "store_unwritable: ...".
        stores: where it records; () when it records nothing.
        in_flight: how many runs go on.
        queue_depth: how many accepted runs wait to begin.
    """

    status: Status
    reasons: tuple[str, ...]
    stores: tuple[StoreHealth, ...]
    in_flight: int
    queue_depth: int

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        stores: list[Json] = [dict(asdict(store)) for store in self.stores]
        told: dict[str, Json] = {"status": self.status, "reasons": [*self.reasons], "stores": stores}
        return {**told, "in_flight": self.in_flight, "queue_depth": self.queue_depth}


class Probe:
    """Writes to a store to see whether it can be written to; one write at a time, whoever asks.

    Args:
        store: it is open.
        owner: who writes.
    """

    def __init__(self, store: Store, owner: str) -> None:
        self._store = store
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._writing: asyncio.Task[str] | None = None
        self._found_at = 0.0

    async def health(self) -> StoreHealth:
        """Return how the store stands, as of at most a second ago; within `ANSWER_S` seconds, even where it never answers."""
        writing = self._writing
        if writing is None or (writing.done() and self._loop.time() - self._found_at >= LOOK_S):
            writing = self._writing = self._loop.create_task(self._write())
        await asyncio.wait({writing}, timeout=ANSWER_S)
        detail = writing.result() if writing.done() else f"it has not answered for {ANSWER_S:g} s"
        return StoreHealth(self._store.url, self._store.durability, not detail, detail)

    async def _write(self) -> str:
        try:
            await self._store.hold(_PROBE, self._owner, 0)  # for no time at all: so each is a write of its own
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            return failure_of(error).message or type(error).__name__
        finally:
            self._found_at = self._loop.time()
        return ""


def health_of(present: Mapping[str, Any], stores: tuple[StoreHealth, ...], *, is_taking: bool) -> Health:
    """Return what the present figures of a runner and its stores come to.

    Args:
        present: as `Runner.metrics(is_present=True)`.
        stores: where it records.
        is_taking: whether it takes events; one that stops does not.
    """
    failing = [] if is_taking else ["stopping"]
    failing += [f"store_unwritable: {store.detail}" for store in stores if not store.is_writable]
    if not present["loop"]["is_ready"]:
        failing.append(f"loop_blocked: for {present['loop']['blocked_seconds']:.0f} s")
    degraded = [f"breaker_open: {name}" for name in present["open_breakers"]]
    degraded += [f"abandoned: {name}" for name in (*present["abandoned_handlers"], *present["abandoned_threads"])]
    status: Status = "failing" if failing else "degraded" if degraded else "ok"
    return Health(status, (*failing, *degraded), stores, present["runs"]["running"], present["queue_depth"])
