"""Telling: records for observers, warnings for the log. Neither may stop a run, whatever it raises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeAlias

from agentflow.core.failure import Failure, failure_of
from agentflow.core.frame import Frame
from agentflow.core.plan import name_of
from agentflow.core.records import (
    Fact,
    Record,
    StepCompleted,
    StepFailed,
    StepRetried,
    StepStarted,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowCreated,
    WorkflowFailed,
)
from agentflow.core.result import RunResult
from agentflow.core.walk import Answer
from agentflow.engine.run import Run
from agentflow.engine.step import Step
from agentflow.ports import Clock, Log

Observer: TypeAlias = Callable[[Record], None]


class Teller:
    """Tells journals, observers and the log what happens. While there are neither journals nor observers, no record is made."""

    def __init__(self, observers: list[Observer], clock: Clock, log: Log, monotonic: Callable[[], float]) -> None:
        self.observers = observers
        self._clock = clock
        self._log = log
        self._monotonic = monotonic
        self.watch: Callable[[Run, Fact], None] | None = None  # waits for a record of its own
        self.count: Callable[[Run, Fact], None] | None = None  # counts what happens, where runs have journals
        self.told: dict[str, int] = {}  # how often the log was told of what: nobody else is

    def tell(self, run: Run, fact: Fact) -> None:
        """Note a record in the run's journal and give it to the observers; one that raises is logged and the run goes on."""
        if run.parked is not None:
            return
        seq = run.journal.note(fact) if run.journal is not None else None
        if self.watch is not None:
            self.watch(run, fact)
        if self.count is not None:
            self.count(run, fact)
        if not self.observers:
            return
        record = Record(run.run_id, self._clock.time(), fact, seq)
        for observer in tuple(self.observers):
            try:
                observer(record)
            except BaseException as error:  # noqa: BLE001 - an observer may raise anything
                self.say("observer_failed", {"run_id": run.run_id, "record": record.type, "error": str(failure_of(error))})

    def created(self, run: Run) -> None:
        """Tell that a run was accepted."""
        journal = run.journal
        event = run.event.kept_dict() if journal is None or journal.event is None else journal.event
        parent_id, root_id = _line_of(run)
        plan_hash, handlers = "", None
        if journal is not None:
            plan_hash, handlers = journal.row.plan_hash, journal.shared.handlers or None
            journal.event = None
        self.tell(run, WorkflowCreated(event, run.program.flow.mode, plan_hash, handlers, run.is_hooked, parent_id, root_id))

    def started(self, run: Run, frame: Frame, attempt: int) -> None:
        """Tell that an attempt of a step begins."""
        self.tell(run, StepStarted(frame.position, name_of(frame.node), attempt))

    def retried(self, step: Step, wait_s: float, failure: Failure) -> None:
        """Tell that an attempt failed and another one follows."""
        due_at = self._clock.time() + wait_s
        self.tell(step.run, StepRetried(step.position, step.name, step.attempt, wait_s, failure, due_at, step.take_usage()))

    def ended(self, step: Step, answer: Answer) -> None:
        """Tell what a step came to."""
        duration_s = self._monotonic() - step.begun
        position, agent, usage = step.position, step.name, step.take_usage()
        if isinstance(answer, Failure):
            self.tell(step.run, StepFailed(position, agent, step.attempt, duration_s, answer, usage))
        elif step.changed and step.emitted:
            emitted = tuple(run.run_id for run in step.emitted)
            self.tell(step.run, StepCompleted(position, agent, step.attempt, duration_s, answer, answer.route, usage, emitted))
        else:
            self.tell(step.run, StepCompleted(position, agent, step.attempt, duration_s, answer, answer.route, usage))

    def closed(self, run: Run, result: RunResult) -> None:
        """Tell how a run ended."""
        duration_s = result.timing.duration_s
        if result.status == "cancelled":
            self.tell(run, WorkflowCancelled(result.reason, duration_s, result.flags))
        elif result.status in ("completed", "partial"):
            self.tell(run, WorkflowCompleted(result.status, result.reason, duration_s, result.flags))
        else:
            self.tell(run, WorkflowFailed(result.status, result.reason, duration_s, result.error, result.flags))

    def chosen(self, run: Run) -> None:
        """Tell the choices that the walk has made since it was last asked."""
        for note in run.walk.notes:
            self.tell(run, note)
        run.walk.notes.clear()

    def warn(self, event: str, step: Step, **fields: object) -> None:
        """Log a warning about a step."""
        agent = step.agent.name if step.frame is not None else ""
        self.say(event, {"run_id": step.run.run_id, "position": step.position, "agent": agent, **fields})

    def say(self, event: str, fields: Mapping[str, object], error: BaseException | None = None) -> None:
        """Log a warning, and count it."""
        self.told[event] = self.told.get(event, 0) + 1
        with suppress(Exception):  # a log that cannot be written must not stop a run
            self._log.warn(event, fields, error)


def _line_of(run: Run) -> tuple[str | None, str | None]:
    """Return the run of which a new one came, and the first one of that line."""
    if run.changed is None:
        return None, None
    if run.parent is not None and run.family is not None:
        return run.parent.run_id, run.family.root_id
    root_id = None if run.root is None else run.root.run_id
    return root_id, root_id
