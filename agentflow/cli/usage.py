"""The mistakes of whoever calls the command line; each ends it with exit code 2."""

from __future__ import annotations

from agentflow.errors import AgentflowError


class UsageError(AgentflowError):
    """An option's value cannot be used."""

    code = "AF0601"


class EventInputError(AgentflowError):
    """What `--event` names cannot be read as events."""

    code = "AF0602"


class ConfigNotFoundError(AgentflowError):
    """There is no configuration where one was looked for."""

    code = "AF0603"


class CreateError(AgentflowError):
    """A project cannot be created as asked."""

    code = "AF0604"


class UnknownCodeError(AgentflowError):
    """There is no explanation under the given code."""

    code = "AF0605"


class PlanSizeError(AgentflowError):
    """A plan is too large to be printed whole."""

    code = "AF0606"
