"""Phases: what happens around an attempt when there are hooks, or when it failed: veto, retry, recovery, afterthought.

Each function takes a step through one phase and returns the next. None of them raises, and none keeps anything on its
stack that a fresh task could not go on with.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from agentflow.core.answered import like
from agentflow.core.failure import Failure, failure_of
from agentflow.core.records import EventPatched
from agentflow.core.result import AgentResult
from agentflow.core.state import REMOVED, Patch, Scope, State
from agentflow.core.values import copy_json
from agentflow.engine.admission import admit, dismiss, is_shut_out
from agentflow.engine.contracts import check_answer, check_event_patch, check_injection, note_repeated
from agentflow.engine.fallbacks import degrade, exhausted, fall_back, has_fallback
from agentflow.engine.hooks import Hook, HookArgs, call
from agentflow.engine.lineage import Offspring
from agentflow.engine.repeated import with_repeated
from agentflow.engine.retry import is_correctable, is_retryable, wait_after
from agentflow.engine.run import TIMED_OUT
from agentflow.engine.step import Phase, Step
from agentflow.errors import AgentflowError

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine


async def before_event(engine: Engine, step: Step) -> Phase:
    """Run BEFORE_EVENT_HANDLING: its patch is the run's first; an exception fails the run."""
    scope, turn = step.run.walk.scope, step.turn
    args = _args(engine, step, Hook.BEFORE_EVENT_HANDLING, State.over(scope))
    try:
        for _, callback in engine.hooks.of(Hook.BEFORE_EVENT_HANDLING):
            await call(callback, args)
            if step.is_left(turn):
                return Phase.DONE
        _keep(engine, step, "before", args.state)
    except BaseException as error:  # noqa: BLE001 - user code may raise anything
        if not _is_lost(step, turn, error):
            step.failure = replace(failure_of(error), stage="before_event_handling")
    return Phase.DONE


async def after_event(engine: Engine, step: Step) -> Phase:
    """Run AFTER_EVENT_HANDLING: its patch is the run's last; an exception is logged."""
    run, turn = step.run, step.turn
    scope = run.walk.scope
    for name, callback in engine.hooks.of(Hook.AFTER_EVENT_HANDLING):
        args = _args(engine, step, Hook.AFTER_EVENT_HANDLING, State.over(scope))
        args.result = engine.ending.result_of(run)
        failure = run.walk.outcome.failure
        args.error = _exception(failure) if failure is not None else None
        try:
            await call(callback, args)
            if not step.is_left(turn):
                _keep(engine, step, "after", args.state)
        except BaseException as error:  # noqa: BLE001 - user code may raise anything
            if not _is_lost(step, turn, error):
                _report(engine, step, Hook.AFTER_EVENT_HANDLING, name, error)
        if step.is_left(turn):
            break
    return Phase.DONE


async def before(engine: Engine, step: Step) -> Phase:
    """Run BEFORE_AGENT_RUN: what it injects stays for all attempts; an exception is a veto, which is not retried."""
    scope, turn = _scope(step), step.turn
    args = _args(engine, step, Hook.BEFORE_AGENT_RUN, State.over(scope))
    try:
        for _, callback in engine.hooks.of(Hook.BEFORE_AGENT_RUN):
            await call(callback, args)
            if step.is_left(turn):
                return Phase.ERROR
        injected = args.state.patch_to(scope)
        if step.is_policed:
            check_injection(step, injected)
        step.injected = injected
    except BaseException as error:  # noqa: BLE001 - user code may raise anything
        if not _is_lost(step, turn, error):
            step.failure = failure_of(error, attempts=step.attempt)
            if step.cause is None:
                engine.budgets.release(step)
        return Phase.ERROR
    return Phase.ADMIT if step.is_policed else Phase.ATTEMPT


