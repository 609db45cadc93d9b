"""Workers: the pools of a runner, and what a user may do with them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from agentflow.config.policies import WorkersConfig
from agentflow.config.section import NAME_PATTERN
from agentflow.core.values import Json
from agentflow.engine.pool import Pool, WorkerView
from agentflow.errors import RegistrationError, WorkerPoolError, did_you_mean

WORKERS = "workers"  # the order of another process that is answered with `figures`
MOST_TOLD = 100  # pools, and workers, of such an answer: it has one line


class Workers:
    """The pools of a runner, by specialty. Handed out by `runner.workers`.

    The calls of an agent lease a worker where the configuration has `[workers.NAME]` with its name; other pools, made by
    `spawn`, are leased through `lease` alone.
    """

    def __init__(self, tables: Mapping[str, WorkersConfig], loop: asyncio.AbstractEventLoop, monotonic: Callable[[], float]) -> None:
        self._loop = loop
        self._monotonic = monotonic
        self.pools = {name: Pool(name, table, loop, monotonic) for name, table in tables.items()}

    def spawn(self, specialty: str) -> WorkerView:
        """Add a worker that stays until it is drained, and return it. A specialty without a table gets a pool of its own.

        Raises:
            RegistrationError: that is no name of a specialty.
            WorkerPoolError: the specialty has 10,000 workers.
        """
        if type(specialty) is not str or not re.fullmatch(NAME_PATTERN, specialty):
            hint = "names are 1 to 64 of: letters A-Z a-z, digits, `_`, `-`, `.`"
            raise RegistrationError(f"{specialty!r:.80} is no name of a specialty", hint=hint)
        if specialty not in self.pools:
            self.pools[specialty] = Pool(specialty, None, self._loop, self._monotonic)
        return self.pools[specialty].spawn().view

    def status(self) -> tuple[WorkerView, ...]:
        """Return how each worker stands, pool by pool."""
        return tuple(worker.view for pool in self.pools.values() for worker in pool.workers.values())

    def figures(self) -> dict[str, Json]:
        """Return as JSON how the pools stand, and the first hundred of them and of the workers one by one."""
        shown = list(self.pools.values())[:MOST_TOLD]
        return {
            "pools": [pool.figures() for pool in shown],
            "workers": [worker.to_dict() for worker in self.status()[:MOST_TOLD]],
            "more_pools": len(self.pools) - len(shown),
        }

    def drain(self, worker_id: str) -> bool:
        """Remove a worker once the call that has it has ended, at once where none has; False when there is none of this id.

        No call gets it any more. It is not replaced before calls wait.
        """
        for pool in self.pools.values():
            worker = pool.workers.get(worker_id)
            if worker is not None:
                pool.drain(worker)
                return True
        return False

    @asynccontextmanager
    async def lease(self, specialty: str, *, timeout_s: float | None = None) -> AsyncIterator[WorkerView]:
        """Hold a worker for the length of a block. The block's task counts as failed when it raises.

        Args:
            specialty: of which pool.
            timeout_s: how long to wait for one, in seconds; None waits on.

        Raises:
            WorkerPoolError: there is no such pool, none of its workers came free in time, or it has none.
        """
        pool = self.pools.get(specialty)
        if pool is None:
            raise WorkerPoolError(
                f"there are no workers for `{specialty}`", available=0, required=1, hint=did_you_mean(specialty, self.pools)
            )
        worker = await pool.acquire(timeout_s)
        begun = self._monotonic()
        is_ok: bool | None = False
        try:
            yield worker.view
            is_ok = True
        except (asyncio.CancelledError, GeneratorExit):
            is_ok = None
            raise
        finally:
            pool.release(worker, self._monotonic() - begun, is_ok=is_ok)
