"""Live streams: each record once, in order, only when it is durable, and no reader that a run has to wait for."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentflow.ingress import sse
from agentflow.ingress import streams as streams_module
from agentflow.ingress.subscribers import MOST_BYTES, MOST_EVENTS, Subscriber, Told
from agentflow.stores.tables import Tables
from tests.ingress.conftest import TOKEN, Serve, Served

ALL = "/v1/events/stream"
ENDINGS = ("WorkflowCompleted", "WorkflowFailed", "WorkflowCancelled")


@dataclass
class Event:
    """One event of a stream."""

    id: str | None = None
    name: str = "message"
    data: Any = None


@dataclass
class Reader:
    """Reads a stream over a connection of its own."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    status: int = 0
    head: bytes = b""
    beats: int = 0
    last_id: str | None = None
    _rest: bytes = b""

    async def event(self, wait_s: float = 5.0) -> Event | None:
        """Return the next event; None at the end of the stream."""
        async with asyncio.timeout(wait_s):
            while True:
                block, found, rest = self._rest.partition(b"\n\n")
                if not found:
                    chunk = await self._chunk()
                    if chunk is None:
                        return None
                    self._rest += chunk
                    continue
                self._rest = rest
                event = self._parsed(block)
                if event is not None:
                    return event

    def _parsed(self, block: bytes) -> Event | None:
        event = parsed(block)
        self.beats += block == b":"
        self.last_id = event.id if event.id is not None else self.last_id
        return event if event.data is not None else None

    async def _chunk(self) -> bytes | None:
        try:
            size = int(await self.reader.readline() or b"0", 16)
            chunk = await self.reader.readexactly(size + 2)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return chunk[:-2] if size else None

    async def all(self) -> list[Event]:
        """Return all that comes until the stream ends."""
        found: list[Event] = []
        while (event := await self.event()) is not None:
            found.append(event)
        return found


def parsed(block: bytes) -> Event:
    """Return a block of lines as an event."""
    event = Event()
    for line in block.decode().split("\n"):
        name, _, value = line.partition(": ")
        if name == "id":
            event.id = value
        elif name == "event":
            event.name = value
        elif name == "data":
            event.data = json.loads(value)
    return event


@asynccontextmanager
async def live(it: Served, path: str, last_id: str | None = None, *, token: str = TOKEN, limit: int = 2**16) -> AsyncIterator[Reader]:
    """Open a stream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", it.port, limit=limit)
    lines = [f"GET {path} HTTP/1.1", f"Host: {it.host}", f"Authorization: Bearer {token}", "Accept: text/event-stream"]
    lines += [f"Last-Event-ID: {last_id}"] if last_id is not None else []
    writer.write("\r\n".join([*lines, "", ""]).encode())
    head = await reader.readuntil(b"\r\n\r\n")
    try:
        yield Reader(reader, writer, int(head.split()[1]), head)
    finally:
        writer.transport.abort()


async def emit(it: Served, count: int = 1, **data: Any) -> list[str]:
    """Send events, and return their runs."""
    answers = [await it.client.post("/v1/events", json={"data": data}) for _ in range(count)]
    return [answer.json()["run_id"] for answer in answers]


async def journal(it: Served, run_id: str) -> list[dict[str, Any]]:
    """Return a run's records, once it has ended."""
    async with asyncio.timeout(10):
        while True:
            records: list[dict[str, Any]] = (await it.client.get(f"/v1/runs/{run_id}/events")).json()
            if records and records[-1]["type"] in ENDINGS:
                return records
            await asyncio.sleep(0.01)