async def attempt(engine: Engine, step: Step) -> Phase:
    """Make one attempt; what `Engine._carry` does in place for a step without hooks."""
    turn, run = step.turn, step.run
    step.event = step.input if step.is_policed else run.event.view()
    run.calls += 1
    step.attempt += 1
    step.started = engine.monotonic()
    step.state = state_of(step)
    step.drop_mail()
    failure: Failure | None = None
    try:
        returned = await engine.executor.begin(step)
        if step.turn == turn:
            answered = step.answer(returned)
            if step.is_policed:
                answered = with_repeated(step, returned, answered)
                note_repeated(step, step.state, returned)
                check_answer(step, answered)
            step.answered = answered
    except BaseException as error:  # noqa: BLE001 - a handler that raises anything at all fails its step only
        failure = step.failed(error)
    if step.turn != turn:
        return Phase.DONE  # too late: the step is another task's, which may be at its next attempt
    step.failure = failure
    if failure is not None:
        step.drop_mail()
    if step.is_policed:
        is_closing = step.cause is not None and step.cause is not TIMED_OUT
        dismiss(engine, step, is_ok=None if is_closing else failure is None)
        engine.cache.keep(step)
    return Phase.AFTER if failure is None else Phase.JUDGE


async def judge(engine: Engine, step: Step) -> Phase:
    """Decide whether a failed attempt is made again."""
    failure = step.failure
    assert failure is not None  # noqa: S101 - only failed attempts are judged
    step.drop_mail()
    step.failure = failure = replace(failure, attempts=step.attempt)
    call = step.call
    step.failures += 1
    corrections = 0 if call.policy is None else call.policy.self_correct
    is_again = step.failures <= corrections and is_correctable(failure)
    is_again = is_again or (step.failures <= corrections + call.retry.max_retries and is_retryable(call.retry, failure))
    is_again = is_again and not is_shut_out(engine, step)
    if step.run.extra >= step.run.program.flow.max_total_attempts and (is_again or has_fallback(step, failure)):
        step.failure = exhausted(step, failure)
        return Phase.ERROR
    if is_again:
        return Phase.WAIT
    return Phase.ADMIT if step.is_policed and fall_back(engine, step, failure) else Phase.ERROR


async def wait(engine: Engine, step: Step) -> Phase:
    """Wait before the next attempt."""
    failure = step.failure
    assert failure is not None  # noqa: S101 - only failed attempts wait
    is_left_over, delay = step.rest_s is not None, step.rest_s or 0.0
    step.rest_s = None
    if not is_left_over:
        if (denial := engine.budgets.again(step, step.call, failure)) is not None:
            step.failure = denial
            return Phase.ADMIT if fall_back(engine, step, failure) else Phase.ERROR
        call = step.call
        corrections = 0 if call.policy is None else call.policy.self_correct
        if step.failures > corrections:
            delay = wait_after(call.retry, step.failures - corrections, engine.clock.random())
        if corrections:
            step.correction = failure
        engine.retry(step, delay, failure)
        engine.control.growth.is_over(step.run)
    try:
        await asyncio.sleep(delay)
    except asyncio.CancelledError as error:
        step.failure = failure_of(error, attempts=step.attempt)
        return Phase.ERROR
    step.failure = None
    if step.is_policed and not is_left_over:
        return Phase.ADMIT
    return Phase.BEFORE if is_left_over else Phase.ATTEMPT  # what hooks had injected went with the process that died


async def after_failure(engine: Engine, step: Step) -> Phase:
    """Run AGENT_ERROR after the last attempt: a State returned is the step's answer, raising replaces the error."""
    scope, turn = _scope(step), step.turn
    state = _with(scope, step.injected)
    assert step.failure is not None  # noqa: S101 - only failed steps come here
    told = _exception(step.failure)
    for name, callback in engine.hooks.of(Hook.AGENT_ERROR):
        args = _args(engine, step, Hook.AGENT_ERROR, state)
        args.error = told
        try:
            if await call(callback, args) and not step.is_left(turn):
                state = args.state
                patch = state.patch_to(scope)
                patch.take_route()
                if step.is_policed:
                    note_repeated(step, state, None)
                    check_answer(step, patch)
                step.answered = patch
                step.failure = None
        except BaseException as error:  # noqa: BLE001 - user code may raise anything
            if _is_lost(step, turn, error):
                break
            if step.cause is not None:
                _report(engine, step, Hook.AGENT_ERROR, name, error)
                break
            told = _caused(error, told)
            step.answered = None
            step.failure = replace(failure_of(error, attempts=step.attempt), exception=told)
        if step.is_left(turn):
            break
    if step.failure is not None and step.is_policed and not step.is_left(turn):
        degrade(step, step.failure)
    return Phase.DONE if step.failure is not None else Phase.AFTER


