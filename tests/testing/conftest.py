"""Runs the async tests of this folder on virtual time, makes runners, and watches for noise of the event loop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from agentflow import Runner
from agentflow.testing import VirtualLoop, virtual_loop

MakeRunner = Callable[..., Runner]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], VirtualLoop]]:
    """Give each async test a loop whose clock jumps, so that no wait takes real time."""
    return {"virtual": virtual_loop}


@pytest.fixture
def make_runner() -> MakeRunner:
    """Make a runner of a main flow and handlers; `agents` adds to the agents' tables, further sections stand as they are."""

    def make(
        flow: Mapping[str, Any],
        handlers: Mapping[str, Any],
        *,
        agents: Mapping[str, Any] | None = None,
        seed: int | None = None,
        **sections: Any,
    ) -> Runner:
        tables = {name: {} for name in handlers} | dict(agents or {})
        runner = Runner.from_dict({"orchestration": dict(flow), "agents": tables, **sections}, environ={}, seed=seed)
        for name, handler in handlers.items():
            runner.register_agent(name, handler)
        return runner

    return make


@pytest.fixture(autouse=True)
def loop_noise() -> Iterator[list[str]]:
    """Fail a test in which asyncio logs an error, e.g. "Task exception was never retrieved"."""
    said: list[str] = []
    listener = logging.Handler(logging.ERROR)
    listener.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("asyncio")
    logger.addHandler(listener)
    yield said
    logger.removeHandler(listener)
    assert [] == said