async def until(condition: Any) -> None:
    """Wait for something to come about."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def brief(event: Any, state: Any) -> dict[str, Any]:
    """Take a moment."""
    await asyncio.sleep(0.004)
    return {"seen": event.data.get("n")}


BRIEF = {"a": brief, "b": brief, "c": brief}


# --- one run ---


async def test_a_stream_tells_each_record_once_and_how_the_run_ended(serve: Serve) -> None:
    """`id` is the record's number; what it says is what the journal says; the last event tells the run's state."""
    async with serve(BRIEF) as it:
        (run_id,) = await emit(it, n=1)
        async with live(it, f"/v1/runs/{run_id}/events") as reader:
            *told, end = await reader.all()
        records = await journal(it, run_id)
        assert records == [event.data for event in told]
        assert [str(record["seq"]) for record in records] == [event.id for event in told]
        assert ("end", {"run_id": run_id, "state": "completed", "status": "completed"}) == (end.name, end.data)
        assert b"text/event-stream" in reader.head


async def test_a_run_that_has_ended_is_told_whole(serve: Serve) -> None:
    """From its first record, from `start`, or from behind the last id; who has all of it is told not to come back."""
    async with serve(BRIEF) as it:
        (run_id,) = await emit(it)
        records = await journal(it, run_id)
        for path, last_id, first in (("", None, 0), ("?start=3", None, 3), ("", "4", 5)):
            async with live(it, f"/v1/runs/{run_id}/events{path}", last_id) as reader:
                assert records[first:] == [event.data for event in (await reader.all())[:-1]]
        async with live(it, f"/v1/runs/{run_id}/events", str(len(records) - 1)) as reader:
            assert 204 == reader.status


@pytest.mark.parametrize(
    ("path", "last_id", "status"),
    [
        ("/v1/runs/{run}/events", "99", 422),
        ("/v1/runs/{run}/events", "-1", 422),
        ("/v1/runs/{run}/events", "one", 422),
        ("/v1/runs/{run}/events?start=99", None, 422),
        ("/v1/runs/{run}/events?limit=5", None, 422),
        ("/v1/runs/run-unknown/events", None, 404),
        (ALL, "7", 422),
        (ALL, "abcdef.eJxjAAAAAQAB.", 422),
        (ALL, "x" * 13_000, 422),
        (f"{ALL}?start=1", None, 422),
    ],
)
async def test_a_place_that_there_is_not_is_refused(serve: Serve, path: str, last_id: str | None, status: int) -> None:
    """Nobody is told something else than what they asked for."""
    async with serve(BRIEF) as it:
        (run_id,) = await emit(it)
        await journal(it, run_id)
        async with live(it, path.format(run=run_id), last_id) as reader:
            assert status == reader.status


async def test_a_stream_of_all_runs_has_to_be_asked_for_as_one(serve: Serve) -> None:
    """Who does not say that they take a stream is not given an answer without end; HEAD has an end, too."""
    async with serve(BRIEF) as it:
        assert 406 == (await it.ask("GET", ALL))[0]
        assert 200 == (await it.ask("HEAD", ALL, ("Accept", "text/event-stream")))[0]


async def test_only_what_is_durable_is_told(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a commit does not come to its end, neither stream tells anything of it."""
    gate, write = threading.Event(), Tables.write
    gate.set()

    def held(tables: Tables, appends: Any) -> Any:
        gate.wait(5)
        return write(tables, appends)

    async def step(event: Any, state: Any) -> None:
        await asyncio.sleep(0.1)
        gate.clear()

    monkeypatch.setattr(Tables, "write", held)
    async with serve({"step": step}) as it, live(it, ALL) as every:
        (run_id,) = await emit(it)
        async with live(it, f"/v1/runs/{run_id}/events") as reader:
            assert [0, 1] == [(await one.event()).data["seq"] for one in (reader, reader)]  # type: ignore[union-attr]
            assert [0, 1] == [(await one.event()).data["seq"] for one in (every, every)]  # type: ignore[union-attr]
            await until(lambda: not gate.is_set())
            for one in (reader, every):
                with pytest.raises(TimeoutError):
                    await one.event(0.2)
            gate.set()
            assert ["StepCompleted", "WorkflowCompleted"] == [event.data["type"] for event in (await reader.all())[:-1]]
            assert 2 == (await every.event()).data["seq"]  # type: ignore[union-attr]


# --- resuming ---


