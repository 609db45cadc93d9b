"""Beginning: from an accepted run to its first calls, when its turn has come."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from agentflow.core.event import first_scope
from agentflow.engine.run import Run
from agentflow.engine.step import Phase, Step

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine


class Beginning:
    """Begins the runs of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turns: deque[Run] = deque()
        self._is_beginning = False

    def begin(self, run: Run) -> None:
        """Begin a run, or go on with one that was begun before."""
        engine = self._engine
        run.begun = engine.monotonic()
        if run.is_recovered:
            engine.recovery.begin(run)
            return
        if run.journal is not None:
            run.journal.change(state="running")  # it may have waited for its turn
        if run.is_hooked:
            self.begin_hooks(run)
        else:
            self.start_walk(run)

    def begin_hooks(self, run: Run) -> None:
        """Run the callbacks that come before an event's first step.

        The first step is recorded as begun ahead of them, in the commit of the acceptance: what they change goes with its answer.
        """
        engine = self._engine
        step = Step(engine, run, None, self.hook_limit_of(run))
        journal = run.journal
        if journal is not None:
            for frame in run.program.walk(run.program.plan, run.event, first_scope(run.event)).start():
                if not journal.is_ahead_of([frame]) and frame.node.approval_timeout_s is None:  # type: ignore[union-attr] # only calls become ready
                    engine.teller.started(run, frame, journal.standing.step(frame.position).attempts + 1)
            step.gate = journal.commit()
        engine.spawn(step, Phase.BEFORE_EVENT)

    def take_turn(self, run: Run) -> None:
        """Begin a run whose turn it is."""
        self._turns.append(run)
        self._begin_all()
        if run.changed and run.has_offspring:
            for other in self._engine.intake.behind(run):
                if other.parent is run:
                    for following in self._engine.intake.lift(other):
                        self.take_turn(following)

    def _begin_all(self) -> None:
        """Begin the runs whose turn it is. One that ends at once brings up the next: they are taken in a row, not in depth."""
        if self._is_beginning:
            return
        self._is_beginning = True
        try:
            while self._turns:
                self.begin(self._turns.popleft())
        finally:
            self._is_beginning = False

    def hook_limit_of(self, run: Run) -> float:
        """Return how long the event hooks may take: they are part of the event's time."""
        engine = self._engine
        return min(engine.hook_limit_s, run.program.flow.timeout_s or engine.hook_limit_s)

    def go_on_behind(self, step: Step) -> None:
        """Go on with a run whose event hooks have ended: those before its first step, or those after its last."""
        engine, run = self._engine, step.run
        if run.walk.is_done:
            engine.ending.seal(run)
        elif step.failure is not None:
            engine.ending.cut(run, None, step.failure)
        else:
            self.start_walk(run)

    def start_walk(self, run: Run) -> None:
        """Enter the plan and begin its first calls."""
        engine = self._engine
        ready = run.walk.start()
        if run.program.flow.timeout_s is not None:
            self.time_root(run)
        if run.journal is not None:
            run.journal.begin_walk(ready)
        if len(ready) == 1 and not engine.teller.observers and run.journal is None and not run.program.has_budgets:
            engine.spawn(engine.step(run, ready[0]))
        else:
            engine.go_on(run, ready)
        run.is_hooked = False

    def time_root(self, run: Run) -> None:
        """Start the clock of a run's own time limit, less what it has taken; it stands still while the run is paused."""
        engine = self._engine
        limit_s, root = run.program.flow.timeout_s, run.walk.root
        if limit_s is None or root is None:
            return
        taken_s = engine.monotonic() - (run.begun or 0.0)
        if run.journal is not None:
            standing = run.journal.standing
            if run.is_recovered and (standing.flows or standing.usage.calls):  # else it has only waited for its turn
                taken_s = engine.clock.time() - standing.flows.get(root.position, standing.created_at)
            taken_s -= standing.paused_s
        engine.supervision.time_flow(run, root, max(limit_s - taken_s, 0.0))
