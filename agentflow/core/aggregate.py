"""Aggregates: how one answer is made of those of parallel branches, over all that succeeded, in declared order.

| aggregate | the join's patch |
|---|---|
| first | that of the first branch |
| vote | of each key that a branch set or removed: what most branches leave it at; of as many, what the earliest leaves |
| concat | of each key that was set: lists joined, texts joined by a line break, other values in a list |
| best:KEY | that of the branch which leaves KEY the greatest, a number or a text; of as great ones the first |
| module:function | what `function(results)` returns; `results` is a list of `{"agent", "id", "output"}` |

A branch leaves a key as it has set it, else as it was before: an agent that answers what the state has already has said so, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from json import JSONEncoder
from typing import TypeAlias, cast

from agentflow.core.failure import failure_of
from agentflow.core.state import MISSING, REMOVED, Patch, Scope
from agentflow.core.values import Json, adopt_mapping, copy_json, same
from agentflow.errors import AggregateError

BEST = "best:"
NAMED_AGGREGATES = ("first", "vote", "concat")

_ballot = JSONEncoder(ensure_ascii=False, sort_keys=True).encode

Gather: TypeAlias = Callable[[list[Json]], object]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A flow's aggregate: one of NAMED_AGGREGATES, `best:KEY`, or `module:function` with its function.

    `source` is how it is written.
    """

    source: str
    function: Gather | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one branch came to: the name of its outputs, its agent's or flow's, and its patch."""

    id: str
    agent: str
    patch: Patch


def is_function(source: str) -> bool:
    """Say whether an aggregate is written as `module:function`."""
    return source not in NAMED_AGGREGATES and not source.startswith(BEST)


def aggregated(aggregate: Aggregate, scope: Scope, findings: Sequence[Finding]) -> Patch:
    """Make one patch to `scope` of what branches came to, given in declared order.

    Raises:
        AggregateError: no branch has the key by which the best is chosen, its values cannot be compared, or the function fails.
    """
    if not findings:
        return Patch({})
    source = aggregate.source
    if source == "first":
        return findings[0].patch
    if source == "vote":
        data = _voted([finding.patch.data for finding in findings], scope.lookup)
        return Patch(data, _voted([finding.patch.meta or {} for finding in findings], scope.lookup_meta) or None)
    if source.startswith(BEST):
        return _best(source.removeprefix(BEST), scope, findings)
    data = _concat(findings) if source == "concat" else _called(aggregate, findings)
    meta: dict[str, object] = {}
    for finding in findings:
        meta.update(finding.patch.meta or {})
    return Patch(data, meta or None)


def _voted(changes: Sequence[Mapping[str, object]], before: Callable[[str], object]) -> dict[str, object]:
    data: dict[str, object] = {}
    for key in dict.fromkeys(key for change in changes for key in change):
        was = before(key)
        votes: dict[str, int] = {}
        values: dict[str, object] = {}
        for change in changes:
            value = change.get(key, was)
            if value is not MISSING:
                ballot = "" if value is REMOVED else _ballot(value)
                votes[ballot] = votes.get(ballot, 0) + 1
                values.setdefault(ballot, value)
        winner = values[max(votes, key=votes.__getitem__)]
        if winner is REMOVED or not same(winner, was):
            data[key] = winner
    return data


def _concat(findings: Sequence[Finding]) -> dict[str, object]:
    written: dict[str, list[Json]] = {}
    removed: dict[str, object] = {}
    for finding in findings:
        for key, value in finding.patch.data.items():
            if value is REMOVED:
                removed[key] = REMOVED
            else:
                written.setdefault(key, []).append(cast("Json", value))
    return removed | {key: _joined(values) for key, values in written.items()}


def _joined(values: list[Json]) -> Json:
    if all(isinstance(value, list) for value in values):
        return [item for value in values for item in cast("list[Json]", value)]
    if all(isinstance(value, str) for value in values):
        return "\n".join(cast("list[str]", values))
    return values


def _best(key: str, scope: Scope, findings: Sequence[Finding]) -> Patch:
    was = scope.lookup(key)
    having: list[tuple[object, Finding]] = []
    for finding in findings:
        value = finding.patch.data.get(key, was)
        if value is not MISSING and value is not REMOVED:
            having.append((value, finding))
    if not having:
        raise AggregateError(f"no branch has set `{key}`, by which the best is chosen", hint="let one set it, a number or a text")
    kinds = {_kind(value) for value, _ in having}
    if len(kinds) > 1 or not kinds <= {"number", "text"}:
        told = ", ".join(f"`{finding.id}`: {_kind(value)}" for value, finding in having)
        raise AggregateError(f"`{key}` cannot be compared ({told})", hint="let all set a number, or all a text")
    return max(having, key=lambda one: one[0])[1].patch  # type: ignore[arg-type, return-value] # numbers all, or texts all


def _kind(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number"
    return "text" if isinstance(value, str) else type(value).__name__


def _called(aggregate: Aggregate, findings: Sequence[Finding]) -> dict[str, object]:
    results: list[Json] = [{"agent": one.agent, "id": one.id, "output": copy_json(one.patch.values())} for one in findings]
    try:
        assert aggregate.function is not None  # noqa: S101 - linking has found it
        return cast("dict[str, object]", adopt_mapping(aggregate.function(results), f"the answer of {aggregate.source}"))
    except BaseException as error:  # a function of a user may raise anything
        told = failure_of(error)
        raise AggregateError(
            f"`{aggregate.source}` failed: {told.type}: {told.message}", hint="it returns a mapping of JSON values"
        ) from error