def read_some(port: int, path: str, last_id: str | None, most: int) -> tuple[int, bytes]:
    """Read so many bytes of a stream, or until it is silent, and break the connection; return the status and what was read."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=0.25)
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "text/event-stream"}
    try:
        connection.request("GET", path, headers=headers | ({} if last_id is None else {"Last-Event-ID": last_id}))
        answer = connection.getresponse()
        found = b""
        with suppress(TimeoutError):
            while len(found) < most and (piece := answer.read1(most - len(found))):
                found += piece
        return answer.status, found
    finally:
        connection.close()


def whole(found: bytes) -> list[Event]:
    """Return the events that are whole."""
    return [parsed(block) for block in found.split(b"\n\n")[:-1]]


def post(port: int, n: int) -> str:
    """Send an event, and return its run."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    body = json.dumps({"data": {"n": n, "text": "é\n\r\u2028: x"}}).encode()
    connection.request("POST", "/v1/events", body, {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"})
    run_id: str = json.loads(connection.getresponse().read())["run_id"]
    connection.close()
    return run_id


RESUMING = settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), database=None)


async def test_a_stream_that_is_cut_anywhere_resumes_without_gap_or_duplicate(serve: Serve) -> None:
    """However often and wherever a reader of one run is cut off: what it has read is the journal, each record once."""
    async with serve(BRIEF) as it:

        @RESUMING
        @given(st.lists(st.integers(1, 1500), max_size=8))
        def check(cuts: list[int]) -> None:
            path, last_id, seen = f"/v1/runs/{post(it.port, len(cuts))}/events", None, []
            for most in [*cuts, 10**9]:
                status, found = read_some(it.port, path, last_id, most)
                events = [event for event in whole(found) if event.id is not None]
                seen += [event.data for event in events]
                last_id = events[-1].id if events else last_id
                if status == 204:
                    break
            asked = http.client.HTTPConnection("127.0.0.1", it.port)
            asked.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
            assert json.loads(asked.getresponse().read()) == seen
            asked.close()

        await asyncio.to_thread(check)


async def test_a_stream_of_all_runs_that_is_cut_anywhere_resumes_without_gap_or_duplicate(serve: Serve) -> None:
    """As for one run, while several go on side by side: each run's records in order, and each once."""
    async with serve(BRIEF) as it:

        @RESUMING
        @given(st.lists(st.integers(40, 6000), max_size=5), st.integers(1, 5))
        def check(cuts: list[int], count: int) -> None:
            (last_id,) = [event.id for event in whole(read_some(it.port, ALL, None, 10_000)[1]) if event.id is not None]
            runs = [post(it.port, n) for n in range(count)]
            seen: dict[str, list[dict[str, Any]]] = {run_id: [] for run_id in runs}
            left = set(runs)
            for most in [*cuts, *[100_000] * 9]:
                _, found = read_some(it.port, ALL, last_id, most)
                for event in whole(found):
                    last_id = event.id if event.id is not None else last_id
                    if event.data is not None:
                        seen[event.data["run_id"]].append(event.data)
                        left -= {event.data["run_id"]} if event.data["type"] in ENDINGS else set()
                if not left:
                    break
            for run_id, told in seen.items():
                asked = http.client.HTTPConnection("127.0.0.1", it.port)
                asked.request("GET", f"/v1/runs/{run_id}/events", headers={"Authorization": f"Bearer {TOKEN}"})
                assert json.loads(asked.getresponse().read()) == told
                asked.close()

        await asyncio.to_thread(check)


async def test_a_stream_of_all_runs_goes_on_with_the_next_process(serve: Serve) -> None:
    """Its ids are of the journal, not of the process that gave them; `0` is the journal's beginning."""
    async with serve(BRIEF) as it:
        async with live(it, ALL) as reader:
            (first,) = await emit(it)
            while (event := await reader.event()) is not None and event.data["seq"] < 3:
                pass
            last_id = reader.last_id
        (second,) = await emit(it)
        records = (await journal(it, first))[4:] + await journal(it, second)
    async with serve(BRIEF) as it:
        async with live(it, ALL, last_id) as reader:
            told = [(await reader.event()) for _ in records]
            assert records == [event.data for event in told if event is not None]
            (third,) = await emit(it)
            assert third == (await reader.event()).data["run_id"]  # type: ignore[union-attr]
        async with live(it, ALL, "0") as reader:
            assert await journal(it, first) == [(await reader.event()).data for _ in await journal(it, first)]  # type: ignore[union-attr]


def until_set(release: asyncio.Event) -> Any:
    """Return a handler that waits for an event."""

    async def wait(event: Any, state: Any) -> None:
        await release.wait()

    return wait


