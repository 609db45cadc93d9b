"""AgentResult: what a handler may return. RunResult: what a run came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentflow.core.failure import Failure
from agentflow.core.merge import Conflict
from agentflow.core.row import Row
from agentflow.core.state import State
from agentflow.core.values import Json, copy_json
from agentflow.core.walk import Walk, outputs_of
from agentflow.errors import AgentAnswerError, InvalidValueError, RunFailedError


@dataclass(slots=True)
class Usage(Row):
    """What calls have used. `calls` counts attempts of agents; tokens are whole numbers, cost is in US dollars."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cost_usd: float = 0.0
    calls: int = 0

    def add(self, *, tokens: int = 0, cost_usd: float = 0.0, input_tokens: int = 0, output_tokens: int = 0) -> None:
        """Add to the totals; `tokens` counts into the total only.

        Raises:
            InvalidValueError: a figure is negative or no number.
        """
        for name, value in (("tokens", tokens), ("input_tokens", input_tokens), ("output_tokens", output_tokens)):
            if type(value) is not int or value < 0:
                raise InvalidValueError(f"usage.{name} is {value!r}", hint="use a whole number >= 0")
        if type(cost_usd) not in (int, float) or not 0 <= cost_usd < float("inf"):
            raise InvalidValueError(f"usage.cost_usd is {cost_usd!r}", hint="use a number of US dollars >= 0")
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens
        self.total_tokens += tokens + input_tokens + output_tokens
        self.cost_usd += cost_usd

    def to_dict(self) -> dict[str, Json]:
        """Return the figures as JSON."""
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "total_tokens": self.total_tokens,
            "cost_usd": self.cost_usd,
            "calls": self.calls,
        }


@dataclass(frozen=True, slots=True)
class AgentResult:
    """What a handler may return when a state alone does not say it.

    Attributes:
        state: a State (taken as the new state), a mapping (set on the state), or None (the state as the handler left it).
        route: the agent or flow a route flow hands on to; None or "" ends it.
        usage: `{"tokens": n, "input_tokens": n, "output_tokens": n, "cost_usd": x}`, any of them.
        metadata: str to str, set on `state.meta`.
        duration_s, attempts: filled in by the engine for AFTER_AGENT_RUN hooks.
    """

    state: State | Mapping[str, Any] | None = None
    route: str | None = None
    usage: Mapping[str, Any] | None = None
    metadata: Mapping[str, str] | None = None
    duration_s: float = field(default=0.0, kw_only=True)
    attempts: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        if self.route is not None and type(self.route) is not str:
            raise AgentAnswerError(f"AgentResult.route is {type(self.route).__name__}, not a string")
        if self.usage is not None:
            if not isinstance(self.usage, Mapping):
                raise AgentAnswerError(f"AgentResult.usage is {type(self.usage).__name__}, not a mapping", hint='e.g. {"tokens": 12}')
            unknown = set(self.usage) - {"tokens", "input_tokens", "output_tokens", "cost_usd"}
            if unknown:
                told = ", ".join(sorted(map(repr, unknown)))
                raise AgentAnswerError(f"AgentResult.usage has no {told}", hint="tokens, input_tokens, output_tokens, cost_usd")


@dataclass(frozen=True, slots=True)
class Timing(Row):
    """When a run was accepted (seconds since the epoch), and how long it ran (seconds; None when it never began)."""

    accepted_at: float
    duration_s: float | None

    def to_dict(self) -> dict[str, Json]:
        """Return the times as JSON."""
        return {"accepted_at": self.accepted_at, "duration_seconds": self.duration_s}


