"""Deadlines: one timer for all that is waiting, not one a step.

Items that wait equally long are due in the order they began to wait, so each length of time has one ordered dict and only
the heads are looked at. An item that begins a new wait of the same length keeps its old place and is only given a new
`due`: when the place comes up, the item moves to a heap, where its real time is kept. So a line of steps with one time
limit costs a dict entry in all, and nothing is kept of what was dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Generic, Protocol, TypeVar


class Expiring(Protocol):
    """Something that may wait: `due` is when its wait ends (inf: it does not wait), `place` where it is queued."""

    due: float
    place: float | None


Item = TypeVar("Item", bound=Expiring)
_IN_HEAP = -1.0
_MANY_QUEUES = 64
_LATE = -inf  # due now, and not yet acted upon


class Deadlines(Generic[Item]):
    """Calls `on_due(item)` once for each wait that is not ended before its time."""

    __slots__ = ("_armed_for", "_heap", "_loop", "_now", "_on_due", "_order", "_queues", "_stale", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, monotonic: Callable[[], float], on_due: Callable[[Item], None]) -> None:
        self._loop = loop
        self._now = monotonic  # the loop's own time
        self._on_due = on_due
        self._queues: dict[float, dict[Item, float]] = {}
        self._heap: list[tuple[float, int, Item]] = []
        self._stale = 0  # entries of the heap whose item was dropped or waits anew
        self._order = count()
        self._armed_for = inf
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: Item, delay_s: float, now: float | None = None) -> None:
        """Let `item` be due in `delay_s` seconds, instead of whatever it waited for."""
        due = item.due = (self._now() if now is None else now) + delay_s
        if item.place == delay_s:
            return
        if item.place is not None:
            self.drop(item)
            item.due = due
        queue = self._queues.get(delay_s)
        if queue is None:
            queue = self._queues[delay_s] = {}
        queue[item] = due
        item.place = delay_s
        if due < self._armed_for:
            self._arm(due)

    def drop(self, item: Item) -> None:
        """Forget `item`; nothing happens when it is not queued."""
        place = item.place
        item.due = inf
        item.place = None
        if place == _IN_HEAP:
            self._stale += 1  # its entry stays until it comes up, or until half of the heap is such
            if self._stale > len(self._heap) // 2:
                self._heap = [entry for entry in self._heap if entry[2].place == _IN_HEAP and entry[2].due == entry[0]]
                heapify(self._heap)
                self._stale = 0
        elif place is not None:
            queue = self._queues[place]
            queue.pop(item, None)
            if not queue and len(self._queues) > _MANY_QUEUES:  # lengths that come once each must not pile up
                del self._queues[place]

    def close(self) -> None:
        """Forget everything."""
        self._queues.clear()
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __len__(self) -> int:
        return len(self._heap) - self._stale + sum(map(len, self._queues.values()))

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = due
        self._timer = self._loop.call_at(due, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._armed_for = inf
        now = self._now() + 1e-6  # the loop may wake a little before the time it was asked for
        late = self._take_late(now)
        for item in late:
            if item.due == _LATE:  # else what was done for another one has dropped or renewed it
                item.due = inf
                self._on_due(item)
        heads = [queue[next(iter(queue))] for queue in self._queues.values() if queue]
        if self._heap:
            heads.append(self._heap[0][0])
        if heads and min(heads) < self._armed_for:
            self._arm(min(heads))

    def _take_late(self, now: float) -> list[Item]:
        late: list[Item] = []
        for delay_s, queue in list(self._queues.items()):
            while queue:
                item = next(iter(queue))
                if queue[item] > now:
                    break
                del queue[item]
                item.place = _IN_HEAP
                heappush(self._heap, (item.due, next(self._order), item))
            if not queue:
                del self._queues[delay_s]
        while self._heap and self._heap[0][0] <= now:
            due, _, item = heappop(self._heap)
            if item.place != _IN_HEAP or item.due != due:
                self._stale -= 1
                continue
            item.due = _LATE
            item.place = None
            late.append(item)
        return late
