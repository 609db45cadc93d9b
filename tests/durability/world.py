"""A world in which runners live and die: processes on virtual time that share one journal, and a ledger outside of them.

A process is an event loop of its own. It dies as a killed one does: nothing more of it runs, nothing that it had not committed
is there, and who comes next finds only the store. Time goes on across processes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from agentflow import Event, Runner, app
from agentflow.core.append import Append
from agentflow.core.codec import decode
from agentflow.core.records import EffectRecorded, StepCompleted, StepFailed, StepStarted
from agentflow.stores.leases import Leases
from agentflow.stores.memory import MemoryStore
from agentflow.testing import VirtualLoop

BEGAN = 1_800_000_000.0  # the world's first moment, in seconds since the epoch

Main = Callable[["Life"], Coroutine[Any, Any, Any]]
Fault = Callable[[Append], "BaseException | None"]


@dataclass(frozen=True)
class Death:
    """When a process dies: in its append number `append` (before or after it is written), or `at_s` seconds after its start."""

    append: int | None = None
    is_written: bool = True
    at_s: float | None = None


class Door:
    """One process's way to the shared store: it counts what goes through, and dies, refuses or delays when it is told to.

    Attributes:
        seen: the appends that were written.
        fault: is asked before each append; what it returns is how the append fails.
        commit_s: how long a commit takes.
    """

    def __init__(self, life: Life, death: Death = Death(), commit_s: float = 0.0) -> None:
        self.seen: list[Append] = []
        self.fault: Fault | None = None
        self.commit_s = commit_s
        self._life = life
        self._death = death
        self._asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._life.world.store, name)

    def append(self, append: Append) -> asyncio.Future[None]:
        """Write, as the store does; or not, as told."""
        done: asyncio.Future[None] = self._life.loop.create_future()
        if self.commit_s:
            self._life.loop.call_later(self.commit_s, self._write, append, done)
        else:
            self._write(append, done)
        return done

    def _write(self, append: Append, done: asyncio.Future[None]) -> None:
        if self._life.is_dead:
            return
        self._asked += 1
        is_last = self._asked == self._death.append
        if is_last and not self._death.is_written:
            self._life.die()
            return
        error = self.fault(append) if self.fault is not None else None
        written = self._life.world.store.append(append) if error is None else done
        if error is not None:
            done.set_exception(error)
        elif written.exception() is not None:
            done.set_exception(written.exception())  # type: ignore[arg-type] # it is there
        else:
            self.seen.append(append)
            if is_last:
                self._life.die()  # it is in the journal, and nobody was told
            else:
                done.set_result(None)


class Life:
    """One process: its loop, its way to the store, its runners."""

    def __init__(self, world: World, death: Death, commit_s: float) -> None:
        self.world = world
        self.loop = VirtualLoop()
        self.door = Door(self, death, commit_s)
        self.is_dead = False
        if death.at_s is not None:
            self.loop.call_later(death.at_s, self.die)

    def die(self) -> None:
        """End the process at once."""
        self.is_dead = True
        self.loop.stop()

    def time(self) -> float:
        """Return the world's time."""
        return self.world.now + self.loop.time()

    async def start(self, runner: Runner, *, door: Any = None) -> Runner:
        """Start a runner on the shared store."""
        runner._adapters.clock.time = self.time
        with mock.patch.object(app, "store_of", return_value=door or self.door):
            await runner.start()
        return runner


