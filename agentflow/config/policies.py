"""The tables that say how failures are met: rate limits, circuit breakers, worker pools, budgets, caches and error handlers."""

from __future__ import annotations

from math import isfinite
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from agentflow.config.section import ADVICE, LARGEST, NAME, Count, Seconds, Section


class RateLimitConfig(Section):
    """How often an agent is called, by all runs of the process together."""

    requests_per_second: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)] = Field(
        description="Calls a second, in the long run, at most 1,000,000."
    )
    burst: Count = Field(default=1, description="Calls that may come at once after a rest, at least 1.")


class CircuitBreakerConfig(Section):
    """When calls of an agent that keeps failing are rejected at once, in all runs of the process."""

    failure_threshold: Count = Field(default=5, description="Failures in a row that open the breaker, at least 1.")
    reset_seconds: Seconds = Field(default=30.0, description="How long it rejects before it lets a probe through, in seconds.")
    success_threshold: Count = Field(default=1, description="Successful probes in a row that close it again, at least 1.")


class WorkersConfig(Section):
    """A pool of workers: each call of the agent of that name leases one."""

    count: Annotated[int, Field(ge=1, le=10_000)] = Field(default=1, description="Workers that are kept, 1 to 10,000.")
    max: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="The most workers while calls wait, 1 to 10,000. Default: `count`."
    )
    max_failures: Count = Field(default=3, description="Failures in a row after which a worker is `failed` and gets no call, at least 1.")
    idle_drain_seconds: Seconds = Field(
        default=120.0,
        description="How long a worker beyond `count` stays idle before it is drained, and a failed one before it is replaced, in seconds.",
    )

    @property
    def most(self) -> int:
        """The most workers while calls wait."""
        return self.count if self.max is None else self.max


class BudgetConfig(Section):
    """What may be used at most. At least one of `tokens`, `cost_usd`, `seconds` and `calls` is given."""

    tokens: Count | None = Field(default=None, description="Input and output tokens together. Default: no limit.")
    cost_usd: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(default=None, description="US dollars. Default: no limit.")
    seconds: Seconds | None = Field(default=None, description="Seconds of agents' work, all attempts together. Default: no limit.")
    calls: Count | None = Field(default=None, description="Attempts of agents. Default: no limit.")
    warn_at: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        default=0.8, description="The share of a figure, above 0 to 1, at which a warning is logged and recorded, once."
    )

    @model_validator(mode="after")
    def _has_a_figure(self) -> BudgetConfig:
        if all(figure is None for figure in (self.tokens, self.cost_usd, self.seconds, self.calls)):
            raise PydanticCustomError("AF0104", "limits nothing", {ADVICE: "give one of tokens, cost_usd, seconds and calls"})
        return self


class CacheConfig(Section):
    """How long an answer of an agent serves other calls with the same input."""

    ttl_seconds: Seconds = Field(description="How long, in seconds.")


class ErrorRoutingConfig(Section):
    """The agents that are called, once, when the main flow has failed: the one for its code, else its severity, category, else any."""

    error_handler: str | None = Field(default=None, description="The agent for what no other handler is for.")
    code_handlers: dict[str, str] = Field(default={}, description="Agents by error code, or by the name of an exception's class.")
    severity_handlers: dict[str, str] = Field(default={}, description="Agents by severity: `low`, `medium`, `high` or `critical`.")
    category_handlers: dict[str, str] = Field(default={}, description="Agents by category, e.g. `timeout`, `network`, `validation`.")


def _on_error(value: str) -> str:
    kind, _, name = value.partition(":")
    if value in {"stop", "continue"} or (kind == "route" and NAME.fullmatch(name)):
        return value
    advice = 'write "stop", "continue", or "route:" and the name of an agent'
    raise PydanticCustomError("AF0104", "is none of the three things a flow can do on an error", {ADVICE: advice})


OnError = Annotated[str, AfterValidator(_on_error)]


_Json = TypeVar("_Json")


def as_json(value: _Json) -> _Json:
    """Refuse a value that JSON cannot hold."""
    waiting: list[object] = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
        elif not isinstance(one, bool | int | float | str) or (isinstance(one, float) and not isfinite(one)):
            advice = "use strings, finite numbers, true or false, arrays and tables; write a date as a string"
            raise PydanticCustomError("AF0104", "holds a value that has no form in JSON", {ADVICE: advice})
    return value


Output = Annotated[dict[str, Any], AfterValidator(as_json)]
Tokens = Annotated[int, Field(ge=0, le=LARGEST)]
