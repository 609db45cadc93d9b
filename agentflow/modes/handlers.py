"""Whether each agent of a plan has a handler, and what to write where one is missing."""

from __future__ import annotations

from collections.abc import Container, Iterable

from agentflow.core.plan import Node, agents_of
from agentflow.errors import MissingHandlerError

MOST_LISTED = 100  # agents that a message names


def require_handlers(plan: Node, handlers: Container[str], entrypoint: str | None, beside: Iterable[Node] = ()) -> None:
    """Refuse a plan, or what is called beside it, that reaches agents without a handler; `entrypoint` is the configuration's.

    Raises:
        MissingHandlerError: with all of them.
    """
    reached = dict.fromkeys(name for node in (plan, *beside) for name in agents_of(node))
    missing = [name for name in reached if name not in handlers]
    if missing:
        first = missing[0]
        more = len(missing) - MOST_LISTED
        listed = ", ".join(missing[:MOST_LISTED]) + (f" and {more:,} more" if more > 0 else "")
        raise MissingHandlerError(
            f"no handler for {'agent' if len(missing) == 1 else 'agents'} {listed}",
            hint=f"{_where_they_go(entrypoint)}\n"
            f'    @agent("{first}")\n'
            f"    async def {first.replace('-', '_').replace('.', '_')}(event, state):\n"
            f'        return {{"{first}": "done"}}\n'
            f'or set handler = "module:function" in [agents.{first}], or runner.register_agent("{first}", function)',
        )


def _where_they_go(entrypoint: str | None) -> str:
    if entrypoint is None:
        start = 'name a module in [agent_flow], e.g. entrypoint = "handlers"'
        return f"{start}, and put into handlers.py, below `from agentflow import agent`:"
    return f"put into {entrypoint.partition(':')[0]}, below `from agentflow import agent`:"