class RunResult:
    """What a run came to.

    Attributes:
        run_id: the run's id.
        status: completed, partial, failed, timed_out or cancelled.
        reason: how it ended: completed, partial, degraded, condition_met, max_iterations, hop_limit, history_limit, attempt_limit,
            threshold, timeout, budget, error, or what it was cancelled for.
        error: why it failed, or None.
        flags: `abandoned` when a handler had to be left behind.
    """

    __slots__ = (
        *("_duration_s", "_names", "_outputs", "_state", "_usage", "_walk"),
        *("error", "flags", "reason", "run_id", "status"),
    )

    def __init__(  # noqa: PLR0913 - what there is to say of a run, each thing once
        self,
        run_id: str,
        walk: Walk,
        names: tuple[str, ...],
        usage: Usage | int,
        cancelled: str = "",  # why it was cancelled
        flags: tuple[str, ...] = (),
        duration_s: float | None = None,
    ) -> None:
        self.run_id = run_id
        self.flags = flags
        self._duration_s = duration_s
        self._usage = usage  # the bare number of calls, while nothing else was used
        self._walk = walk
        self._names = names
        self._state: State | None = None
        self._outputs: dict[str, dict[str, Any]] | None = None
        self.error: Failure | None = None
        self.status = self.reason = "completed"
        if walk.is_plain:
            return
        outcome = walk.outcome
        self.error = outcome.failure
        self.reason = cancelled or outcome.reason
        if outcome.failure is None:
            self.status = "partial" if outcome.is_partial else "completed"
        elif cancelled:
            self.status = "cancelled"
        else:
            self.status = "timed_out" if outcome.reason == "timeout" else "failed"

    @property
    def errors(self) -> dict[str, Failure]:
        """The failure of every agent or flow that failed for good, by name."""
        return self._walk.outcome.errors

    @property
    def conflicts(self) -> list[Conflict]:
        """The keys that parallel branches wrote differently."""
        return self._walk.outcome.conflicts

    @property
    def usage(self) -> Usage:
        """Tokens, cost and calls."""
        if isinstance(self._usage, int):
            self._usage = Usage(calls=self._usage)
        return self._usage

    @property
    def state(self) -> State:
        """The state at the end, also that of a run that failed."""
        if self._state is None:
            self._state = State.over(self._walk.scope)
        return self._state

    @property
    def outputs(self) -> dict[str, dict[str, Any]]:
        """What each agent and nested flow set, by name, in the plan's declared order."""
        if self._outputs is None:
            self._outputs = outputs_of(self._walk, self._names)
        return self._outputs

    @property
    def timing(self) -> Timing:
        """When it was accepted and how long it ran."""
        return Timing(self._walk.event.timestamp or 0.0, self._duration_s)

    def raise_for_status(self) -> RunResult:
        """Return the result itself when the run completed, wholly or in part.

        Raises:
            RunFailedError: it failed, timed out or was cancelled; the handler's exception is the cause.
        """
        if self.status in ("completed", "partial"):
            return self
        error = self.error
        raise RunFailedError(f"run {self.run_id} {self.status} ({self.reason}): {error}") from (error.exception if error else None)

    def to_dict(self) -> dict[str, Json]:
        """Return the result as JSON; this is what `agentflow run --json` prints."""
        return {
            "run_id": self.run_id,
            "status": self.status,
            "reason": self.reason,
            "flags": list(self.flags),
            "state": self.state.to_dict(),  # type: ignore[dict-item]
            "outputs": copy_json(self.outputs),  # type: ignore[arg-type]
            "error": self.error.to_dict() if self.error else None,
            "errors": {name: failure.to_dict() for name, failure in self.errors.items()},
            "conflicts": [conflict.to_dict() for conflict in self.conflicts],
            "usage": self.usage.to_dict(),
            "timing": self.timing.to_dict(),
        }

    def __repr__(self) -> str:
        return f"RunResult({self.run_id!r}, status={self.status!r}, reason={self.reason!r})"


@dataclass(frozen=True, slots=True)
class StopReport:
    """What `stop` left behind.

    Attributes:
        cancelled: ids of the runs that were open when the time was up, and were cancelled.
        abandoned: handlers that did not end although they were cancelled, as "agent in run"; threads as "agent".
        resumable: ids of the runs that were open and are recorded: they go on when they are resumed.
    """

    cancelled: tuple[str, ...] = ()
    abandoned: tuple[str, ...] = ()
    resumable: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether everything had ended by itself."""
        return not self.cancelled and not self.abandoned
