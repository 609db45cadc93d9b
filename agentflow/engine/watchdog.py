"""Watchdog: a thread that sees when the event loop stands still, and says whose fault it is.

While runs are open and the loop is not just waiting, the thread asks it for a sign of life. A loop that gives none for over a
second is held by something that blocks: the thread says once by which handler, with the stack of the moment.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import threading
import traceback
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from agentflow.core.values import Json

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine
    from agentflow.engine.run import Run
    from agentflow.engine.step import Step

PERIOD_S = 0.25
BLOCKED_S = 1.0  # a loop that gives no sign for longer is blocked
UNREADY_S = 30.0
MOST_FRAMES = 12
PACKAGE = str(Path(__file__).resolve().parent.parent)


class _Sign:
    """What the loop was asked for; times are seconds of this machine's own clock."""

    __slots__ = ("_now", "answered_at", "asked_at", "is_told")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.asked_at = now()
        self.answered_at: float | None = None
        self.is_told = False

    def give(self) -> None:
        """Note that the loop has come to it."""
        self.answered_at = self._now()


class Watchdog:
    """Watches the loop of one engine, from `start` to `stop`.

    Attributes:
        blocks: how often the loop has been blocked for over a second.
        longest_s: the longest of these, in seconds, one that lasts included.
    """

    def __init__(self, engine: Engine) -> None:
        self._loop = engine.loop
        self._runs: Collection[Run] = engine.runs
        self._now = engine.clock.monotonic
        self._say = engine.teller.say
        self._loop_thread = threading.get_ident()
        self._is_over = threading.Event()
        self._sign: _Sign | None = None
        self.blocks = 0
        self.longest_s = 0.0

    def start(self) -> None:
        """Begin to watch; the thread does not keep the process from ending."""
        threading.Thread(target=self._watch, daemon=True, name="agentflow-watchdog").start()

    def stop(self) -> None:
        """Watch no more."""
        self._is_over.set()

    @property
    def blocked_s(self) -> float:
        """For how many seconds the loop has been blocked now; 0.0 while it is not."""
        sign = self._sign
        is_waiting = sign is not None and sign.answered_at is None and not self._is_over.is_set()
        waited_s = self._now() - sign.asked_at if sign is not None and is_waiting else 0.0
        return waited_s if waited_s > BLOCKED_S else 0.0

    @property
    def is_ready(self) -> bool:
        """Whether the loop still gets to what it is asked: it is not blocked, or not for over 30 s."""
        return self.blocked_s <= UNREADY_S

    def to_dict(self) -> dict[str, Json]:
        """Return the figures as JSON."""
        return {"blocks": self.blocks, "blocked_seconds": self.blocked_s, "longest_seconds": self.longest_s, "is_ready": self.is_ready}

    def _watch(self) -> None:
        while not self._is_over.wait(PERIOD_S) and not self._loop.is_closed():
            with suppress(RuntimeError):  # it was closed meanwhile
                self._look()

    def _look(self) -> None:
        sign = self._sign
        if sign is None:
            frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - its public name, whatever it looks like
            if self._runs and not (frame is not None and _waits(frame)):
                sign = _Sign(self._now)
                self._loop.call_soon_threadsafe(sign.give)
                self._sign = sign
            return
        end = sign.answered_at
        blocked_s = (self._now() if end is None else end) - sign.asked_at
        if blocked_s > BLOCKED_S:
            self.longest_s = max(self.longest_s, blocked_s)
            if not sign.is_told:
                sign.is_told = True
                self.blocks += 1
                self._say("loop_blocked", {**self._culprit(is_over=end is not None), "seconds": round(blocked_s, 3)})
            if end is not None:
                self._say("loop_unblocked", {"seconds": round(blocked_s, 3)})
        if end is not None:
            self._sign = None

    def _culprit(self, *, is_over: bool) -> dict[str, object]:
        if is_over:
            return {"detail": "this thread stood still, too: C code held Python's lock, or the process was stopped"}
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - as above
        told: dict[str, object] = {}
        step = self._step_of(asyncio.current_task(self._loop))
        if step is not None:
            told = {"run_id": step.run.run_id, "position": step.position, "phase": step.phase.name.lower()}
            if step.frame is not None:
                told["agent"] = step.agent.name
        return {**told, "stack": "" if frame is None else _stack_of(frame)}

    def _step_of(self, task: asyncio.Task[object] | None) -> Step | None:
        if task is None:
            return None
        return next((step for run in list(self._runs) for step in run.steps if step.task is task), None)


def _waits(frame: FrameType) -> bool:
    """Say whether a loop's thread waits for something to happen, as far as one can see."""
    return frame.f_code.co_filename == selectors.__file__


def _stack_of(frame: FrameType) -> str:
    """Return the innermost frames of a stack, from where our own code called somebody else's."""
    frames = traceback.extract_stack(frame)
    own = [number for number, one in enumerate(frames) if one.filename.startswith(PACKAGE)]
    if own and own[-1] + 1 < len(frames):
        frames = traceback.StackSummary.from_list(frames[own[-1] + 1 :])
    return "".join(traceback.StackSummary.from_list(frames[-MOST_FRAMES:]).format()).rstrip()
