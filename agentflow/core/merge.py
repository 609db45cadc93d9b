"""Merge policies: how the patches of parallel branches become one.

Patches merge in declared order, never in completion order. For each key that at least one branch wrote:

| policy | result |
|---|---|
| ordered | the last branch in the list that wrote it wins; a collision is recorded |
| strict | as `ordered`, but two branches writing different values is an error |
| first, last | the first or last branch in the list that wrote it |
| max, min | the greatest or least value written |
| sum | what the state had plus what each branch added to it |
| append | the list the state had, then what each branch added to it |
| union | as `append`, without repeats |
| collect | the list of the values written |
| module:function | `function(before, values)`: before is None when the key was missing |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias, cast

from agentflow.core.failure import failure_of
from agentflow.core.row import Row
from agentflow.core.state import MISSING, REMOVED, Patch, Scope
from agentflow.core.values import Json, adopt, copy_json, same
from agentflow.errors import MergeError

Combine: TypeAlias = Callable[[object, list[Json]], object]

NAMED_POLICIES = ("ordered", "strict", "append", "union", "sum", "max", "min", "first", "last", "collect")


@dataclass(frozen=True, slots=True)
class Merge:
    """A flow's merge policy: `default` is ordered or strict, `keys` holds the policy of single keys.

    A key's policy is one of NAMED_POLICIES or `module:function`, whose function then stands in `functions`.
    """

    default: str = "ordered"
    keys: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    functions: Mapping[str, Combine] = field(default_factory=lambda: MappingProxyType({}), compare=False)


@dataclass(frozen=True, slots=True)
class Conflict(Row):
    """Two or more branches wrote different values to one key; `winner` is the agent whose value stands."""

    key: str
    agents: tuple[str, ...]
    winner: str
    position: str = ""

    def to_dict(self) -> dict[str, Json]:
        """Return the conflict as JSON."""
        return {"key": self.key, "agents": list(self.agents), "winner": self.winner, "position": self.position}


def merge_patches(merge: Merge, scope: Scope, branches: Sequence[tuple[str, Patch]]) -> tuple[Patch, list[Conflict]]:
    """Merge the patches of named branches, given in declared order, into one patch to `scope`.

    Raises:
        MergeError: a strict collision, or values that the key's policy cannot combine.
    """
    simple = None if merge.keys else _disjoint(branches)
    if simple is not None:
        return simple, []
    written: dict[str, list[tuple[str, object]]] = {}
    texts: dict[str, list[tuple[str, object]]] = {}
    for name, patch in branches:
        for key, value in patch.data.items():
            written.setdefault(key, []).append((name, value))
        for key, value in (patch.meta or {}).items():
            texts.setdefault(key, []).append((name, value))
    conflicts: list[Conflict] = []
    data = {key: _merge_key(merge, scope, key, values, conflicts) for key, values in written.items()}
    is_strict = merge.default == "strict"
    meta = {key: _only(f"meta.{key}", values) if is_strict else _last(f"meta.{key}", values, conflicts) for key, values in texts.items()}
    return Patch(data, meta or None), conflicts


def _disjoint(branches: Sequence[tuple[str, Patch]]) -> Patch | None:
    """Join patches that share no key, the usual case; None when some do."""
    data: dict[str, object] = {}
    for _, patch in branches:
        if patch.meta or not data.keys().isdisjoint(patch.data):
            return None
        data.update(patch.data)
    return Patch(data)


def _merge_key(merge: Merge, scope: Scope, key: str, values: list[tuple[str, object]], conflicts: list[Conflict]) -> object:
    policy = merge.keys.get(key, merge.default)
    if policy == "ordered":
        return values[0][1] if len(values) == 1 else _last(key, values, conflicts)
    if policy == "strict":
        return _only(key, values)
    kept = [(name, cast("Json", value)) for name, value in values if value is not REMOVED]
    if not kept:
        return REMOVED
    before = scope.lookup(key)
    try:
        if policy in _COMBINE:
            return _COMBINE[policy](before, [value for _, value in kept])
        function = merge.functions[policy]
        mine = None if before is MISSING else copy_json(cast("Json", before))
        return adopt(function(mine, [copy_json(value) for _, value in kept]), f"state.{key}")
    except BaseException as error:  # a function of a user may raise anything
        agents = ", ".join(name for name, _ in kept)
        told = f"key `{key}` written by {agents} cannot be merged by `{policy}`: {failure_of(error).message}"
        raise MergeError(told, hint="change the policy or the values") from error


def _last(key: str, values: list[tuple[str, object]], conflicts: list[Conflict]) -> object:
    name, value = values[-1]
    if any(not same(value, other) for _, other in values[:-1]):
        conflicts.append(Conflict(key, tuple(agent for agent, _ in values), name))
    return value


def _only(key: str, values: list[tuple[str, object]]) -> object:
    first = values[0][1]
    if any(not same(first, other) for _, other in values[1:]):
        agents = ", ".join(name for name, _ in values)
        raise MergeError(
            f'key `{key}` was written by {agents} with different values under merge = "strict"',
            hint="let one of them write it, or give the key a policy of its own",
        )
    return first


def _added(before: object, value: Json) -> list[Json]:
    """What a branch added to the list it saw: the tail when it kept the head, else all of it."""
    if not isinstance(value, list):
        return [value]
    is_longer = isinstance(before, list) and same(value[: len(before)], before)
    return value[len(before) :] if is_longer else value  # type: ignore[arg-type]


def _start(before: object) -> list[Json]:
    if before is MISSING or before is None:
        return []
    return list(before) if isinstance(before, list) else [cast("Json", before)]


def _append(before: object, values: list[Json]) -> object:
    merged = _start(before)
    for value in values:
        merged.extend(_added(before, value))
    return merged


def _union(before: object, values: list[Json]) -> object:
    merged: list[Json] = []
    for item in cast("list[Json]", _append(before, values)):
        if not any(same(item, other) for other in merged):
            merged.append(item)
    return merged


def _sum(before: object, values: list[Json]) -> object:
    numbers = _numbers(values)
    start = 0 if before is MISSING or before is None else _numbers([cast("Json", before)])[0]
    return adopt(start + sum(number - start for number in numbers), "the sum")


def _numbers(values: list[Json]) -> list[int | float]:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{type(value).__name__} is not a number")
    return cast("list[int | float]", values)


def _extreme(choose: Callable[[list[int | float]], object]) -> Callable[[object, list[Json]], object]:
    def pick(_before: object, values: list[Json]) -> object:
        if all(isinstance(value, str) for value in values):
            return choose(values)  # type: ignore[arg-type]
        return choose(_numbers(values))

    return pick


_COMBINE: Mapping[str, Callable[[object, list[Json]], object]] = {
    "first": lambda _before, values: values[0],
    "last": lambda _before, values: values[-1],
    "max": _extreme(max),
    "min": _extreme(min),
    "sum": _sum,
    "append": _append,
    "union": _union,
    "collect": lambda _before, values: list(values),
}
