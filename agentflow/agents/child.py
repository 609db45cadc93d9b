"""The process of a handler, seen from inside: `python -m agentflow.agents.child AGENT`, started by agents/process.py.

Calls come in on what was standard input and are answered on what was standard output; the handler's own standard output is
standard error. SIGTERM cancels an async handler and raises SystemExit in a sync one; then the process ends.
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import inspect
import itertools
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from types import FrameType
from typing import Any, BinaryIO

from agentflow.agents.entrypoint import Address, Finder
from agentflow.agents.function import Handler, is_async, wants_context
from agentflow.agents.own_loop import caught
from agentflow.agents.wire import Frames, Message, answer_row, emitted_row, error_of, error_row, packed
from agentflow.core.event import Event
from agentflow.core.result import Usage
from agentflow.core.state import Scope, State
from agentflow.core.values import Json, adopt, check_key
from agentflow.errors import RunnerStateError

TERMINATED = 128 + signal.SIGTERM
PARENT_DEATH_SIGNAL = 1  # of Linux's prctl
CHUNK = 1 << 16


class Channel:
    """The two pipes to the runner. A thread reads, so that a handler which blocks can still ask the runner something."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self.calls: queue.SimpleQueue[Message | None] = queue.SimpleQueue()  # None: the runner wants no more of this process
        self.finished = 0  # how many of them are dealt with
        self._taken = 0
        self._incoming = incoming
        self._outgoing: BinaryIO = os.fdopen(outgoing, "wb")
        self._writing = threading.Lock()
        self._numbers = itertools.count(1)
        self._asked: dict[int, Future[Message]] = {}
        self._work: dict[int, Callable[[], None]] = {}  # what `ctx.once` is to do when the runner says so

    def listen(self) -> None:
        """Begin to read."""
        threading.Thread(target=self._read, daemon=True, name="agentflow-channel").start()

    def send(self, kind: str, call: int, **fields: Any) -> None:
        """Send a message about a call."""
        data = packed({"kind": kind, "call": call, **fields})
        with self._writing:
            self._outgoing.write(data)
            self._outgoing.flush()

    def ask(self, call: int, what: str, work: Callable[[int], None] | None = None, **fields: Any) -> Future[Message]:
        """Ask the runner something; the future has its reply. `work` is begun, with the question's number, when it says so."""
        number = next(self._numbers)
        reply: Future[Message] = Future()
        self._asked[number] = reply
        if work is not None:
            self._work[number] = lambda: work(number)
        self.send("ask", call, id=number, what=what, **fields)
        return reply

    def _read(self) -> None:
        frames = Frames()
        with suppress(OSError):
            while data := os.read(self._incoming, CHUNK):
                for message in frames.feed(data):
                    self._take(message)
        if self._taken > self.finished:
            os.killpg(os.getpgrp(), signal.SIGKILL)  # the runner is gone: nobody waits for the answer
        self.calls.put(None)

    def _take(self, message: Message) -> None:
        if message["kind"] == "reply":
            self._work.pop(message["id"], None)
            with suppress(InvalidStateError):  # who asked was cancelled
                self._asked.pop(message["id"]).set_result(message)
        elif message["kind"] == "do":
            self._work.pop(message["id"])()
        else:
            self._taken += 1
            self.calls.put(message)


