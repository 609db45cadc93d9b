"""agentflow: multi-agent workflows from one TOML file, with plain Python handlers.

from agentflow import Runner, Event

runner = Runner.from_config("agentflow.toml")
result = await runner.run(Event("analyzer", {"task": "x"}))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentflow.agents.function import agent
    from agentflow.config.diagnostics import ConfigError
    from agentflow.core.result import AgentResult, RunResult
    from agentflow.core.state import State
    from agentflow.engine.context import Context
    from agentflow.engine.hooks import Hook, HookArgs
    from agentflow.engine.run import RunHandle
    from agentflow.errors import AgentflowError
    from agentflow.runner import Runner
    from agentflow.system import Event as Event
    from agentflow.workflow.facade import Workflow

_HOMES = {
    "AgentResult": "core.result",
    "AgentflowError": "errors",
    "ConfigError": "config.diagnostics",
    "Context": "engine.context",
    "Event": "system",  # which gives new events their id and time
    "Hook": "engine.hooks",
    "HookArgs": "engine.hooks",
    "RunHandle": "engine.run",
    "RunResult": "core.result",
    "Runner": "runner",
    "State": "core.state",
    "Workflow": "workflow.facade",
    "agent": "agents.function",
}

__all__ = [  # noqa: RUF022 - the order a reader meets them in
    "Runner",
    "Event",
    "State",
    "AgentResult",
    "Hook",
    "HookArgs",
    "agent",
    "Context",
    "RunHandle",
    "RunResult",
    "AgentflowError",
    "ConfigError",
    "Workflow",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that `import agentflow` costs next to nothing."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'agentflow' has no attribute {name!r}")
    value = getattr(import_module(f"agentflow.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
