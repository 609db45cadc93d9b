"""Parts: what an engine is put together from; the runner fills them in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agentflow.engine.gates import Gate
from agentflow.engine.hooks import Hooks
from agentflow.engine.intake import Bounds
from agentflow.engine.journal import Journals
from agentflow.engine.program import Program
from agentflow.engine.telling import Observer
from agentflow.ports import Agent, Clock, Emitter, Executor, Log, Tracing


@dataclass(frozen=True)
class Parts:
    """What an engine is put together from.

    Attributes:
        program: what events run through.
        agents: the registered agents, by name.
        executor, clock, log: the parts chosen by the composition root.
        hooks: the runner's callbacks.
        emitter: takes what callbacks emit, and is otherwise what they get as `args.runner`.
        observers: each gets every record; while there are none, no record is made.
        bounds: how much is taken on at once.
        journals: what keeps the runs; None: nothing of them is kept.
        tracing: knows which trace a run is part of; None: what its event says is all there is.
        gates: what stands before the agents that have a rate limit, a breaker or a pool of workers, by name.
        grace_s: how long a cancelled handler may take before it is cancelled once more.
    """

    program: Program
    agents: Mapping[str, Agent]
    executor: Executor
    clock: Clock
    log: Log
    hooks: Hooks
    emitter: Emitter
    observers: list[Observer]
    bounds: Bounds
    grace_s: float
    journals: Journals | None = None
    tracing: Tracing | None = None
    gates: Mapping[str, Gate] = field(default_factory=dict)
