"""Pledge: who waits for a commit goes on in the pass of the loop in which it is settled, and nobody is left waiting."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentflow.stores.pledge import Pledge, settle_all


def pledges(count: int) -> list[Pledge]:
    loop = asyncio.get_running_loop()
    return [Pledge(loop) for _ in range(count)]


async def wait(pledge: Pledge, told: list[Any], name: str) -> None:
    try:
        told.append((name, await pledge))
    except (ValueError, asyncio.CancelledError) as error:
        told.append((name, type(error).__name__))


async def begun(*waiting: Any) -> list[asyncio.Task[None]]:
    tasks = [asyncio.ensure_future(one) for one in waiting]
    await asyncio.sleep(0)
    return tasks


async def test_the_first_who_waits_goes_on_at_once_and_others_a_pass_later() -> None:
    """A task that waits has gone on when `settle` returns; a second one goes on in the next pass; both get the outcome."""
    told: list[Any] = []
    (pledge,) = pledges(1)
    tasks = await begun(wait(pledge, told, "first"), wait(pledge, told, "second"))
    loop = asyncio.get_running_loop()
    settled = loop.create_future()
    loop.call_soon(lambda: (pledge.settle(5), settled.set_result(list(told))))
    assert await settled == [("first", 5)]
    await asyncio.gather(*tasks)
    assert told == [("first", 5), ("second", 5)]


@pytest.mark.parametrize("outcome", ["value", ValueError("no")])
async def test_an_outcome_comes_to_each_who_waits(outcome: object) -> None:
    """A result is given, an exception is raised, to those who wait before it is settled and to those who wait afterwards."""
    told: list[Any] = []
    (pledge,) = pledges(1)
    tasks = await begun(*(wait(pledge, told, name) for name in "ab"))
    asyncio.get_running_loop().call_soon(pledge.settle, outcome)
    await asyncio.gather(*tasks)
    await wait(pledge, told, "c")
    expected = "ValueError" if isinstance(outcome, ValueError) else outcome
    assert told == [("a", expected), ("b", expected), ("c", expected)]


async def test_one_that_was_cancelled_is_not_settled() -> None:
    """Cancelling a task that waits cancels the pledge, as with any future; settling it later does nothing."""
    told: list[Any] = []
    (pledge,) = pledges(1)
    (task,) = await begun(wait(pledge, told, "a"))
    task.cancel()
    await task
    pledge.settle(5)
    assert (told, pledge.cancelled()) == ([("a", "CancelledError")], True)


@pytest.mark.parametrize("end", [lambda pledge: pledge.set_result(5), lambda pledge: pledge.set_exception(ValueError("no"))])
async def test_one_that_ends_otherwise_is_like_any_future(end: Any) -> None:
    """Who waits for one whose result or exception is set, perhaps from within a task, goes on a pass later."""
    told: list[Any] = []
    (pledge,) = pledges(1)
    tasks = await begun(*(wait(pledge, told, name) for name in "ab"))
    end(pledge)
    assert told == []
    await asyncio.gather(*tasks)
    assert sorted(name for name, _ in told) == ["a", "b"]


async def test_a_callback_that_was_removed_is_not_called() -> None:
    """Whether it was the first or a later one."""
    told: list[Any] = []
    (pledge,) = pledges(1)
    first, second = (lambda done: told.append(1)), (lambda done: told.append(2))
    for callback in (first, second, second):
        pledge.add_done_callback(callback)
    assert [pledge.remove_done_callback(callback) for callback in (first, second, first)] == [1, 2, 0]
    pledge.settle(None)
    await asyncio.sleep(0)
    assert told == []


async def test_a_callback_that_raises_leaves_nobody_waiting() -> None:
    """What a callback raises is told as the loop tells it, or ends the loop's pass; those behind it are settled all the same."""
    loop, told = asyncio.get_running_loop(), []
    failing, ending, last = pledges(3)
    loop.set_exception_handler(lambda loop, context: told.append(str(context["exception"])))
    failing.add_done_callback(lambda done: 1 / 0)

    def leave(done: Any) -> None:
        raise SystemExit

    ending.add_done_callback(leave)
    with pytest.raises(SystemExit):
        settle_all(loop, iter([((None, failing), None), ((None, ending), None), ((None, last), None)]))
    assert told == ["division by zero"]
    await last
