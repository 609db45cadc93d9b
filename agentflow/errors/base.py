"""The root of the errors that agentflow raises on purpose."""

from __future__ import annotations


class AgentflowError(Exception):
    """The root of all errors that agentflow raises on purpose.

    `message` says what is wrong and where, `hint` the likely cure ("" when there is none).
    """

    code = "AF0500"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.message = message
        self.hint = hint
