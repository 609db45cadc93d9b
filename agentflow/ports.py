"""The seams, on one page: what the engine asks of the parts that are chosen when it is put together."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from agentflow.core.append import Append
from agentflow.core.entry import Entry
from agentflow.core.event import Event
from agentflow.core.reach import News, Reach
from agentflow.core.result import RunResult
from agentflow.core.run_row import RunFilter, RunRow
from agentflow.core.state import State


class Request(Protocol):
    """One attempt of one step, as agents see it."""

    @property
    def event(self) -> Event:
        """This attempt's own view of the event."""

    @property
    def state(self) -> State:
        """What this attempt sees and changes."""

    @property
    def context(self) -> object:
        """The `ctx` of a handler with three parameters; made when first asked for."""

    def leave_behind(self) -> None:
        """Note that something of this attempt goes on although it was given up."""


class Attempt(Request, Protocol):
    """One attempt of one step, as executors see it."""

    @property
    def agent(self) -> Agent:
        """Who answers."""


class Agent(Protocol):
    """Answers a call: a Python callable now; prompts, HTTP endpoints and others have the same shape."""

    name: str

    def invoke(self, request: Request) -> Awaitable[object]:
        """Begin the call; the awaitable gives what a handler may return: a State, a mapping, an AgentResult or None."""


class Executor(Protocol):
    """Carries out calls: in this process, or elsewhere."""

    def begin(self, attempt: Attempt) -> Awaitable[object]:
        """Begin one attempt; the awaitable gives what the agent gave, or raises what it raised.

        The engine makes answers of both, so that no executor has its own idea of what an error is.
        """


class Clock(Protocol):
    """Time and chance, so that tests can hold them still."""

    def time(self) -> float:
        """Return seconds since the epoch."""

    def monotonic_of(self, loop: AbstractEventLoop) -> Callable[[], float]:
        """Return the function that tells an event loop's own time, in seconds that never go back."""

    def monotonic(self) -> float:
        """Return seconds of this machine's own clock, which never goes back, however the loop counts its own."""

    def random(self) -> float:
        """Return a number in [0, 1)."""

    def fresh_id(self) -> str:
        """Return a new id, unique in this process and, by its random part, elsewhere."""


class Log(Protocol):
    """Where the engine says what nobody else is told: hooks that fail, late results, abandoned work."""

    def warn(self, event: str, fields: Mapping[str, object], error: BaseException | None = None) -> None:
        """Write one warning with its fields, and the traceback of `error` where given."""

    def bind(self, fields: Mapping[str, object]) -> object:
        """Return a logger for a handler, with the run and step bound."""


class Handle(Protocol):
    """What `emit` returns: the run's id, and a way to wait for it."""

    run_id: str

    async def result(self) -> RunResult:
        """Wait for the run's end and return its result."""


class Emitter(Protocol):
    """Takes the events that callbacks emit."""

    async def emit_for(self, parent: object, event: Event) -> Handle:
        """Accept an event that a callback of a run emits, and return its run's handle."""


class Tracing(Protocol):
    """Knows which trace a run is part of, where runs are traced."""

    def headers_of(self, run_id: str, position: str) -> Mapping[str, str]:
        """Return the W3C `traceparent` of a step, or of its run where it has none; `tracestate` too; {} for none."""


class Feed(Protocol):
    """Tells of all runs of a journal in turn, to whoever says how far it has come."""

    def listen(self, listener: Callable[[Sequence[Append]], None]) -> None:
        """Call `listener` on the loop with the appends of each commit from now on, in order, once they are durable.

        Whatever was written before can be read. A write whose outcome was not known may be left out; the next one of its run shows it.
        """

    async def reach(self) -> Reach:
        """Return how far the journal goes, as of one moment."""

    async def news(self, start: Reach, stop: Reach, *, most: int = 256, most_bytes: int = 262_144) -> list[News]:
        """Return the entries beyond `start` and not beyond `stop`, run by run, each run's in order; [] when there are no more.

        At most `most` of them, and none after their bodies have `most_bytes`. What was deleted since is left out.

        Raises:
            StoreDamagedError: one of them cannot be read, or is missing.
        """

    async def numbers(self, run_ids: Collection[str]) -> dict[str, int]:
        """Return the numbers of those of these runs that there are, by which a `Reach` knows them."""


