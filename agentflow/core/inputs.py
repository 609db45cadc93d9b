"""Inputs: from what a flow says of a member's input to the event data that the member is given.

A template's place is `{{ root.path }}`: roots are state, meta, event and outputs; a part of the path is a name, a number (of a
list's item) or a quoted key in brackets, as in `{{ outputs.gather["a-b"].0 }}`. There are no expressions in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from json import JSONDecodeError, dumps, loads

from agentflow.core.condition import Facts
from agentflow.core.part import Template
from agentflow.core.state import MISSING
from agentflow.core.values import Json, copy_json
from agentflow.errors import RuleError, UnknownNameError, did_you_mean

ROOTS = ("state", "meta", "event", "outputs")
_PLACE = re.compile(r"\{\{((?:(?!\}\}).)*)\}\}", re.DOTALL)
_PART = re.compile(r'\.([A-Za-z0-9_-]+)|\[("(?:[^"\\]|\\.)*"|\d+)\]')
_ROOT = re.compile(r"[A-Za-z_]\w*")


def places_in(value: Json) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the places that a template names, as root and path.

    Raises:
        RuleError: a place cannot be read, or begins with no known root.
    """
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            for found in _PLACE.finditer(one):
                yield _place(found[1])
            if "{{" in _PLACE.sub("", one):
                raise RuleError(f"`{one[:60]}` has `{{{{` without its `}}}}`", hint="write {{ root.name.name }}")
        elif isinstance(one, list):
            waiting.extend(reversed(one))
        elif isinstance(one, dict):
            waiting.extend(reversed(one.values()))


def filled(template: Template, facts: Facts) -> Json:
    """Return a template's value with what stands at its places.

    Raises:
        UnknownNameError: there is nothing at one of them.
    """
    return _filled(template.value, facts)


def data_of(template: Template, facts: Facts) -> Mapping[str, Json]:
    """Return the event data that a template stands for.

    Raises:
        UnknownNameError: as `filled`.
    """
    value = filled(template, facts)
    return value if template.is_data and isinstance(value, dict) else {"input": value}


def _filled(value: Json, facts: Facts) -> Json:
    if isinstance(value, str):
        whole = _PLACE.fullmatch(value)
        if whole is not None:
            return _found(whole[1], facts)
        return _PLACE.sub(lambda place: _told(_found(place[1], facts)), value)
    if isinstance(value, list):
        return [_filled(one, facts) for one in value]
    if isinstance(value, dict):
        return {key: _filled(one, facts) for key, one in value.items()}
    return value


def _found(text: str, facts: Facts) -> Json:
    root, path = _place(text)
    value = facts.fact(root, path)
    if value is MISSING:
        raise UnknownNameError(f"`{{{{{text}}}}}` is not there", hint="what it names has to be set before this step begins")
    return copy_json(value)  # type: ignore[arg-type] # facts are JSON


def _told(value: Json) -> str:
    return value if isinstance(value, str) else dumps(value, ensure_ascii=False)


def _place(text: str) -> tuple[str, tuple[str, ...]]:
    inner = text.strip()
    root = _ROOT.match(inner)
    if root is None or root[0] not in ROOTS:
        raise RuleError(f"`{{{{{text}}}}}` names nothing that an input can hold", hint=did_you_mean(root[0] if root else inner[:40], ROOTS))
    path: list[str] = []
    at = root.end()
    while at < len(inner):
        part = _PART.match(inner, at)
        if part is None:
            raise RuleError(f"cannot read `{{{{{text}}}}}` from `{inner[at : at + 20]}` on", hint="write {{ root.name.name }}")
        path.append(part[1] or _key(part[2]))
        at = part.end()
    return root[0], tuple(path)


def _key(told: str) -> str:
    try:
        return str(loads(told))
    except JSONDecodeError as error:
        raise RuleError(f"cannot read the key {told}: {error.msg}", hint="write it as in JSON") from None
