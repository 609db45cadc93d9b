"""Families: the runs that come of one event, because its steps, its callbacks and its subscribers bring forth others.

What a step emits is kept with the step until it is done: then the new runs are accepted in the commit that says so, and a step
that fails has emitted nothing. How many runs come of one event is bounded, whoever brings them forth, in whichever process.
"""

from __future__ import annotations

import hashlib
import threading
from asyncio import Future
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from agentflow.core.event import W3C, Event, accept, require_no_id
from agentflow.core.plan import Call
from agentflow.core.result import RunResult
from agentflow.core.run_row import RunFilter, RunRow
from agentflow.core.state import Patch, State
from agentflow.core.walk import Answer
from agentflow.engine.acceptance import MORE, accepted_run, equip, subscribed_run
from agentflow.engine.context import idempotency_key
from agentflow.engine.run import Run
from agentflow.engine.step import Phase, Step
from agentflow.errors import AgentflowError, EventLimitError, RunnerStateError

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine

STEERING = ("route", "orchestration_override")  # of the event's own run, not of those of its subscribers


class Family:
    """The runs that came of one event.

    Attributes:
        root_id: that event's own run.
        most: how many others there may be.
        count: how many have been accepted.
        members: those of them that were accepted here, by id, in order of acceptance.
        emitting: the steps that hold what they have emitted.
    """

    __slots__ = ("__weakref__", "count", "emitting", "members", "most", "root_id")

    def __init__(self, root_id: str, most: int, count: int = 0) -> None:
        self.root_id = root_id
        self.most = most
        self.count = count
        self.members: dict[str, Run] = {}
        self.emitting: set[Step] = set()

    def check(self, more: int) -> None:
        """Refuse more runs than there may be; what steps hold counts, unless these were ended meanwhile.

        Raises:
            EventLimitError: there would be too many.
        """
        self.emitting = {step for step in self.emitting if step.emitted and _is_live(step)}
        held = sum(1 + len(run.followers) for step in self.emitting for run in step.emitted)
        if self.count + held + more > self.most:
            told = f"one event has brought forth {self.count + held} others"
            raise EventLimitError(told, hint=f"{MORE}, which is {self.most}")

    def add(self, run: Run) -> None:
        """Count a run as accepted."""
        self.count += 1
        self.members[run.run_id] = run

    def drop(self, run: Run) -> None:
        """Count a run no more, which was not accepted after all."""
        if self.members.pop(run.run_id, None) is not None:
            self.count -= 1


