"""What goes into a workflow's verbs, and what comes out: specs, outcomes, decisions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from agentflow.core.values import Json, adopt, copy_json
from agentflow.errors import InvalidValueError, did_you_mean

MOST_CHARS = 256  # of a step's id


@dataclass(frozen=True, slots=True)
class AgentStepSpec:
    """One unit of agent work: what to run, whatever runs it.

    Attributes:
        task_id: names the step in its workflow; asked for again it answers what it answered.
        agent: who does it.
        description: for people; no part of the step's identity.
        prompt: what is asked.
        max_steps: the most tool rounds; None for no limit.
        parent_session_id: the session on whose behalf it runs; no part of the step's identity.
        output_schema: not supported yet; a step that has one is refused.
        reserve_tokens: what each attempt sets aside of the workflow's budget of tokens before it begins (default 0); without such a
            budget it has no effect. No part of the step's identity.

    Raises:
        InvalidValueError: a field is of the wrong kind.
    """

    task_id: str
    agent: str
    description: str = ""
    prompt: str = ""
    max_steps: int | None = None
    parent_session_id: str | None = None
    output_schema: Mapping[str, Any] | None = None
    reserve_tokens: int = 0

    def __post_init__(self) -> None:
        for name in ("task_id", "agent", "description", "prompt"):
            adopt(_text(getattr(self, name), name), f"AgentStepSpec.{name}")
        if not self.task_id or len(self.task_id) > MOST_CHARS or not self.task_id.isprintable():
            raise InvalidValueError(f"AgentStepSpec.task_id is {self.task_id[:40]!r}", hint=f"use 1 to {MOST_CHARS} printable characters")
        if not self.agent:
            raise InvalidValueError("AgentStepSpec.agent is empty", hint="name who does it")
        if self.max_steps is not None and (type(self.max_steps) is not int or self.max_steps < 1):
            raise InvalidValueError(f"AgentStepSpec.max_steps is {self.max_steps!r}", hint="use a whole number >= 1, or None")
        if type(self.reserve_tokens) is not int or self.reserve_tokens < 0:
            raise InvalidValueError(f"AgentStepSpec.reserve_tokens is {self.reserve_tokens!r}", hint="use a whole number >= 0")

    def to_dict(self) -> dict[str, Json]:
        """Return the spec as JSON, under its fields' names."""
        return {each.name: copy_json(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> AgentStepSpec:
        """Build a spec from `to_dict`'s form; optional keys may be missing.

        Raises:
            InvalidValueError: `task_id` or `agent` is missing, a key is unknown, or a value is of the wrong kind.
        """
        known = {each.name for each in fields(cls)}
        for name in row:
            if name not in known:
                raise InvalidValueError(f"a step has no key {name!r}", hint=did_you_mean(str(name), known))
        missing = {"task_id", "agent"} - set(row)
        if missing:
            raise InvalidValueError(f"a step lacks {', '.join(sorted(missing))}")
        return cls(**row)


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What a step came to. Two outcomes are equal whatever time they took.

    Attributes:
        task_id, agent: as in its spec.
        session_id: where it ran: what the executor says, else the id of the step's run in the journal; "" when it never ran.
        output: the answer, JSON; "" when it failed.
        success: whether there is an answer.
        structured: the answer as data where the executor gives it so.
        error: why it failed, None when it did not.
        attempts: how often it was begun, 0 when it never ran.
        tokens: how many tokens it used.
        duration: how long it took from its first attempt, in seconds.
        code: of what it failed with: `budget` when the workflow's budget did not suffice, as in the table of errors; "" when it
            succeeded. The workflow sets it, as it does attempts and duration.
    """

    task_id: str
    session_id: str = ""
    agent: str = ""
    output: Any = ""
    success: bool = True
    structured: Any = None
    error: str | None = None
    attempts: int = 1
    tokens: int = 0
    duration: float = field(default=0.0, compare=False)
    code: str = ""

    @classmethod
    def failed(cls, task_id: str, agent: str, error: str, **more: Any) -> StepOutcome:
        """Return the outcome of a step that failed; `more` sets further fields."""
        return cls(task_id, agent=agent, success=False, error=error, **more)

    def to_dict(self) -> dict[str, Json]:
        """Return the outcome as JSON, under its fields' names."""
        return {each.name: copy_json(getattr(self, each.name)) for each in fields(self)}


@dataclass(frozen=True, slots=True)
class LoopDecision:
    """What comes after a round of a loop. Made by `stop` and `go_on`.

    Attributes:
        is_stop: the loop ends here.
        specs: what the next round runs; None runs what the loop was given at first, and an empty list ends it.
    """

    is_stop: bool
    specs: tuple[AgentStepSpec, ...] | None = None

    @classmethod
    def stop(cls) -> LoopDecision:
        """End the loop with the outcomes of this round."""
        return cls(is_stop=True)

    @classmethod
    def go_on(cls, specs: Iterable[AgentStepSpec] | None = None) -> LoopDecision:
        """Run another round."""
        return cls(is_stop=False, specs=None if specs is None else tuple(specs))


class LoopOutcome(list[StepOutcome]):
    """The outcomes of a loop's last round, in the order of its specs.

    Attributes:
        reason: why it ended: condition_met, max_iterations, error, or budget when steps of its last round were denied.
        iterations: how many rounds ran.
        error: what the decision raised, or why steps were not run; None when there is nothing to say.
    """

    def __init__(self, outcomes: Iterable[StepOutcome] = (), reason: str = "condition_met", iterations: int = 0) -> None:
        super().__init__(outcomes)
        self.reason = reason
        self.iterations = iterations
        self.error: str | None = None


def identity_parts(workflow: str, spec: AgentStepSpec) -> dict[str, Json]:
    """Return what makes a step the step it is."""
    parts: dict[str, Json] = {"workflow": workflow, "task_id": spec.task_id, "agent": spec.agent, "prompt": spec.prompt}
    return parts | {"max_steps": spec.max_steps, "schema": copy_json(dict(spec.output_schema)) if spec.output_schema is not None else None}


def identity_of(workflow: str, spec: AgentStepSpec) -> str:
    """Return the 64 hex digits that stand for a step of a workflow: SHA-256 over its canonical JSON.

    Workflow, task_id, agent, prompt, max_steps and schema count; the description, the parent session and what it reserves do not.
    """
    return digest_of(identity_parts(workflow, spec))


def digest_of(parts: Mapping[str, Json]) -> str:
    """Return the SHA-256 of a mapping's canonical JSON, in hex."""
    body = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(body.encode("utf-8", "replace")).hexdigest()


def _text(value: object, name: str) -> str:
    if isinstance(value, str):
        return value
    raise InvalidValueError(f"AgentStepSpec.{name} is {type(value).__name__}, not a string")
