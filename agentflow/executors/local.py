"""The local executor: calls are carried out in this process, in the task that makes them."""

from __future__ import annotations

from collections.abc import Awaitable

from agentflow.ports import Attempt


class LocalExecutor:
    """Hands the agent's own awaitable to the calling task: nothing stands between the engine and the handler."""

    def begin(self, attempt: Attempt) -> Awaitable[object]:
        """Begin one attempt."""
        return attempt.agent.invoke(attempt)