class Log:
    """The `ctx.log` of a handler in a process of its own: its lines are written by the runner."""

    def __init__(self, channel: Channel, call: int, fields: dict[str, Any]) -> None:
        self._channel = channel
        self._call = call
        self._fields = fields

    def bind(self, **fields: Any) -> Log:
        """Return a log with more fields on each line."""
        return Log(self._channel, self._call, {**self._fields, **fields})

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        self._channel.send("log", self._call, level=level, event=str(event), fields={**self._fields, **fields})

    def debug(self, event: str, **fields: Any) -> None:
        """Write a line of level debug."""
        self._write("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Write a line of level info."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Write a line of level warning."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Write a line of level error."""
        self._write("error", event, fields)

    def critical(self, event: str, **fields: Any) -> None:
        """Write a line of level critical."""
        self._write("critical", event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """Write a line of level error with the traceback of the exception that is being handled."""
        error = sys.exc_info()[1]
        self._write("error", event, fields if error is None else {**fields, "exception": error_row(error)["trace"]})


class ProcessContext:
    """The `ctx` of a handler in a process of its own: as agentflow.engine.context.Context has it."""

    def __init__(self, channel: Channel, call: Message) -> None:
        row = call["context"]
        self._channel = channel
        self._call: int = call["call"]
        self.run_id: str = row["run_id"]
        self.position: str = row["position"]
        self.agent: str = row["agent"]
        self.attempt: int = row["attempt"]
        self.session_id: str | None = row["session_id"]
        self.deadline: float = row["deadline"]
        self.config: dict[str, Any] = row["config"]
        self.input: Json = row["input"]
        self.log = Log(channel, self._call, {})

    @property
    def idempotency_key(self) -> str:
        """32 hex digits, the same for each attempt of this step and for no other step."""
        return hashlib.sha256(f"{self.run_id}/{self.position}".encode()).hexdigest()[:32]

    @property
    def outputs(self) -> dict[str, dict[str, Json]]:
        """What each agent and nested flow has set so far, by name; asked of the runner each time."""
        return _value_of(self._channel.ask(self._call, "outputs").result())  # type: ignore[no-any-return]

    def send(self, name: str, body: object) -> None:
        """Send a message to another member of the peer_to_peer flow; the runner keeps it until this step has its answer.

        Raises:
            RoutingError, InvalidValueError: as in the runner.
        """
        _value_of(self._channel.ask(self._call, "send", to=name, body=adopt(body, "ctx.send")).result())

    def emit(self, event: Event) -> str:
        """Emit an event once this step is done, and return the id of its run; the runner keeps it until then.

        Raises:
            InvalidEventError, InvalidValueError: the event is not valid, or has an id.
            EventLimitError, RoutingError, RunnerStateError: as in the runner.
        """
        return _value_of(self._channel.ask(self._call, "emit", event=emitted_row(event)).result())  # type: ignore[no-any-return]

    def background(self, work: Coroutine[Any, Any, object]) -> None:
        """Refuse: the process is another call's when the handler has returned.

        Raises:
            RunnerStateError: always.
        """
        work.close()
        hint = 'use ctx.emit, an agent with `background = true`, or isolation = "thread"'
        raise RunnerStateError("ctx.background: nothing goes on in a handler's own process once the handler has returned", hint=hint)

    def record_usage(self, **figures: Any) -> None:
        """Add to the run's usage, at once.

        Raises:
            InvalidValueError: a figure is negative or no number.
        """
        Usage().add(**figures)
        self._channel.send("usage", self._call, figures=figures)

    async def checkpoint(self) -> dict[str, Json]:
        """Make all that was recorded of the run durable.

        Raises:
            RunnerStateError: nothing of the run is recorded.
        """
        return _value_of(await asyncio.wrap_future(self._channel.ask(self._call, "checkpoint")))  # type: ignore[no-any-return]

    async def once(self, key: str, function: Callable[[], Any]) -> Any:
        """Do something once for this step, in this process; the runner keeps its value.

        Raises:
            InvalidValueError: the key is no text, or the value is not JSON.
            StoreError: the value cannot be recorded.
        """
        check_key(key, "ctx.once")
        loop = asyncio.get_running_loop()
        raised: list[BaseException] = []
        tasks: set[asyncio.Task[None]] = set()  # the loop itself keeps none from being collected

        async def work(number: int) -> None:
            try:
                value = function()
                if inspect.isawaitable(value):
                    value = await value
                self._channel.send("done", self._call, id=number, value=adopt(value, f"ctx.once({key!r})"))
            except BaseException as error:  # noqa: BLE001 - user code may raise anything
                raised.append(error)
                self._channel.send("done", self._call, id=number, error=error_row(error))

        def begin(number: int) -> None:
            loop.call_soon_threadsafe(lambda: tasks.add(loop.create_task(work(number))))

        reply = await asyncio.wrap_future(self._channel.ask(self._call, "once", begin, key=key))
        if raised:
            raise raised[0]
        return _value_of(reply)


def _value_of(reply: Message) -> Any:
    if "error" in reply:
        raise error_of(reply["error"], "in the runner:")
    return reply["value"]


class Child:
    """Answers calls, one after the other, in the main thread; its event loop stays, for what handlers bind to it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._is_ending = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    def serve(self) -> None:
        """Answer calls until the runner wants no more."""
        signal.signal(signal.SIGTERM, self._end)
        hello = self._channel.calls.get()
        if hello is None:
            return
        try:
            handler = Finder([], lambda text: None).at(Address(**hello["address"]))  # the runner has warned already
            takes_context = wants_context(hello["agent"], handler)
        except BaseException as error:  # noqa: BLE001 - importing user code may raise anything
            self._channel.send("failed", hello["call"], error=error_row(error))
            return
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._channel.finished = 1
            while (call := self._channel.calls.get()) is not None:
                kind, row = self._answer(runner, call, hello["agent"], handler, takes_context)
                if self._is_ending:
                    raise SystemExit(TERMINATED)
                self._channel.finished += 1
                self._channel.send(kind, call["call"], **row)

    def _answer(self, runner: asyncio.Runner, call: Message, agent: str, handler: Handler, takes_context: bool) -> tuple[str, Message]:
        scope = Scope(call["state"]["data"], call["state"]["meta"])
        event, state = Event.from_dict(call["event"]), State.over(scope)
        arguments = (event, state, ProcessContext(self._channel, call)) if takes_context else (event, state)
        if is_async(handler):
            returned, error = runner.run(self._awaited(handler, arguments))
        else:
            returned, error = caught(handler, arguments)
            if inspect.isawaitable(returned):
                returned, error = runner.run(self._awaited(lambda: returned, ()))
        if error is None:
            try:
                return "answer", {"answer": answer_row(agent, returned, state, scope)}
            except Exception as refusal:  # noqa: BLE001 - it is the runner's to judge
                error = refusal
        return "failed", {"error": error_row(error)}

    async def _awaited(self, function: Handler, arguments: tuple[object, ...]) -> tuple[object, BaseException | None]:
        self._task = asyncio.current_task()
        try:
            return await function(*arguments), None
        except BaseException as error:  # noqa: BLE001 - a handler may raise anything
            return None, error
        finally:
            self._task = None

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._is_ending = True
        task = self._task
        if task is None or self._loop is None:
            raise SystemExit(TERMINATED)
        self._loop.call_soon_threadsafe(task.cancel)


def _pipes() -> tuple[int, int]:
    """Return the pipes to the runner, and put others in their place: what a handler prints must not come between."""
    pipes = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # there is no standard error
        os.dup2(nothing, 1)
    os.close(nothing)
    if sys.stdout is not None:
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return pipes


def _die_with(parent: int) -> None:
    """End with the runner, however it ends, even while C code keeps Python from noticing. Only Linux can."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(TERMINATED)


def _forget_path(told: str) -> None:
    """Take the runner's module path out of the environment, before the handler starts processes of its own."""
    if told:
        os.environ["PYTHONPATH"] = told
    else:
        del os.environ["PYTHONPATH"]


def main() -> None:
    """Serve one runner; `sys.argv` has the agent's name, the runner's process id and its own PYTHONPATH."""
    _, parent, path = sys.argv[1:]
    _die_with(int(parent))
    _forget_path(path)
    sys.argv[1:] = []
    channel = Channel(*_pipes())
    channel.listen()
    Child(channel).serve()


if __name__ == "__main__":
    main()
