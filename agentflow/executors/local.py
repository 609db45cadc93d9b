"""The local executor: calls are carried out in this process, in the task that makes them."""

from __future__ import annotations

from agentflow.core.failure import failure_of
from agentflow.core.walk import Answer
from agentflow.ports import Request


class LocalExecutor:
    """Awaits the agent in the calling task."""

    async def execute(self, request: Request) -> Answer:
        """Carry out one attempt. Never raises: an error is an answer with a failure."""
        state = request.state
        try:
            returned = await request.agent.invoke(request)
            # The step of an attempt that was left behind may have gone on: then this answer must not touch its new state.
            return request.answer(returned) if request.state is state else Answer()
        except GeneratorExit as error:
            if not request.is_current:
                raise  # the coroutine is being thrown away with its loop; nobody waits for the answer
            return Answer(None, failure_of(error))
        except BaseException as error:  # noqa: BLE001 - a handler that raises anything at all fails its step only
            return Answer(None, failure_of(error))
