"""Load on a service over HTTP: events come at a fixed rate, whether it keeps up or not; run with `python -m benchmarks.service_load`.

An answer's time counts from when the event was due, so that a service that stands still is not asked more gently meanwhile.
The service is a process of its own, its journal a file with durability "full". One step a run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

TOKEN = "0123456789abcdef0123456789abcdef"  # noqa: S105 - of a service that lives for this measurement
CONFIG = """
[agent_flow]
name = "load"
entrypoint = "handlers"
[orchestration]
mode = "sequential"
sequential_agents = ["step"]
[agents.step]
[journal]
url = "sqlite:{folder}/journal.db"
[runner]
queue_size = 100000
max_running = 100000
drain_timeout_seconds = 1
[serve]
port = {port}
token_file = "{folder}/token"
"""
HANDLERS = """
import asyncio

from agentflow import agent

@agent("step")
async def step(event, state):
    await asyncio.sleep(event.data.get("wait", 0))
    return {"n": event.data.get("n")}
"""


@dataclass
class Seen:
    """What came of the events."""

    times: list[float] = field(default_factory=list)  # of those accepted, in seconds from when each was due
    refused: int = 0
    failed: int = 0
    late: int = 0  # sent more than 5 ms after they were due: the load itself was too slow


def main() -> None:
    """Measure, and print a line of figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=500, help="events a second")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--streams", type=int, default=0, help="readers of the stream of one run each")
    parser.add_argument("--every", type=int, default=0, help="readers of the stream of all runs; each tenth of all reads nothing")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(asyncio.run(measured(Path(name), told))))


async def measured(folder: Path, told: argparse.Namespace) -> dict[str, object]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "handlers.py").write_text(HANDLERS)
    (folder / "config.toml").write_text(CONFIG.format(folder=folder, port=port))
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    command = [sys.executable, "-m", "agentflow", "serve", str(folder / "config.toml")]
    service = subprocess.Popen(command, stderr=(folder / "log").open("w"), cwd=folder, env={**os.environ, "PYTHONPATH": os.getcwd()})  # noqa: ASYNC220, PTH109
    try:
        await up(port)
        readers = await follow(port, told)
        await asyncio.sleep(0.5 if readers else 0)
        cpu = cpu_s(service.pid)
        seen, took_s = await load(port, told)
        drained_s = await drained(port, told.streams)
        figures = summary(seen, took_s, drained_s, told.rate)
        figures |= {"service_cpu_s": round(cpu_s(service.pid) - cpu, 2), "load_cpu_s": round(own_cpu_s(), 2), "rss_mb": rss_mb(service.pid)}
        figures["streams_left"] = sum(not one.done() for one in readers)
        figures |= await runs(port)
        for one in readers:
            one.cancel()
        return figures
    finally:
        service.terminate()
        service.wait(20)


async def up(port: int) -> None:
    for _ in range(400):
        with contextlib.suppress(OSError):
            if (await ask(port, "GET", "/readyz"))[0] == 200:
                return
        await asyncio.sleep(0.05)
    raise SystemExit("the service does not come up")


def request(port: int, method: str, path: str, body: bytes = b"", accept: str = "*/*") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {TOKEN}\r\nAccept: {accept}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


async def ask(port: int, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request(port, method, path, body))
        return await answer(reader)
    finally:
        writer.close()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return int(head.split(b" ", 2)[1]), await reader.readexactly(length)


async def load(port: int, told: argparse.Namespace) -> tuple[Seen, float]:
    """Send events when they are due, each by the next connection that is free."""
    seen, due = Seen(), asyncio.Queue[tuple[int, float]]()
    senders = [asyncio.ensure_future(send(port, due, seen)) for _ in range(told.connections)]
    began = time.perf_counter()
    count = int(told.rate * told.seconds)
    for n in range(count):
        at = began + n / told.rate
        if at > time.perf_counter():
            await asyncio.sleep(at - time.perf_counter())
        due.put_nowait((n, at))
    await due.join()
    took_s = time.perf_counter() - began
    for one in senders:
        one.cancel()
    return seen, took_s


async def send(port: int, due: asyncio.Queue[tuple[int, float]], seen: Seen) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while True:
        n, at = await due.get()
        seen.late += time.perf_counter() - at > 0.005
        writer.write(request(port, "POST", "/v1/events", json.dumps({"id": f"e{n}", "data": {"n": n}}).encode()))
        try:
            status, _ = await answer(reader)
        except (OSError, EOFError):
            seen.failed += 1
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        else:
            if status == 202:
                seen.times.append(time.perf_counter() - at)
            elif status in (429, 503):
                seen.refused += 1
            else:
                seen.failed += 1
        due.task_done()


async def follow(port: int, told: argparse.Namespace) -> list[asyncio.Task[None]]:
    """Open streams: of one run that waits for nothing, or of all; the first ones are never read."""
    paths = ["/v1/events/stream"] * told.every
    for n in range(told.streams):
        _, body = await ask(port, "POST", "/v1/events", json.dumps({"id": f"s{n}", "data": {"wait": 3600}}).encode())
        paths.append(f"/v1/runs/{json.loads(body)['run_id']}/events")
    return [asyncio.ensure_future(read(port, path, place)) for place, path in enumerate(paths)] if paths else []


async def read(port: int, path: str, place: int) -> None:
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.bind((f"127.0.0.{2 + place // 40}", 0))  # as many clients: one may have 50 streams
    one.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(one, ("127.0.0.1", port))
    await loop.sock_sendall(one, request(port, "GET", path, accept="text/event-stream"))
    if place % 10 == 0:
        await asyncio.sleep(3600)
    while await loop.sock_recv(one, 1 << 16):
        pass


async def drained(port: int, open_runs: int) -> float:
    """Wait until all runs but so many have ended, and return how long that took after the last event was accepted."""
    began = time.perf_counter()
    while True:
        _, body = await ask(port, "GET", f"/v1/runs?state=running&limit={open_runs + 1}")
        _, waiting = await ask(port, "GET", "/v1/runs?state=pending&limit=1")
        if len(json.loads(body)) <= open_runs and not json.loads(waiting):
            return time.perf_counter() - began
        await asyncio.sleep(0.05)


async def runs(port: int) -> dict[str, object]:
    """Return how long the last runs took from acceptance to their end."""
    _, body = await ask(port, "GET", "/v1/runs?limit=1000&state=completed")
    times = sorted(row["ended_at"] - row["started_at"] for row in json.loads(body))
    return {"run_p50_ms": ms(statistics.median(times)), "run_p99_ms": ms(times[int(len(times) * 0.99)])}


def summary(seen: Seen, took_s: float, drained_s: float, rate: float) -> dict[str, object]:
    times = sorted(seen.times)
    return {
        "offered_per_s": rate,
        "accepted": len(times),
        "accepted_per_s": round(len(times) / took_s),
        "runs_per_s": round(len(times) / (took_s + drained_s)),
        "accept_p50_ms": ms(times[len(times) // 2]),
        "accept_p99_ms": ms(times[int(len(times) * 0.99)]),
        "refused": seen.refused,
        "failed": seen.failed,
        "late": seen.late,
    }


def ms(seconds: float) -> float:
    return round(seconds * 1000, 2)


def cpu_s(pid: int) -> float:
    told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


def own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def rss_mb(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() >> 20


if __name__ == "__main__":
    main()
