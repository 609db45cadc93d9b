"""The models of what the service takes and tells: bodies and queries are checked with them, and the OpenAPI is built from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

EVENT_ID = r"^[A-Za-z0-9_.:-]{1,128}$"
RUN_ID = r"^[A-Za-z0-9_-]{1,64}$"
LONGEST = 4096
MOST_ROWS = 1000

Text = Annotated[str, StringConstraints(max_length=LONGEST)]
State = Literal["pending", "running", "paused", "recovering", "completed", "failed", "cancelled"]
Status = Literal["completed", "partial", "failed", "timed_out", "cancelled"]


class Given(BaseModel):
    """What a client sends: nothing unknown, and each thing of its own type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class EventIn(Given):
    """An event."""

    target: Text = Field(default="", description="The agent or flow it is meant for; modes other than route may do without.")
    data: dict[str, Any] = Field(default={}, description="A JSON object, the state that the run begins with.")
    metadata: dict[str, str] = Field(default={}, description="Text by name; `route` and `agent_timeout` have a meaning.")
    session_id: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST)] | None = Field(
        default=None, description="Events of one session run one after another."
    )
    id: Annotated[str, StringConstraints(pattern=EVENT_ID)] | None = Field(
        default=None, description="Makes sending it again harmless: the same event under the same id has the run that it had."
    )


class EventQuery(BaseModel):
    """How an event is sent."""

    model_config = ConfigDict(extra="forbid")
    wait: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,4}(ms|s|m)?$")] | None = Field(
        default=None, description="Wait so long for the result, e.g. `30s`; at most 10 minutes."
    )


class RunsQuery(BaseModel):
    """Which runs are wanted; what is not given is not asked about."""

    model_config = ConfigDict(extra="forbid")
    state: State | None = Field(default=None, description="Exactly this state.")
    status: Status | None = Field(default=None, description="Exactly this status.")
    pattern: Text | None = Field(default=None, description="The mode of the main flow.")
    session: Text | None = Field(default=None, description="The session's id.")
    flag: Text | None = Field(default=None, description="Has this flag, e.g. `dead_lettered` or `corrupt`.")
    root: Annotated[str, StringConstraints(pattern=RUN_ID)] | None = Field(default=None, description="Belongs to this run.")
    since: Annotated[float, Field(ge=0, le=1e12)] | None = Field(
        default=None, description="Began then or later, in seconds since the epoch."
    )
    children: bool = Field(default=False, description="Also runs that belong to another one.")
    cursor: Annotated[str, StringConstraints(pattern=RUN_ID)] | None = Field(
        default=None, description="Where the last page ended: the `next` of its `Link` header has it."
    )
    limit: Annotated[int, Field(ge=1, le=MOST_ROWS)] = Field(default=100, description="At most so many.")


class RunQuery(BaseModel):
    """As of when a run is shown."""

    model_config = ConfigDict(extra="forbid")
    at: Annotated[int, Field(ge=0, le=2**31)] | None = Field(default=None, description="As it stood after this record.")


class RecordsQuery(BaseModel):
    """Which records of a run are wanted."""

    model_config = ConfigDict(extra="forbid")
    start: Annotated[int, Field(ge=0, le=2**31)] = Field(default=0, description="The number of the first one.")
    limit: Annotated[int, Field(ge=1, le=10_000)] = Field(default=10_000, description="At most so many.")


class NoQuery(BaseModel):
    """Nothing."""

    model_config = ConfigDict(extra="forbid")


class PauseIn(Given):
    """Why a run is paused or cancelled."""

    reason: Text = Field(default="", description="What for.")


class ResumeIn(Given):
    """Who lifts a pause."""

    by: Text = Field(default="", description="Who says so.")


class ApproveIn(Given):
    """A person's yes."""

    place: Text = Field(default="", description="The step's position, or its agent; may be left out where only one step waits.")
    by: Text = Field(default="", description="Who says so.")
    note: Text = Field(default="", description="What else they say.")
    digest: Text | None = Field(default=None, description="What they saw; another thing that waits there now is not approved.")


class RejectIn(Given):
    """A person's no."""

    place: Text = Field(default="", description="The step's position, or its agent; may be left out where only one step waits.")
    by: Text = Field(default="", description="Who says so.")
    reason: Text = Field(default="", description="Why.")


class ForkIn(Given):
    """From where a new run goes on."""

    at: Annotated[int, Field(ge=0, le=2**31)] | None = Field(default=None, description="The number of the last record that counts.")
    set: dict[str, Any] = Field(default={}, description="Keys of the state to change before it goes on.")


class ReplayIn(Given):
    """How a dead letter is sent again."""

    again: bool = Field(default=False, description="Also when it was replayed before.")


class Told(BaseModel):
    """What the service tells; there may be more in it than is named here."""

    model_config = ConfigDict(extra="allow")


class Accepted(Told):
    """An event that was accepted, and is recorded."""

    run_id: str
    event_id: str
    duplicate: bool = Field(description="Whether it had been accepted before.")
    durability: Literal["relaxed", "none"] | None = Field(default=None, description="There when the record does not survive a power cut.")


class RunRow(Told):
    """A run, as lists show it."""

    run_id: str
    event_id: str
    state: State
    status: Status | None
    reason: str
    flags: list[str]
    pattern: str
    session_id: str | None
    started_at: float
    ended_at: float | None
    waiting: list[str]


class Result(Told):
    """What a run came to, as `agentflow run --json` prints it."""

    run_id: str
    status: Status
    reason: str
    flags: list[str]
    state: dict[str, Any]
    outputs: dict[str, Any]
    error: dict[str, Any] | None
    errors: dict[str, Any]
    conflicts: list[Any]
    usage: dict[str, Any]
    timing: dict[str, Any]


class RunView(Told):
    """A run as it stands."""

    run_id: str
    state_name: State
    status: Status | None
    reason: str
    flags: list[str]
    state: dict[str, Any]
    outputs: dict[str, Any]
    error: dict[str, Any] | None
    errors: dict[str, Any]
    steps: list[dict[str, Any]]
    approvals: list[dict[str, Any]]
    conflicts: list[Any]
    usage: dict[str, Any]
    timing: dict[str, Any]
    records_url: str
    diagram_url: str


class Record(Told):
    """One fact in a run's journal."""

    run_id: str
    seq: int | None
    type: str


class Receipt(Told):
    """What an order came to."""

    run_id: str
    is_recorded: bool
    state: str
    position: str
    is_live: bool


class Begun(Told):
    """A run that began from another one."""

    run_id: str
    origin: str


class AgentRow(Told):
    """An agent."""

    name: str
    role: str
    description: str
    capabilities: list[str]
    enabled: bool
    reached: bool | None


class ConfigView(Told):
    """The plan and every effective value; secrets are masked."""

    name: str
    mode: str
    plan: dict[str, Any]
    settings: dict[str, Any]


class Figures(Told):
    """What was counted, and what is open now."""

    events: dict[str, Any]
    runs: dict[str, int]
    queue_depth: int


class Alive(Told):
    """The process answers."""

    status: Literal["ok"]


class Problem(Told):
    """What was refused, or has failed (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str = Field(description="`agentflow explain CODE` tells what it means.")
    detail: str
    id: str = Field(description="The request's id, as in the header `X-Request-ID`.")
    hint: str = ""
