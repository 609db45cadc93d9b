"""Contracts: whether what a step is about to give is allowed by its agent's contract and by the states of the flows around it.

Each function raises, and is called where a raise means that nothing of the patch is kept. What is recorded has passed here.
"""

from __future__ import annotations

from collections.abc import Mapping

from agentflow.core.contract import LOOP_KEYS, Schema, hold_to, hold_to_state, hold_to_writes
from agentflow.core.frame import schemas_around
from agentflow.core.plan import Call
from agentflow.core.policy_walk import RECOVERED
from agentflow.core.result import AgentResult
from agentflow.core.state import REMOVED, Patch, State
from agentflow.core.values import Json
from agentflow.engine.run import Run
from agentflow.engine.step import Step


def check_answer(step: Step, patch: Patch, call: Call | None = None) -> None:
    """Refuse an answer that does not fit; `call` is whose it is, where that is not who acts.

    Raises:
        UndeclaredKeyError, PatchRefusedError: as they say.
    """
    if not step.run.program.has_contracts:
        return
    contract = (call or step.call).contract
    if contract is not None:
        hold_to(contract, patch, step.agent.name, step.repeated, _steering(step))
    hold_to_state(_schemas(step), patch, f"what `{step.agent.name}` set", _steering(step))


def check_injection(step: Step, patch: Patch) -> None:
    """Refuse what callbacks put before a step's agent: it is part of what the step sets.

    Raises:
        UndeclaredKeyError, PatchRefusedError: as they say.
    """
    if not step.run.program.has_contracts:
        return
    contract = step.call.contract
    if contract is not None:
        hold_to_writes(contract, patch, f"a callback before `{step.agent.name}`", LOOP_KEYS)
    hold_to_state(_schemas(step), patch, f"what a callback before `{step.agent.name}` set")


def check_event_patch(run: Run, patch: Patch) -> None:
    """Refuse what callbacks around an event make of the run's state.

    Raises:
        PatchRefusedError: it does not fit the main flow's.
    """
    hold_to_state(_main(run), patch, "what a callback set")


def note_repeated(step: Step, state: State, returned: object) -> None:
    """Keep what was answered, also of what the state had before: a patch has only the difference.

    Args:
        step: the step.
        state: what the handler saw, and may have written to.
        returned: what it returned.
    """
    contract = step.call.contract
    if contract is None or contract.output is None:
        return
    told: dict[str, object] = dict(state._own)  # noqa: SLF001 - what was set there
    given = returned.state if isinstance(returned, AgentResult) else returned
    if isinstance(given, State):
        told |= given._own  # noqa: SLF001 - as above
    elif isinstance(given, Mapping):
        told |= given
    step.repeated = {key: value for key, value in told.items() if value is not REMOVED}


def sources_of(step: Step) -> list[Json]:
    """Return the schemas and keys that an answer of a step has to fit, as JSON."""
    if not step.run.program.has_contracts:
        return []
    contract = step.call.contract
    told: list[Json] = [dict(schema.source) for _, schema in _schemas(step)]
    if contract is not None:
        told += [None if contract.writes is None else list(contract.writes)]
        told += [None if contract.output is None else dict(contract.output.source)]
    return told


def _schemas(step: Step) -> list[tuple[str, Schema]]:
    assert step.frame is not None  # noqa: S101 - event hooks have a check of their own
    return schemas_around(step.frame) or (_main(step.run) if step.frame.is_after else [])


def _steering(step: Step) -> tuple[str, ...]:
    """Return the keys by which an answer of a step steers the flows around it."""
    frame = step.frame
    keys: tuple[str, ...] = LOOP_KEYS
    while frame is not None:
        keys = (*keys, *((RECOVERED,) if frame.is_after else frame.controls))
        frame = frame.parent
    return keys


def _main(run: Run) -> list[tuple[str, Schema]]:
    flow = run.program.flow
    return [] if flow.state_schema is None else [(flow.name, flow.state_schema)]
