"""Milestones: what a workflow says of itself while it runs, for whoever listens. A slow listener never slows it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Self, TypeAlias

from agentflow.core.values import Json

WorkflowEvent: TypeAlias = dict[str, Json]
MOST_WAITING = 256


class Subscription:
    """An async iterator over a workflow's events, from `Workflow.subscribe()` on; it ends with the workflow.

    At most 256 wait. When more come the oldest are dropped, and the next thing it gives is `{"type": "lagged", "n": n}`.
    """

    def __init__(self) -> None:
        self._waiting: deque[WorkflowEvent] = deque()
        self._lagged = 0
        self._news = asyncio.Event()
        self._is_closed = False

    def put(self, event: WorkflowEvent) -> None:
        """Add an event; nothing is added after `close`."""
        if self._is_closed:
            return
        if len(self._waiting) == MOST_WAITING:
            self._waiting.popleft()
            self._lagged += 1
        self._waiting.append(dict(event))
        self._news.set()

    def close(self) -> None:
        """End it: what waits can still be read."""
        self._is_closed = True
        self._news.set()

    @property
    def is_closed(self) -> bool:
        """Whether nothing more comes."""
        return self._is_closed

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WorkflowEvent:
        while not self._waiting:
            if self._is_closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        if self._lagged:
            lagged, self._lagged = self._lagged, 0
            return {"type": "lagged", "n": lagged}
        return self._waiting.popleft()


class Milestones:
    """Gives events to subscriptions, in order."""

    def __init__(self) -> None:
        self._subscriptions: list[Subscription] = []

    def subscribe(self) -> Subscription:
        """Return a new subscription."""
        subscription = Subscription()
        self._subscriptions = [*(one for one in self._subscriptions if not one.is_closed), subscription]
        return subscription

    def tell(self, event: WorkflowEvent) -> None:
        """Give an event to all."""
        for subscription in self._subscriptions:
            subscription.put(event)

    def close(self) -> None:
        """End all subscriptions."""
        for subscription in self._subscriptions:
            subscription.close()
