"""The sections and keys that the language names and this version does not honour yet.

They are refused as such, never ignored: a file that relies on one would not do what it says.
"""

from __future__ import annotations

from agentflow.config.display import KeyPath

_SECTIONS = frozenset(
    {
        "error_routing",
        "executor",
        "serve",
        "mqtt",
        "memory",
        "mcp",
        "workers",
        "schedules",
        "telemetry",
    }
)
_FLOW_KEYS = frozenset(
    {
        "budget",
        "keep",
        "quorum",
        "aggregate",
        "fail_fast",
        "join_timeout_seconds",
        "state_schema",
        "max_events",
        "synthesizer",
        "max_total_attempts",
        "allow_override",
        "steps",
        "map",
        "over",
        "reduce",
        "map_failures",
        "planner",
        "workers",
        "max_tasks",
        "supervisor",
        "agents",
        "max_rounds",
        "max_depth",
        "max_messages",
        "replanner",
        "max_replans",
        "branches",
        "nodes",
        "edges",
        "max_visits",
        "entry",
    }
)
_AGENT_KEYS = frozenset(
    {
        "isolation",
        "rate_limit",
        "circuit_breaker",
        "fallback",
        "default_output",
        "cache",
        "compensate",
        "background",
        "output_schema",
        "max_input_chars",
        "llm",
        "strategy",
        "max_steps",
        "self_correct",
        "tools",
        "reads",
        "writes",
        "subscribes",
        "output_key",
        "optional",
        "reserve_tokens",
        "max_input_tokens",
        "truncate",
        "url",
        "queue_timeout_seconds",
        "fallback_on",
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
