"""Phase: a named part of a workflow, with a barrier at its end and a namespace for its steps' ids."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from agentflow.core.values import Json
from agentflow.errors import WorkflowError
from agentflow.workflow.specs import AgentStepSpec, StepOutcome

if TYPE_CHECKING:
    from agentflow.workflow.session import Session

_PRESENT: ContextVar[Phase | None] = ContextVar("agentflow_workflow_phase", default=None)


class Phase:
    """Made by `Workflow.phase`: `await` it to run its specs side by side, or `async with` it around verbs.

    Leaving it waits for every step that was begun in it. Its events are phase_start {index, name, step_count} and
    phase_end {index, name, succeeded, failed}; `step_count` is None where it has no specs of its own.
    """

    def __init__(self, session: Session, name: str, key: str, specs: Sequence[AgentStepSpec] | None) -> None:
        self.session = session
        self._specs = specs
        self.outer: Phase | None = None
        self._token: Token[Phase | None] | None = None
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.name = name
        self.key = key
        self.index = -1
        self.succeeded = 0
        self.failed = 0

    def __await__(self) -> Generator[Any, None, list[StepOutcome]]:
        return self._run().__await__()

    async def _run(self) -> list[StepOutcome]:
        if self._specs is None:
            raise WorkflowError(f"phase `{self.name}` has no specs", hint='await workflow.phase("name", specs), or async with it')
        async with self:
            return await self.session.side_by_side(self._specs)

    async def __aenter__(self) -> Self:
        self.outer = _PRESENT.get()
        await self.session.host()
        self.index = self.session.enter_phase(self.path)
        self._token = _PRESENT.set(self)
        self._tell("phase_start", step_count=None if self._specs is None else len(self._specs))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._token is not None:
            _PRESENT.reset(self._token)
        if kind is None:
            await self._idle.wait()
            self._tell("phase_end", succeeded=self.succeeded, failed=self.failed)
            async with self.session.working():
                pass  # which waits until the milestones are durable

    def _tell(self, kind: str, **more: Json) -> None:
        self.session.tell(f"{kind} {self.path}", {"type": kind, "index": self.index, "name": self.name, **more})

    @property
    def path(self) -> str:
        """The key, with those of the phases around it."""
        above = self._above
        return self.key if above is None else f"{above.path}/{self.key}"

    @property
    def _above(self) -> Phase | None:
        return _of(self.session, self.outer)

    def begin_step(self) -> None:
        """Count a step that begins in it, and in the phases around it."""
        self._open += 1
        self._idle.clear()
        if self._above is not None:
            self._above.begin_step()

    def end_step(self, outcome: StepOutcome | None) -> None:
        """Count a step that has ended; None when it was given up."""
        self._open -= 1
        if outcome is not None:
            self.succeeded += outcome.success
            self.failed += not outcome.success
        if not self._open:
            self._idle.set()
        if self._above is not None:
            self._above.end_step(outcome)


def present_phase(session: Session) -> Phase | None:
    """Return the phase of a session in which the caller runs."""
    return _of(session, _PRESENT.get())


def _of(session: Session, phase: Phase | None) -> Phase | None:
    while phase is not None and phase.session is not session:
        phase = phase.outer
    return phase
