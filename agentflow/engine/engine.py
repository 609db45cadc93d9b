"""The engine: asks the walk what is ready, hands calls to the executor, settles their answers.

A line of steps is carried by one task: `_carry` makes a call, completes it in the walk, and goes on with the first call
that became ready; further ones get tasks of their own. So a sequence costs no task a step, and no task waits for another.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from sys import getrefcount

from agentflow.core.event import Event
from agentflow.core.failure import Failure, failure_of
from agentflow.core.frame import Frame
from agentflow.core.records import WorkflowEnded
from agentflow.core.result import RunResult
from agentflow.core.state import Patch, State
from agentflow.core.walk import Answer
from agentflow.engine.acceptance import accepted_run
from agentflow.engine.deadlines import Deadlines
from agentflow.engine.draining import Drain
from agentflow.engine.intake import Intake
from agentflow.engine.parts import Parts
from agentflow.engine.phases import PHASES, state_of
from agentflow.engine.run import FlowTimer, Run
from agentflow.engine.step import ATTEMPT, NEW, UNKEPT, Phase, Step
from agentflow.engine.supervision import Supervision
from agentflow.engine.telling import Teller
from agentflow.errors import CancelledRunError, EventTimeoutError

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
        self.log = parts.log
        self._agents = parts.agents
        self._observers = parts.observers
        self.loop = asyncio.get_running_loop()
        self.monotonic = self.clock.monotonic_of(self.loop)
        self.teller = Teller(parts.observers, self.clock, parts.log, self.monotonic)
        self._runs: set[Run] = set()
        self._drain = Drain(self._runs)
        self._turns: deque[Run] = deque()
        self._is_beginning = False
        self._hook_limit_s = EVENT_HOOK_LIMIT_S
        self._intake = Intake(parts.bounds)
        self._deadlines: Deadlines[Step | FlowTimer] = Deadlines(self.loop, self.monotonic, lambda item: self.supervision.on_due(item))
        self.supervision = Supervision(self, self._deadlines, parts.grace_s)

    # --- from an event to its first step ---

    def accept(self, event: Event) -> Run:
        """Check an event and make its run, which `admit` takes in.

        Raises:
            InvalidEventError, InvalidValueError: the event is not valid.
            RoutingError: its `orchestration_override` names nothing.
        """
        return accepted_run(event, self.program, self.clock, is_noting=bool(self._observers))

    def admit(self, run: Run) -> bool:
        """Take a run in, at once or behind others. False when the queue is full: wait for `room` and try again."""
        begins = self._intake.admit(run)
        if begins is None:
            return False
        self._runs.add(run)
        if begins:
            self._begin(run)
        return True

    async def room(self, run: Run) -> None:
        """Wait until a run that was not admitted may be tried again, or raise QueueFullError."""
        await self._intake.room(run.session_id)

    def _begin(self, run: Run) -> None:
        run.begun = self.monotonic()
        if self._observers:
            self.teller.created(run)
        if self.hooks.has_event_hooks:
            self._spawn(Step(self, run, None, self._hook_limit_of(run)), Phase.BEFORE_EVENT)
        else:
            self._start_walk(run)

    def _begin_all(self) -> None:
        """Begin the runs whose turn it is. One that ends at once brings up the next: they are taken in a row, not in depth."""
        if self._is_beginning:
            return
        self._is_beginning = True
        try:
            while self._turns:
                self._begin(self._turns.popleft())
        finally:
            self._is_beginning = False

    def _hook_limit_of(self, run: Run) -> float:
        """Return how long the event hooks may take: they are part of the event's time."""
        return min(self._hook_limit_s, run.program.flow.timeout_s or self._hook_limit_s)

    def _start_walk(self, run: Run) -> None:
        ready = run.walk.start()
        limit_s = run.program.flow.timeout_s
        if limit_s is not None and (root := run.walk.root) is not None:
            taken_s = self.monotonic() - (run.begun or 0.0) if self.hooks.has_event_hooks else 0.0
            self.supervision.time_flow(run, root, max(limit_s - taken_s, 0.0))
        if len(ready) == 1 and not self._observers:
            self._spawn(self._step(run, ready[0]), NEW)
        else:
            self._go_on(run, ready)

    def _go_on(self, run: Run, ready: list[Frame]) -> None:
        """Give each ready call a task of its own; finish the run when there is none left."""
        if self._observers:
            self.teller.chosen(run)
        if run.walk.is_done:
            self._finish(run)
            return
        for frame in ready:
            self._spawn(self._step(run, frame), NEW)

    # --- carrying a line of steps ---

    def _step(self, run: Run, frame: Frame) -> Step:
        """Make the record of a call that begins a line of steps."""
        return self._call(Step(self, run, frame, self._hook_limit_s), frame)

    def _call(self, step: Step, frame: Frame) -> Step:
        """Make a step that of a call: a line of steps goes on with the record it has."""
        node = frame.node
        run = step.run
        limit_s = node.timeout_s  # type: ignore[union-attr] # only calls become ready
        step.frame = frame
        step.limit_s = limit_s if run.step_limit_s is None else min(run.step_limit_s, limit_s)
        step.phase = NEW
        step.attempt = 0
        step.injected = None
        step.agent = self._agents[node.agent]  # type: ignore[union-attr]
        if run.program.has_inner_limits:
            self.supervision.time_flows_above(run, frame)
        return step

    def _spawn(self, step: Step, phase: Phase) -> None:
        step.phase = phase
        self._deadlines.add(step, step.limit_s, self.monotonic())  # here already: a task that is cancelled before it begins never runs
        # Not loop.create_task: half as dear again, and a factory of eager tasks would begin before `step.task` is set.
        step.task = asyncio.Task(self._carry(step), loop=self.loop, name=step.run.run_id)

    def respawn(self, step: Step, phase: Phase) -> None:
        """Let a fresh task go on with a step at a phase."""
        self._spawn(step, phase)

    async def _carry(self, step: Step) -> None:  # noqa: C901, PLR0912, PLR0915 - each step comes through here: no calls between
        following: Step | None = step
        breath = BREATH
        run, hooks, observers = step.run, self.hooks, self._observers
        begin, walk, monotonic, over = self.executor.begin, run.walk, self.monotonic, State.over
        try:
            while following is not None:
                step = following
                turn = step.turn
                if step.phase is NEW and step.cause is None and not hooks.has_agent_hooks and not observers:
                    # The usual case, in one go: what `_advance` and `_settle` would do with a step that has no hooks and no troubles.
                    step.phase = ATTEMPT
                    frame: Frame = step.frame  # type: ignore[assignment] # event hooks have a phase of their own
                    event = step.event
                    if event._own is not None or event._own_metadata is not None or getrefcount(event) > UNKEPT:  # noqa: SLF001
                        step.event = run.event.view()
                    run.calls += 1
                    step.attempt = 1
                    step.begun = step.started = now = monotonic()  # `begun` for hooks and observers that are added while it runs
                    state = step.state = over(frame.scope)
                    if step.place == step.limit_s:
                        step.due = now + step.limit_s
                    else:
                        self._deadlines.add(step, step.limit_s, now)
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
                    if step.turn == turn and step.cause is None and type(answer) is Patch and not observers:
                        ready = walk.complete(frame, answer)
                        following = self._call(step, ready[0]) if len(ready) == 1 else self._follow(step, ready)
                    elif await self._advance_after(step, turn, answer):
                        following = self._settle(step)
                    else:
                        return
                elif await self._advance(step, turn):
                    following = self._settle(step)
                else:
                    return
                if following is not None and step.task is not None and step.task.cancelling():
                    self._spawn(following, NEW)  # a task that was cancelled, e.g. by its own handler, is not used again
                    return
                breath -= 1
                if not breath and following is not None:
                    breath = BREATH
                    await self._breathe(following)
        except GeneratorExit:
            raise  # thrown away with its loop
        except BaseException as error:  # noqa: BLE001 - a fault of ours ends the run, it must not hang it
            self._retire(step)
            self.supervision.crash(run, error)

    async def _breathe(self, step: Step) -> None:
        """Let others go on: a line of handlers that never wait would keep the loop, and every deadline, from them."""
        self._deadlines.drop(step)  # it still has the place of the step before
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancel(step.run, "cancelled")

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
        if step.phase is NEW and step.cause is None:
            self.teller.started(step)
            step.phase = Phase.BEFORE
        while True:
            if step.turn != turn:
                self.teller.say("late_result", {"run_id": step.run.run_id})  # the record is another call's by now
                return False
            if step.cause is None and step.is_cancelled_outside:
                self.cancel(step.run, "cancelled")
            if step.cause is not None:
                self.supervision.hand_over(step)
                return False
            self._deadlines.drop(step)
            if step.phase is Phase.DONE:
                return True
            if step.phase is not Phase.WAIT:
                self._deadlines.add(step, step.limit_s)
            following = await PHASES[step.phase](self, step)
            if step.turn == turn and step.cause is None:
                step.phase = following

    async def attempt(self, step: Step) -> Answer:
        """Make one attempt; what `_carry` does in place for a step without hooks."""
        turn = step.turn
        self.prepare(step)
        try:
            returned = await self.executor.begin(step)
            return step.answer(returned) if step.turn == turn else LATE
        except BaseException as error:  # noqa: BLE001 - a handler that raises anything at all fails its step only
            return step.failed(error)

    def prepare(self, step: Step) -> None:
        """Set an attempt up: its number, its start, its own view of event and state."""
        event = step.event
        # Read, so perhaps changed, or kept by somebody: then this attempt needs a view of its own.
        if event._own is not None or event._own_metadata is not None or getrefcount(event) > UNKEPT:  # noqa: SLF001 - a call less
            step.event = step.run.event.view()
        step.run.calls += 1
        step.attempt += 1
        step.started = self.monotonic()
        step.state = State.over(step.frame.scope) if step.injected is None else state_of(step)  # type: ignore[union-attr]

    def _settle(self, step: Step) -> Step | None:
        """Complete a step in its walk, and return the step that the same task goes on with."""
        frame = step.frame
        if frame is None:
            self._retire(step)
            self._settle_event_hooks(step)
            return None
        answer = step.answered if step.failure is None else step.failure
        assert answer is not None  # noqa: S101 - a step is done with a failure or an answer
        step.failure = None
        if self._observers:
            self.teller.ended(step, answer)
        return self._follow(step, step.run.walk.complete(frame, answer))

    def _follow(self, step: Step, ready: list[Frame]) -> Step | None:
        """Start what became ready after a step: the first call with its record, in the same task, the others in their own."""
        run = step.run
        if self._observers:
            self.teller.chosen(run)
        if not ready:
            self._retire(step)
            if run.walk.is_done:
                self._finish(run)
            return None
        for other in ready[1:]:
            self._spawn(self._step(run, other), NEW)
        return self._call(step, ready[0])

    def _retire(self, step: Step) -> None:
        self._deadlines.drop(step)
        step.run.close(step)

    def _settle_event_hooks(self, step: Step) -> None:
        run = step.run
        if run.walk.is_done:
            self.seal(run)
        elif step.failure is not None:
            self.cut(run, None, step.failure)
        else:
            self._start_walk(run)

    # --- ending ---

    def cut(self, run: Run, frame: Frame | None, failure: Failure) -> None:
        """End a frame (None: the whole run) below which nothing runs any more."""
        self._go_on(run, run.walk.cut(frame, failure))

    def cancel(self, run: Run, reason: str) -> None:
        """Ask a run to end; its running handlers are cancelled, and left behind after the grace if need be."""
        if run.result is not None or run.cancelled or run.walk.is_done or self.supervision.is_closing(run):
            return
        error: Exception
        if reason == "timeout":  # whoever waits for it has no more time: it ends as one that ran out of its own
            error = EventTimeoutError("the run did not end within the time it was given", hint="give it more, or make its agents faster")
        else:
            run.cancelled = reason or "cancelled"
            error = CancelledRunError(f"the run was cancelled: {run.cancelled}")
        failure = failure_of(error)
        if run.begun is None:
            self._intake.withdraw(run)
            run.walk.cut(None, failure)
            self.seal(run)
        else:
            self.supervision.close(run, None, failure)

    def _finish(self, run: Run) -> None:
        if run.timers is not None:
            self.supervision.stop_clocks(run)
        if self.hooks.has_event_hooks and run.begun is not None:
            self._spawn(Step(self, run, None, self._hook_limit_of(run)), Phase.AFTER_EVENT)
        else:
            self.seal(run)

    def seal(self, run: Run) -> None:
        """Make the result, wake who waits for it, and begin the run whose turn it is."""
        result = run.result = self.result_of(run)
        if self._observers:
            self.teller.tell(run, WorkflowEnded(result.status, result.reason, result.timing.duration_s, result.error))
        self._runs.discard(run)
        for waiter in run.waiters:
            if not waiter.done():
                waiter.set_result(result)
        if run.begun is not None:
            following = self._intake.release(run)
            while following is not None and following.result is not None:
                following = self._intake.release(following)
            if following is not None:
                self._turns.append(following)
                self._begin_all()
        if self._drain.is_awaited:
            self._drain.look()

    def result_of(self, run: Run) -> RunResult:
        """Return what a run has come to so far."""
        duration_s = None if run.begun is None else self.monotonic() - run.begun
        # Most runs use nothing but calls. A copy, since a handler that was left behind may go on adding.
        used = run.calls if run._usage is None else replace(run.usage)  # noqa: SLF001
        return RunResult(run.run_id, run.walk, run.program.names, used, run.cancelled, run.flags, run.event.timestamp, duration_s)

    async def drain(self, timeout_s: float) -> tuple[list[str], list[str]]:
        """Wait for all runs to end, then cancel the rest; return the ids of the cancelled and what was abandoned."""
        self._intake.close()
        await self._drain.until_idle(timeout_s)
        self._hook_limit_s = min(self._hook_limit_s, self.supervision.grace_s)
        left = sorted(run.run_id for run in self._runs)
        for run in sorted(self._runs, key=lambda open_run: open_run.begun is not None):  # those that wait first
            self.supervision.hurry(run)
            self.cancel(run, "stopped")
        await self._drain.until_idle(None)
        self._deadlines.close()
        return left, sorted(self.supervision.abandoned.values())