class Families:
    """Brings forth the runs that come of others in one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: WeakValueDictionary[str, Family] = WeakValueDictionary()
        self._guard = threading.Lock()  # handlers emit from threads, too

    def of(self, run: Run) -> Family:
        """Return the family of a run; one that had none is the root of a new one."""
        family = run.family
        if family is None:
            family = run.family = Family(run.run_id, run.program.flow.max_events)
            self._known[run.run_id] = family
        return family

    # --- what steps emit ---

    def emit(self, step: Step, event: Event, place: tuple[str, int]) -> str:
        """Keep an event until its step is done, and return the id that its run will have.

        Args:
            step: the step of the handler.
            event: the event.
            place: the position and the attempt for which the handler was called: the step may be at another one by now.

        Raises:
            InvalidEventError, InvalidValueError, RoutingError: as `Runner.emit`; and the event must not have an id.
            EventLimitError: the root event has brought forth as many as it may.
            RunnerStateError: the attempt is over.
        """
        if place != (step.position, step.attempt) or not _is_live(step):
            raise RunnerStateError("the attempt is over: what it emits now comes too late", hint="emit before the handler returns")
        require_no_id(event)
        with self._guard:
            number = len(step.emitted) + 1
            return self._keep(step, self._child_of(step.run, event, f"{_key(step)}/{number}", step.position))

    def background(self, step: Step) -> None:
        """Let a run of its own do what a step would: the step is done at once. What goes wrong with that is the step's failure."""
        step.begun = self._engine.monotonic()
        self._engine.budgets.release(step)
        if step.run.journal is None:
            self._engine.teller.started(step.run, step.frame, 1)  # type: ignore[arg-type] # event hooks are nobody's background
        try:
            run = self._child_of(step.run, _input_of(step), f"{_key(step)}/background", step.position, step.call)
            run.session_id = None  # it holds up no other event
            with self._guard:
                self._keep(step, run)
        except AgentflowError as error:
            step.failure, step.phase = step.failed(error), Phase.ERROR
        else:
            step.answered, step.phase = Patch({}), Phase.DONE

    def _keep(self, step: Step, run: Run) -> str:
        family = self.of(step.run)
        family.check(1 + len(run.followers))
        step.emitted = (*step.emitted, run)
        family.emitting.add(step)
        return run.run_id

    def bring_forth(self, step: Step, answer: Answer) -> None:
        """Accept what a step has emitted that is done: in the commit that says so. One that has failed has emitted nothing."""
        runs, step.emitted = step.emitted, ()
        if step.changed is not None and not any(step.changed.values()):
            step.changed = None  # its line of steps goes on by the short way
        for run in runs if isinstance(answer, Patch) else ():
            self._accept(run, step.run)

    # --- how they are accepted ---

    def follow(self, run: Run) -> None:
        """Accept the runs of an event's subscribers, in the commit of its own run's acceptance."""
        run.has_offspring = True
        for call in run.followers:
            event = run.event
            metadata = {name: told for name, told in event.kept_metadata.items() if name not in STEERING}
            copy = Event(event.target, event.kept_data, metadata, session_id=event.session_id, timestamp=event.timestamp)
            self._accept(self._child_of(run, copy, f"{run.run_id}/{call.agent}", "", call), run)

    def _child_of(self, parent: Run, event: Event, seed: str, position: str, call: Call | None = None) -> Run:
        """Return the run of an event that another run has brought forth; with a `call` it makes nothing but that.

        Raises:
            InvalidEventError, InvalidValueError, RoutingError: the event is not valid.
        """
        engine = self._engine
        name = hashlib.sha256(seed.encode()).hexdigest()[:32]
        given: object = event
        if not isinstance(given, Event):
            accept(event, name, engine.clock.time)  # it says what is wrong
        metadata: Mapping[str, str] = event.metadata
        if isinstance(metadata, Mapping) and (position or call is None):
            metadata = {**self.trace_of(parent, metadata, position), **metadata}
        told = Event(event.target, event.data, metadata, session_id=event.session_id, id=f"event-{name}", timestamp=event.timestamp)
        is_noting = bool(engine.teller.observers) or engine.journals is not None
        program = engine.program if call is None else (parent.program if position else engine.program).alone(call)
        make = subscribed_run if program.subscriptions else accepted_run
        run = make(told, program, engine.clock, is_noting=is_noting)
        run.run_id, run.parent, run.family = f"run-{name}", parent, self.of(parent)
        return run

    def trace_of(self, run: Run, metadata: Mapping[str, str], position: str) -> Mapping[str, str]:
        """Return what metadata lacks to be part of a run's trace; nothing where they name a trace of their own."""
        if W3C[0] in metadata:
            return {}
        tracing, told = self._engine.tracing, run.event.kept_metadata
        headers = None if tracing is None else tracing.headers_of(run.run_id, position)
        return headers or {name: told[name] for name in W3C if name in told}

    def _accept(self, run: Run, parent: Run) -> None:
        engine, family = self._engine, self.of(parent)
        run.is_hooked = engine.hooks.has_event_hooks
        equip(engine, run)
        family.add(run)
        if run.journal is not None and parent.journal is not None:
            run.journal.change(parent_id=parent.run_id, root_id=family.root_id, session_id=run.session_id)
            run.journal.carrier = parent.journal
        if run.session_id is not None:
            engine.intake.nest(run)
        engine.admit(run, is_accepted=True)
        if run.journal is not None:
            run.journal.accepted.add_done_callback(partial(self._heard, run))
        self.watch(run)

    def _heard(self, run: Run, accepted: Future[None]) -> None:
        """Let go of a run whose acceptance could not be written."""
        if not accepted.cancelled() and (error := accepted.exception()) is not None:
            self.of(run).drop(run)
            self._engine.ending.park(run, error)

    def watch(self, run: Run) -> None:
        """Log it when a run fails that nobody may be waiting for."""
        run.ended().add_done_callback(partial(self._look, run))

    def _look(self, run: Run, done: Future[RunResult]) -> None:
        if done.cancelled() or done.exception() is not None:  # it goes on elsewhere
            return
        result = done.result()
        if result.status in ("failed", "timed_out"):
            told = {"run_id": run.run_id, "target": run.event.target, "status": result.status, "error": str(result.error or "")}
            self._engine.teller.say("further_event_failed", told)

    # --- after a crash ---

    async def recall(self, run: Run, row: RunRow) -> None:
        """Give a run that is read back its family, as far as it is recorded, where it may have one.

        Raises:
            StoreError: the journal cannot be read.
        """
        engine = self._engine
        journal = run.journal
        if journal is None or engine.journals is None:
            return
        is_root = (
            journal.standing.has_emitted
            or engine.hooks.has_agent_hooks
            or engine.hooks.has_event_hooks
            or engine.program.takers_of(run.event.target)
        )
        if row.root_id is None and not is_root:
            return
        root_id = row.root_id or row.run_id
        if root_id not in self._known:
            rows = await engine.journals.store.rows(RunFilter(root_id=root_id))
            if root_id not in self._known:
                self._known[root_id] = run.family = Family(root_id, run.program.flow.max_events, len(rows))
        run.family = self._known[root_id]

    def reunite(self, run: Run, parent: Run | None) -> None:
        """Let a run that was taken over be part of its parent's turn in their session, as it was before."""
        self.watch(run)
        if parent is not None:
            run.parent, parent.has_offspring = parent, True
            self._engine.intake.nest(run)

    # --- as a whole ---

    async def tree(self, run: Run) -> dict[str, RunResult]:
        """Wait until a run, and all that came of it, has ended; return the results by run, in order of acceptance.

        Raises:
            StoreError, RunnerStateError: one of them cannot be waited for, as `RunHandle.result`.
        """
        results = {run.run_id: await run.ended()}
        while True:
            below = await self._below(run)
            if not (missing := [run_id for run_id in below if run_id not in results]):
                return {run_id: results[run_id] for run_id in (run.run_id, *below)}
            for run_id in missing:
                member = None if run.family is None else run.family.members.get(run_id)
                results[run_id] = await (member or await self._engine.recovery.known(run_id)).ended()

    async def _below(self, run: Run) -> list[str]:
        """Return the runs that came of another one, directly or by way of others, in order of acceptance."""
        journals = self._engine.journals
        if run.journal is not None and journals is not None:
            root_id = run.journal.row.root_id or run.run_id
            rows = await journals.store.rows(RunFilter(root_id=root_id, newest_first=False))
            lines = [(row.run_id, row.parent_id) for row in rows]
        else:
            return [one.run_id for one in self.below(run)]
        found = {run.run_id}
        for run_id, parent_id in lines:  # parents come before their children
            if parent_id in found:
                found.add(run_id)
        return [run_id for run_id, _ in lines if run_id in found]

    def below(self, run: Run) -> list[Run]:
        """Return those of the runs that came of another one which were accepted here, in order of acceptance."""
        found, below = {run.run_id}, []
        for one in () if run.family is None else run.family.members.values():
            if one.parent is not None and one.parent.run_id in found:
                found.add(one.run_id)
                below.append(one)
        return below


def _key(step: Step) -> str:
    return idempotency_key(step.run.run_id, step.position)


def _is_live(step: Step) -> bool:
    """Say whether an attempt of a step may still emit."""
    run, frame = step.run, step.frame
    if frame is None or step.cause is not None or run.parked is not None or run.result is not None:
        return False
    return frame.is_live


def _input_of(step: Step) -> Event:
    """Return the event of a step's background run: its data are the event's, below the state, below the step's own input."""
    event, frame = step.run.event, step.frame
    assert frame is not None  # noqa: S101 - event hooks are nobody's background
    state = State.over(frame.scope).to_dict()
    data = {**event.kept_data, **state["data"], **(frame.given or {})}
    metadata = {name: told for name, told in {**event.kept_metadata, **state["meta"]}.items() if name not in STEERING}
    return Event(step.call.agent, data, metadata, session_id=event.session_id)
