"""Streams: who reads live, and what they are told, made once for all of them. It only listens: no run waits for any of it.

Only what is durable is told: the store announces each commit. A reader that is behind reads the journal at its own pace, and
goes over to what is announced where the two meet.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from agentflow.core.append import Append
from agentflow.core.reach import Reach
from agentflow.errors import AgentflowError
from agentflow.ingress.cursors import Cursor
from agentflow.ingress.frames import ending_of, frame_of
from agentflow.ingress.problems import RETRY_S, refused
from agentflow.ingress.subscribers import MOST_EVENTS, Fault, Subscriber, Told
from agentflow.ports import Feed
from agentflow.runner import Runner

MOST_STREAMS = 500
MOST_OF_CLIENT = 50
HEARTBEAT_S = 15.0
STALL_S = 20.0
TICK_S = 0.25
_SHARE_S = 0.004  # of pause for each reader between two rounds of writing, so that many of them leave the loop to the runs
_LONGEST_PAUSE_S = 0.25
_SOME = MOST_EVENTS // 4  # events after which readers get their turn
_MOST_BACKLOG = 10_000  # appends that nobody was told of yet


class Streams:
    """The live streams of a service.

    Args:
        runner: whose runs.
        monotonic: tells seconds.
        is_current: whether what was let in under a generation of the token may go on.
    """

    def __init__(self, runner: Runner, monotonic: Callable[[], float], is_current: Callable[[int], bool]) -> None:
        self.runner = runner
        self.monotonic = monotonic
        self._is_current = is_current
        self._feed: Feed | None = None
        self._readers: set[Subscriber] = set()
        self._by_client: Counter[str] = Counter()
        self._of_run: dict[str, set[Subscriber]] = {}
        self._of_all: set[Subscriber] = set()
        self._followers = 0  # of all runs, whether they have caught up or not
        self._head: Cursor | None = None  # how far those of all runs were told
        self._numbers: dict[str, int] = {}  # of runs that go on
        self._backlog: list[Append] = []
        self._has_backlog = asyncio.Event()
        self._heading = asyncio.Lock()
        self._telling: asyncio.Task[None] | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._dirty: set[Subscriber] = set()
        self._flushing: asyncio.TimerHandle | None = None
        self.is_closed = False

    # --- readers ---

    @property
    def feed(self) -> Feed:
        """The journal; listened to from the first time on.

        Raises:
            RunnerStateError: nothing is recorded.
        """
        if self._feed is None:
            self._feed = self.runner.feed
            self._feed.listen(self.committed)
        return self._feed

    def enter(self, client: str, generation: int) -> Subscriber:
        """Return a new reader, who has to `leave`.

        Raises:
            RefusedError: there are too many, or the service is about to end.
        """
        if self.is_closed:
            raise refused(503, "AF0819", "the service is about to end", retry_s=RETRY_S)
        if len(self._readers) >= MOST_STREAMS or self._by_client[client] >= MOST_OF_CLIENT:
            told = f"too many live streams: {MOST_OF_CLIENT} of one client, {MOST_STREAMS} in all"
            raise refused(429, "AF0825", told, "end those that nobody reads", retry_s=RETRY_S)
        reader = Subscriber(client, generation, self.monotonic())
        self._readers.add(reader)
        self._by_client[client] += 1
        if self._ticking is None:
            self._ticking = asyncio.get_running_loop().create_task(self._tick(), name="agentflow-streams")
        return reader

    def leave(self, reader: Subscriber) -> None:
        """Forget a reader; twice is once."""
        if reader not in self._readers:
            return
        self._readers.discard(reader)
        self._dirty.discard(reader)
        self._by_client -= Counter((reader.client,))
        if not self._readers and self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None

    def close(self) -> None:
        """End all streams; no more begin."""
        self.is_closed = True
        for reader in self._readers:
            reader.finish()

    def _end(self, readers: Iterable[Subscriber], fault: Fault) -> None:
        for reader in tuple(readers):
            reader.close(fault)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.look()

    def look(self) -> None:
        """See to readers whose token is dead, who do not read, or who have heard nothing for long."""
        now = self.monotonic()
        for reader in tuple(self._readers):
            if not self._is_current(reader.generation):
                reader.close("token")
            elif reader.writing_since is not None and now - reader.writing_since > STALL_S:
                reader.close("stalled")
            elif now - reader.written_at >= HEARTBEAT_S:
                reader.wake()

    # --- one run ---

    def follow(self, run_id: str, reader: Subscriber) -> None:
        """Tell a reader what is recorded of a run from now on."""
        self._of_run.setdefault(run_id, set()).add(reader)

    def unfollow(self, run_id: str, reader: Subscriber) -> None:
        """Tell it no more."""
        readers = self._of_run.get(run_id, set())
        readers.discard(reader)
        if not readers:
            self._of_run.pop(run_id, None)

    def committed(self, appends: Sequence[Append]) -> None:
        """Hear what has become durable."""
        for append in appends:
            readers = self._of_run.get(append.run_id)
            if readers:
                self._tell(readers, append)
        if self._followers and self._telling is not None:
            self._backlog += [append for append in appends if append.entries]
            self._has_backlog.set()
            if len(self._backlog) > _MOST_BACKLOG:
                self._begin_anew("slow")

    def _tell(self, readers: set[Subscriber], append: Append) -> None:
        entries = append.entries if len(append.entries) <= _SOME else append.entries[-1:]  # who misses the others reads the journal
        try:
            news = [Told(entry.seq, frame_of(append.run_id, entry, str(entry.seq)), ending_of(append.run_id, entry)) for entry in entries]
        except AgentflowError:
            self._end(readers, "damaged")
            return
        for reader in readers:
            for told in news:
                reader.offer(told)
            self._touch(reader)

    # --- all runs ---

    async def enter_all(self) -> None:
        """Begin to keep up with all runs, for a reader that will have to `leave_all`.

        Raises:
            AgentflowError: the journal cannot be read.
        """
        self._followers += 1
        try:
            await self._keep_up()
        except BaseException:
            self._followers -= 1
            raise

    def leave_all(self, reader: Subscriber) -> None:
        """Tell a reader of all runs no more."""
        self._of_all.discard(reader)
        self._followers -= 1
        if not self._followers:
            self._begin_anew("lost")

    async def head(self) -> Reach:
        """Return how far readers of all runs were told, who have caught up.

        Raises:
            AgentflowError: the journal cannot be read.
        """
        return (await self._keep_up()).reach.copy()

    async def follow_all(self, reader: Subscriber) -> Reach:
        """Tell a reader what is recorded from now on, and return from where on that is.

        Raises:
            AgentflowError: the journal cannot be read.
        """
        head = await self._keep_up()
        self._of_all.add(reader)
        return head.reach.copy()

    async def _keep_up(self) -> Cursor:
        async with self._heading:
            if self._head is None:
                feed = self.feed
                self._backlog.clear()
                self._telling = asyncio.get_running_loop().create_task(self._tell_all(), name="agentflow-stream")
                try:
                    self._head = Cursor(await feed.reach())
                except BaseException:
                    self._begin_anew("lost")
                    raise
                self._has_backlog.set()
            return self._head

    def _begin_anew(self, fault: Fault) -> None:
        """Keep up no more; readers come back with the id that they have seen, and are told the rest from the journal."""
        self._end(self._of_all, fault)
        self._of_all.clear()
        self._head = None
        self._backlog.clear()
        self._numbers.clear()
        telling, self._telling = self._telling, None
        if telling is not None and telling is not asyncio.current_task():
            telling.cancel()

    async def _tell_all(self) -> None:
        fault: Fault = "lost"
        try:
            while True:
                await self._has_backlog.wait()
                self._has_backlog.clear()
                if not await self._tell_backlog():
                    break
                await asyncio.sleep(self._pause_s)
        except Exception as error:  # noqa: BLE001 - whatever it is, readers must not wait for what does not come
            self.runner.log.warn("streams_failed", {"readers": len(self._of_all)}, error)
            fault = "damaged"
        self._begin_anew(fault)

    async def _tell_backlog(self) -> bool:
        """Tell all readers what is new; False where something is missing."""
        if self._head is None:
            return True  # it is being found out
        appends, self._backlog = self._backlog, []
        unknown = {append.run_id for append in appends} - self._numbers.keys()
        if unknown:
            self._numbers.update(await self.feed.numbers(unknown))
        return await self._told(self._head, appends)

    async def _told(self, head: Cursor, appends: list[Append]) -> bool:
        """Tell all readers what is new; False where something is missing."""
        count = 0
        for append in appends:
            number = self._numbers.get(append.run_id)
            if number is None:
                continue  # it was deleted since
            for entry in append.entries:
                wanted = head.reach.wanted(number)
                if wanted is None or entry.seq < wanted:
                    continue
                if entry.seq > wanted:
                    return False
                head.take(number, entry)
                told = Told(entry.seq, frame_of(append.run_id, entry, head.text()))
                for reader in self._of_all:
                    reader.offer(told)
                count += 1
                if count % _SOME == 0:
                    await self._let_read()
            if head.reach.wanted(number) is None:
                self._numbers.pop(append.run_id, None)
        await self._let_read()
        return True

    async def _let_read(self) -> None:
        for reader in self._of_all:
            if reader.length:
                reader.wake()
        for _ in range(3):  # passes of the loop: to wake, to take and to write
            await asyncio.sleep(0)

    # --- when they read ---

    @property
    def _pause_s(self) -> float:
        return min(_LONGEST_PAUSE_S, _SHARE_S * len(self._readers))

    def _touch(self, reader: Subscriber) -> None:
        """Let a reader go on soon, together with the others."""
        self._dirty.add(reader)
        if reader.length >= _SOME:
            reader.wake()
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(self._pause_s, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        for reader in self._dirty:
            reader.wake()
        self._dirty.clear()
