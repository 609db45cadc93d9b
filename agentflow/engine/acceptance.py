"""Acceptance: from an emitted event to the run that serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentflow.core.event import Event, accept, first_scope
from agentflow.core.standing import Standing
from agentflow.engine.durations import step_limit_of
from agentflow.engine.program import Program
from agentflow.engine.run import Run
from agentflow.errors import AgentflowError, DuplicateEventError, EventLimitError
from agentflow.ports import Clock

if TYPE_CHECKING:
    from agentflow.engine.engine import Engine

MORE = "emit for some events only, or raise max_events in [orchestration]"


def accepted_run(event: Event, program: Program, clock: Clock, *, is_noting: bool) -> Run:
    """Check an event and make its run.

    Its data becomes the first state, its metadata the first `state.meta`; what steers the run is read from it here.

    Raises:
        InvalidEventError, InvalidValueError: the event is not valid.
        RoutingError: its `orchestration_override` names nothing.
    """
    serial = clock.fresh_id()
    accepted = accept(event, serial, clock.time)
    scope = first_scope(accepted)
    limit_s: float | None = None
    if scope.meta is not None:
        metadata = accepted.kept_metadata
        if "orchestration_override" in metadata:
            program = program.overridden(metadata["orchestration_override"])
        if "agent_timeout" in metadata:
            limit_s = step_limit_of(metadata["agent_timeout"])
    walk = program.walk(program.plan, accepted, scope, is_noting=is_noting)
    run = Run("run-" + serial, accepted, program, walk)
    run.step_limit_s = limit_s
    return run


def subscribed_run(event: Event, program: Program, clock: Clock, *, is_noting: bool) -> Run:
    """Check an event and make its run, as `accepted_run`, where agents subscribe to events: those that take it will follow.

    Raises:
        InvalidEventError, InvalidValueError, RoutingError: as `accepted_run`.
        EventLimitError: more agents take it than one event may bring forth others.
    """
    followers = program.takers_of(event.target) if isinstance(event, Event) else ()
    if not followers:
        return accepted_run(event, program, clock, is_noting=is_noting)
    most = program.flow.max_events
    if len(followers) > most:
        raise EventLimitError(f"{len(followers)} agents subscribe to the event", hint=f"{MORE}, which is {most}")
    run = accepted_run(event, program.announcing(event), clock, is_noting=is_noting)
    run.followers = followers
    return run


def equip(engine: Engine, run: Run) -> None:
    """Give a new run its journal, where runs have one."""
    if engine.journals is not None:
        has_limits, is_budgeted = run.program.has_inner_limits, run.program.has_budgets
        standing = Standing(run.run_id, run.walk, has_limits=has_limits, is_budgeted=is_budgeted)
        run.journal = engine.journals.new(run.event, run.program, standing)


async def emitted_for(parent: Run, engine: Engine, event: Event) -> Run:
    """Accept an event that a callback of another run emits, and return its run.

    Raises:
        as `Runner.emit`; EventLimitError: one event has brought forth as many as it may.
    """
    run, family = engine.accept(event), engine.families.of(parent)
    run.parent, run.family = parent, family
    family.check(1 + len(run.followers))
    family.add(run)
    if run.journal is not None:
        run.journal.change(parent_id=parent.run_id, root_id=family.root_id)
    engine.intake.nest(run)
    known = None
    try:
        while not engine.admit(run):
            await engine.room(run)
        known = run if run.journal is None else await accepted(engine, run)
    finally:
        if known is not run:
            family.drop(run)
    if known is not run and known.parent is None and known is not parent:  # its callback runs once more, in another process
        known.parent = parent
        for following in engine.intake.lift(known):
            engine.beginning.take_turn(following)
    return known


async def accepted(engine: Engine, run: Run) -> Run:
    """Wait until a run's acceptance is durable, and return it; the same event emitted again has the run that it had.

    Raises:
        StoreError: it cannot be written, or its event's id was another event's.
    """
    try:
        await written(engine, run)
    except DuplicateEventError as error:
        return await known_run(engine, error)
    return run


async def known_run(engine: Engine, error: DuplicateEventError) -> Run:
    """Return the run that the same event had when it was first emitted.

    Raises:
        StoreError: it was another event, or the run cannot be read.
    """
    if not error.is_same:
        raise error
    return await engine.recovery.known(error.run_id)


async def written(engine: Engine, run: Run) -> None:
    """Wait until the acceptance of a run is durable.

    Raises:
        StoreError: it cannot be written: the run is not accepted.
    """
    journal = run.journal
    if journal is None:
        return
    try:
        await journal.durable(journal.commit() if journal.has_news else journal.accepted)
    except AgentflowError as error:
        engine.ending.park(run, error)
        raise
