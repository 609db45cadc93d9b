"""The models of the configuration: which sections and keys there are, their types, bounds and defaults.

With section.py, policies.py, patterns.py, schedules.py, serving.py, mqtt.py, references.py and telemetry.py, the one module that
imports pydantic, and the one source of the JSON Schema, of the reference page and of the "did you mean" of the loader. Durations
are seconds, as integers or floats.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationError,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from agentflow.config.advice import is_reference, journal_fault
from agentflow.config.mqtt import MqttConfig
from agentflow.config.patterns import ContractKeys, PatternKeys, Retries
from agentflow.config.policies import (
    BudgetConfig,
    CacheConfig,
    CircuitBreakerConfig,
    ErrorRoutingConfig,
    OnError,
    Output,
    RateLimitConfig,
    Tokens,
    WorkersConfig,
)
from agentflow.config.references import Secret
from agentflow.config.references import SecretReference as SecretReference
from agentflow.config.schedules import ScheduleConfig
from agentflow.config.section import ADVICE, FORMS, ONE, TABLE, Count, Name, Seconds, Section
from agentflow.config.section import LARGEST as LARGEST
from agentflow.config.serving import ServeConfig
from agentflow.config.telemetry import TelemetryConfig

MOST_TOLD = 1000
FUNCTION, MODULE = "function_reference", "module_reference"


def _mode(value: object) -> object:
    return "collaborative" if value == "collaborate" else value


def _handler(value: str) -> str:
    if is_reference(value, may_lack_function=False):
        return value
    raise PydanticCustomError(FUNCTION, "is no module:function")


def _entrypoint(value: str) -> str:
    if is_reference(value, may_lack_function=True):
        return value
    raise PydanticCustomError(MODULE, "is no module or module:function")


def _journal_url(value: str) -> str:
    fault = journal_fault(value)
    if fault is None:
        return value
    code, message, advice = fault
    raise PydanticCustomError(code, message, {ADVICE: advice})


def _merge_form(value: object) -> str:
    return TABLE if isinstance(value, dict) else ONE


Merge = Annotated[
    Annotated[Literal["ordered", "strict"], Tag(ONE)] | Annotated[dict[str, str], Tag(TABLE)],
    Discriminator(_merge_form),
]


class AgentFlowSection(Section):
    """What the project is, and where its Python code is found."""

    name: str = Field(default="", description="The project's name. Default: the name of the file's folder.")
    version: str = Field(default="", description="The project's version, free text.")
    description: str = Field(default="", description="What the project does, free text.")
    entrypoint: Annotated[str, AfterValidator(_entrypoint)] | None = Field(
        default=None,
        description="`module:function`, called with the runner to register handlers; the module stands beside the file or is installed.",
    )


class RetryConfig(Section):
    """How often, and how long apart, a failed step is tried again."""

    max_retries: Retries | None = Field(
        default=None, description="Retries beyond the first try, 0 to 100. Default: the flow's `retry_attempts`."
    )
    initial_delay_seconds: Seconds = Field(default=1.0, description="The wait before the first retry, in seconds.")
    max_delay_seconds: Seconds = Field(default=30.0, description="The longest wait between two tries, in seconds.")
    backoff_factor: Annotated[float, Field(ge=1, allow_inf_nan=False)] = Field(
        default=2.0, description="What the wait is multiplied with after each retry, at least 1."
    )
    jitter: bool = Field(default=True, description="Vary each wait at random, so that retries spread out.")
    retryable_errors: list[str] | None = Field(
        default=None,
        description="Class names or codes of the errors that are retried. Default: all but bad input.",
    )


class SwitchRule(Section):
    """A condition, and the flow that handles an event for which it is true."""

    when: str = Field(description="A CEL condition over `event`; the first rule that is true wins.")
    use: str = Field(description="The name of the flow that then handles the event.")


class FlowKeys(Section):
    """The keys of all flows, and those of the five first modes."""

    mode: Annotated[str, BeforeValidator(_mode)] = Field(
        default="route", description="How the agents work together; `collaborate` is read as `collaborative`."
    )
    timeout_seconds: Seconds | None = Field(default=None, description="The longest time for one event, in seconds. Default: no limit.")
    max_iterations: Count = Field(default=5, description="loop: the most rounds, at least 1.")
    max_concurrency: Count = Field(default=10, description="How many agents of this flow run at once in one run.")
    failure_threshold: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = Field(
        default=0.5, description="collaborative, parallel, map: the flow fails when more than this share (0 to 1) failed."
    )
    retry_attempts: Retries = Field(
        default=0, description="Retries beyond the first try, 0 to 100, for agents without a policy of their own."
    )
    max_hops: Count = Field(default=32, description="route: the most hand-offs for one event.")
    max_process_deaths: Annotated[int, Field(ge=1, le=100)] = Field(
        default=3, description="How often the process may die while one step runs, 1 to 100, before the run becomes a dead letter."
    )
    max_total_attempts: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        default=1000,
        description="Attempts that one run makes because others have failed, 0 to 1,000,000: retries, fallbacks and corrections of all "
        "its steps together. Of the flow that handles the event, for those in it too.",
    )
    merge: Merge = Field(
        default="ordered",
        description="How patches of parallel agents meet: `ordered`, `strict`, or a policy for each key.",
    )
    on_error: OnError = Field(
        default="stop",
        description="What a failed step does to the flow: `stop` ends it, `continue` goes on without it, `route:AGENT` ends it with "
        "that agent's step. Not for parallel flows.",
        json_schema_extra={"pattern": "^(stop|continue|route:[A-Za-z0-9_.-]{1,64})$"},
    )
    quorum: Count | None = Field(
        default=None, description="collaborative: how many agents must succeed, in the place of `failure_threshold`."
    )
    fail_fast: bool = Field(default=False, description="collaborative: cancel the rest once too many have failed.")
    join_timeout_seconds: Seconds | None = Field(
        default=None, description="collaborative: how long to wait for all agents, in seconds; who is missing then counts as failed."
    )
    budget: BudgetConfig | None = Field(default=None, description="What one run of the flow may use at most. Default: no limit.")
    on_busy: Literal["queue", "reject", "interrupt", "parallel"] = Field(
        default="queue",
        description="What a second event of a busy session does: `queue` waits its turn, `reject` fails to be emitted, `interrupt` "
        "cancels what is open and begins after that, `parallel` begins at once. For the main flow only.",
    )
    collaborative_agents: list[str] | None = Field(
        default=None, description="collaborative, mixed: who works in parallel. Default (collaborative): all enabled agents."
    )
    sequential_agents: list[str] | None = Field(
        default=None, description="sequential, mixed, pipeline: who works one after the other, in this order."
    )
    loop_agent: str | None = Field(default=None, description="loop: the agent or flow that is repeated.")
    until: str | None = Field(default=None, description="loop: a CEL condition over `state` that ends the loop.")
    default_agent: str | None = Field(
        default=None,
        description="route: the agent that a route flow starts at when it is used as an agent. orchestrator_workers, supervisor, "
        "hierarchical, plan_execute: who takes what names nobody, or nobody known.",
    )
    retry: RetryConfig | None = Field(default=None, description="The retry policy of the flow's agents.")
    switch: list[SwitchRule] = Field(default=[], description="Rules that hand an event to another flow.")
    options: dict[str, Any] | None = Field(
        default=None, description="Free settings for a mode registered in Python; refused for built-in modes."
    )


class FlowConfig(PatternKeys, FlowKeys):
    """A flow: its mode, the agents it calls, and its bounds."""


class AgentKeys(Section):
    """The agent itself, and how its failures are met."""

    handler: Annotated[str, AfterValidator(_handler)] | None = Field(
        default=None, description="`module:function`. Default: the function registered in Python."
    )
    role: str = Field(default="", description="What the agent is in the project, free text.")
    description: str = Field(default="", description="What the agent does, free text.")
    system_prompt: str = Field(default="", description="The agent's instruction, given to the handler.")
    capabilities: list[str] = Field(default=[], description="What the agent can do, free words.")
    version: str = Field(default="", description="The agent's version: recorded and shown, never compared.")
    enabled: bool = Field(default=True, description="A disabled agent may not be reached by the chosen flow.")
    timeout_seconds: Seconds | None = Field(default=None, description="The longest time for one step, in seconds. Default: 300.")
    retry: RetryConfig | None = Field(default=None, description="The agent's own retry policy.")
    isolation: Literal["task", "thread", "process"] = Field(
        default="task",
        description="Where the handler runs: `task` on the event loop (without `async`: in a thread), `thread` in a thread in any case, "
        "`process` in a process of its own, which is killed when its time is up.",
    )
    fallback: list[str] = Field(default=[], description="Agents that answer in its place when it has failed for good, in this order.")
    fallback_on: list[str] | None = Field(
        default=None, description="Class names or codes of the errors for which `fallback` is used. Default: all."
    )
    default_output: Output | None = Field(
        default=None, description="The answer when the agent and all its fallbacks have failed; the run is then `degraded`."
    )
    self_correct: Retries = Field(
        default=0, description="Attempts, 0 to 100, that follow a failed one at once and are told what was wrong; retries come after them."
    )
    cache: CacheConfig | None = Field(default=None, description="How long answers serve other calls with the same input. Default: never.")
    compensate: str | None = Field(default=None, description="The agent that undoes a step of this one when the run fails after it.")
    budget: BudgetConfig | None = Field(default=None, description="What the agent may use at most in one run. Default: no limit.")
    reserve_tokens: Tokens = Field(default=0, description="Tokens that each attempt sets aside of its budgets before it begins.")
    requires_approval: bool = Field(default=False, description="Each step of this agent waits until a person approves it.")
    approval_timeout_seconds: Seconds = Field(
        default=86_400.0, description="How long a step waits for its approval before it fails, in seconds; with `requires_approval`."
    )
    rate_limit: RateLimitConfig | None = Field(default=None, description="How often the agent is called. Default: no limit.")
    circuit_breaker: CircuitBreakerConfig | None = Field(
        default=None, description="When calls of a failing agent are rejected at once. Default: never."
    )
    queue_timeout_seconds: Seconds | None = Field(
        default=None, description="How long a call waits for its rate limit and a worker, in seconds. Default: no limit."
    )


class AgentConfig(ContractKeys, AgentKeys):
    """An agent: the function that answers, what it is for, and its own bounds."""


class JournalConfig(Section):
    """Where runs are recorded, how safely, and for how long."""

    url: Annotated[str, AfterValidator(_journal_url)] | None = Field(
        default=None,
        description="`memory:`, or `sqlite:PATH` relative to the file that says it. Default: `sqlite:.agentflow/journal.db` beside the "
        'file for the command line and where `durability` is "full" or "relaxed"; else `memory:`.',
    )
    durability: Literal["full", "relaxed", "none"] | None = Field(
        default=None,
        description="What a record survives: `full` a power cut, `relaxed` the end of the process, `none` (with `memory:`) neither. "
        "Default: `full` for a file.",
    )
    retention_days: Annotated[int, Field(ge=1, le=36_500)] = Field(
        default=30, description="How many days a run that has ended is kept, 1 to 36,500."
    )
    snapshot_every: Count = Field(default=100, description="How many records of a run lie between two snapshots of its state, at least 1.")


class LimitsConfig(Section):
    """How much one recorded run may come to. It is warned of at a fifth, and fails at the limit with the reason `history_limit`."""

    max_records: Annotated[int, Field(ge=10, le=10_000_000)] = Field(
        default=50_000, description="The most records of one run, 10 to 10,000,000."
    )
    max_run_bytes: Annotated[int, Field(ge=10_000, le=10_000_000_000)] = Field(
        default=50_000_000, description="The most bytes of one run's records, 10,000 to 10,000,000,000; snapshots do not count."
    )


class LoggingConfig(Section):
    """What is logged, how, and where to."""

    level: Literal["debug", "info", "warning", "error", "critical"] = Field(
        default="info", description="The least severe level that is logged."
    )
    format: Literal["console", "json"] = Field(default="console", description="`console` for people, `json` for one object a line.")
    file: str | None = Field(
        default=None, description="The log file, in a folder that exists, relative to the file that says it. Default: standard error."
    )


class LlmConfig(Section):
    """The language model for agents without a handler."""

    provider: Literal["ollama", "openai", "anthropic", "azure", "openai_compatible", "scripted"] = Field(
        description="Who serves the model."
    )
    model: str = Field(description="The model's name at the provider.")
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = Field(
        default=None, description="How freely the model answers, 0 to 2. Default: the provider's."
    )
    max_tokens: Count | None = Field(default=None, description="The most tokens in one answer. Default: the provider's.")
    timeout_seconds: Seconds | None = Field(default=None, description="The longest time for one request, in seconds. Default: the step's.")
    base_url: str | None = Field(default=None, description="The service's address. Default: the provider's.")
    api_key: Secret | None = Field(default=None, description='Where the key is kept: `{ env = "NAME" }` or `{ file = "path" }`.')


class RunnerConfig(Section):
    """The bounds of one runner, whatever its flows."""

    queue_size: Count = Field(default=1000, description="The most events that wait; beyond it `emit` waits.")
    queue_wait_seconds: Seconds = Field(default=1.0, description="How long `emit` waits for a place in a full queue, in seconds.")
    max_running: Count = Field(default=10_000, description="The most runs that are open at once.")
    cancel_grace_seconds: Seconds = Field(default=10.0, description="How long a cancelled handler has to end, in seconds.")
    drain_timeout_seconds: Seconds = Field(default=30.0, description="How long `stop` waits for open runs, in seconds.")
    pythonpath: list[str] = Field(default=[], description="Folders to import handlers from, relative to the file that says them.")


class Config(Section):
    """One agentflow file, with all defaults filled in."""

    agent_flow: AgentFlowSection = Field(default_factory=AgentFlowSection, description="The project.")
    orchestration: FlowConfig = Field(default_factory=FlowConfig, description="The main flow.")
    flows: dict[Name, FlowConfig] = Field(default={}, description="Named flows: a flow's name stands wherever an agent's may.")
    agents: dict[Name, AgentConfig] = Field(default={}, description="The agents, in the order of the file.")
    journal: JournalConfig = Field(default_factory=JournalConfig, description="The journal.")
    limits: LimitsConfig = Field(default_factory=LimitsConfig, description="How much one run may record.")
    logging: LoggingConfig = Field(default_factory=LoggingConfig, description="The log.")
    telemetry: TelemetryConfig = Field(default_factory=TelemetryConfig, description="Metrics and traces.")
    llm: LlmConfig | None = Field(default=None, description="The language model.")
    runner: RunnerConfig = Field(default_factory=RunnerConfig, description="The runner.")
    serve: ServeConfig = Field(default_factory=ServeConfig, description="The service.")
    mqtt: MqttConfig | None = Field(default=None, description="The broker that brings events.")
    schedules: list[ScheduleConfig] = Field(default=[], description="Events that begin by themselves.")
    workers: dict[Name, WorkersConfig] = Field(default={}, description="Pools of workers, by the agent whose calls lease them.")
    error_routing: ErrorRoutingConfig = Field(default_factory=ErrorRoutingConfig, description="Who handles a failed event.")


class Fault(NamedTuple):
    """One thing that the models refuse: pydantic's kind of it, where, the value, the bound it breaks, and what to do."""

    kind: str
    path: tuple[str | int, ...]
    message: str
    value: object
    bound: object = None
    advice: str = ""


def validate(data: dict[str, Any]) -> Config | list[Fault]:
    """Return *data* as a configuration, or all that is wrong with its shape."""
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False)
        told = [_fault(details) for details in found[:MOST_TOLD]]
        return told + [Fault("", details["loc"], "", None) for details in found[MOST_TOLD:]]  # nobody is told of these one by one


def _fault(details: ErrorDetails) -> Fault:
    path = details["loc"]
    if not FORMS.isdisjoint(path):
        path = tuple(part for part in path if part not in FORMS)
    context = dict(details.get("ctx", {}))
    advice = str(context.pop(ADVICE, ""))
    return Fault(details["type"], path, details["msg"], details["input"], next(iter(context.values()), None), advice)


def named(config: Config, name: str) -> Config:
    """Return *config* with *name* as the project's name where none was given."""
    project = config.agent_flow
    if "name" in project.given:
        return config
    renamed = AgentFlowSection.model_construct(_fields_set=set(project.given), **{**dict(project), "name": name})
    return Config.model_construct(_fields_set=set(config.given), **{**dict(config), "agent_flow": renamed})
