"""The configuration language: one TOML file (and what overrides it) read into a checked Config."""

from agentflow.config.diagnostics import ConfigError, Diagnostic, Place, report
from agentflow.config.load import Draft, read
from agentflow.config.model import (
    AgentConfig,
    AgentFlowSection,
    Config,
    FlowConfig,
    JournalConfig,
    LlmConfig,
    LoggingConfig,
    RetryConfig,
    RunnerConfig,
    SecretReference,
    SwitchRule,
)

__all__ = [
    "AgentConfig",
    "AgentFlowSection",
    "Config",
    "ConfigError",
    "Diagnostic",
    "Draft",
    "FlowConfig",
    "JournalConfig",
    "LlmConfig",
    "LoggingConfig",
    "Place",
    "RetryConfig",
    "RunnerConfig",
    "SecretReference",
    "SwitchRule",
    "read",
    "report",
]
