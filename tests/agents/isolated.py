"""Handlers that run in processes of their own: a child imports this module by its name, so they stand by themselves."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from agentflow import AgentResult, Event, State
from agentflow.errors import AgentflowError

# --- answers of every kind, chosen by the event's `kind` ---


class CodedError(Exception):
    """An error with a code of its own."""

    code = "c-7"
    category = "network"


class DerivedError(CodedError, ConnectionError):
    """An error with several bases."""


class ProcessStarted(Exception):  # noqa: N818 - no error, but a way out
    """The handler's process has started, and that is all."""


class UnprintableError(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def _changed(state: State) -> State:
    state["list"].append(3)
    state["new"] = {"deep": [1, 2.5, None, True, "ü\u2028"]}
    del state["drop"]
    state.meta["tag"] = "t"
    del state.meta["old"]
    return state


def _raise(error: BaseException) -> None:
    raise error


KINDS: dict[str, Any] = {
    "nothing": lambda state: None,
    "changed state": _changed,
    "changed, nothing returned": lambda state: [_changed(state), None][1],
    "another state": lambda state: State({"only": 1}, {"m": "n"}),
    "a clone": lambda state: _changed(state.clone()),
    "mapping": lambda state: {"list": [9], "new": 1},
    "result": lambda state: AgentResult({"new": 1}, usage={"tokens": 7, "cost_usd": 0.5}, metadata={"k": "v"}),
    "result of a state": lambda state: AgentResult(_changed(state)),
    "result of another state": lambda state: AgentResult(State({"only": 1})),
    "unknown route": lambda state: AgentResult({"new": 1}, route="elsewhere"),
    "number": lambda state: 7,
    "not JSON": lambda state: {"new": {1, 2}},
    "not JSON, in place": lambda state: state["list"].append(1j),
    "bad usage": lambda state: AgentResult(usage={"tokens": -1}),
    "bad metadata": lambda state: AgentResult(metadata={"k": 1}),  # type: ignore[dict-item]
    "error": lambda state: _raise(ValueError("no")),
    "key error": lambda state: _raise(KeyError("k")),
    "coded": lambda state: _raise(CodedError("coded")),
    "derived": lambda state: _raise(DerivedError("derived")),
    "own kin": lambda state: _raise(AgentflowError("ours", hint="do better")),
    "bad text": lambda state: b"\xff".decode(),
    "unprintable": lambda state: _raise(UnprintableError()),
    "group": lambda state: _raise(ExceptionGroup("several", [ValueError("one"), KeyError("two")])),
    "exit": lambda state: _raise(SystemExit(3)),
    "interrupt": lambda state: _raise(KeyboardInterrupt()),
    "generator exit": lambda state: _raise(GeneratorExit()),
    "stop iteration": lambda state: _raise(StopIteration(7)),
    "cancelled by itself": lambda state: _raise(asyncio.CancelledError()),
    "recursion": lambda state: _deeper(),
    "memory": lambda state: _raise(MemoryError()),
}


def _deeper() -> int:
    return _deeper() + 1


def answer(event: Event, state: State) -> Any:
    """Answer in the way the event asks for."""
    event.data["mine"] = 1
    return KINDS[event.data["kind"]](state)


async def answer_later(event: Event, state: State) -> Any:
    """Answer in the way the event asks for, on a loop."""
    await asyncio.sleep(0)
    return answer(event, state)


def answer_by_coroutine(event: Event, state: State) -> Any:
    """Return a coroutine, as a decorator that is not async may."""
    return answer_later(event, state)


# --- what a handler is told, and may ask for ---


async def tell(event: Event, state: State, ctx: Any) -> dict[str, Any]:
    """Return all that `ctx` says."""
    ctx.record_usage(tokens=2, cost_usd=0.25)
    ctx.log.bind(a=1).warning("handler says", b=[2])
    names = ("run_id", "position", "agent", "attempt", "session_id", "idempotency_key", "config", "outputs")
    return {"told": {name: getattr(ctx, name) for name in names}, "is_early": 0 < ctx.deadline - time.time() <= 300}


def log_all(event: Event, state: State, ctx: Any) -> None:
    """Write a line of each level."""
    log = ctx.log.bind(who="me")
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(log, level)(f"a line of {level}", value=1)
    try:
        _raise(ValueError("seen"))
    except ValueError:
        log.exception("a line of an exception")


async def write(event: Event, state: State, ctx: Any) -> dict[str, Any]:
    """Answer a peer's message, at most once, and try to write to nobody; return what came of it."""
    if event.data["from"] == "":
        ctx.send(ctx.agent, {"said": 1})
        return {}
    try:
        ctx.send("nobody", 1)
    except AgentflowError as error:
        return {"body": event.data["body"], "input": ctx.input, "refused": type(error).__name__}
    return {}


async def spend_wrongly(event: Event, state: State, ctx: Any) -> None:
    """Record what no usage is."""
    ctx.record_usage(tokens=-1)


async def do_once(event: Event, state: State, ctx: Any) -> dict[str, Any]:
    """Do two things once each, and fail at the first attempt."""
    place = Path(event.data["place"])

    async def first() -> str:
        await asyncio.sleep(0)
        place.write_text(place.read_text() + "1") if place.exists() else place.write_text("1")
        return "first"

    done = await asyncio.gather(ctx.once("first", first), ctx.once("second", lambda: 2))
    if ctx.attempt == 1:
        raise ValueError("again")
    return {"done": done, "again": await ctx.once("first", first)}


async def fail_once(event: Event, state: State, ctx: Any) -> dict[str, Any]:
    """See that what is raised within `ctx.once` comes out of it as it is."""
    try:
        await ctx.once("k", lambda: _raise(CodedError("within")))
    except CodedError as error:
        return {"error": str(error)}
    return {}


async def ask_in_vain(event: Event, state: State, ctx: Any) -> dict[str, Any]:
    """Ask for a checkpoint where nothing is recorded."""
    try:
        return {"checkpoint": await ctx.checkpoint()}
    except AgentflowError as error:
        return {"code": error.code}


async def checkpoint(event: Event, state: State, ctx: Any) -> dict[str, Any]:
    """Ask for a checkpoint."""
    return {"checkpoint": (await ctx.checkpoint())["run_id"]}


# --- where it runs ---


def where(event: Event, state: State) -> dict[str, Any]:
    """Return this process's id, and print."""
    print("printed by the handler")
    return {"pid": os.getpid(), "path": os.environ.get("PYTHONPATH"), "stdin": sys.stdin.read(), "loops": id(asyncio)}


async def meet(event: Event, state: State) -> dict[str, Any]:
    """Wait until as many calls as the event says are in progress."""
    place = Path(event.data["place"])
    (place / event.data["name"]).touch()
    while len(list(place.iterdir())) < event.data["count"]:
        await asyncio.sleep(0.005)
    return {"pid": os.getpid()}


called = functools.partial(where)


# --- ways to die, and to refuse to ---


def _place(event: Event) -> Path:
    """Return where a handler notes what it does; without a place it has its process started, and that is all."""
    if "place" not in event.data:
        raise ProcessStarted
    return Path(event.data["place"])


def _begun(event: Event) -> Path:
    """Note that a handler has begun."""
    place = _place(event)
    (place / "pid").write_text(str(os.getpid()))
    (place / "begun").touch()
    return place


def emit(event: Event, state: State, ctx: Any) -> dict[str, Any]:
    """Emit three events, of which one is too many and others are bad; the first attempt fails after that."""
    told: dict[str, Any] = {"refused": []}
    for bad in (Event("a", {"x": {1}}), Event("a", id="mine"), {"target": "a"}):
        try:
            ctx.emit(bad)
        except AgentflowError as error:
            told["refused"].append(type(error).__name__)
    told["runs"] = [ctx.emit(Event("told", {"n": n}, {"who": "me"}, session_id="s")) for n in range(2)]
    try:
        ctx.emit(Event("told", {"n": 3}))
    except AgentflowError as error:
        told["refused"].append(error.code)
    if ctx.attempt == 1:
        raise OSError("again")
    return told


async def emit_later(event: Event, state: State, ctx: Any) -> dict[str, Any]:
    """As `emit`, in a coroutine."""
    await asyncio.sleep(0)
    return emit(event, state, ctx)


async def leave(event: Event, state: State, ctx: Any) -> dict[str, Any]:
    """Try to leave a coroutine to the runner."""
    try:
        ctx.background(asyncio.sleep(0))
    except AgentflowError as error:
        return {"error": error.code}
    return {"error": ""}


def die(event: Event, state: State, ctx: Any) -> dict[str, Any]:
    """Die by the signal or exit code that the event says, at its first attempts."""
    if ctx.attempt <= event.data.get("deaths", 1):
        if "signal" in event.data:
            os.kill(os.getpid(), event.data["signal"])
            time.sleep(30)
        os._exit(event.data["code"])
    return {"pid": os.getpid(), "attempt": ctx.attempt}


async def obey(event: Event, state: State) -> None:
    """End when cancelled, after tidying up."""
    place = _begun(event)
    try:
        await asyncio.sleep(60)
    finally:
        (place / "tidied").touch()


def obey_in_thread(event: Event, state: State) -> None:
    """End at SIGTERM, after tidying up, although no coroutine."""
    place = _begun(event)
    try:
        time.sleep(60)
    finally:
        (place / "tidied").touch()


async def swallow(event: Event, state: State) -> dict[str, Any]:
    """Swallow each cancellation."""
    _begun(event)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue


def hold(event: Event, state: State) -> None:
    """Sleep in C code that holds Python's lock: no signal handler runs, and no other thread."""
    _begun(event)
    ctypes.PyDLL(None).sleep(60)


def hold_at(event: Event, state: State, ctx: Any) -> None:
    """Fail until the attempt that the event says; then hold Python's lock as above."""
    if ctx.attempt < event.data["attempt"]:
        raise ProcessStarted
    ctypes.PyDLL(None).sleep(60)


def start_others(event: Event, state: State) -> None:
    """Start a process, and wait for it."""
    place = _place(event)
    child = subprocess.Popen(["sleep", "60"])
    (place / "other").write_text(str(child.pid))
    _begun(event)
    child.wait()


def fork_and_die(event: Event, state: State) -> None:
    """Leave a forked process behind that has the pipes open, in another session where the event says so, and die."""
    place = _place(event)
    if os.fork() == 0:
        if event.data["escapes"]:
            os.setsid()
        (place / "draft").write_text(str(os.getpid()))
        (place / "draft").rename(place / "other")
        time.sleep(60)
        os._exit(0)
    while not (place / "other").exists():
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)