async def gated(it: Served) -> str:
    """Begin a run that waits in its step, and return it once that is recorded."""
    (run_id,) = await emit(it)
    while len((await it.client.get(f"/v1/runs/{run_id}/events")).json()) < 2:
        await asyncio.sleep(0.01)
    return run_id


async def test_what_is_announced_may_be_known_or_may_be_missing(serve: Serve) -> None:
    """What was read from the journal is not told again, and what was never announced is read there; here it is we who announce."""
    release = asyncio.Event()
    async with serve({"wait": until_set(release)}) as it:
        run_id, streams = await gated(it), it.http.streams
        reader = streams.enter("me", it.http.tokens.generation)
        (number,) = (await streams.feed.numbers([run_id])).values()
        chunks = sse.of_run(streams, reader, number, run_id, 0)
        told = await anext(chunks)
        following = asyncio.ensure_future(anext(chunks))
        await until(lambda: run_id in streams._of_run)
        streams.unfollow(run_id, reader)
        release.set()
        await journal(it, run_id)
        for seq in (1, 3):
            reader.offer(Told(seq, b"id: announced\n\n"))
        reader.wake()
        async with asyncio.timeout(5):
            told += await following
            told += b"".join([chunk async for chunk in chunks])
        streams.leave(reader)
        assert ["0", "1", "2", "3", None] == [event.id for event in whole(told) if event.data is not None]


async def test_a_gap_in_what_is_announced_of_all_runs_ends_the_stream(serve: Serve) -> None:
    """Nothing is skipped: the reader comes back with the id that it has seen, and the journal has the rest."""
    release = asyncio.Event()
    async with serve({"wait": until_set(release)}) as it:
        async with live(it, ALL) as reader:
            run_id, streams = await gated(it), it.http.streams
            assert [0, 1] == [(await reader.event()).data["seq"] for _ in range(2)]  # type: ignore[union-attr]
            head = streams._head
            assert head is not None
            head.reach.next_seqs = {number: seq - 1 for number, seq in head.reach.next_seqs.items()}
            release.set()
            assert [] == await reader.all()
        async with live(it, ALL, reader.last_id) as again:
            assert [2, 3] == [(await again.event()).data["seq"] for _ in range(2)]  # type: ignore[union-attr]
        assert "completed" == (await it.client.get(f"/v1/runs/{run_id}")).json()["state_name"]


# --- readers that are slow, or gone ---


def large(text: str) -> dict[str, Any]:
    """Return data that fills the buffers of a connection soon."""
    return {"text": text * 100_000}


