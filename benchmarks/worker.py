"""The process that measures one contender: `python -m benchmarks.worker MODULE CLASS`, driven over a pipe.

One JSON object a line on standard input, one a line on the standard output that the process was started with; what a
contender prints goes to standard error, so that a talkative one cannot break the protocol. Requests:

    {"op": "prepare", "workload": "W2", "seconds": 0.1}    build, verify, warm up      -> versions
    {"op": "sample",  "workload": "W2"}                    one measurement             -> sample {name: microseconds}
    {"op": "memory",  "workload": "W7"}                    where memory is measured    -> sample {name: kilobytes}
    {"op": "trace",   "workload": "W6"}                    some events between marks   -> sample {events, steps}
    {"op": "quit"}

Every reply has `ok`; a failed one has `error`.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import json
import os
import sys
import traceback
import warnings
from typing import Any, TextIO

from benchmarks.contender import Contender
from benchmarks.families import FAMILIES, SLOWEST_RUN_SECONDS, Rate
from benchmarks.journals import FAMILIES as DURABLE_FAMILIES
from benchmarks.journals import Journal
from benchmarks.workloads import WORKLOADS

CLOSE_SECONDS = 5


class Worker:
    """Answers the requests of one driver."""

    def __init__(self, contender: type[Contender]) -> None:
        self._contender = contender
        self._measurements: dict[str, Rate] = {}

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what one request asks and return the reply."""
        name = request["workload"]
        if request["op"] == "prepare":
            workload = WORKLOADS[name]
            measurement = {**FAMILIES, **DURABLE_FAMILIES}[workload.family](self._contender, workload)
            await measurement.prepare(request["seconds"])
            self._measurements[name] = measurement
            return {"versions": versions(self._contender.distributions)}
        measurement = self._measurements[name]
        if request["op"] == "memory":
            return {"sample": await measurement.memory()}
        if request["op"] == "trace":
            assert isinstance(measurement, Journal)
            return {"sample": await measurement.trace()}
        return {"sample": await measurement.sample()}

    async def close(self) -> None:
        """Release every contender that was built."""
        for measurement in self._measurements.values():
            await measurement.close()


def versions(distributions: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of those distributions that are installed here."""
    found = {}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


async def reply_to(worker: Worker, request: dict[str, Any]) -> dict[str, Any]:
    """Return the reply to one request; a failure of the contender is a reply too."""
    try:
        return {"ok": True, **await worker.answer(request)}
    except TimeoutError:
        return {"ok": False, "error": f"too slow: one event took over {SLOWEST_RUN_SECONDS:.0f} s"}
    except BaseException as failure:  # whatever a peer raises is its result, not the end of the run
        traceback.print_exc()
        return {"ok": False, "error": f"{type(failure).__name__}: {failure}"[:300]}


async def serve(contender: type[Contender], replies: TextIO) -> None:
    """Answer requests until `quit` or the end of the input."""
    worker = Worker(contender)
    print(json.dumps({"ok": True}), file=replies)
    for line in sys.stdin:
        request = json.loads(line)
        if request["op"] == "quit":
            break
        print(json.dumps(await reply_to(worker, request)), file=replies)
    async with asyncio.timeout(CLOSE_SECONDS):
        await worker.close()


def main() -> None:
    """Load the contender named on the command line and serve it."""
    warnings.filterwarnings("ignore")
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    module, name = sys.argv[1:3]
    try:
        contender = getattr(importlib.import_module(module), name)
    except Exception as failure:
        traceback.print_exc()
        print(json.dumps({"ok": False, "error": f"{type(failure).__name__}: {failure}"[:300]}), file=replies)
        return
    try:
        asyncio.run(serve(contender, replies))
    except BaseException:
        traceback.print_exc()
    os._exit(0)  # a peer's left-over threads must not keep the process


if __name__ == "__main__":
    main()