class Store(Feed, Protocol):
    """Keeps one append-only journal for each run, and a row that says where the run stands.

    Every store passes the one suite in tests/stores/test_conformance.py. Reading never waits for writing.

    An owner is whoever works on runs: one runner. It is alive from its first `take` or `renew` until its lease is over or
    released; what a dead owner had can be taken, and taking raises the run's epoch, so that the old owner's appends are
    refused from then on.

    Attributes:
        url: where the journal is, e.g. "sqlite:/home/me/flow/.agentflow/journal.db".
        durability: what a finished append means: "full" (it survives a power cut), "relaxed" (it survives the end of the
            process, and a power cut may lose the last ones), "none" (it is in memory).
    """

    @property
    def url(self) -> str:
        """Where the journal is."""

    @property
    def durability(self) -> str:
        """What a finished append means: full, relaxed or none."""

    async def open(self) -> None:
        """Make the journal ready: lock, check and migrate it.

        Raises:
            StoreError: it cannot be used; StoreLockedError, StoreVersionError, StoreDamagedError, StoreMissingError and
                StoreForeignError say why.
        """

    async def close(self) -> None:
        """Finish what was appended and let go of the journal; twice is once."""

    def append(self, append: Append) -> Future[None]:
        """Add entries to one run, all or nothing; done when they are durable. Appends that wait share one commit.

        Compares and appends in one transaction, so of two that write the same seq one is refused. A refused append does
        not disturb the others of its commit. Cancelling the future does not take the append back. What an append has in `also`
        is for other runs, and shares its fate: where one of them is refused, nothing of all is written, and its error is told.

        Raises (through the future):
            FencedError: the run's epoch is another one, or its journal does not end before `expected_seq`.
            DuplicateEventError: the run is new and its event's id is known.
            StorageFullError: there is no room; nothing was written.
            StorageError: the write failed. With `is_unknown` it may be in the journal all the same.
            StoreDamagedError: the place to write to is damaged.
        """

    async def take(self, owner: str, *, lease_s: float, run_ids: Collection[str] | None = None, limit: int | None = None) -> list[RunRow]:
        """Make `owner` alive for `lease_s` seconds and give it the open runs whose owner is dead, oldest first.

        Each row comes back with its new owner and its epoch raised by one; one that was `running` is `recovering`. A row that
        cannot be read is not taken: it comes back with what is left of it and the flag `corrupt`. `run_ids` narrows the choice to
        these runs, `limit` takes no more than so many.
        """

    async def renew(self, owner: str, lease_s: float) -> None:
        """Keep `owner` alive for `lease_s` more seconds from now."""

    async def release(self, owner: str) -> None:
        """End the owner's lease and its holds: others may take its runs at once."""

    async def hold(self, name: str, owner: str, lease_s: float) -> int | None:
        """Hold a named lease for `lease_s` seconds and return its epoch, or None when another live owner holds it.

        Holding again while it lasts prolongs it under the same epoch; after that, and for another owner, it grows.
        """

    async def row(self, run_id: str) -> RunRow | None:
        """Return the run's row.

        Raises:
            StoreDamagedError: it cannot be read.
        """

    async def row_of_event(self, event_id: str) -> RunRow | None:
        """Return the row of the run that serves this event."""

    async def rows(self, wanted: RunFilter) -> list[RunRow]:
        """Return the rows that fit, in the order that the filter asks for; one that is damaged has the flag `corrupt`."""

    async def entries(self, run_id: str, start: int = 0, stop: int | None = None) -> list[Entry]:
        """Return the run's entries from seq `start` to before `stop` (None: to the end), in order; [] for an unknown run.

        Raises:
            StoreDamagedError: they cannot be read, or some are missing.
        """

    async def snapshot(self, run_id: str) -> tuple[int, bytes] | None:
        """Return the run's newest snapshot as (seq, body): the state after that seq."""

    async def plan(self, plan_hash: str) -> bytes | None:
        """Return the plan kept under this hash."""

    async def delete(self, run_ids: Collection[str]) -> int:
        """Delete those of these runs that have ended, with all they have, and return how many it were."""

    async def counts(self) -> dict[str, int]:
        """Return how many runs there are in each state, `runs` in all, `records`, and `bytes` on disk."""

    async def backup(self, path: Path) -> None:
        """Write a copy of the journal, consistent as of one moment, while the store goes on.

        Raises:
            StoreError: there is a file at `path`, or it cannot be written.
        """
