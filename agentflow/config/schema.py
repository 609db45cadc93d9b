"""The language written out from its models: a JSON Schema for editors, a Markdown page for readers."""

from __future__ import annotations

import json
from typing import Any

from agentflow.config.later import keys_for_later
from agentflow.config.model import LARGEST, Config

DIALECT = "https://json-schema.org/draft/2020-12/schema"
VARIABLE = r"^\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}$"

_PAGE = {
    "[agent_flow]": "AgentFlowSection",
    "[orchestration]": "FlowConfig",
    "[orchestration.retry]": "RetryConfig",
    "[[orchestration.switch]]": "SwitchRule",
    "[orchestration.budget]": "BudgetConfig",
    "[[orchestration.steps]]": "StepConfig",
    "[[orchestration.branches]]": "BranchConfig",
    "[[orchestration.nodes]]": "NodeConfig",
    "[[orchestration.edges]]": "EdgeConfig",
    "[agents.<name>]": "AgentConfig",
    "[agents.<name>.rate_limit]": "RateLimitConfig",
    "[agents.<name>.circuit_breaker]": "CircuitBreakerConfig",
    "[agents.<name>.cache]": "CacheConfig",
    "[error_routing]": "ErrorRoutingConfig",
    "[journal]": "JournalConfig",
    "[limits]": "LimitsConfig",
    "[llm]": "LlmConfig",
    "[llm.api_key]": "SecretReference",
    "[logging]": "LoggingConfig",
    "[mqtt]": "MqttConfig",
    "[runner]": "RunnerConfig",
    "[[schedules]]": "ScheduleConfig",
    "[serve]": "ServeConfig",
    "[telemetry]": "TelemetryConfig",
    "[workers.<name>]": "WorkersConfig",
}
_LATER = {"sections": (), "in a flow": ("orchestration",), "in an agent": ("agents", "x"), "in [llm]": ("llm",), "in [runner]": ("runner",)}
_INTRODUCTION = """\
# Configuration reference

Written from the models by `make docs`; edits here are lost. Every key is honoured or refused, none is ignored.

- Durations are in seconds: integers or floats, finite and greater than 0.
- Names of agents and flows are 1 to 64 letters, digits, `_`, `-` and `.`.
- Later wins: defaults, base file, file, `.env` beside the file, environment, command line.
  `agentflow config show --origin` prints each value with where it comes from.
- `extends = "base.toml"`, at the top of the file, reads another file first; it stands in the same folder or below.
  Tables meet key by key; arrays and single values are replaced.
- `${NAME}` and `${NAME:-default}` in a string value are filled in after parsing, from the environment or `.env`; the
  default also stands in for an empty variable. `$${` is a plain `${`. Where a number, or true or false, is wanted,
  a string that is one such expression is read as one: `timeout_seconds = "${TIMEOUT:-30}"`.
- `AGENTFLOW__ORCHESTRATION__MODE=loop` sets a key from the environment, in any case of letters: `__` goes between
  levels, `_` stands for `-` and `.` in names too. A variable that names no key is an error.
"""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a configuration file."""
    schema = _for_toml(Config.model_json_schema())
    schema["properties"]["extends"] = {"type": "string", "description": "A file that is read first, relative to this one."}
    return {"$schema": DIALECT, **schema}


def reference() -> str:
    """Return the reference page in Markdown."""
    tables = json_schema()["$defs"]
    parts = [_INTRODUCTION, *(_section(header, tables[name]) for header, name in _PAGE.items())]
    parts.append("## Not supported yet\n\nThe language has these names for later versions; today each is an error.\n")
    parts += [f"- {where}: {', '.join(f'`{key}`' for key in sorted(keys_for_later(path)))}" for where, path in _LATER.items()]
    return "\n".join(parts) + "\n"


def _for_toml(node: Any) -> Any:
    """Fit a schema to TOML: there is no null, and a variable may stand for a number or boolean."""
    if isinstance(node, list):
        return [_for_toml(item) for item in node]
    if not isinstance(node, dict):
        return node
    fitted = {key: _for_toml(value) for key, value in node.items() if not (key == "default" and value is None)}
    choices = [choice for choice in fitted.pop("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        fitted = {**choices[0], **fitted}
    elif choices:
        fitted["anyOf"] = choices
    if fitted.get("type") in {"number", "integer", "boolean"}:
        outer = {key: fitted.pop(key) for key in ("title", "description", "default") if key in fitted}
        return {**outer, "anyOf": [fitted, {"type": "string", "pattern": VARIABLE}]}
    return fitted


def _section(header: str, table: dict[str, Any]) -> str:
    also = " `[flows.<name>]` has the same keys." if header == "[orchestration]" else ""
    lines = [f"## `{header}`", "", " ".join(table["description"].split()) + also, "", "| key | type | default | |", "|---|---|---|---|"]
    for key, node in table["properties"].items():
        default = "required" if key in table.get("required", []) else _default(node)
        cells = (f"`{key}`", _type(node), default, node["description"])
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _default(node: dict[str, Any]) -> str:
    return f"`{json.dumps(node['default'])}`" if "default" in node else "–"


def _type(node: dict[str, Any]) -> str:
    """Return what a schema node accepts, in words."""
    if "anyOf" in node:
        return _type(node["anyOf"][0])
    if "oneOf" in node:
        return " or ".join(_type(choice) for choice in node["oneOf"])
    if "enum" in node or "const" in node:
        return ", ".join(f'`"{word}"`' for word in node.get("enum", [node.get("const")]))
    if node.get("type") == "array":
        return f"array of {_type(node['items'])}s"
    if "$ref" in node or node.get("type") == "object":
        return "table"
    return f"{node['type']}{_bounds(node)}" if "type" in node else "any value"


def _bounds(node: dict[str, Any]) -> str:
    least, most, above = node.get("minimum"), node.get("maximum"), node.get("exclusiveMinimum")
    if above is not None:
        return f" > {above:g}"
    if least is not None:
        return f" ≥ {least:g}" if most in {None, LARGEST} else f" {least:,.12g}–{most:,.12g}"
    return ""
