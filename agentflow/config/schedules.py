"""The tables that say which events begin by themselves, and when."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from agentflow.config.section import ADVICE, Name, Section
from agentflow.core.values import adopt_mapping
from agentflow.errors import InvalidValueError

YEAR_S = 366 * 86_400
OWN_METADATA = ("schedule", "due")  # what each event of a schedule says of where it comes from
_FIELDS = 5
_LONGEST = 200
_ANY_DAY = datetime(2000, 1, 1, tzinfo=UTC)


def zone_of(name: str) -> tzinfo:
    """Return the time zone of this name.

    Raises:
        ValueError: this machine knows none of it.
    """
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - only schedules need it

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"no time zone {name}") from error


def _cron(value: str) -> str:
    """Refuse what is no cron expression, and one that has no due time in fifty years."""
    from cronsim import CronSim, CronSimError  # noqa: PLC0415 - only schedules need it

    told = "minute, hour, day of month, month, day of week"
    if len(value) > _LONGEST or len(value.split()) != _FIELDS:
        raise PydanticCustomError("AF0129", "must have five fields", {ADVICE: f'{told}, e.g. "30 6 * * MON-FRI"'})
    try:
        next(CronSim(value, _ANY_DAY))
    except CronSimError as error:
        raise PydanticCustomError("AF0129", f"is no cron expression: {error}".lower(), {ADVICE: f"the fields are {told}"}) from None
    except StopIteration:
        raise PydanticCustomError("AF0129", "has no due time in the next fifty years", {ADVICE: "is there such a day?"}) from None
    return value


def _zone(value: str) -> str:
    try:
        zone_of(value)
    except ValueError:
        advice = 'e.g. "Europe/Berlin"; where the machine has none at all, install its package of time zones'
        raise PydanticCustomError("AF0129", "is no time zone that this machine knows", {ADVICE: advice}) from None
    return value


def _data(value: dict[str, Any]) -> dict[str, Any]:
    try:
        adopt_mapping(value, "data")
    except InvalidValueError as error:
        raise PydanticCustomError("AF0104", "must be JSON: {told}", {ADVICE: error.hint, "told": error.message}) from None
    return value


def _metadata(value: dict[str, str]) -> dict[str, str]:
    taken = [key for key in OWN_METADATA if key in value]
    if taken:
        raise PydanticCustomError("AF0104", "may not have `schedule` and `due`", {ADVICE: "each event of a schedule has them by itself"})
    return value


class ScheduleConfig(Section):
    """An event that `agentflow serve` emits by itself, at due times given by either `cron` or `every`."""

    name: Name | None = Field(default=None, description="What it is called. Default: made of its times and its target.")
    cron: Annotated[str, AfterValidator(_cron)] | None = Field(
        default=None, description="When: minute, hour, day of month, month, day of week, as cron reads them."
    )
    every: Annotated[int, Field(ge=1, le=YEAR_S)] | None = Field(
        default=None, description="In the place of `cron`: an interval in whole seconds, counted from 1970-01-01 00:00 UTC."
    )
    timezone: Annotated[str, AfterValidator(_zone)] = Field(default="UTC", description="The time zone that `cron` is read in.")
    target: str = Field(default="", description="The agent or flow that the event is for.")
    data: Annotated[dict[str, Any], AfterValidator(_data)] = Field(default={}, description="The event's data.")
    metadata: Annotated[dict[str, str], AfterValidator(_metadata)] = Field(
        default={}, description="The event's metadata; `schedule` and `due` are added."
    )
    session_id: str | None = Field(default=None, description="The event's session. Default: each is its own.")
    missed: Literal["skip", "run_once"] = Field(
        default="skip",
        description="What is done about due times that passed over a minute ago, while nothing served: nothing, or one event for the "
        "latest of them.",
    )

    @property
    def when(self) -> str:
        """Its due times in words, in which no other ones are."""
        return f"every {self.every} s" if self.every is not None else f"{self.cron} {self.timezone}"

    @property
    def title(self) -> str:
        """Its name, or what stands for it."""
        return self.name or f"{self.target or 'event'} {self.when}"
