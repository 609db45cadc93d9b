"""Context: the `ctx` that a handler may ask for."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Mapping
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from agentflow.core.agenda_walk import peers_of
from agentflow.core.event import Event
from agentflow.core.ledger import BudgetSnapshot
from agentflow.core.map_walk import instruction_of
from agentflow.core.records import EffectRecorded
from agentflow.core.values import Json, adopt, check_key, copy_json
from agentflow.errors import RoutingError, did_you_mean

if TYPE_CHECKING:
    from agentflow.engine.step import Step


def idempotency_key(run_id: str, position: str) -> str:
    """Return 32 hex digits that are the same for each attempt of a step and for no other step."""
    return hashlib.sha256(f"{run_id}/{position}".encode()).hexdigest()[:32]


class Context:
    """What a handler with a third parameter is told about its call.

    Attributes:
        run_id: the run's id.
        position: the step's position, e.g. `0.1#3`.
        agent: the agent's name.
        attempt: the number of this attempt, from 1.
        session_id: the event's session, or None.
    """

    __slots__ = ("_locks", "_step", "agent", "attempt", "position", "run_id", "session_id")

    def __init__(self, step: Step) -> None:
        self._step = step
        self._locks: dict[str, asyncio.Lock] = {}
        self.run_id = step.run.run_id
        self.position = step.position
        self.agent = step.agent.name
        self.attempt = step.attempt
        self.session_id = step.event.session_id

    @property
    def idempotency_key(self) -> str:
        """32 hex digits, the same for each attempt of this step and for no other step."""
        return idempotency_key(self.run_id, self.position)

    async def once(self, key: str, function: Callable[[], Any]) -> Any:
        """Do something once for this step, however often it is attempted: its JSON value is recorded and given from then on.

        `function` takes nothing and may be async. It is called again only when the process died before its value was durable.

        Raises:
            InvalidValueError: the key is no text, or the value is not JSON.
            StoreError: the value cannot be recorded.
        """
        check_key(key, "ctx.once")
        async with self._locks.setdefault(key, asyncio.Lock()):  # of two that ask at once, the second gets what the first did
            return await self._once(key, function)

    async def _once(self, key: str, function: Callable[[], Any]) -> Any:
        step = self._step
        place = self.position, key
        if step.effects is not None and place in step.effects:
            return copy_json(step.effects[place])
        value = function()
        if isawaitable(value):
            value = await value
        value = adopt(value, f"ctx.once({key!r})")
        if step.attempt != self.attempt or step.cause is not None or step.position != self.position:
            return value  # of an attempt that was left behind: nothing of it is kept
        if step.effects is None:
            step.effects = {}
        step.effects[place] = value
        run, journal = step.run, step.run.journal
        if journal is not None and run.parked is None and not run.is_cut:
            step.engine.teller.tell(run, EffectRecorded(self.position, key, value))
            step.engine.control.growth.is_over(run)
            await asyncio.shield(asyncio.ensure_future(journal.durable(journal.commit())))
        return copy_json(value)

    async def checkpoint(self) -> dict[str, Json]:
        """Make all that was recorded of the run durable, and return `{id, run_id, seq, state, schema_version}`.

        Raises:
            RunnerStateError: nothing of the run is recorded.
        """
        return await self._step.engine.control.checkpoint(self._step.run)

    @property
    def deadline(self) -> float:
        """When this attempt times out, in seconds since the epoch."""
        step = self._step
        return step.engine.clock.time() + step.started + step.limit_s - step.engine.monotonic()

    @property
    def outputs(self) -> dict[str, dict[str, Json]]:
        """What each agent, step and nested flow before this one has said, by name; not those beside it, which may or may not have ended."""
        frame = self._step.frame
        visible = {} if frame is None else frame.scope.visible_outputs()
        return {name: patch.values() for name, patch in visible.items()}

    @property
    def input(self) -> Json:
        """What the flow says of this member's own `input`, its templates filled in; None where it says nothing.

        Raises:
            UnknownNameError: the handler has removed what a template names.
        """
        frame = self._step.frame
        return None if frame is None else instruction_of(frame, self._step.run.event)

    def send(self, name: str, body: object) -> None:
        """Send a message to another member of the peer_to_peer flow; it is delivered once this step has its answer.

        Args:
            name: the member; may be this one.
            body: a JSON value, its `event.data["body"]`.

        Raises:
            RoutingError: the flow has no such member, or the step is in no such flow.
            InvalidValueError: the body is not JSON.
        """
        step = self._step
        peers = None if step.frame is None else peers_of(step.frame)
        if peers is None:
            raise RoutingError("ctx.send: the step stands in no peer_to_peer flow", hint="return what others are to see, or use ctx.emit")
        if name not in peers:
            raise RoutingError(f"ctx.send: the flow has no member `{name}`", hint=did_you_mean(str(name), peers))
        told = adopt(body, "ctx.send")
        if step.attempt == self.attempt and step.cause is None:  # else of an attempt that was left behind
            step.sent = (*step.sent, (name, told))

    def emit(self, event: Event) -> str:
        """Emit an event of which a run of its own is made, and return that run's id: the same one each time the step is attempted.

        It is accepted in the commit that completes this step, as a child of this run; of an attempt that fails nothing is emitted.

        Raises:
            InvalidEventError, InvalidValueError: the event is not valid, or has an id.
            RoutingError: its `orchestration_override` names nothing that can run here.
            EventLimitError: one event has brought forth `max_events` others.
            RunnerStateError: the handler has returned, or its attempt was given up.
        """
        return self._step.engine.families.emit(self._step, event, (self.position, self.attempt))

    def background(self, work: Coroutine[Any, Any, object]) -> None:
        """Let a coroutine go on beside the run, on the runner's loop, without waiting for it.

        It belongs to this process: it is not recorded, and gone when the process dies. A runner that stops waits for it as long as
        for its runs, then cancels it. Its failure is logged and counted.

        Raises:
            RunnerStateError: the runner stops.
            InvalidValueError: it is no coroutine.
        """
        told = {"run_id": self.run_id, "position": self.position, "agent": self.agent}
        self._step.engine.background.begin(work, told)

    @property
    def budget(self) -> BudgetSnapshot | None:
        """How the run's budget stands: consumed, reserved, limit, remaining, exhausted; None when it has none."""
        return self._step.engine.budgets.snapshot(self._step.run)

    @property
    def config(self) -> Mapping[str, Any]:
        """The agent's own table of the configuration, with defaults: role, description, system_prompt, capabilities …"""
        return self._step.run.program.agent_configs.get(self.agent, {})

    @property
    def log(self) -> Any:
        """A structlog logger bound to run_id, position and agent."""
        return self._step.engine.log.bind({"run_id": self.run_id, "position": self.position, "agent": self.agent})

    def record_usage(self, *, tokens: int = 0, cost_usd: float = 0.0, input_tokens: int = 0, output_tokens: int = 0) -> None:
        """Add to the run's usage.

        Raises:
            InvalidValueError: a figure is negative or no number.
        """
        self._step.spend(tokens=tokens, cost_usd=cost_usd, input_tokens=input_tokens, output_tokens=output_tokens)
