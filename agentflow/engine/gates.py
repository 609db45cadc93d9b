"""Gates: what stands before the calls of an agent in this process, whatever run they belong to.

A gate lets a call through when the agent's breaker does, its rate limit has a token, and a worker of its pool is idle.
Calls that wait do so in one line, first come, first served, and take token and worker at the same moment, so that neither
is held while the call waits for the other. A breaker that opens sends the whole line away.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, timeout
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import TypeAlias

from agentflow.config.model import AgentConfig, Config
from agentflow.core.breaker import OPEN, Breaker
from agentflow.core.rate import TokenBucket
from agentflow.core.values import Json
from agentflow.engine.pool import Pool, Worker
from agentflow.engine.workers import Workers
from agentflow.errors import CircuitOpenError, QueueTimeoutError

Watcher: TypeAlias = Callable[[str, str, str], None]


class Pass:
    """What a call holds that was let through; `Gate.leave` takes it back, once."""

    __slots__ = ("is_left", "turn", "worker")

    def __init__(self, turn: int, worker: Worker | None) -> None:
        self.turn = turn  # of the breaker
        self.worker = worker
        self.is_left = False


class Gate:
    """Stands before one agent.

    Args:
        agent: its name.
        table: the agent's table of the configuration.
        pool: the workers that its calls lease; None: they lease none.
        loop, monotonic: tell and wait for the time.
        tell: is called with agent, old and new state when the breaker changes.

    Attributes:
        waiting: how many calls wait.
    """

    def __init__(
        self,
        agent: str,
        table: AgentConfig,
        pool: Pool | None,
        loop: AbstractEventLoop,
        monotonic: Callable[[], float],
        tell: Watcher,
    ) -> None:
        self.agent = agent
        self._breaker: Breaker | None = None
        self._bucket: TokenBucket | None = None
        if (breaker := table.circuit_breaker) is not None:
            self._breaker = Breaker(breaker.failure_threshold, breaker.reset_seconds, breaker.success_threshold)
        if (rate := table.rate_limit) is not None:
            self._bucket = TokenBucket(rate.requests_per_second, rate.burst)
        self._pool = pool
        self._limit_s = table.queue_timeout_seconds
        self._loop = loop
        self._monotonic = monotonic
        self._tell = tell
        self._line: OrderedDict[Future[Pass], int] = OrderedDict()  # who waits, with the turn of the breaker
        self._is_armed = False  # a timer is set for the next token

    async def enter(self) -> Pass:
        """Wait for a token and a worker, at most `queue_timeout_seconds`, and return what `leave` takes back.

        Cancelled while it waits, it leaves the line and owes nothing.

        Raises:
            CircuitOpenError: the breaker is open, opened meanwhile, or has a probe under way.
            QueueTimeoutError: no token came in time.
            WorkerPoolError: no worker came free in time.
        """
        turn = self._turn()
        passed = None if self._line else self._at_once(turn)
        return passed if passed is not None else await self._in_line(turn)

    def leave(self, passed: Pass, *, is_ok: bool | None, duration_s: float) -> None:
        """Take back what a call held, and count what it came to; nothing happens the second time.

        Args:
            passed: what `enter` gave.
            is_ok: whether the agent did well; None where the call says nothing of it, e.g. because it was cancelled.
            duration_s: how long it had the worker, in seconds.
        """
        if passed.is_left:
            return
        passed.is_left = True
        if self._breaker is not None:
            before = self._breaker.state
            self._breaker.leave(passed.turn, self._monotonic(), is_ok=is_ok)
            self._told(before)
            if self._breaker.state == OPEN:
                self._send_away()
        if self._pool is not None and passed.worker is not None:
            self._pool.release(passed.worker, duration_s, is_ok=is_ok)

    def check(self) -> None:
        """See whether it would be of any use to come.

        Raises:
            CircuitOpenError: the breaker is open, and its time is not over.
        """
        if self._breaker is not None and self._breaker.view(self._monotonic()).state == OPEN:
            raise self._rejection()

    def status(self) -> dict[str, Json]:
        """Return as JSON how many calls wait, and how the breaker stands: state, failures, left_s; None without one."""
        breaker = self._breaker
        return {"waiting": len(self._line), "breaker": None if breaker is None else asdict(breaker.view(self._monotonic()))}

    # --- the breaker ---

    def _turn(self) -> int:
        breaker = self._breaker
        if breaker is None:
            return 0
        before = breaker.state
        turn = breaker.enter(self._monotonic())
        self._told(before)
        if turn is None:
            raise self._rejection()
        return turn

    def _told(self, before: str) -> None:
        if self._breaker is not None and self._breaker.state != before:
            self._tell(self.agent, before, self._breaker.state)

    def _rejection(self) -> CircuitOpenError:
        assert self._breaker is not None  # noqa: S101 - nothing else rejects
        view = self._breaker.view(self._monotonic())
        hint = f"one call is let through in {view.left_s:.3g} s" if view.left_s else "a call that was let through has yet to end"
        error = CircuitOpenError(f"the circuit of `{self.agent}` is open after {view.failures} failures in a row", hint=hint)
        error.left_s = view.left_s
        return error

    def _send_away(self) -> None:
        line, self._line = self._line, OrderedDict()
        if self._pool is not None:
            self._pool.forget(self)
        for place in line:
            if not place.done():
                place.set_exception(self._rejection())

    # --- the line ---

    def _at_once(self, turn: int) -> Pass | None:
        """Let a call through that nobody stands before, if there is a token and a worker."""
        now = self._monotonic()
        if self._bucket is not None and not self._bucket.has_token(now):
            return None
        worker = None
        if self._pool is not None:
            worker = self._pool.take()
            if worker is None:
                return None
        if self._bucket is not None:
            self._bucket.take(now)
        return Pass(turn, worker)

    async def _in_line(self, turn: int) -> Pass:
        place: Future[Pass] = self._loop.create_future()
        self._line[place] = turn
        self._go_on()
        try:
            async with timeout(self._limit_s):
                return await place
        except BaseException as error:
            self._withdraw(place, turn)
            if isinstance(error, TimeoutError):
                raise self._in_vain() from None
            raise

    def _withdraw(self, place: Future[Pass], turn: int) -> None:
        """Undo what was done for a call that does not wait any more."""
        was_waiting = self._line.pop(place, None) is not None
        if place.done() and not place.cancelled():
            if place.exception() is not None:
                return  # it was sent away
            passed = place.result()  # let through, and cancelled before it could go
            if self._bucket is not None:
                self._bucket.put_back()
            if passed.worker is not None and self._pool is not None:
                self._pool.put_back(passed.worker)
        if self._breaker is not None:
            self._breaker.leave(turn, self._monotonic(), is_ok=None)
        if was_waiting and not self._line and self._pool is not None:
            self._pool.forget(self)
        self._go_on()

    def _in_vain(self) -> Exception:
        waited_s = self._limit_s or 0.0  # only those give up that have a limit
        if self._pool is not None and (self._bucket is None or self._bucket.has_token(self._monotonic())):
            return self._pool.exhausted(waited_s)
        hint = f"raise rate_limit or queue_timeout_seconds in [agents.{self.agent}], or start less at once"
        return QueueTimeoutError(f"a call of `{self.agent}` waited {waited_s:g} s for its rate limit", hint=hint)

    def _go_on(self) -> None:
        """Let the first ones in the line through, until a token or a worker is missing that somebody will tell of."""
        while self._line:
            if self._bucket is not None and not self._bucket.has_token(self._monotonic()):
                self._arm(self._bucket.due)
                return
            worker = None
            if self._pool is not None:
                worker = self._pool.take()
                if worker is None:
                    self._pool.wait(self, self._claim)
                    return
            if not self._let_through(worker) and worker is not None and self._pool is not None:
                self._pool.put_back(worker)

    def _claim(self, worker: Worker | None) -> bool:
        """Take the worker that the line waits for, unless nobody waits any more."""
        if worker is None or not self._let_through(worker):
            return False
        self._go_on()
        return True

    def _let_through(self, worker: Worker | None) -> bool:
        while self._line:
            place, turn = self._line.popitem(last=False)
            if place.done():
                continue  # it was cancelled a moment ago
            if self._bucket is not None:
                self._bucket.take(self._monotonic())
            place.set_result(Pass(turn, worker))
            return True
        return False

    def _arm(self, due: float) -> None:
        if not self._is_armed:
            self._is_armed = True
            self._loop.call_later(max(due - self._monotonic(), 0.0), self._fire)

    def _fire(self) -> None:
        self._is_armed = False
        self._go_on()


class Gates(dict[str, Gate]):
    """The gates of a runner, by agent: of those with a rate limit, a breaker or a pool, no others.

    Args:
        config: the configuration at hand; what is process-wide is never part of a recorded plan.
        loop, monotonic: tell and wait for the time.

    Attributes:
        workers: the pools, those of agents and others.
        watchers: each is called with agent, old and new state when a breaker changes.
    """

    def __init__(self, config: Config, loop: AbstractEventLoop, monotonic: Callable[[], float]) -> None:
        super().__init__()
        self.workers = Workers(config.workers, loop, monotonic)
        self.watchers: list[Watcher] = []
        tables = {name: table for name, table in config.agents.items() if table.rate_limit or table.circuit_breaker}
        pools = self.workers.pools
        tables |= {name: config.agents.get(name, AgentConfig()) for name in pools}
        for name, table in tables.items():
            self[name] = Gate(name, table, pools.get(name), loop, monotonic, self._tell)

    def status(self) -> dict[str, Json]:
        """Return as JSON how each gate stands, by agent."""
        return {name: gate.status() for name, gate in self.items()}

    def _tell(self, agent: str, before: str, after: str) -> None:
        for watcher in self.watchers:
            with suppress(Exception):  # whoever watches must not disturb the calls
                watcher(agent, before, after)
