"""Virtual time: what jumps, in which order, and what still takes real time."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from agentflow.testing import StalledError, clock, run_virtual, virtual_loop


async def test_sleeping_takes_no_time() -> None:
    """A long sleep ends at its virtual time, at once."""
    begun, loop = time.perf_counter(), asyncio.get_running_loop()
    await asyncio.sleep(1_000_000)
    assert 1_000_000 == loop.time()
    assert time.perf_counter() - begun < 1


async def test_sleepers_wake_in_order_of_their_times() -> None:
    """Timers fire in order of their due times, each at its own."""
    woken: list[tuple[float, float]] = []

    async def sleep(delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        woken.append((delay_s, asyncio.get_running_loop().time()))

    await asyncio.gather(*(sleep(delay_s) for delay_s in (3, 1, 2, 0.001)))
    assert [(0.001, 0.001), (1, 1), (2, 2), (3, 3)] == woken


async def test_timeouts_work() -> None:
    """A timeout ends what takes longer, at its time."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(30):
            await asyncio.Event().wait()
    assert 30 == asyncio.get_running_loop().time()


def test_program_that_hangs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for what cannot happen any more is an error, not a hang."""
    monkeypatch.setattr(clock, "STALL_S", 0.01)

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(StalledError, match="no timer is set"):
        run_virtual(main())


def test_result_and_error_come_through() -> None:
    """`run_virtual` gives what the coroutine returns, and raises what it raises."""

    async def main(value: int) -> int:
        await asyncio.sleep(1)
        return 10 // value

    assert 5 == run_virtual(main(2))
    with pytest.raises(ZeroDivisionError):
        run_virtual(main(0))


@pytest.mark.parametrize(("patience_s", "in_time"), [(0.0, False), (0.5, True)])
def test_patience_waits_for_threads(patience_s: float, in_time: bool) -> None:
    """With patience the clock waits for a thread that is about to end; without it jumps over it."""

    async def main() -> bool:
        work = asyncio.create_task(asyncio.to_thread(threading.Event().wait, 0.01))
        done, _ = await asyncio.wait([work], timeout=60)
        await work
        return bool(done)

    assert in_time is run_virtual(main(), patience_s=patience_s)


def test_the_end_waits_for_threads_that_still_work(recwarn: pytest.WarningsRecorder) -> None:
    """A thread that nobody waits for ends before the loop closes, whatever time the clock has jumped over, and nothing warns."""
    ended = threading.Event()

    def work() -> None:
        time.sleep(0.05)
        ended.set()

    async def main() -> None:
        asyncio.get_running_loop().run_in_executor(None, work)

    run_virtual(main())
    assert ended.is_set()
    assert [] == [str(warning.message) for warning in recwarn]


def test_loop_is_a_factory() -> None:
    """`virtual_loop` is a loop factory as `asyncio.Runner` takes it, each loop with a clock of its own."""
    for _ in range(2):
        with asyncio.Runner(loop_factory=virtual_loop) as runner:
            runner.run(asyncio.sleep(5))
            assert 5 == runner.get_loop().time()
