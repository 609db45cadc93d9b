"""Server-sent events: a run's records, or those of all runs, as they become durable.

Each event has the `id` from which a reader goes on that comes back with it as `Last-Event-ID`. What it is told then is what it
would have been told: the journal's records, each once, each run's in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeAlias

from starlette.responses import Response

from agentflow.core.reach import Reach
from agentflow.errors import AgentflowError
from agentflow.ingress.cursors import Cursor
from agentflow.ingress.frames import MEDIA_TYPE, end_of, ending_of, event, frame_of
from agentflow.ingress.streams import Streams
from agentflow.ingress.subscribers import Subscriber, Told

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_ALIVE = b":\n\n"
_BEGIN = b"retry: 1000\n\n"
_HEADERS = {"Content-Type": f"{MEDIA_TYPE}; charset=utf-8", "X-Accel-Buffering": "no"}  # proxies are not to gather it
_CATCHING_UP = 3  # rounds through the journal, each shorter than the one before; from the last one on what comes is kept

Chunks: TypeAlias = AsyncGenerator[bytes, None]


class EventStream(Response):
    """An answer that goes on until the reader goes, is too slow, or there is nothing more to tell.

    Args:
        streams: whose reader it is.
        reader: who reads.
        chunks: gives what is written; it ends where the stream does.
    """

    def __init__(self, streams: Streams, reader: Subscriber, chunks: Callable[[], Chunks]) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._streams = streams
        self._reader = reader
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write until one of the two has enough."""
        reader = self._reader
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
                return
            tasks = [asyncio.ensure_future(one) for one in (self._write(send), _gone(receive), reader.ended.wait())]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                written, *_ = await asyncio.gather(*tasks, return_exceptions=True)
            if isinstance(written, Exception):
                raise written
        finally:
            self._streams.leave(reader)

    async def _write(self, send: Send) -> None:
        streams = self._streams
        async with aclosing(self._chunks()) as chunks:
            await self._send(send, _BEGIN)
            try:
                async for chunk in chunks:
                    await self._send(send, chunk)
            except AgentflowError as error:
                if not streams.is_closed:  # else the journal is, too, and the reader comes back to the next process
                    await self._send(send, event("error", code=error.code))
        if self._reader.fault is None:
            await send({"type": "http.response.body", "body": b""})

    async def _send(self, send: Send, chunk: bytes) -> None:
        reader, streams = self._reader, self._streams
        reader.writing_since = streams.monotonic()
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        reader.writing_since, reader.written_at = None, streams.monotonic()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def of_run(streams: Streams, reader: Subscriber, number: int, run_id: str, next_seq: int) -> Chunks:
    """Give the records of a run from number `next_seq` on, and at the end what the run came to.

    Raises:
        AgentflowError: the journal cannot be read.
    """
    place = _Place(streams, number, next_seq)
    async with aclosing(place.recorded()) as chunks:  # it may be much, and nothing is kept for the reader meanwhile
        async for chunk in chunks:
            yield chunk
    streams.follow(run_id, reader)
    try:
        while True:
            row = await streams.runner.row(run_id)  # before its records: what ends it is among them
            async with aclosing(place.recorded()) as chunks:
                async for chunk in chunks:
                    yield chunk
            if place.is_over() or not row.is_open:
                break
            while not (place.is_behind or place.is_over()):
                waiting = await reader.take()
                if reader.fault is not None:
                    return
                yield place.fitting(waiting) or _ALIVE
                if reader.is_finished and not place.is_over():
                    return
            if place.is_over():
                break
        yield place.ending or end_of(run_id, row.state, row.status)
    finally:
        streams.unfollow(run_id, reader)


class _Place:
    """Where the reader of one run is."""

    def __init__(self, streams: Streams, number: int, next_seq: int) -> None:
        self._feed = streams.feed
        self._number = number
        self._next_seq = next_seq
        self.is_behind = False
        self.ending = b""  # what is told behind the run's last record

    def is_over(self) -> bool:
        """Say whether the run's last record was given."""
        return bool(self.ending)

    async def recorded(self) -> Chunks:
        """Give what is recorded from here on."""
        self.is_behind = False
        stop = Reach("", self._number)
        while found := await self._feed.news(Reach("", self._number, {self._number: self._next_seq}), stop):
            self._next_seq = found[-1].entry.seq + 1
            self.ending = ending_of(found[-1].run_id, found[-1].entry)
            yield b"".join(frame_of(one.run_id, one.entry, str(one.entry.seq)) for one in found)

    def fitting(self, waiting: list[Told]) -> bytes:
        """Return what follows of what was announced; what was read from the journal already is left out."""
        frames: list[bytes] = []
        for told in waiting:
            if told.seq == self._next_seq:
                frames.append(told.frame)
                self._next_seq += 1
                self.ending = told.ending
            elif told.seq > self._next_seq:
                self.is_behind = True  # the journal has what is missing here
                break
        return b"".join(frames)


async def of_all(streams: Streams, reader: Subscriber, start: Reach | None) -> Chunks:
    """Give the records of all runs that are beyond `start`; None: those that come from now on.

    Raises:
        AgentflowError: the journal cannot be read.
    """
    await streams.enter_all()
    try:
        if start is None:
            start = await streams.follow_all(reader)
        else:
            for left in reversed(range(_CATCHING_UP)):
                stop = await (streams.head() if left else streams.follow_all(reader))
                async with aclosing(_between(streams, start, stop)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                start = stop
        yield f"id: {Cursor(start).text()}\n\n".encode()
        while True:
            waiting = await reader.take()
            if reader.fault is not None:
                return
            yield b"".join(told.frame for told in waiting) or _ALIVE
            if reader.is_finished:
                return
    finally:
        streams.leave_all(reader)


async def _between(streams: Streams, start: Reach, stop: Reach) -> Chunks:
    cursor = Cursor(start)
    while found := await streams.feed.news(cursor.reach, stop):
        frames: list[bytes] = []
        for one in found:
            cursor.take(one.number, one.entry)
            frames.append(frame_of(one.run_id, one.entry, cursor.text()))
        yield b"".join(frames)
