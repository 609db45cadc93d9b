"""The engine: asks the walk what is ready, hands calls to the executor, settles their answers.

A line of steps is carried by one task: `_carry` makes a call, completes it in the walk, and goes on with the first call
that became ready; further ones get tasks of their own. So a sequence costs no task a step, and no task waits for another.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from math import inf
from sys import getrefcount

from agentflow.core.event import Event
from agentflow.core.failure import Failure
from agentflow.core.frame import Frame
from agentflow.core.state import Patch, State
from agentflow.core.walk import Answer
from agentflow.engine.acceptance import accepted_run, equip, subscribed_run
from agentflow.engine.admission import police, settled
from agentflow.engine.background import Background
from agentflow.engine.beginning import Beginning
from agentflow.engine.budgets import Budgets
from agentflow.engine.busy import Busy
from agentflow.engine.cache import Cache
from agentflow.engine.control import Control, Wait
from agentflow.engine.deadlines import Deadlines
from agentflow.engine.draining import Drain
from agentflow.engine.ending import Ending
from agentflow.engine.families import Families
from agentflow.engine.intake import Intake
from agentflow.engine.parts import Parts
from agentflow.engine.phases import PHASES
from agentflow.engine.recovery import Recovery
from agentflow.engine.run import FlowTimer, Run
from agentflow.engine.step import ADMIT, ATTEMPT, NEW, START, UNKEPT, WAIT, Phase, Step
from agentflow.engine.supervision import Supervision
from agentflow.engine.suspects import Suspects
from agentflow.engine.telling import Teller
from agentflow.errors import AgentflowError

EVENT_HOOK_LIMIT_S = 300.0
BREATH = 128  # steps that one task makes before it lets others go on
LATE = Patch({})  # of an attempt that was left behind: it must not touch what its step is now


class Engine:
    """Runs events through a program, on the event loop on which it is made."""

    def __init__(self, parts: Parts) -> None:
        self.program = parts.program
        self.executor = parts.executor
        self.clock = parts.clock
        self.hooks = parts.hooks
        self.emitter = parts.emitter
        self.tracing = parts.tracing
        self.log = parts.log
        self.agents = parts.agents
        self._observers = parts.observers
        self.loop = asyncio.get_running_loop()
        self.monotonic = self.clock.monotonic_of(self.loop)
        self.teller = Teller(parts.observers, self.clock, parts.log, self.monotonic)
        self.runs: set[Run] = set()
        self.idle = Drain(self.runs)
        self.journals = parts.journals
        if parts.journals is not None:
            parts.journals.on_full = lambda: self.teller.say("journal_full", {"detail": "there is no room; runs wait for some"})
        self.recovery = Recovery(self)
        self.suspects = Suspects(self)
        self.control = Control(self)
        self.beginning = Beginning(self)
        self.ending = Ending(self)
        self.families = Families(self)
        self._accepted = subscribed_run if self.program.subscriptions else accepted_run
        self.background = Background(self)
        self.budgets = Budgets(self)
        self.cache = Cache(self.monotonic)
        self.gates = parts.gates
        self.hook_limit_s = EVENT_HOOK_LIMIT_S
        self.intake = Intake(parts.bounds)
        self.busy = Busy(self, is_rejecting=parts.bounds.on_busy == "reject")
        self.deadlines: Deadlines[Step | FlowTimer | Wait] = Deadlines(
            self.loop, self.monotonic, lambda item: self.supervision.on_due(item)
        )
        self.supervision = Supervision(self, self.deadlines, parts.grace_s)

    # --- from an event to its first step ---

    def accept(self, event: Event) -> Run:
        """Check an event and make its run, which `admit` takes in.

        Raises:
            InvalidEventError, InvalidValueError: the event is not valid.
            RoutingError: its `orchestration_override` names nothing.
            EventLimitError: it has too many subscribers.
        """
        run = self._accepted(event, self.program, self.clock, is_noting=bool(self._observers) or self.journals is not None)
        run.is_hooked = self.hooks.has_event_hooks
        if self.journals is not None:
            equip(self, run)
        return run

    def admit(self, run: Run, *, is_accepted: bool = False) -> bool:
        """Take a run in, at once or behind others. False when the queue is full, or its session busy: await `room` and try again.

        One that `is_accepted`, because what brings it forth was, is taken in all the same.
        """
        begins = self.intake.admit(run, is_accepted=is_accepted)
        if begins is None:
            return False
        self.runs.add(run)
        if run.journal is not None or self._observers:
            self.teller.created(run)
        if run.changed and run.followers:
            self.families.follow(run)
        if begins:
            self.beginning.begin(run)
        elif run.journal is not None:
            run.journal.change(state="pending")
            run.journal.commit()
        return True

    def adopt(self, run: Run) -> None:
        """Take a run in that is recorded, however full the queue is: it was accepted before."""
        self.runs.add(run)
        if self.intake.admit(run, is_accepted=True):
            self.beginning.begin(run)

    async def room(self, run: Run) -> None:
        """Wait until a run that was not admitted may be tried again, or raise QueueFullError or SessionBusyError."""
        if self.intake.is_contested(run):
            await self.busy.decide(run)
        else:
            await self.intake.room(None if run.is_nested else run.session_id)

    def go_on(self, run: Run, ready: list[Frame]) -> None:
        """Give each ready call a task of its own; finish the run when there is none left."""
        if run.walk.notes:
            self.teller.chosen(run)
        if run.walk.closing:
            ready = self.supervision.close_joins(run, ready)
            if not ready:
                return  # the joins have seen to the rest
        if run.walk.is_done:
            self.ending.finish(run)
            return
        ready, gate = self._announce(run, ready)
        for frame in ready:
            self.begin(run, frame, gate)
        self.rest(run)

    def rest(self, run: Run) -> None:
        """See whether anything of a run goes on: else it ends, when its budget is used up, or it is paused."""
        denial = self.budgets.cut_of(run)
        if denial is not None and not run.steps and not run.walk.is_done and run.walk.after is None:
            self.ending.cut(run, None, denial)
        elif run.journal is not None:
            self.control.rest(run)

    def begin(self, run: Run, frame: Frame, gate: Future[None] | None, phase: Phase | None = None) -> Step:
        """Give a call a task of its own, which waits for `gate`."""
        step = self.step(run, frame)
        step.gate = gate
        if run.is_hooked and run.journal is not None:
            step.attempt = run.journal.standing.step(frame.position).attempts - 1  # begun ahead, perhaps in a process that died
        self.spawn(step, phase)
        return step

    def _announce(self, run: Run, ready: list[Frame]) -> tuple[list[Frame], Future[None] | None]:
        """Record that calls are about to begin, with all that was recorded before; they may once the commit is durable."""
        journal = run.journal
        if journal is None:
            return self.budgets.screen(run, ready) if run.program.has_budgets else ready, None
        ready = self.control.screen(run, ready)
        if run.program.has_budgets:
            ready = self.budgets.screen(run, ready)
        if run.is_hooked and journal.is_ahead_of(ready):
            return ready, None  # their begin is durable, and the hooks' patch goes with the first answer
        for frame in ready:
            self.teller.started(run, frame, 1)
        return ready, journal.commit(is_awaited=bool(ready))

    # --- carrying a line of steps ---

    def step(self, run: Run, frame: Frame) -> Step:
        """Make the record of a call that begins a line of steps."""
        limit_s = frame.node.timeout_s  # type: ignore[union-attr] # only calls become ready
        step = Step(self, run, frame, limit_s if run.step_limit_s is None else min(run.step_limit_s, limit_s))
        step.agent = self.agents[frame.node.agent]  # type: ignore[union-attr]
        if run.program.is_special or self.gates:
            police(self, step, frame)
        return step

    def _call(self, step: Step, frame: Frame) -> Step:
        """Make a step that of the next call: a line of steps goes on with the record it has."""
        node = frame.node
        run = step.run
        limit_s = node.timeout_s  # type: ignore[union-attr]
        step.frame = frame
        step.limit_s = limit_s if run.step_limit_s is None else min(run.step_limit_s, limit_s)
        step.phase = NEW
        step.attempt = step.failures = 0
        step.injected = None
        step.agent = self.agents[node.agent]  # type: ignore[union-attr]
        if run.program.is_special or self.gates:
            police(self, step, frame)
        return step

    def spawn(self, step: Step, phase: Phase | None = None) -> None:
        """Let a fresh task go on with a step at a phase; None for the one it is at."""
        if phase is not None:
            step.phase = phase
        self.deadlines.add(step, step.limit_s, self.monotonic())  # here already: a task that is cancelled before it begins never runs
        # Not loop.create_task: half as dear again, and a factory of eager tasks would begin before `step.task` is set.
        step.task = asyncio.Task(self._carry(step), loop=self.loop, name=step.run.run_id)

    async def _carry(self, step: Step) -> None:  # noqa: C901, PLR0912, PLR0915 - each step comes through here: no calls between
        following: Step | None = step
        breath = BREATH
        run, hooks, observers = step.run, self.hooks, self._observers
        is_kept = run.journal is not None
        begin, walk, monotonic, over = self.executor.begin, run.walk, self.monotonic, State.over
        try:
            while following is not None:
                step = following
                if step.gate is not None:
                    await self.until_written(step)
                turn = step.turn
                if step.phase is NEW and step.cause is None and not (hooks.has_agent_hooks or observers):
                    # The usual case, in one go: what `_advance` and `_settle` would do with a step that has no hooks and no troubles.
                    step.phase = ATTEMPT
                    frame: Frame = step.frame  # type: ignore[assignment] # event hooks have a phase of their own
                    event = step.event  # read, so perhaps changed, or kept by somebody: then this attempt needs a view of its own
                    if event._own is not None or event._own_metadata is not None or getrefcount(event) > UNKEPT:  # noqa: SLF001
                        step.event = run.event.view()
                    run.calls += 1
                    step.attempt += 1
                    step.begun = step.started = now = monotonic()  # `begun` for hooks and observers that are added while it runs
                    state = step.state = over(frame.scope)
                    if step.place == step.limit_s:
                        step.due = now + step.limit_s
                    else:
                        self.deadlines.add(step, step.limit_s, now)
                    answer: Answer = LATE
                    try:
                        returned = await begin(step)
                        if step.turn != turn:
                            pass
                        elif returned is state or returned is None:
                            answer = state.patch_to(frame.scope)
                            if answer.meta is not None:
                                answer.take_route()
                        else:
                            answer = step.answer(returned)
                    except BaseException as error:  # noqa: BLE001 - a handler that raises anything at all fails its step only
                        answer = step.failed(error)
                    if step.turn == turn and step.cause is None and type(answer) is Patch and not (observers or step.changed):
                        if is_kept:
                            self.teller.ended(step, answer)
                        ready = walk.complete(frame, answer)
                        following = self._call(step, ready[0]) if len(ready) == 1 and not is_kept else self._follow(step, ready)
                    elif await self._advance_after(step, turn, answer):
                        following = self._settle(step)
                    else:
                        return
                elif await self._advance(step, turn):
                    following = self._settle(step)
                else:
                    return
                if following is not None and step.task is not None and step.task.cancelling():
                    self.spawn(following)  # a task that was cancelled, e.g. by its own handler, is not used again
                    return
                breath -= 1
                if not breath and following is not None:
                    breath = BREATH
                    await self._breathe(following)
        except GeneratorExit:
            raise  # thrown away with its loop
        except BaseException as error:  # noqa: BLE001 - a fault of ours ends the run, it must not hang it
            self.retire(step)
            self.supervision.crash(run, error)

    async def _breathe(self, step: Step) -> None:
        """Let others go on: a line of handlers that never wait would keep the loop, and every deadline, from them."""
        self.deadlines.drop(step)  # it still has the place of the step before
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.ending.cancel(step.run, "cancelled")

    async def _advance_after(self, step: Step, turn: int, answer: Answer) -> bool:
        if step.turn == turn:
            if isinstance(answer, Failure):
                step.failure = answer
            if step.cause is None:
                step.answered = None if isinstance(answer, Failure) else answer
                step.phase = Phase.JUDGE if isinstance(answer, Failure) else Phase.AFTER
        return await self._advance(step, turn)

    async def _advance(self, step: Step, turn: int) -> bool:
        """Take a step through its phases. False when it is no longer this task's: another one goes on with it."""
        if (step.phase is NEW or step.phase is START) and step.cause is None:
            step.begun = self.monotonic()
            if step.run.journal is None:
                self.teller.started(step.run, step.frame, step.attempt + 1)  # type: ignore[arg-type] # event hooks have a phase of their own
            step.phase = Phase.BEFORE
        while True:
            if step.turn != turn:
                self.supervision.tell_late(step.run)
                return False
            if step.cause is None and step.is_cancelled_outside:
                self.ending.cancel(step.run, "cancelled")
            if step.cause is not None:
                self.supervision.hand_over(step)
                return False
            self.deadlines.drop(step)
            if step.phase is Phase.DONE:
                return True
            if step.phase is not WAIT and step.phase is not ADMIT:  # neither is part of an attempt's time
                self.deadlines.add(step, step.limit_s)
            following = await PHASES[step.phase](self, step)
            if step.turn == turn and step.cause is None:
                step.phase = following
            if step.gate is not None and step.phase is ATTEMPT:
                await self.until_written(step)  # the next attempt's start has to be durable, too

    async def until_written(self, step: Step) -> None:
        """Wait for the commit that says a step begins; a run that cannot be written is parked, which interrupts the step."""
        gate, journal = step.gate, step.run.journal
        assert gate is not None and journal is not None  # noqa: S101, PT018 - who has a gate has a journal
        step.gate = None
        step.due = inf  # its time stands still; it keeps its place, for most have to wait for a moment only
        step.is_gated = True
        try:
            await gate
            journal.let_go(gate)
        except AgentflowError:
            try:
                await journal.durable(gate, is_own=True)  # perhaps it is tried once more
            except AgentflowError as error:
                self.ending.park(step.run, error)
        step.is_gated = False

    def retry(self, step: Step, delay_s: float, failure: Failure) -> None:
        """Record that an attempt failed, and that the next one begins after a wait."""
        run = step.run
        run.extra += 1
        self.teller.retried(step, delay_s, failure)
        self.teller.started(run, step.frame, step.attempt + 1)  # type: ignore[arg-type] # event hooks are not retried
        if run.journal is not None:
            step.gate = run.journal.commit()

    def _settle(self, step: Step) -> Step | None:
        """Complete a step in its walk, and return the step that the same task goes on with."""
        frame = step.frame
        if frame is None:
            self.retire(step)
            self.beginning.go_on_behind(step)
            return None
        answer = step.answered if step.failure is None else step.failure
        assert answer is not None  # noqa: S101 - a step is done with a failure or an answer
        step.failure = None
        if step.is_policed:
            answer = settled(self, step, answer)
        if self._observers or step.run.journal is not None:
            self.teller.ended(step, answer)
        if step.changed and step.emitted:
            self.families.bring_forth(step, answer)
        return self._follow(step, step.run.walk.complete(frame, answer))

    def _follow(self, step: Step, ready: list[Frame]) -> Step | None:
        """Start what became ready after a step: the first call with its record, in the same task, the others in their own."""
        run = step.run
        if run.walk.notes:
            self.teller.chosen(run)
        if run.walk.closing:
            self.retire(step)
            self.go_on(run, ready)
            return None
        if run.walk.is_done:
            self.retire(step)
            self.ending.finish(run)
            return None
        ready, gate = self._announce(run, ready)
        if not ready:
            self.retire(step)
            self.rest(run)
            return None
        for other in ready[1:]:
            self.begin(run, other, gate)
        step.gate = gate
        return self._call(step, ready[0])

    def retire(self, step: Step) -> None:
        """Let go of a step that has ended."""
        self.deadlines.drop(step)
        step.run.close(step)
