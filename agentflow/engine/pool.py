"""Pool: the workers of one specialty, places that calls are carried out in, each leased by one call at a time.

A worker is `idle`, `busy` while it is leased, `draining` while it is leased for the last time, or `failed` after too many
failures in a row. A failed one is never leased again: it rests until its pool's idle time is over, and is gone then.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TypeAlias

from agentflow.config.policies import WorkersConfig
from agentflow.core.values import Json
from agentflow.errors import WorkerPoolError

MOST_WORKERS = 10_000  # of one specialty
EARLY_S = 1e-6  # a timer may fire a little before its time

Claim: TypeAlias = Callable[["Worker | None"], bool]


@dataclass(frozen=True, slots=True)
class WorkerView:
    """How a worker stood when it was looked at.

    Attributes:
        worker_id: its id, e.g. `resize-2`.
        specialty: the agent whose calls lease it.
        status: idle, busy, failed or draining.
        completed_tasks, failed_tasks: how the calls ended that had it; each adds to one of them.
        avg_latency_ms: the mean time that they took, in milliseconds; 0.0 before the first.
    """

    worker_id: str
    specialty: str
    status: str
    completed_tasks: int
    failed_tasks: int
    avg_latency_ms: float

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return asdict(self)


class Worker:
    """One place of a pool."""

    __slots__ = ("busy_s", "completed", "failed", "failures", "is_last", "since", "specialty", "status", "worker_id")

    def __init__(self, worker_id: str, specialty: str) -> None:
        self.worker_id = worker_id
        self.specialty = specialty
        self.status = "busy"  # or idle, or failed
        self.completed = self.failed = 0
        self.failures = 0  # in a row
        self.busy_s = 0.0
        self.since = 0.0  # it is idle or failed
        self.is_last = False  # it goes when its lease ends

    @property
    def view(self) -> WorkerView:
        """How it stands."""
        status = "draining" if self.is_last else self.status
        mean_ms = _mean_ms(self.busy_s, self.completed + self.failed)
        return WorkerView(self.worker_id, self.specialty, status, self.completed, self.failed, mean_ms)


class Pool:
    """The workers of one specialty. It begins with `count` of them and has up to `max` while calls wait.

    Args:
        specialty: what they do.
        table: how many there are, and how long they last; None: those that are spawned.
        loop, monotonic: wait for the time, and tell it.

    Attributes:
        workers: all there are, by id.
        most: up to how many are added while calls wait; 0: none.
    """

    def __init__(
        self, specialty: str, table: WorkersConfig | None, loop: asyncio.AbstractEventLoop, monotonic: Callable[[], float]
    ) -> None:
        self.specialty = specialty
        self.workers: dict[str, Worker] = {}
        self.most = 0 if table is None else table.most
        self._kept = 0 if table is None else table.count
        rules = table or WorkersConfig()
        self._max_failures = rules.max_failures
        self._idle_s = rules.idle_drain_seconds
        self._loop = loop
        self._monotonic = monotonic
        self._idle: list[Worker] = []  # the last one that was used is the first one to be used again, so that the others rest
        self._line: OrderedDict[object, Claim] = OrderedDict()  # who waits; while there is one, nobody is idle and none may be added
        self._is_armed = False
        self._hires = 0
        for _ in range(self._kept):
            self._rest(self._hired())

    # --- leasing ---

    @property
    def available(self) -> int:
        """How many workers are idle."""
        return len(self._idle)

    def take(self) -> Worker | None:
        """Lease an idle worker, or a new one where there may be more; None while others have them all."""
        if self._idle:
            worker = self._idle.pop()
            worker.status = "busy"
            return worker
        return self._hired() if len(self.workers) < self.most else None

    def wait(self, who: object, claim: Claim) -> None:
        """Call `claim(worker)` with the next worker that `take` would have given, in turn; it says whether it takes it.

        It is called with None when there is no worker any more, and none may be added.

        Raises:
            WorkerPoolError: so it is now.
        """
        if self._is_void:
            raise self._void()
        self._line[who] = claim

    def forget(self, who: object) -> None:
        """End a wait; nothing happens when it has ended."""
        self._line.pop(who, None)

    async def acquire(self, timeout_s: float | None) -> Worker:
        """Lease a worker, waiting for one at most so long.

        Raises:
            WorkerPoolError: none came free in time, or none can come.
        """
        worker = self.take()
        if worker is not None:
            return worker
        place: asyncio.Future[Worker] = self._loop.create_future()

        def claim(worker: Worker | None) -> bool:
            if place.done():
                return False
            if worker is None:
                place.set_exception(self._void())
            else:
                place.set_result(worker)
            return True

        self.wait(place, claim)
        try:
            async with asyncio.timeout(timeout_s):
                return await place
        except BaseException as error:
            self.forget(place)
            if place.done() and not place.cancelled() and place.exception() is None:
                self.put_back(place.result())
            if isinstance(error, TimeoutError):
                raise self.exhausted(timeout_s or 0.0) from None
            raise

    def exhausted(self, waited_s: float) -> WorkerPoolError:
        """Return what a call is told that has waited in vain."""
        told = ", ".join(f"{number} {status}" for status, number in self.tally().items() if number)
        message = f"no worker of `{self.specialty}` came free within {waited_s:g} s: {told}"
        return WorkerPoolError(message, available=self.available, required=1, hint=f"raise `max` in [workers.{self.specialty}]")

    @property
    def _is_void(self) -> bool:
        return not self.workers and not self.most

    def _void(self) -> WorkerPoolError:
        told = f"`{self.specialty}` has no workers"
        return WorkerPoolError(told, available=0, required=1, hint=f"spawn one, or add [workers.{self.specialty}]")

    def put_back(self, worker: Worker) -> None:
        """End a lease that nothing was done with."""
        if worker.is_last:
            self._gone(worker)
        elif not self._give(worker):
            self._rest(worker)

    def release(self, worker: Worker, duration_s: float, *, is_ok: bool | None) -> None:
        """End a lease and count what it came to; None, of a call that was ended from outside, is a failed task, not a failure."""
        worker.busy_s += duration_s
        if is_ok:
            worker.completed += 1
            worker.failures = 0
        else:
            worker.failed += 1
            worker.failures += is_ok is False
        if worker.failures < self._max_failures or worker.is_last:
            self.put_back(worker)
            return
        worker.status = "failed"
        worker.since = self._monotonic()
        self._arm()

    # --- hiring and draining ---

    def spawn(self) -> Worker:
        """Add a worker that is kept, also beyond `max`.

        Raises:
            WorkerPoolError: there are too many.
        """
        if len(self.workers) >= MOST_WORKERS:
            told = f"`{self.specialty}` has {MOST_WORKERS:,} workers, and cannot have more"
            raise WorkerPoolError(told, available=self.available, required=1, hint="drain those that are not needed")
        self._kept += 1
        worker = self._hired()
        self.put_back(worker)
        return worker

    def drain(self, worker: Worker) -> None:
        """Let a worker finish what it does, and remove it then; at once where it does nothing. So many fewer are kept."""
        if worker.status == "busy":
            worker.is_last = True
        else:
            if worker.status == "idle":
                self._idle.remove(worker)
            self._gone(worker)
        self._kept = min(self._kept, self._sound())

    def tally(self) -> dict[str, int]:
        """Return how many workers there are in each status."""
        found = dict.fromkeys(("idle", "busy", "failed", "draining"), 0)
        for worker in self.workers.values():
            found[worker.view.status] += 1
        return found

    def figures(self) -> dict[str, Json]:
        """Return as JSON how many workers there are in each status, how many wait, and what the present ones have done.

        The calls of an agent with a rate limit wait in a line of their own, and count as one here.
        """
        workers = self.workers.values()
        completed, failed = sum(one.completed for one in workers), sum(one.failed for one in workers)
        return {
            "specialty": self.specialty,
            **self.tally(),
            "waiting": len(self._line),
            "completed_tasks": completed,
            "failed_tasks": failed,
            "avg_latency_ms": _mean_ms(sum(one.busy_s for one in workers), completed + failed),
        }

    def _hired(self) -> Worker:
        self._hires += 1
        worker = Worker(f"{self.specialty}-{self._hires}", self.specialty)
        self.workers[worker.worker_id] = worker
        return worker

    def _gone(self, worker: Worker) -> None:
        del self.workers[worker.worker_id]
        self._replace()
        while self._line and self._is_void:
            self._line.popitem(last=False)[1](None)

    def _replace(self) -> None:
        """Hire for those who wait, up to `most`, now that somebody has gone; a failed worker counts until then."""
        while self._line and len(self.workers) < self.most:
            self.put_back(self._hired())

    def _give(self, worker: Worker) -> bool:
        """Lease a worker to whoever waits longest; False when nobody does."""
        worker.status = "busy"
        while self._line:
            if self._line.popitem(last=False)[1](worker):
                return True
        return False

    def _rest(self, worker: Worker) -> None:
        worker.status = "idle"
        worker.since = self._monotonic()
        self._idle.append(worker)
        if len(self.workers) > self._kept:
            self._arm()

    # --- what time ends ---

    def _arm(self) -> None:
        if not self._is_armed:
            self._is_armed = True
            self._loop.call_later(self._idle_s, self._sweep)

    def _sweep(self) -> None:
        """Remove what has rested long enough: failed workers, and idle ones beyond those that are kept."""
        self._is_armed = False
        now = self._monotonic()
        over = now - self._idle_s + EARLY_S
        for worker in [one for one in self.workers.values() if one.status == "failed" and one.since <= over]:
            del self.workers[worker.worker_id]
        spare = self._sound() - self._kept
        while spare > 0 and self._idle and self._idle[0].since <= over:
            del self.workers[self._idle.pop(0).worker_id]
            spare -= 1
        for _ in range(min(-spare, max(self.most, self._kept) - len(self.workers))):
            self.put_back(self._hired())
        self._replace()
        resting = [one.since for one in self.workers.values() if one.status == "failed"]
        if spare > 0 and self._idle:
            resting.append(self._idle[0].since)
        if resting:
            self._is_armed = True
            self._loop.call_later(min(resting) + self._idle_s - now, self._sweep)

    def _sound(self) -> int:
        return sum(worker.status != "failed" and not worker.is_last for worker in self.workers.values())


def _mean_ms(seconds: float, number: int) -> float:
    return round(1000 * seconds / number, 3) if number else 0.0
