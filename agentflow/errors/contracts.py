"""What goes wrong with what flows and agents declare of the state, and with answers that are made of many."""

from __future__ import annotations

from agentflow.errors.base import AgentflowError
from agentflow.errors.running import AgentAnswerError, MergeError


class PatchRefusedError(AgentAnswerError):
    """What a step set does not fit the `state_schema` of a flow around it, or its agent's `output_schema`. Nothing of it was kept."""

    code = "AF0305"


class UndeclaredKeyError(AgentAnswerError):
    """A step set or removed a key that its agent's `writes` does not name. Nothing of it was kept."""

    code = "AF0306"


class AggregateError(MergeError):
    """The answers of parallel branches cannot be made into one by the flow's `aggregate`."""

    code = "AF0307"


class SchemaError(AgentflowError):
    """A JSON Schema cannot be used: it is none, refers to something outside itself, or says what cannot be checked."""

    code = "AF0251"


class SchemaFileError(SchemaError):
    """The file of a JSON Schema cannot be read, or holds no JSON object."""

    code = "AF0250"


class SchemaExtraError(SchemaError):
    """A schema is given, and the packages that check it are not installed."""

    code = "AF0252"
