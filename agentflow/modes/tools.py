"""Tools: what linking is given from outside the pure layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agentflow.config.display import KeyPath
from agentflow.core.merge import Combine
from agentflow.core.plan import Condition
from agentflow.core.values import Json
from agentflow.errors import RuleError
from agentflow.modes import Mode
from agentflow.modes.contracts import ReadSchema, no_schemas
from agentflow.modes.findings import Findings


@dataclass(frozen=True)
class Tools:
    """What the linker is given from outside the pure layers.

    Attributes:
        modes: the known modes, registered ones included.
        rule: compiles a condition, or raises RuleError.
        function: finds the function a merge policy `module:function` names.
        extra_agents: agents registered in Python without a table.
        schema: reads and compiles a JSON Schema that stands at a path, or raises SchemaError.
    """

    modes: Mapping[str, Mode]
    rule: Callable[[str], Condition]
    function: Callable[[str], Combine]
    extra_agents: tuple[str, ...] = ()
    schema: ReadSchema = no_schemas

    def compiled(self, source: str, path: KeyPath, findings: Findings) -> Condition | None:
        """Compile a condition; None, with a finding at its path, when it cannot be read."""
        try:
            return self.rule(source)
        except RuleError as error:
            findings.say(error.code, error.message, path, help=error.hint)
            return None


def unresolved(reference: str) -> Combine:
    """Stand in for a function that a merge policy or an aggregate names, while a configuration is only checked."""

    def refuse(before: object, values: list[Json]) -> object:
        raise RuntimeError(f"{reference} was never loaded")

    return refuse
