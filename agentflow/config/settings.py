"""The effective values of a configuration, each with where it comes from; secrets are masked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from agentflow.config.display import MASK, KeyPath, dotted
from agentflow.config.layers import Origin
from agentflow.config.model import Config
from agentflow.config.secret import is_secret, without_user_info
from agentflow.config.section import Section, key_of

_VARIABLE = re.compile(r"\$\{(\w+)")


class Setting(NamedTuple):
    """One effective value: its dotted key, the value as TOML would hold it, and its origin."""

    key: str
    value: Any
    origin: Origin


def settings_of(config: Config, origin: Callable[[KeyPath], Origin], written: Callable[[KeyPath], str]) -> list[Setting]:
    """Return all values of *config* in the order of the models, flows and agents in that of the file.

    *written* tells the text of a value that variables were filled into ("" for any other).
    """
    return [Setting(dotted(path), _shown(value, path, written), origin(path)) for path, value in _leaves(config, ())]


def _leaves(value: object, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if isinstance(value, Section):
        for name, inner in value:
            yield from _leaves(inner, (*path, key_of(type(value), name)))
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, str(key)))
    elif isinstance(value, list) and any(isinstance(item, Section) for item in value):
        for number, item in enumerate(value):
            yield from _leaves(item, (*path, number))
    else:
        yield path, value


def _shown(value: Any, path: KeyPath, written: Callable[[KeyPath], str]) -> Any:
    """Return *value* with what is, or was filled in from, a secret masked."""
    is_filled = any(map(is_secret, _VARIABLE.findall(written(path))))
    if is_filled or (is_secret(str(path[-1])) and value is not None):
        return MASK
    if isinstance(value, str):
        return without_user_info(value)
    if isinstance(value, list):
        return [_shown(item, (*path, number), written) for number, item in enumerate(value)]
    if isinstance(value, dict):
        return {key: _shown(item, (*path, key), written) for key, item in value.items()}
    return value
