"""Telling: records for observers, warnings for the log. Neither may stop a run, whatever it raises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeAlias

from agentflow.core.failure import Failure, failure_of
from agentflow.core.records import Fact, Record, StepCompleted, StepFailed, StepStarted, WorkflowCreated
from agentflow.core.walk import Answer
from agentflow.engine.run import Run
from agentflow.engine.step import Step
from agentflow.ports import Clock, Log

Observer: TypeAlias = Callable[[Record], None]


class Teller:
    """Tells observers and the log what happens. While `observers` is empty, no record is made."""

    def __init__(self, observers: list[Observer], clock: Clock, log: Log, monotonic: Callable[[], float]) -> None:
        self.observers = observers
        self._clock = clock
        self._log = log
        self._monotonic = monotonic

    def tell(self, run: Run, fact: Fact) -> None:
        """Give a record to the observers; one that raises is logged and the run goes on."""
        if not self.observers:
            return
        record = Record(run.run_id, self._clock.time(), fact)
        for observer in tuple(self.observers):
            try:
                observer(record)
            except BaseException as error:  # noqa: BLE001 - an observer may raise anything
                self.say("observer_failed", {"run_id": run.run_id, "record": record.type, "error": str(failure_of(error))})

    def created(self, run: Run) -> None:
        """Tell that a run began."""
        event = run.event
        self.tell(run, WorkflowCreated(event.id or "", event.target, run.program.flow.mode, event.session_id))

    def started(self, step: Step) -> None:
        """Note when a step began, and tell it."""
        step.begun = self._monotonic()
        if self.observers:
            self.tell(step.run, StepStarted(step.position, step.agent.name))

    def ended(self, step: Step, answer: Answer) -> None:
        """Tell what a step came to."""
        duration_s = self._monotonic() - step.begun
        if isinstance(answer, Failure):
            fact: Fact = StepFailed(step.position, step.agent.name, step.attempt, duration_s, answer)
        else:
            fact = StepCompleted(step.position, step.agent.name, step.attempt, duration_s, tuple(answer.data))
        self.tell(step.run, fact)

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
        """Log a warning."""
        with suppress(Exception):  # a log that cannot be written must not stop a run
            self._log.warn(event, fields, error)
