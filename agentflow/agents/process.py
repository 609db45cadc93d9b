"""Handlers in processes of their own, which can be killed: spawned when first called, and kept for the next call."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from agentflow.agents.entrypoint import Address
from agentflow.agents.function import Handler, wants_context
from agentflow.agents.wire import Frames, Message, answer_of, error_of, error_row, packed
from agentflow.core.event import Event
from agentflow.core.result import AgentResult
from agentflow.core.state import State
from agentflow.errors import ProcessDiedError, RegistrationError
from agentflow.ports import Request

MOST_PROCESSES = 8  # of one agent, where nothing else is said
KILL_AFTER_S = 5.0  # from SIGTERM to SIGKILL
CLOSE_S = 2.0  # for a process that is not needed any more
LAST_WORDS_S = 1.0  # from its end until what it wrote must have come, where something else keeps its pipe open
OUTPUT = 1

_CAUSES = {
    "SIGKILL": "it was killed from outside, or used more memory than there is",
    "SIGSEGV": "C code that it calls has crashed",
    "SIGABRT": "C code that it calls has given up",
}


class Process(asyncio.SubprocessProtocol):
    """One process of one agent: answers one call at a time.

    `is_idle` says whether it can be given a call; `has_ended` is set when it is dead.
    """

    def __init__(self, agent: str) -> None:
        self.is_idle = False
        self._agent = agent
        self._call = 0
        self._frames = Frames()
        self._inbox: asyncio.Queue[Message | None] = asyncio.Queue()  # None: it is gone
        self.has_ended = asyncio.Event()
        self._is_at_end = False  # of what it wrote
        self._tasks: set[asyncio.Task[None]] = set()  # what it asked for
        self._works: dict[int, asyncio.Future[Message]] = {}  # what it does for `ctx.once`, by the number of its question
        self._transport: asyncio.SubprocessTransport

    # --- what its pipes tell ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Keep each message until it is asked for."""
        for message in self._frames.feed(data):
            self._inbox.put_nowait(message)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """Note that it writes no more."""
        if fd == OUTPUT:
            self._is_at_end = True
            if self.has_ended.is_set():
                self._lose()

    def process_exited(self) -> None:
        """Note that it has ended; what it wrote may still come."""
        self.has_ended.set()
        self._signal(signal.SIGKILL)  # what it has started; later its id may be another's
        if self._is_at_end:
            self._lose()
        else:
            asyncio.get_running_loop().call_later(LAST_WORDS_S, self._lose)

    def _lose(self) -> None:
        self.is_idle = False
        self._inbox.put_nowait(None)

    # --- calls ---

    def greet(self, address: Address) -> None:
        """Tell it which function it stands for."""
        self._send({"kind": "hello", "call": self._call, "agent": self._agent, "address": asdict(address)})
        self.is_idle = True

    async def ask(self, event: Event, state: State, context: Any) -> State | Mapping[str, Any] | AgentResult:
        """Have a call answered; the answer is written to `state` where the handler did so.

        Raises:
            ProcessDiedError: it ended before.
            BaseException: what the handler raised, see `wire.error_of`.
        """
        self._call += 1
        told = {name: getattr(context, name) for name in ("run_id", "position", "agent", "attempt", "session_id", "deadline", "input")}
        row = {"event": event.to_dict(), "state": state.clone().to_dict(), "context": {**told, "config": dict(context.config)}}
        data = packed({"kind": "call", "call": self._call, **row})
        self.is_idle = False
        self._write(data)
        try:
            while True:
                message = await self._inbox.get()
                if message is None:
                    raise self._death()
                if message["kind"] == "failed" and message["call"] in (0, self._call):
                    # 0 is the greeting: it could not import the handler, and ends.
                    self.is_idle = message["call"] != 0 and not self.has_ended.is_set()
                    raise error_of(message["error"], f"in process {self._transport.get_pid()}:")
                if message["call"] == self._call:
                    if message["kind"] == "answer":
                        self.is_idle = not self.has_ended.is_set()
                        return answer_of(message["answer"], state)
                    self._serve(message, context)
        finally:
            for task in self._tasks:
                task.cancel()

    def _serve(self, message: Message, context: Any) -> None:
        """Do what the handler wants of its `ctx`."""
        kind = message["kind"]
        if kind == "usage":
            context.record_usage(**message["figures"])
        elif kind == "log":
            getattr(context.log, message["level"])(message["event"], **message["fields"])
        elif kind == "done":
            self._works.pop(message["id"]).set_result(message)
        else:
            task = asyncio.get_running_loop().create_task(self._reply(message, context))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _reply(self, message: Message, context: Any) -> None:
        number = message["id"]
        row: Message = {"kind": "reply", "call": message["call"], "id": number}
        try:
            if message["what"] == "outputs":
                row["value"] = context.outputs
            elif message["what"] == "emit":
                row["value"] = context.emit(Event.from_dict(message["event"]))
            elif message["what"] == "send":
                context.send(message["to"], message["body"])
                row["value"] = None
            elif message["what"] == "checkpoint":
                row["value"] = await context.checkpoint()
            else:
                row["value"] = await context.once(message["key"], lambda: self._work(message["call"], number))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - what the handler raised in `ctx.once` comes back to it
            row["error"] = error_row(error)
        self._send(row)

    async def _work(self, call: int, number: int) -> Any:
        """Let the process do what stands in its `ctx.once`, and return the value."""
        self._works[number] = done = asyncio.get_running_loop().create_future()
        self._send({"kind": "do", "call": call, "id": number})
        message = await done
        if "error" in message:
            raise error_of(message["error"])
        return message["value"]

    def _send(self, message: Message) -> None:
        self._write(packed(message))

    def _write(self, data: bytes) -> None:
        pipe = self._transport.get_pipe_transport(0)
        if pipe is not None and not pipe.is_closing():  # else it is gone, which the inbox says
            pipe.write(data)  # type: ignore[attr-defined]

    # --- its end ---

    def _death(self) -> ProcessDiedError:
        code = self._transport.get_returncode() or 0
        how = f"exit code {code}"
        hint = "the handler, or something that it calls, ended the process"
        if code < 0:
            with suppress(ValueError):
                how = f"killed by {signal.Signals(-code).name}"
            hint = _CAUSES.get(how.rpartition(" ")[2], "")
        return ProcessDiedError(f"the process of agent `{self._agent}` died before it answered: {how}", hint=hint)

    async def end(self) -> None:
        """Have it end by SIGTERM, after five seconds or at a cancellation by SIGKILL, and return when it is dead."""
        self._signal(signal.SIGTERM)
        await self._ended_within(KILL_AFTER_S)

    async def close(self) -> None:
        """Let it end by itself, as it is needed no more; soon it is killed."""
        pipe = self._transport.get_pipe_transport(0)
        if pipe is not None:
            pipe.close()
        await self._ended_within(CLOSE_S)

    async def _ended_within(self, limit_s: float) -> None:
        with suppress(TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(limit_s):
                await self.has_ended.wait()
        if not self.has_ended.is_set():
            self._signal(signal.SIGKILL)
            await self.has_ended.wait()

    def drop(self) -> None:
        """Let go of it: it is killed, with the processes that it has started."""
        self.is_idle = False
        if not self.has_ended.is_set():
            self._signal(signal.SIGKILL)
        with suppress(RuntimeError):  # the loop is closed, and its coroutines are being thrown away
            self._transport.close()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._transport.get_pid(), number)  # it leads a session of its own


