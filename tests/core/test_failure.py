"""Failures describe any exception, whatever that exception does when it is looked at."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentflow.core.failure import Failure, failure_of
from agentflow.errors import MergeError, RoutingError


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
