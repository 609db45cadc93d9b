"""The sections and keys that the language names and this version does not honour yet.

They are refused as such, never ignored: a file that relies on one would not do what it says.
"""

from __future__ import annotations

from agentflow.config.display import KeyPath

_SECTIONS = frozenset(
    {
        "executor",
        "memory",
        "mcp",
    }
)
_FLOW_KEYS = frozenset({"keep", "allow_override"})
_AGENT_KEYS = frozenset(
    {
        "max_input_chars",
        "llm",
        "strategy",
        "max_steps",
        "tools",
        "output_key",
        "optional",
        "max_input_tokens",
        "truncate",
        "url",
    }
)
_RUNNER_KEYS = frozenset({"slow_event_seconds"})
_LLM_KEYS = frozenset({"fallback", "prices"})


def keys_for_later(table: KeyPath) -> frozenset[str]:
    """Return the keys of the table at *table* that a later version will honour."""
    match table:
        case ():
            return _SECTIONS
        case ("orchestration",) | ("flows", _):
            return _FLOW_KEYS
        case ("agents", _):
            return _AGENT_KEYS
        case ("runner",):
            return _RUNNER_KEYS
        case ("llm",):
            return _LLM_KEYS
        case _:
            return frozenset()