@dataclass
class World:
    """The journal that outlives its processes, the time, and the ledger: what handlers did, told by nobody but themselves."""

    store: MemoryStore = field(default_factory=MemoryStore)
    now: float = BEGAN
    counts: Counter[str] = field(default_factory=Counter)
    ledger: list[tuple[str, str, int]] = field(default_factory=list)  # run, position, attempt
    effects: list[tuple[str, str, str]] = field(default_factory=list)  # run, position, key
    faults: list[str] = field(default_factory=list)
    keys: dict[tuple[str, str], str] = field(default_factory=dict)

    def process(self, main: Main, death: Death | None = None, *, commit_s: float = 0.0) -> Any:
        """Let a process do `main(life)` and return what it returns; None when it died before."""
        self.store._leases = Leases()  # whoever had the runs before is dead: that is what a lock on a file tells
        life = Life(self, death or Death(), commit_s)
        noise: list[str] = []
        life.loop.set_exception_handler(
            lambda _, told: None if life.is_dead else noise.append(f"{told['message']} {told.get('exception')}")
        )
        task = life.loop.create_task(main(life))
        task.add_done_callback(lambda _: life.loop.stop())
        try:
            life.loop.run_forever()
            if life.is_dead:
                self.counts["deaths"] += 1
                return None
            assert [] == noise
            return task.result()
        finally:
            self.now += life.loop.time() + 0.001
            life.is_dead = True
            _bury(life.loop)

    def note(self, ctx: Any) -> None:
        """Write down that a handler began, and what should not be so in the journal at this moment."""
        place = ctx.run_id, ctx.position
        self.counts["calls"] += 1
        facts = self.facts(ctx.run_id)
        mine = [fact for fact in facts if getattr(fact, "position", None) == ctx.position]
        if any(isinstance(fact, StepCompleted | StepFailed) for fact in mine):
            self.faults.append(f"{place} is recorded as done and was called again")
        if not any(isinstance(fact, StepStarted) and fact.attempt == ctx.attempt for fact in mine):
            self.faults.append(f"attempt {ctx.attempt} of {place} began before that was durable")
        if (*place, ctx.attempt) in self.ledger:
            self.faults.append(f"attempt {ctx.attempt} of {place} was made twice")
        if self.keys.setdefault(place, ctx.idempotency_key) != ctx.idempotency_key:
            self.faults.append(f"the idempotency key of {place} changed")
        self.ledger.append((*place, ctx.attempt))

    def effect(self, ctx: Any, key: str) -> str:
        """Do something that is not to be done again once it is recorded."""
        for fact in self.facts(ctx.run_id):
            if isinstance(fact, EffectRecorded) and (fact.position, fact.key) == (ctx.position, key):
                self.faults.append(f"{key} at {ctx.position} is recorded and was done again")
        self.effects.append((ctx.run_id, ctx.position, key))
        return f"{key} at {ctx.position}"

    def facts(self, run_id: str) -> list[Any]:
        """Return what the journal says of a run."""
        run = self.store._runs.get(run_id)
        return [] if run is None else [decode(run_id, entry).fact for entry in run.entries]

    def told(self, run_id: str, *kinds: type) -> list[Any]:
        """Return a run's records of some kinds."""
        return [fact for fact in self.facts(run_id) if isinstance(fact, kinds)]

    def types(self, run_id: str) -> list[str]:
        """Return the names of a run's records, in order."""
        return [type(fact).__name__ for fact in self.facts(run_id)]

    def row(self, run_id: str) -> Any:
        """Return a run's row."""
        return self.store._runs[run_id].row

    @property
    def run_ids(self) -> list[str]:
        """All runs, in order of acceptance."""
        return list(self.store._runs)


def make(flow: Mapping[str, Any], handlers: Mapping[str, Any], **sections: Any) -> Runner:
    """Make a runner with a journal; `agents` adds to the agents' tables, further sections stand as they are."""
    tables: dict[str, Any] = {name: {} for name in handlers} | dict(sections.pop("agents", {}))
    config = {"orchestration": dict(flow), "agents": tables, "journal": {"url": "memory:"}, **sections}
    runner = Runner.from_dict(config, environ={}, seed=7)
    for name, handler in handlers.items():
        runner.register_agent(name, handler)
    return runner


def one(target: str = "", data: Mapping[str, Any] | None = None, **rest: Any) -> Event:
    """Make an event."""
    return Event(target, dict(data or {}), **rest)


def _bury(loop: VirtualLoop) -> None:
    """Throw away what a dead process was doing."""
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined] # its process is dead: nobody is to hear of it
        coroutine = task.get_coro()
        with suppress(BaseException):
            coroutine.close()  # type: ignore[union-attr] # tasks here carry coroutines
    loop.close()
