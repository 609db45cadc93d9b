"""Pledge: a future that wakes who waits for it in the same pass of the loop in which it is settled."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from typing import Self


class Pledge(Future[object]):
    """What a thread will have done, settled by `settle` from a callback of the loop, outside any task.

    A future's callbacks come a pass of the loop later. Here the first one, mostly a task that waits for nothing else, is called
    at once: a pass costs as much as all else that is done between two commits.
    """

    __slots__ = ("_first",)
    _first: tuple[Callable[[Self], object], Context] | None

    def __init__(self, loop: AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._first = None

    def add_done_callback(self, fn: Callable[[Self], object], /, *, context: Context | None = None) -> None:
        """Call `fn` when it is done."""
        if self._first is None and not self.done():
            self._first = fn, copy_context() if context is None else context
        else:
            super().add_done_callback(fn, context=context)

    def remove_done_callback(self, fn: Callable[[Self], object], /) -> int:
        """Call `fn` no more; return how many times it would have been called."""
        removed = super().remove_done_callback(fn)
        if self._first is not None and self._first[0] == fn:
            self._first = None
            removed += 1
        return removed

    def cancel(self, msg: object = None) -> bool:
        """Cancel it, as any future: all callbacks come a pass later."""
        self._put_off()
        return super().cancel(msg)

    def set_result(self, result: object) -> None:
        """Set its result, as any future: all callbacks come a pass later."""
        self._put_off()
        super().set_result(result)

    def set_exception(self, exception: type | BaseException) -> None:
        """Set its exception, as any future: all callbacks come a pass later."""
        self._put_off()
        super().set_exception(exception)

    def _put_off(self) -> None:
        first, self._first = self._first, None
        if first is not None:
            super().add_done_callback(first[0], context=first[1])  # type: ignore[arg-type] # it is for this one

    def settle(self, outcome: object) -> None:
        """Set its result, or its exception where that is what came of it; nothing happens when who waited was cancelled."""
        if self.done():
            return
        first, self._first = self._first, None
        if isinstance(outcome, Exception):
            super().set_exception(outcome)
        else:
            super().set_result(outcome)
        if first is not None:
            first[1].run(first[0], self)  # type: ignore[arg-type]


def settle_all(loop: AbstractEventLoop, waiting: Iterator[tuple[tuple[object, Pledge], object]]) -> None:
    """Settle pledges in turn, whatever the callbacks of one of them raise. What was pledged stands before each, its outcome behind."""
    for (_, pledge), outcome in waiting:
        try:
            pledge.settle(outcome)
        except Exception as error:  # noqa: BLE001 - as the loop does with callbacks
            loop.call_exception_handler({"message": "a callback of a commit failed", "exception": error, "future": pledge})
        except BaseException:
            loop.call_soon(settle_all, loop, waiting)  # who stops the loop must not leave the others waiting
            raise
