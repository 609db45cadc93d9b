"""Isolation: where the handlers of one runner run, as the configuration says: on the loop, in threads, in processes."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

from agentflow.agents.entrypoint import Finder
from agentflow.agents.function import FunctionAgent, Handler
from agentflow.agents.process import MOST_PROCESSES, ProcessAgent
from agentflow.agents.threads import Threads
from agentflow.config.model import Config

AnyAgent: TypeAlias = FunctionAgent | ProcessAgent


class Isolation:
    """Makes agents of handlers, and ends the processes in which they run.

    Args:
        config: says the isolation of each agent, and how many workers it has.
        threads: what handlers run in that need one.
    """

    def __init__(self, config: Config, threads: Threads) -> None:
        self._config = config
        self._threads = threads
        self._processes: dict[str, ProcessAgent] = {}

    def agent(self, name: str, function: Handler) -> AnyAgent:
        """Return the agent of a handler, instead of the one that had this name before.

        Raises:
            RegistrationError: it is no callable, or does not take `(event, state)` or `(event, state, ctx)`.
        """
        self._processes.pop(name, None)
        table = self._config.agents.get(name)
        if table is None or table.isolation != "process":
            return FunctionAgent(name, function, self._threads, is_threaded=table is not None and table.isolation == "thread")
        pool = self._config.workers.get(name)
        most = MOST_PROCESSES if pool is None else pool.max or pool.count
        agent = self._processes[name] = ProcessAgent(name, function, most)
        return agent

    def locate(self, finder: Finder) -> None:
        """Find out where processes find their functions.

        Raises:
            RegistrationError: a handler cannot be imported by another process.
        """
        for agent in self._processes.values():
            agent.locate(finder.address_of)

    async def close(self) -> None:
        """End all processes."""
        await asyncio.gather(*(agent.close() for agent in self._processes.values()))