async def after(engine: Engine, step: Step) -> Phase:
    """Run AFTER_AGENT_RUN on the answer; an exception is logged and the run goes on."""
    scope, turn = _scope(step), step.turn
    callbacks = engine.hooks.of(Hook.AFTER_AGENT_RUN)
    answer = step.answered
    if not callbacks or answer is None:
        return Phase.DONE
    for name, callback in callbacks:
        state = _with(scope, answer)  # a fresh one each time: what a callback wrote before it raised is dropped
        args = _args(engine, step, Hook.AFTER_AGENT_RUN, state)
        args.result = AgentResult(state, answer.route, duration_s=engine.monotonic() - step.begun, attempts=max(step.attempt, 1))
        try:
            await call(callback, args)
            if step.is_left(turn):
                break
            patch = args.state.patch_to(scope)
            patch.route = answer.route
            patch.take_route()
            if step.is_policed:
                patch = like(answer, patch)
                check_answer(step, patch)
            step.answered = answer = patch
        except BaseException as error:  # noqa: BLE001 - user code may raise anything
            if _is_lost(step, turn, error):
                break
            _report(engine, step, Hook.AFTER_AGENT_RUN, name, error)
            if step.cause is not None:
                break
    return Phase.DONE


PHASES = {
    Phase.BEFORE_EVENT: before_event,
    Phase.AFTER_EVENT: after_event,
    Phase.BEFORE: before,
    Phase.ADMIT: admit,
    Phase.ATTEMPT: attempt,
    Phase.JUDGE: judge,
    Phase.WAIT: wait,
    Phase.ERROR: after_failure,
    Phase.AFTER: after,
}


def _keep(engine: Engine, step: Step, when: str, state: State) -> None:
    """Settle what callbacks made of a state; a route they set in it steers nothing and is dropped."""
    run = step.run
    scope = run.walk.scope
    patch = state.patch_to(scope)
    patch.take_route()
    check_event_patch(run, patch)
    if run.journal is not None:
        engine.teller.tell(run, EventPatched(when, patch))
    scope.apply(patch)


def _scope(step: Step) -> Scope:
    assert step.frame is not None  # noqa: S101 - event hooks have phases of their own
    return step.frame.scope


def _is_lost(step: Step, turn: int, error: BaseException) -> bool:
    """Say whether nobody is left to be told of an error: another task goes on with the step.

    Raises:
        GeneratorExit: `error` is one, because the coroutine is thrown away with its loop.
    """
    if isinstance(error, GeneratorExit) and not step.is_current:
        raise error
    return step.turn != turn


def state_of(step: Step) -> State:
    """Return what an attempt sees: the scope, with what hooks injected."""
    return _with(_scope(step), step.injected)


def _with(scope: Scope, patch: Patch | None) -> State:
    state = State.over(scope)
    if patch is not None:
        for key, value in patch.data.items():
            if value is REMOVED:
                state.pop(key, None)
            else:
                state[key] = copy_json(value)  # type: ignore[arg-type] # a patch holds JSON; attempts must not share it
        for key, text in (patch.meta or {}).items():
            if text is REMOVED:
                state.meta.pop(key, None)
            else:
                state.meta[key] = str(text)
    return state


def _args(engine: Engine, step: Step, hook: Hook, state: State) -> HookArgs:
    run = step.run
    args = HookArgs(hook, run.event.view(), state, Offspring(engine, run, step.position), run.run_id)
    if step.frame is not None:
        args.agent = step.agent.name
        args.position = step.position
        args.attempt = step.attempt
    return args


def _exception(failure: Failure) -> BaseException:
    return failure.exception if failure.exception is not None else AgentflowError(failure.message)


def _caused(error: BaseException, cause: BaseException | None) -> BaseException:
    if error.__cause__ is None and error is not cause:
        error.__cause__ = cause
    return error


def _report(engine: Engine, step: Step, hook: Hook, name: str, error: BaseException) -> None:
    engine.teller.warn("hook_failed", step, hook=hook.name, callback=name, error=str(failure_of(error)))
