"""Failures describe any exception, whatever that exception does when it is looked at."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace as changed
from typing import Any

import pytest

from agentflow.core.category import CATEGORIES, SEVERITIES, category_of, severity_of
from agentflow.core.failure import Failure, failure_of
from agentflow.core.packing import pack_failure, unpack_failure
from agentflow.errors import (
    ApprovalRejectedError,
    BudgetExceededError,
    EventTimeoutError,
    MergeError,
    PoisonedStepError,
    RoutingError,
    StoreError,
)


class CodedError(ValueError):
    code = "rate_limited"


class RudeError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


class UnicodeRudeError(Exception):
    def __str__(self) -> str:
        return "\ud800".encode().decode()


class SurrogateError(Exception):
    def __str__(self) -> str:
        return "a\ud800"


class RudeKind(type):
    @property
    def code(cls) -> str:
        raise RuntimeError("no")


class RudeClassError(Exception, metaclass=RudeKind):
    pass


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ValueError("odd"), "ValueError", "odd"),
        (CodedError("slow down"), "rate_limited", "slow down"),
        (MergeError("two writers", hint="pick one"), "AF0304", "two writers; pick one"),
        (SystemExit(3), "SystemExit", "3"),
        (KeyError("k"), "KeyError", "'k'"),
        (ValueError(), "ValueError", ""),
        (RudeError(), "RudeError", "<RudeError whose text raises RuntimeError>"),
        (UnicodeRudeError(), "UnicodeRudeError", "<UnicodeRudeError whose text raises UnicodeEncodeError>"),
        (SurrogateError(), "SurrogateError", r"'a\ud800'"),
        (RudeClassError("x"), "RudeClassError", "x"),
        (type("Numbered", (Exception,), {"code": 5})("x"), "Numbered", "x"),
        (type("Empty", (Exception,), {"code": ""})("x"), "Empty", "x"),
    ],
)
def test_any_exception_is_described(error: BaseException, code: str, message: str) -> None:
    """A failure has the exception's code (else its class name) and its text, and making it never raises."""
    failure = failure_of(error, attempts=2)
    assert (failure.code, failure.message, failure.type, failure.attempts) == (code, message, type(error).__name__, 2)
    assert failure.exception is error
    json.dumps(failure.to_dict()).encode()
    str(failure)


def test_kinds_are_the_class_and_its_bases() -> None:
    """Retry policies can name the exception's class or any base of it."""
    assert failure_of(CodedError()).kinds == ("CodedError", "ValueError", "Exception", "BaseException")


def test_code_of_one_of_ours_may_be_its_own() -> None:
    """An error of agentflow is described by the code it carries itself."""
    error = RoutingError("x")
    error.code = "AF0999"
    assert failure_of(error).code == "AF0999"


def test_place_is_filled_in_once() -> None:
    """The place of a failure is that of the innermost that knew it."""
    failure = Failure("no").at(agent="a", position="0.1", stage="s").at(agent="b", position="0", stage="t")
    assert (failure.agent, failure.position, failure.stage) == ("a", "0.1", "s")


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (Failure("no", "ValueError"), "ValueError: no"),
        (Failure("", "ValueError"), "ValueError"),
        (Failure("no", "ValueError", agent="a", position="0.1"), "a at 0.1: ValueError: no"),
    ],
)
def test_failure_as_text(failure: Failure, text: str) -> None:
    """A failure as text has its place, type and message, as far as there are any."""
    assert str(failure) == text


def test_failure_as_json() -> None:
    """A failure as JSON has stage, agent, position, type, code, message and attempts."""
    row: dict[str, Any] = Failure("no", "ValueError", "E1", "a", "0.1", "s", 3, ("ValueError",), ValueError("no")).to_dict()
    assert row == {"stage": "s", "agent": "a", "position": "0.1", "type": "ValueError", "code": "E1", "message": "no", "attempts": 3}


class HttpError(Exception):
    pass


class GatewayTimeoutError(HttpError, TimeoutError):
    pass


class ToldError(Exception):
    def __init__(self, **told: Any) -> None:
        super().__init__("timeout: network rate limit")
        self.__dict__.update(told)


class RudeCategoryError(Exception):
    @property
    def category(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("error", "category", "severity"),
    [
        (ValueError("timeout"), "validation", "medium"),
        (GatewayTimeoutError("x"), "timeout", "medium"),
        (EventTimeoutError("x"), "timeout", "medium"),
        (BrokenPipeError("x"), "network", "medium"),
        (PermissionError("x"), "auth", "high"),
        (FileNotFoundError("x"), "resource", "high"),
        (MemoryError(), "resource", "critical"),
        (PoisonedStepError("x"), "resource", "critical"),
        (BudgetExceededError("x"), "budget", "high"),
        (ApprovalRejectedError("x"), "rejected", "low"),
        (asyncio.CancelledError(), "cancelled", "low"),
        (RoutingError("x"), "validation", "medium"),
        (KeyError("validation failed"), "internal", "high"),
        (ToldError(), "internal", "high"),
        (CodedError("x"), "validation", "medium"),
        (StoreError("x"), "internal", "critical"),
    ],
)
def test_what_sort_of_failure_it_is_follows_from_its_class(error: BaseException, category: str, severity: str) -> None:
    """The nearest class that is known decides, never the words of the message."""
    failure = failure_of(error)
    assert (failure.category, failure.severity) == (category, severity)


def test_a_code_that_is_a_category_counts_first() -> None:
    """Who gives an exception a code of that name says what sort it is."""
    assert category_of("rate_limit", ("ValueError",)) == "rate_limit"
    assert Failure("slow", code="timeout").category == "timeout"


def test_an_exception_may_say_it_itself() -> None:
    """Its attributes `category` and `severity` win, where they are what they should be."""
    told = failure_of(ToldError(category="weather", severity="low"))
    assert (told.category, told.severity) == ("weather", "low")
    assert failure_of(ToldError(category="timeout")).severity == "medium"
    wrong = failure_of(ToldError(category=5, severity="dire"))
    assert (wrong.category, wrong.severity) == ("internal", "high")
    assert failure_of(ToldError(category="x" * 65)).category == "internal"
    assert failure_of(RudeCategoryError()).category == "internal"


def test_what_an_exception_says_of_itself_is_recorded() -> None:
    """The exception is gone after a restart; what it said is not. What follows from its class is not written down."""
    told = failure_of(ToldError(category="weather", severity="low"))
    assert unpack_failure(pack_failure(told)) == changed(told, exception=None)
    assert not {"category", "severity"} & pack_failure(failure_of(ValueError("x"))).keys()
    assert list(told.to_dict()) == ["stage", "agent", "position", "type", "code", "message", "attempts"]


def test_every_category_has_a_severity() -> None:
    """What an exception says of its category alone is of medium severity."""
    assert {severity_of(category, ()) for category in CATEGORIES} <= set(SEVERITIES)
    assert severity_of("weather", ()) == "medium"
