"""Contract: what flows and agents declare of the state, and whether a patch keeps to it.

A flow's `state_schema` is checked key by key: its `required` says nothing of a single step, so that early steps pass. An agent's
`output_schema` is checked as a whole against what a step answers. The keys by which an answer steers its flow are no part of the state:
they need no declaration.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from agentflow.core.state import REMOVED, Patch
from agentflow.core.values import Json
from agentflow.errors import PatchRefusedError, SchemaError, UndeclaredKeyError, did_you_mean

LOOP_KEYS = ("iteration", "loop_complete", "loop_completed")
MOST_TOLD = 3  # misfits that a message names

Misfit: TypeAlias = tuple[str, str]  # where, e.g. `.tags[0]` ("": the whole), and what is wrong
Check: TypeAlias = Callable[[Mapping[str, object], bool], Sequence[Misfit]]

# What speaks of several keys of a state at once, and so of no single step.
_OF_THE_WHOLE = frozenset(
    {
        *("$ref", "$dynamicRef", "$recursiveRef", "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "enum", "const"),
        *("dependentRequired", "dependentSchemas", "dependencies", "minProperties", "maxProperties", "unevaluatedProperties"),
    }
)


def _unread(value: Mapping[str, object], is_partial: bool) -> Sequence[Misfit]:
    """Refuse to answer: the schema is only shown here."""
    raise SchemaError("a schema was never compiled", hint="read the plan with what compiles its schemas")


@dataclass(frozen=True, slots=True)
class Schema:
    """A JSON Schema: `source` is the schema itself, `check` says what of a mapping does not fit; with True it may lack keys."""

    source: Mapping[str, Json]
    check: Check = field(default=_unread, compare=False, repr=False)

    @property
    def keys(self) -> frozenset[str] | None:
        """The keys that it allows; None where it allows others than those it names."""
        if self.source.get("additionalProperties") is not False or self.source.get("patternProperties"):
            return None
        properties = self.source.get("properties")
        return frozenset(properties if isinstance(properties, dict) else ())


@dataclass(frozen=True, slots=True)
class Contract:
    """What an agent declares: the keys it sets (None: any), and the schema of its answer."""

    writes: tuple[str, ...] | None = None
    output: Schema | None = None


def refuse_whole(schema: Schema) -> None:
    """Refuse what a state's schema cannot say, since it is checked key by key.

    Raises:
        SchemaError: it speaks of several keys at once.
    """
    unfit = sorted(_OF_THE_WHOLE.intersection(schema.source))
    if unfit:
        told = f"`{unfit[0]}` at the top of a state's schema speaks of all keys together"
        raise SchemaError(told, hint="a step's patch is checked key by key: say it inside `properties`")


def hold_to(contract: Contract, patch: Patch, agent: str, repeated: Mapping[str, object], steering: Collection[str] = LOOP_KEYS) -> None:
    """Refuse an answer that its agent's contract does not allow.

    Args:
        contract: the agent's.
        patch: what the step changes.
        agent: its name, for the error.
        repeated: what the agent answered, of what the state had before: as far as the schema requires it, it is part of the answer.
        steering: the keys by which it steers its flow.

    Raises:
        UndeclaredKeyError: a key that it does not declare.
        PatchRefusedError: an answer that does not fit the schema.
    """
    hold_to_writes(contract, patch, f"`{agent}`", steering)
    if contract.output is None:
        return
    required = contract.output.source.get("required")
    names = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
    answer = {name: repeated[name] for name in names if name in repeated and name not in patch.data} | _values(patch)
    misfits = contract.output.check(answer, False)
    if misfits:
        raise PatchRefusedError(f"the answer of `{agent}` does not fit its output_schema: {_listed('answer', misfits)}")


def hold_to_writes(contract: Contract, patch: Patch, who: str, steering: Collection[str]) -> None:
    """Refuse a patch with keys that an agent does not declare, but for `steering`; `who` sets them, for the error.

    Raises:
        UndeclaredKeyError: as it says.
    """
    if contract.writes is None:
        return
    for key, value in patch.data.items():
        if key not in contract.writes and key not in steering:
            done = "removed" if value is REMOVED else "set"
            near = did_you_mean(key, contract.writes)
            raise UndeclaredKeyError(f"{who} {done} `state.{key}`, which the agent's `writes` does not name", hint=near or "add it there")


def hold_to_state(schemas: Sequence[tuple[str, Schema]], patch: Patch, who: str, steering: Collection[str] = LOOP_KEYS) -> None:
    """Refuse a patch that does not fit the state of a flow around it.

    Args:
        schemas: the flows around, by name, with their schemas.
        patch: what is to be set.
        who: who sets it, for the error.
        steering: the keys by which it steers its flow.

    Raises:
        PatchRefusedError: as it says.
    """
    if not schemas:
        return
    values = {key: value for key, value in _values(patch).items() if key not in steering}
    for flow, schema in schemas:
        misfits = schema.check(values, True)
        if misfits:
            raise PatchRefusedError(f"{who} does not fit the state_schema of flow `{flow}`: {_listed('state', misfits)}")


def _values(patch: Patch) -> dict[str, object]:
    return {key: value for key, value in patch.data.items() if value is not REMOVED}


def _listed(root: str, misfits: Sequence[Misfit]) -> str:
    more = len(misfits) - MOST_TOLD
    told = "; ".join(f"`{root}{path}`: {what}" for path, what in misfits[:MOST_TOLD])
    return f"{told}; and {more} more" if more > 0 else told
