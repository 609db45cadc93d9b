"""The four ways to measure a workload; each runs inside the contender's own process."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from benchmarks.contender import Contender, Run
from benchmarks.memory import ResidentPeak, TracedPeak
from benchmarks.workloads import Data, Workload, event_data, step_starts, verify

Sample = dict[str, float]  # name -> microseconds, or kilobytes for memory

IN_FLIGHT = 1000  # events of a burst
SLOWEST_RUN_SECONDS = 20.0
SLOWEST_TRACED_SECONDS = 5.0  # tracing makes a run several times slower
MOST_EVENTS = 200_000


class Course:
    """One workload built by one contender, with the events that go through it."""

    def __init__(self, contender: Contender, workload: Workload) -> None:
        self.contender, self.workload = contender, workload
        self.events = event_data(workload)
        self.count = len(self.events)
        self._run: Run

    async def open(self) -> None:
        """Build the workload and prove on every event that it does its work."""
        self._run = await self.contender.build(self.workload)
        for data in self.events:
            async with asyncio.timeout(SLOWEST_RUN_SECONDS):
                self.verify(data, await self._run(data))

    def verify(self, data: Data, answer: Any) -> None:
        """Check the answer to one event."""
        verify(self.workload, data, self.contender.read(answer))

    async def calibrate(self, seconds: float) -> None:
        """Find how many events fill the given time."""
        taken = await self.seconds(self.count)
        while taken < seconds / 4 and self.count < MOST_EVENTS:
            self.count *= 4
            taken = await self.seconds(self.count)
        self.count = max(len(self.events), int(self.count * seconds / taken))

    async def seconds(self, count: int) -> float:
        """Return the time that `count` events take one after the other; the last answer is verified."""
        run, events = self._run, self.events
        kinds = len(events)
        gc.collect()
        start = time.perf_counter()
        for number in range(count):
            answer = await run(events[number % kinds])
        taken = time.perf_counter() - start
        self.verify(events[(count - 1) % kinds], answer)
        return taken

    async def microseconds(self) -> float:
        """Return the time of one event, the mean over the calibrated number of them."""
        return await self.seconds(self.count) / self.count * 1e6

    async def burst(self) -> float:
        """Return the seconds until all of many events, in flight at once, are done; all answers are verified."""
        inputs = [dict(self.events[number % len(self.events)]) for number in range(IN_FLIGHT)]
        gc.collect()
        start = time.perf_counter()
        answers = await asyncio.gather(*[self._run(data) for data in inputs])
        taken = time.perf_counter() - start
        for data, answer in zip(inputs, answers, strict=True):
            self.verify(data, answer)
        return taken


class Rate:
    """Measures events that follow one another (W1 to W5): microseconds an event."""

    def __init__(self, make: Callable[[], Contender], workload: Workload) -> None:
        self.make, self.workload = make, workload

    async def prepare(self, seconds: float) -> None:
        """Build, verify, warm up, and find how many events fill `seconds`."""
        self.course = Course(self.make(), self.workload)
        await self.course.open()
        await self.course.calibrate(seconds)

    async def sample(self) -> Sample:
        """Return one measurement."""
        return {"event": await self.course.microseconds()}

    async def memory(self) -> Sample:
        """Return nothing: memory is measured where it can grow."""
        return {}

    async def close(self) -> None:
        """Release the contender."""
        await self.course.contender.close()


class Burst(Rate):
    """Measures many events in flight at once (W7): microseconds for all of them, kilobytes for each."""

    async def prepare(self, seconds: float) -> None:
        """Build, verify, and take the resident memory of the first burst, while the process is still fresh."""
        self.course = Course(self.make(), self.workload)
        await self.course.open()
        peak = ResidentPeak()
        await self.course.burst()
        self.resident = peak.kilobytes() / IN_FLIGHT

    async def sample(self) -> Sample:
        """Return the time of one burst."""
        return {"burst": await self.course.burst() * 1e6}

    async def memory(self) -> Sample:
        """Return the memory of an event in flight, by the kernel and by Python's own count."""
        with TracedPeak() as traced:
            await self.course.burst()
        return {"resident": self.resident, "traced": traced.kilobytes / IN_FLIGHT}


class Step(Rate):
    """Measures what a step costs apart from the event around it (W8), by the clock of the agents themselves."""

    async def sample(self) -> Sample:
        """Return the time of one event and, within it, from the start of one step to the start of the next."""
        step_starts.clear()
        event = await self.course.microseconds()
        noted = sum(last - first for first, last in zip(step_starts[::2], step_starts[1::2], strict=True))
        return {"event": event, "step": noted / (len(step_starts) / 2) / (self.workload.agents - 1) * 1e6}


class Rounds(Rate):
    """Measures long loops (W9): microseconds a round, and how the memory grows with the number of rounds."""

    async def prepare(self, seconds: float) -> None:
        """Build, warm up on a short loop, then run the long one once for its memory and its proof."""
        warm = Course(self.make(), replace(self.workload, agents=10))
        await warm.open()
        await warm.contender.close()
        self.course = Course(self.make(), self.workload)
        peak = ResidentPeak()
        start = time.perf_counter()
        await self.course.open()
        self.slow = time.perf_counter() - start > SLOWEST_TRACED_SECONDS
        self.resident = peak.kilobytes()
        if not self.slow:
            await self.course.calibrate(seconds)

    async def sample(self) -> Sample:
        """Return the time of one round."""
        return {"round": await self.course.microseconds() / self.workload.agents}

    async def memory(self) -> Sample:
        """Return the memory that one loop needs, by the kernel and by Python's own count."""
        if self.slow:
            return {"resident": self.resident}
        with TracedPeak() as traced:
            await self.course.seconds(1)
        return {"resident": self.resident, "traced": traced.kilobytes}


FAMILIES: dict[str, type[Rate]] = {"rate": Rate, "burst": Burst, "step": Step, "rounds": Rounds}
