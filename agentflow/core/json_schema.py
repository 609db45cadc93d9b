"""JSON Schemas: compiled once, when a configuration or a recorded plan is read, and never with anything from outside.

Imported only where a schema is given: the library comes with the extra `[schema]`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from re import search
from typing import TypeAlias, cast

from agentflow.core.codec import loads
from agentflow.core.contract import Misfit, Schema
from agentflow.core.values import Json
from agentflow.errors import SchemaError, SchemaExtraError, did_you_mean

try:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError as LibrarySchemaError
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator
    from jsonschema.validators import validator_for
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import EMPTY_REGISTRY, specification_with
except ImportError as missing:
    told = f"a schema is given, and what checks it is not installed: {missing.name}"
    raise SchemaExtraError(told, hint="pip install 'agentflow[schema]'") from None

LONGEST_TOLD = 300  # characters of what is wrong with one value
MOST_LOOKED_FOR = 100  # misfits of one patch
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")

Place: TypeAlias = Iterable[str | int]


@lru_cache(maxsize=256)  # a configuration is linked more than once before it runs
def compiled(text: str) -> Schema:
    """Return a schema that can check mappings.

    Args:
        text: the JSON Schema, an object; `$schema` says which draft, 2020-12 where it is missing. `format` is not checked, as that
            draft says.

    Raises:
        SchemaError: it is none, of an unknown draft, refers to something outside itself, or to itself without end.
    """
    source = cast("dict[str, Json]", loads(text.encode()))
    dialect = _dialect(source)
    try:
        dialect.check_schema(source)
    except LibrarySchemaError as error:
        told = f"it is no JSON Schema: `{_path(error.absolute_path) or '.'}`: {_short(error.message)}"
        raise SchemaError(told, hint="write at this place what JSON Schema has there") from None
    validator = dialect(source, registry=EMPTY_REGISTRY)
    _check_references(dialect, source)
    try:
        next(iter(validator.iter_errors({})), None)
    except RecursionError:
        raise SchemaError("it refers to itself without end", hint="let a $ref stand below `properties` or `items`") from None

    def check(value: Mapping[str, object], is_partial: bool) -> Sequence[Misfit]:
        found = (misfit for error in validator.iter_errors(value) for misfit in _misfits(error, is_partial=is_partial))
        return sorted(islice(found, MOST_LOOKED_FOR))

    return Schema(source, check)


def _dialect(source: Mapping[str, Json]) -> type[Validator]:
    named = source.get("$schema", "")
    dialect = validator_for(source, default=cast("type[Validator]", None)) if named and isinstance(named, str) else None
    if dialect is None and "$schema" in source:
        raise SchemaError(
            f"`$schema` names no draft that is known: {_short(str(named))}", hint=f"use {Draft202012Validator.META_SCHEMA['$id']}"
        )
    return dialect or Draft202012Validator


def _check_references(dialect: type[Validator], source: Mapping[str, Json]) -> None:
    specification = specification_with(str(dialect.META_SCHEMA["$schema"]))
    root = specification.create_resource(source)
    waiting = [(root, EMPTY_REGISTRY.resolver_with_root(root))]
    while waiting:
        part, resolver = waiting.pop()
        contents = part.contents
        for name in _REFERENCES if isinstance(contents, Mapping) else ():
            target = contents.get(name)
            if isinstance(target, str):
                try:
                    resolver.lookup(target)
                except Unresolvable:
                    hint = "nothing is ever fetched: copy what it names into `$defs`, and refer to #/$defs/NAME"
                    raise SchemaError(f"`{name}` names something outside the schema, or nothing: {_short(target)}", hint=hint) from None
        waiting.extend((inner, resolver.in_subresource(inner)) for inner in part.subresources())


def _misfits(error: ValidationError, *, is_partial: bool) -> Iterable[Misfit]:
    path = _path(error.absolute_path)
    if is_partial and not path and error.validator == "required":
        return
    if error.validator == "additionalProperties" and error.validator_value is False and isinstance(error.instance, dict):
        around = error.schema if isinstance(error.schema, Mapping) else {}
        known, patterns = around.get("properties", {}), around.get("patternProperties", {})
        for key in error.instance:
            if key not in known and not any(search(pattern, key) for pattern in patterns):
                near = did_you_mean(key, known)
                yield f"{path}.{key}", f"no such key is allowed; {near}" if near.startswith("did") else "no such key is allowed"
        return
    yield path, _short(error.message)


def _path(parts: Place) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TOLD else f"{text[:LONGEST_TOLD]}…"
