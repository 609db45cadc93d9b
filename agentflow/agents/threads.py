"""Threads for sync handlers. A thread cannot be interrupted: a handler that is given up keeps running in its own."""

from __future__ import annotations

import inspect
from concurrent.futures import Future, ThreadPoolExecutor

THREADS = 64


class Threads:
    """The threads of one runner.

    When a call is given up, the pool that holds its thread is set aside and a fresh one takes its place, so handlers
    that are stuck do not use up the threads of the others. `stuck` holds the agents whose calls were given up and still run.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self.stuck: dict[Future[object], str] = {}

    def pool(self) -> ThreadPoolExecutor:
        """Return the present threads; they are made on first use."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="agentflow")
        return self._pool

    def give_up(self, work: Future[object], name: str) -> bool:
        """Leave the present threads to what still runs in them; later calls get fresh ones. Say whether this call still runs."""
        if work.cancel() or work.done():
            return False
        self.stuck[work] = name
        work.add_done_callback(self._forget)
        self.close()
        return True

    def _forget(self, work: Future[object]) -> None:
        self.stuck.pop(work, None)
        returned = work.result()
        for value in returned if isinstance(returned, tuple) else ():
            if inspect.iscoroutine(value):
                value.close()  # nobody will await it

    def close(self) -> None:
        """Let idle threads end; those that still run a handler end with it."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
