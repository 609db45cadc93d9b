"""State: what a run knows, and Patch: the difference a step makes to it.

A `Scope` holds what is settled for one line of steps; a parallel branch has a child scope whose own entries are its patch.
A `State` is what one step sees: reads fall through to the scope, writes stay here, lists and dicts are copied when read, so
that a step costs what it touches, not what the state holds, and siblings never see each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Final, TypeAlias

from agentflow.core.values import MAX_INT, MAX_KEY_CHARS, MIN_INT, Json, adopt, adopt_mapping, check_key, check_text, copy_json, same
from agentflow.errors import InvalidValueError


class _Mark:
    """A value of its own kind, told apart from every JSON value by identity."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


MISSING: Final = _Mark("MISSING")
REMOVED: Final = _Mark("REMOVED")
Entries: TypeAlias = dict[str, object]
_SCALARS = frozenset({str, int, float, bool, type(None)})
_LONG_TEXT = 4096
_MANY_KEYS = 128  # as many long texts and keys, each character six bytes, stay below the limit of a patch


class Patch:
    """What a step changed: `data` and `meta` map keys to their new value, or to REMOVED.

    `is_removing` says whether `data` may hold REMOVED. `route`, which the step hands on to, steers and is kept in no state.
    """

    __slots__ = ("data", "is_removing", "meta", "route")

    def __init__(self, data: Entries, meta: Entries | None = None, is_removing: bool = True, route: str | None = None) -> None:
        self.data = data
        self.meta = meta
        self.is_removing = is_removing
        self.route = route

    def take_route(self) -> None:
        """Take `meta["route"]` out: from then on it is `route`, unless that is set already."""
        told = self.meta.pop("route", None) if self.meta else None
        self.route = told if self.route is None and isinstance(told, str) else self.route

    def values(self) -> dict[str, Json]:
        """Return a copy of the keys the step set, without those it removed."""
        return {key: copy_json(value) for key, value in self.data.items() if value is not REMOVED}  # type: ignore[arg-type]


class Scope:
    """What is settled for one line of steps; `parent` holds what it inherits.

    `outputs` has the last patch of each agent and nested flow that answered on this line (None: nobody yet).
    """

    __slots__ = ("entries", "meta", "outputs", "parent")

    def __init__(self, entries: Entries, meta: Entries | None = None, parent: Scope | None = None) -> None:
        self.entries = entries
        self.meta = meta
        self.parent = parent
        self.outputs: dict[str, Patch] | None = None

    def lookup(self, key: str) -> object:
        """Return the value of a key, or MISSING."""
        value = self.entries.get(key, MISSING)
        scope = self.parent
        while value is MISSING and scope is not None:
            value = scope.entries.get(key, MISSING)
            scope = scope.parent
        return MISSING if value is REMOVED else value

    def lookup_meta(self, key: str) -> object:
        """Return the text of a metadata key, or MISSING."""
        scope: Scope | None = self
        while scope is not None:
            if scope.meta is not None:
                value = scope.meta.get(key, MISSING)
                if value is not MISSING:
                    return MISSING if value is REMOVED else value
            scope = scope.parent
        return MISSING

    def apply(self, patch: Patch) -> None:
        """Settle a patch. At the root a removed key is gone; below it stays marked, to hide the parent's."""
        if patch.is_removing and self.parent is None:
            _settle_at_root(self.entries, patch.data)
        else:
            self.entries.update(patch.data)
        if patch.meta:
            if self.meta is None:
                self.meta = {}
            if self.parent is None:
                _settle_at_root(self.meta, patch.meta)
            else:
                self.meta.update(patch.meta)

    def patch(self) -> Patch:
        """Return this scope's own entries as a patch to its parent."""
        return Patch(self.entries, self.meta)

    def net_patch(self) -> Patch:
        """Return what this scope changes of its parent: an entry that several steps brought back to what it was is none."""
        assert self.parent is not None  # noqa: S101 - a root has nobody to give a patch to
        lookup, lookup_meta = self.parent.lookup, self.parent.lookup_meta
        data = {key: value for key, value in self.entries.items() if _differs(value, lookup(key))}
        if not self.meta:
            return Patch(data)
        return Patch(data, {key: value for key, value in self.meta.items() if _differs(value, lookup_meta(key))} or None)

    def keep(self, outputs: dict[str, Patch]) -> None:
        """Take over outputs from a line of steps that ended."""
        if self.outputs is None:
            self.outputs = outputs
        else:
            self.outputs.update(outputs)

    def visible_outputs(self) -> dict[str, Patch]:
        """Return the outputs of this line of steps and of those it goes on from."""
        visible: dict[str, Patch] = {}
        for scope in self._line():
            visible.update(scope.outputs or {})
        return visible

    def keys(self) -> dict[str, None]:
        """Return the visible keys, the oldest first."""
        return _visible([scope.entries for scope in self._line()])

    def meta_keys(self) -> dict[str, None]:
        """Return the visible metadata keys, the oldest first."""
        return _visible([scope.meta for scope in self._line() if scope.meta])

    def _line(self) -> list[Scope]:
        line: list[Scope] = []
        scope: Scope | None = self
        while scope is not None:
            line.append(scope)
            scope = scope.parent
        line.reverse()
        return line