async def shut(it: Served, path: str, last_id: str | None = None) -> socket.socket:
    """Open a stream over a connection with hardly any buffer, and read nothing of it."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.setblocking(False)
    await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", it.port))
    lines = [f"GET {path} HTTP/1.1", f"Host: {it.host}", f"Authorization: Bearer {TOKEN}", "Accept: text/event-stream"]
    lines += [f"Last-Event-ID: {last_id}"] if last_id is not None else []
    before = len(it.http.streams._readers)
    await asyncio.get_running_loop().sock_sendall(one, "\r\n".join([*lines, "", ""]).encode())
    await until(lambda: len(it.http.streams._readers) > before)
    return one


def unchunked(body: bytes) -> bytes:
    """Return what stands in chunks, as far as they are whole."""
    found = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if not length or len(body) < length + 2:
            break
        found, body = found + body[:length], body[length + 2 :]
    return found


async def test_a_reader_that_falls_behind_is_disconnected_and_misses_nothing(serve: Serve) -> None:
    """No run waits for it; with the last id that it has seen it is told all the rest, and nothing twice."""
    async with serve(BRIEF) as it:
        one = await shut(it, ALL)
        runs = await emit(it, 120, **large("x"))
        records = [(run_id, record["seq"]) for run_id in runs for record in await journal(it, run_id)]
        await until(lambda: not it.http.streams._readers)
        found = b""
        with suppress(ConnectionError, TimeoutError):
            while piece := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(one, 1 << 20), 1):
                found += piece
        one.close()
        events = [event for event in whole(unchunked(found.partition(b"\r\n\r\n")[2])) if event.id is not None]
        seen = [(event.data["run_id"], event.data["seq"]) for event in events if event.data is not None]
        assert 0 < len(seen) < len(records)
        async with live(it, ALL, events[-1].id) as reader:
            while len(seen) < len(records):
                event = await reader.event()
                assert event is not None
                seen.append((event.data["run_id"], event.data["seq"]))
        assert sorted(records) == sorted(seen)


def test_what_waits_for_a_reader_is_bounded() -> None:
    """256 events or 1 MB; one event alone may be larger, or nobody could ever read it."""
    for frame, most in ((b"x", MOST_EVENTS), (b"x" * 5000, MOST_BYTES // 5000), (b"x" * (MOST_BYTES + 1), 1)):
        reader = Subscriber("me", 0, 0.0)
        for seq in range(most):
            reader.offer(Told(seq, frame))
        assert (reader.fault, reader.length) == (None, most)
        reader.offer(Told(most, frame))
        assert ("slow", 0, 0) == (reader.fault, reader.length, reader.size)


async def test_a_write_that_stalls_ends_the_stream(serve: Serve) -> None:
    """After 20 s in which nothing was read; it is the injected clock that goes on here."""
    async with serve(BRIEF) as it:
        for run_id in await emit(it, 100, **large("x")):
            await journal(it, run_id)
        streams = it.http.streams
        one = await shut(it, ALL, "0")
        (reader,) = streams._readers
        await until(lambda: reader.writing_since is not None and reader.written_at > 0)
        await asyncio.sleep(0.3)
        now = streams.monotonic()
        streams.monotonic = lambda: now + 19
        streams.look()
        assert reader.fault is None
        streams.monotonic = lambda: now + 21
        streams.look()
        assert reader.fault == "stalled"
        await until(lambda: not streams._readers)
        one.close()


async def test_a_silent_stream_has_a_heartbeat(serve: Serve) -> None:
    """A comment when nothing was written for 15 s, and not before; the injected clock goes on."""
    release = asyncio.Event()

    async with serve({"wait": until_set(release)}) as it:
        (run_id,) = await emit(it)
        async with live(it, f"/v1/runs/{run_id}/events") as reader, live(it, f"/v1/runs/{run_id}/events", "1") as other:
            assert [0, 1] == [(await reader.event()).data["seq"] for _ in range(2)]  # type: ignore[union-attr]
            streams = it.http.streams
            now = streams.monotonic()
            for after_s, beats in ((14, 0), (16, 1), (30, 1), (32, 2)):
                streams.monotonic = lambda after_s=after_s: now + after_s  # type: ignore[misc]
                streams.look()
                with pytest.raises(TimeoutError):
                    await reader.event(0.4)
                assert beats == reader.beats
            release.set()
            assert ["end", "end"] == [(await one.all())[-1].name for one in (reader, other)]


async def test_a_reader_that_goes_takes_nothing_with_it(serve: Serve) -> None:
    """Its connection is reset in the middle of the run: the run ends as ever, and nothing of the reader is left."""
    async with serve(BRIEF) as it:
        (run_id,) = await emit(it)
        for path in (f"/v1/runs/{run_id}/events", ALL):
            async with live(it, path) as reader:
                await reader.event() if path != ALL else None
                sock = reader.writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        assert "WorkflowCompleted" == (await journal(it, run_id))[-1]["type"]
        streams = it.http.streams
        await until(lambda: not streams._readers and not streams._of_run and not streams._of_all)
        assert (None, None) == (streams._telling, streams._ticking)


async def test_a_token_that_is_replaced_ends_the_streams_that_it_let_in(serve: Serve) -> None:
    """S26: within a second; with the new one it goes on where it was."""
    async with serve({"wait": lambda event, state: asyncio.sleep(30)}, runner={"drain_timeout_seconds": 0.1}) as it:
        (run_id,) = await emit(it)
        async with live(it, f"/v1/runs/{run_id}/events") as reader, live(it, ALL) as every:
            assert 0 == (await reader.event()).data["seq"]  # type: ignore[union-attr]
            last_id = reader.last_id
            file = it.folder / "token"
            new = file.with_name("new")
            new.write_text("another-token-of-32-characters-00\n")
            new.chmod(0o600)
            new.replace(file)
            began = asyncio.get_running_loop().time()
            for one in (reader, every):
                while await one.event(2) is not None:
                    pass
            assert asyncio.get_running_loop().time() - began < 1.2
        async with live(it, f"/v1/runs/{run_id}/events", last_id) as reader:
            assert 401 == reader.status
        async with live(it, f"/v1/runs/{run_id}/events", last_id, token="another-token-of-32-characters-00") as reader:
            assert 1 == (await reader.event()).data["seq"]  # type: ignore[union-attr]


async def test_one_client_has_a_limited_number_of_streams(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """More are refused with 429 and `Retry-After`, until one of them has ended."""
    monkeypatch.setattr(streams_module, "MOST_OF_CLIENT", 2)
    async with serve(BRIEF) as it, live(it, ALL) as first:
        async with live(it, ALL), live(it, ALL) as refused:
            assert (200, 429) == (first.status, refused.status)
            assert b"retry-after" in refused.head.lower()
        await until(lambda: len(it.http.streams._readers) == 1)
        async with live(it, ALL) as again:
            assert 200 == again.status


async def test_streams_end_when_the_service_does(serve: Serve) -> None:
    """What the last runs came to is told before."""
    async with serve(BRIEF) as it:
        (run_id,) = await emit(it)
        async with live(it, f"/v1/runs/{run_id}/events") as reader, live(it, ALL) as every:
            await it.service.stop()
            assert "end" == (await reader.all())[-1].name
            await every.all()


async def test_streams_tell_no_secrets(serve: Serve) -> None:
    """I12: what a stream says of a run is what the journal says, and neither has the token or a header of the request."""

    async def fail(event: Any, state: Any) -> None:
        raise ValueError("no luck")

    async with serve({"fail": fail}) as it:
        (run_id,) = await emit(it)
        await journal(it, run_id)
        answer = await it.ask("GET", f"/v1/runs/{run_id}/events", ("Accept", "text/event-stream"), ("X-Secret", "hunter-2-hunter"))
        assert b"no luck" in answer[2]
        assert TOKEN.encode() not in answer[2]
        assert b"hunter-2-hunter" not in answer[2]


async def test_many_records_at_once_reach_a_reader_that_reads(serve: Serve) -> None:
    """More than a buffer holds, in one commit: they are read from the journal, and nobody is disconnected."""

    many = {f"p{n}": brief for n in range(300)}
    tables = {"orchestration": {"mode": "collaborative", "collaborative_agents": list(many)}}
    async with serve(many, **tables) as it, live(it, ALL) as every:
        (run_id,) = await emit(it)
        async with live(it, f"/v1/runs/{run_id}/events") as reader:
            *told, end = await reader.all()
        records = await journal(it, run_id)
        assert len(records) > 2 * MOST_EVENTS
        assert records == [event.data for event in told]
        assert "end" == end.name
        assert records == [(await every.event()).data for _ in records]  # type: ignore[union-attr]


# --- cursors ---


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=120))
def test_a_cursor_says_how_far_each_run_is(steps: list[tuple[int, bool]]) -> None:
    """Its text, read back after any records of any runs, stands where it stood."""
    from agentflow.core.entry import Entry
    from agentflow.core.reach import Reach
    from agentflow.ingress.cursors import Cursor, reach_of

    cursor = Cursor(Reach("ab12"))
    for pick, is_end in steps:
        going = sorted(cursor.reach.next_seqs)
        number = going[pick] if pick < len(going) else cursor.reach.last + 1
        seq = cursor.reach.wanted(number) or 0
        cursor.take(number, Entry(seq, 1, 0.0, "WorkflowFailed" if is_end else "StepStarted", 1, b"", b""))
        assert cursor.reach == reach_of(cursor.text(), cursor.reach)


@given(st.text(alphabet="0123456789abcdefXyz._-", max_size=60) | st.binary(max_size=40).map(lambda told: f"ab.{told.hex()}."))
def test_what_is_no_cursor_is_refused(text: str) -> None:
    """Whatever a client sends, it is a place in the journal or an error that says so."""
    from agentflow.core.reach import Reach
    from agentflow.ingress.cursors import reach_of
    from agentflow.ingress.problems import RefusedError

    present = Reach("ab", 5)
    with suppress(RefusedError):
        assert reach_of(text, present).last <= 5