def _environment() -> dict[str, str]:
    """Return the environment in which a process finds the modules that this one finds."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(place) for place in sys.path)}  # noqa: PTH100 - follows no links


class ProcessAgent:
    """A Python callable that runs in processes of its own, up to `most` at once; further calls wait for one.

    Raises:
        RegistrationError: it is no callable, or does not take `(event, state)` or `(event, state, ctx)`.
    """

    def __init__(self, name: str, function: Handler, most: int = MOST_PROCESSES) -> None:
        wants_context(name, function)
        self.name = name
        self.function = function
        self._address: Address | None = None
        self._places = asyncio.Semaphore(most)
        self._idle: list[Process] = []
        self._all: list[Process] = []  # those that have ended stay until the next one is started

    def locate(self, address_of: Callable[[str, Handler], Address]) -> None:
        """Find out where a process finds the function.

        Raises:
            RegistrationError: nowhere.
        """
        if not sys.executable:
            raise RegistrationError(f'agent `{self.name}` has isolation = "process", but this program has no Python to start')
        self._address = address_of(self.name, self.function)

    async def invoke(self, request: Request) -> object:
        """Answer a call in a process; when it is cancelled the process is killed."""
        event, state, context = request.event, request.state, request.context
        async with self._places:
            process = await self._free()
            try:
                return await process.ask(event, state, context)
            except asyncio.CancelledError:
                await process.end()
                raise
            finally:
                if process.is_idle:
                    self._idle.append(process)
                else:
                    process.drop()

    async def _free(self) -> Process:
        while self._idle:
            process = self._idle.pop()
            if process.is_idle:
                return process
            process.drop()
        assert self._address is not None  # noqa: S101 - a runner locates it before it starts
        command = [sys.executable, "-P", "-m", "agentflow.agents.child", self.name, str(os.getpid()), os.environ.get("PYTHONPATH", "")]
        _, process = await asyncio.get_running_loop().subprocess_exec(
            lambda: Process(self.name), *command, stderr=None, env=_environment(), start_new_session=True
        )
        self._all = [*(one for one in self._all if not one.has_ended.is_set()), process]
        process.greet(self._address)
        return process

    async def close(self) -> None:
        """End all processes."""
        await asyncio.gather(*(process.close() for process in self._all))
        for process in self._all:
            process.drop()
