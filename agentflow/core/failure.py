"""Failure: what went wrong in a step, kept as plain text so that it can be shown, recorded and sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from agentflow.core.category import SEVERITIES, category_of, severity_of
from agentflow.core.redaction import KNOWN
from agentflow.core.row import Row
from agentflow.core.values import Json
from agentflow.errors import AgentflowError

LONGEST_CATEGORY = 64  # characters


@dataclass(frozen=True, slots=True)
class Failure(Row):
    """Why a step, and with it perhaps the run, failed.

    Attributes:
        stage: the member of the main flow in which it happened ("" for the run as a whole).
        agent: the agent that failed ("" where none did).
        position: the step's position in the plan ("" for the run as a whole).
        type: the exception's class name.
        code: the exception's `code` where it has one, else its class name.
        message: the exception's text.
        attempts: how often the agent was tried.
        kinds: the names of the exception's class and its bases, for retry policies.
        told_category, told_severity: what the exception itself says of them by attributes of these names, "" for nothing.
        exception: the exception itself while in the process that raised it.

    Whatever is made of a failure, no secret that this process knows stands in what the exception has told.
    """

    message: str
    type: str = "AgentflowError"
    code: str = ""
    agent: str = ""
    position: str = ""
    stage: str = ""
    attempts: int = 1
    kinds: tuple[str, ...] = ()
    exception: BaseException | None = None
    told_category: str = ""
    told_severity: str = ""

    def __post_init__(self) -> None:
        for name in ("message", "code", "told_category"):
            text = getattr(self, name)
            told = KNOWN.redacted(text)
            if told is not text:
                object.__setattr__(self, name, told)

    @property
    def category(self) -> str:
        """What sort of failure it is, e.g. `timeout`: what the exception says itself, else by its code and class; never by its words."""
        return self.told_category or category_of(self.code, self.kinds)

    @property
    def severity(self) -> str:
        """How grave it is: low, medium, high or critical; what the exception says itself, else by its class and category."""
        return self.told_severity or severity_of(self.category, self.kinds)

    def to_dict(self) -> dict[str, Json]:
        """Return the failure as JSON."""
        return {
            "stage": self.stage,
            "agent": self.agent,
            "position": self.position,
            "type": self.type,
            "code": self.code,
            "message": self.message,
            "attempts": self.attempts,
        }

    def at(self, *, agent: str, position: str, stage: str) -> Failure:
        """Return the failure with its place filled in where it has none yet."""
        return replace(self, agent=self.agent or agent, position=self.position or position, stage=self.stage or stage)

    def __str__(self) -> str:
        place = f"{self.agent} at {self.position}: " if self.agent else ""
        return f"{place}{self.type}: {self.message}" if self.message else f"{place}{self.type}"


def failure_of(error: BaseException, *, attempts: int = 1) -> Failure:
    """Describe an exception. Never raises, whatever the exception's own methods do."""
    kind = type(error)
    code = _code(error)
    return Failure(
        message=_text(error),
        type=_name(kind),
        code=code if type(code) is str and code else _name(kind),
        attempts=attempts,
        kinds=tuple(_name(base) for base in _bases(kind) if base is not object),
        exception=error,
        told_category=_attribute(error, "category"),
        told_severity=severity if (severity := _attribute(error, "severity")) in SEVERITIES else "",
    )


# What `type` itself says: a metaclass may answer anything else, or raise.
_name: Callable[[type], str] = type.__dict__["__name__"].__get__
_bases: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__


def _code(error: BaseException) -> object:
    try:
        return error.code if isinstance(error, AgentflowError) else getattr(type(error), "code", None)
    except BaseException:  # noqa: BLE001 - a class may answer with anything when asked for an attribute
        return None


def _attribute(error: BaseException, name: str) -> str:
    """Return what an exception says of itself, "" when it is no short text."""
    try:
        told = getattr(error, name, None)
    except BaseException:  # noqa: BLE001 - an exception may answer with anything when asked for an attribute
        return ""
    return told if type(told) is str and len(told) <= LONGEST_CATEGORY and _has_utf8_form(told) else ""


def _text(error: BaseException) -> str:
    try:
        text = str.__str__(str(error))  # exactly a str, whatever kind of it the exception gave
        return text if _has_utf8_form(text) else ascii(text)
    except BaseException as second:  # noqa: BLE001 - a handler's exception may do anything when printed
        return f"<{type(error).__name__} whose text raises {type(second).__name__}>"


def _has_utf8_form(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