def _differs(value: object, before: object) -> bool:
    return before is not MISSING if value is REMOVED else not same(value, before)


def _settle_at_root(entries: Entries, changes: Entries) -> None:
    entries.update(changes)
    for key in [key for key, value in changes.items() if value is REMOVED]:
        del entries[key]


def _visible(layers: list[dict[str, object]]) -> dict[str, None]:
    keys: dict[str, None] = {}
    for layer in layers:
        for key, value in layer.items():
            if value is REMOVED:
                keys.pop(key, None)
            else:
                keys[key] = None
    return keys


class State(MutableMapping[str, Any]):
    """A mapping of JSON values with text metadata beside it (`.meta`).

    Args:
        data: a JSON object, default `{}`; copied.
        meta: str to str, default `{}`; copied.

    Raises:
        InvalidValueError: a value set is not JSON; the error names the path and the type.
    """

    __slots__ = ("_meta", "_own", "_scope")

    def __init__(self, data: Mapping[str, Any] | None = None, meta: Mapping[str, str] | None = None) -> None:
        self._scope = Scope({})
        self._own: dict[str, object] = {} if data is None else adopt_mapping(data, "state")  # type: ignore[assignment]
        self._meta: Meta | None = None
        if meta:
            self.meta.update(meta)

    @classmethod
    def over(cls, scope: Scope) -> State:
        """Return the state that a step sees on top of a scope."""
        state = object.__new__(cls)
        state._scope = scope
        state._own = {}
        state._meta = None
        return state

    @property
    def meta(self) -> Meta:
        """The metadata: a mapping of str to str."""
        if self._meta is None:
            self._meta = Meta(self._scope, {})
        return self._meta

    def __getitem__(self, key: str) -> Any:
        value = self._own.get(key, MISSING)
        if value is MISSING:
            value = self._scope.lookup(key)
            if value is not MISSING and type(value) not in _SCALARS:
                value = self._own[key] = copy_json(value)  # type: ignore[arg-type]
        if value is MISSING or value is REMOVED:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: object) -> None:
        if type(key) is not str or len(key) > MAX_KEY_CHARS or not key.isascii():
            check_key(key, "state")
        kind = type(value)
        if kind is int:
            if not MIN_INT <= value < MAX_INT:  # type: ignore[operator]
                adopt(value, f"state.{key}")
        elif kind is str:
            check_text(value, f"state.{key}")  # type: ignore[arg-type]
        elif kind is not bool and value is not None:
            checked = adopt(value, f"state.{key}")
            if not isinstance(value, (dict, list, Mapping)):
                value = checked  # an enum or a number's subclass is kept as the plain value it stands for
        self._own[key] = value

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self._own[key] = REMOVED

    def __contains__(self, key: object) -> bool:
        value = self._own.get(key, MISSING)  # type: ignore[call-overload]
        if value is MISSING:
            return isinstance(key, str) and self._scope.lookup(key) is not MISSING
        return value is not REMOVED

    def __iter__(self) -> Iterator[str]:
        keys = self._scope.keys()
        return iter(_visible([dict.fromkeys(keys), self._own]) if self._own else keys)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, State):
            return self.to_dict() == other.to_dict()
        if isinstance(other, Mapping):
            return dict(self) == dict(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment] # a mutable mapping

    def __repr__(self) -> str:
        return f"State({dict(self)!r})"

    def clone(self) -> State:
        """Return an independent copy: what is changed on one is not seen on the other."""
        twin = State.over(self._scope)
        twin._own = {key: copy_json(value) for key, value in self._own.items()}  # type: ignore[arg-type] # noqa: SLF001 - State's own
        if self._meta is not None:
            twin._meta = Meta(self._scope, dict(self._meta.changes))  # noqa: SLF001 - State's own
        return twin

    def merge(self, other: Mapping[str, Any]) -> None:
        """Set every entry of `other` on this state; a State's metadata too. The other one wins.

        Raises:
            InvalidValueError: a value is not JSON.
        """
        for key, value in other.items():
            self[key] = copy_json(value) if isinstance(other, State) else value
        if isinstance(other, State):
            self.meta.update(other.meta)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return `{"data": {...}, "meta": {...}}`, copied."""
        return {"data": {key: copy_json(self[key]) for key in self}, "meta": dict(self.meta)}

    def patch_to(self, scope: Scope) -> Patch:  # noqa: C901, PLR0912 - every step comes through here: one piece, no calls
        """Return what this state changes of `scope`.

        A state that was not made over that scope is taken as the whole new state: keys it lacks are removed.

        Raises:
            InvalidValueError: something put into a list or dict in place is not JSON, or the patch is over 4 MiB.
        """
        own, meta = self._own, self._meta
        if self._scope is not scope:
            own = {key: REMOVED for key in scope.keys() if key not in self}  # noqa: SIM118 - a Scope is no mapping
            own.update((key, self[key]) for key in self)
            meta = Meta(scope, {key: REMOVED for key in scope.meta_keys() if key not in self.meta})
            meta.changes.update(self.meta)
        changes: Entries = {}
        is_heavy = is_removing = False
        entries, parent = scope.entries, scope.parent
        for key, value in own.items():
            before = entries.get(key, MISSING)
            if before is MISSING:
                if parent is not None:
                    before = parent.lookup(key)
            elif before is REMOVED:
                before = MISSING
            kind = type(value)
            if kind in _SCALARS:
                if kind is type(before) and value == before:
                    continue
                if kind is str and len(value) > _LONG_TEXT:  # type: ignore[arg-type]
                    is_heavy = True
            elif value is REMOVED:
                if before is MISSING:
                    continue
                is_removing = True
            elif _is_unchanged(value, before):
                continue
            else:
                is_heavy = True
            changes[key] = value
        if is_heavy or len(changes) > _MANY_KEYS:
            _adopt_changes(changes, scope)
        return Patch(changes, None if meta is None else meta.real_changes(), is_removing)


def _adopt_changes(changes: dict[str, object], scope: Scope) -> None:
    """Put checked copies in the place of what a step set."""
    for key, value in adopt_mapping({key: value for key, value in changes.items() if value is not REMOVED}, "state").items():
        if type(value) not in _SCALARS and same(value, scope.lookup(key)):
            del changes[key]  # a dict or list of another class, e.g. an OrderedDict, that says what was there
        else:
            changes[key] = value


def _is_unchanged(value: object, before: object) -> bool:
    try:
        return same(value, before)
    except Exception:  # noqa: BLE001 - what cannot be compared is not JSON; adopt names it
        return False


class Meta(MutableMapping[str, str]):
    """Text metadata of a state: keys and values are str."""

    __slots__ = ("_scope", "changes")

    def __init__(self, scope: Scope, changes: dict[str, object]) -> None:
        self._scope = scope
        self.changes = changes

    def __getitem__(self, key: str) -> str:
        value = self.changes.get(key, MISSING)
        if value is MISSING:
            value = self._scope.lookup_meta(key)
        if value is MISSING or value is REMOVED:
            raise KeyError(key)
        return value  # type: ignore[return-value]

    def __setitem__(self, key: str, value: str) -> None:
        check_key(key, "state.meta")
        if type(value) is not str:
            raise InvalidValueError(f"state.meta[{key!r}] is {type(value).__name__}, not a string", hint="metadata is text: str(value)")
        check_text(value, f"state.meta[{key!r}]")
        self.changes[key] = value

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self.changes[key] = REMOVED

    def __iter__(self) -> Iterator[str]:
        return iter(_visible([dict.fromkeys(self._scope.meta_keys()), self.changes]))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))

    def real_changes(self) -> dict[str, object] | None:
        """Return what differs from the scope, or None."""
        if not self.changes:
            return None
        real: dict[str, object] = {}
        for key, value in self.changes.items():
            before = self._scope.lookup_meta(key)
            if value is REMOVED:
                if before is not MISSING:
                    real[key] = value
            elif value != before:
                real[key] = value
        adopt_mapping({key: value for key, value in real.items() if value is not REMOVED}, "state.meta")
        return real or None
