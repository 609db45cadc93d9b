"""A log line is one line, whatever is in it: JSON where that is asked for, and nothing that a terminal would obey for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentflow import Event, State
from agentflow.core.redaction import KNOWN
from agentflow.logs import StructuredLog
from tests.runner.conftest import MakeRunner

HOSTILE = [
    'a\r\n{"event": "forged"}',
    "\x1b[31mred\x1b[0m\x07",
    "\u202egnp.exe\u2066",
    "one\u2028two\u2029three\x85four\x0bfive\x0csix",
    "nul\x00 del\x7f csi\x9b31m",
    "\ud800 alone",
    "x" * 1_000_000,
]


class Unprintable:
    """Raises when it is printed, as a handler's object may."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def written(path: Path, style: str, *told: tuple[str, dict[str, Any]]) -> str:
    """Return what a log writes of these warnings."""
    log = StructuredLog("debug", style, path)
    for event, fields in told:
        log.warn(event, fields)
    log.close()
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_each_line_is_one_json_object_in_ascii(tmp_path: Path, text: str) -> None:
    """In event, key or value; what was written can be read back, and no reader takes it for two lines."""
    content = written(tmp_path / "log", "json", (text, {"field": text, text: [text]}))
    assert content.isascii()
    assert [True] == [line.isprintable() for line in content.splitlines()]
    told = json.loads(content)
    assert (text, text, [text]) == (told["event"], told["field"], told[text])


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_line_for_people_is_one_line_that_no_terminal_obeys(tmp_path: Path, text: str) -> None:
    """Control and bidi characters are escaped, a line end in a value is no line end of the log."""
    content = written(tmp_path / "log", "console", (text, {"field": text, text: [text]}))
    assert [True] == [line.isprintable() for line in content.splitlines()]


def test_what_cannot_be_json_is_text(tmp_path: Path) -> None:
    """Objects that cannot be printed, circles, keys that are no text and NaN never cost the line, or the run."""
    circle: list[object] = []
    circle.append(circle)
    odd: dict[Any, Any] = {"object": Unprintable(), "circle": circle, "table": {(1, 2): 3}, "nan": float("nan"), "number": 7}
    for style in ("json", "console"):
        content = written(tmp_path / style, style, ("odd", odd))
        assert 1 == len(content.splitlines())
        assert "whose text raises RuntimeError" in content
    told = json.loads((tmp_path / "json").read_text())
    assert (7, "nan") == (told["number"], told["nan"])


def test_a_traceback_has_no_locals_and_cannot_pass_for_another_line(tmp_path: Path) -> None:
    """In JSON it is one field; for people each of its lines is indented, also those of the exception's own text."""

    def fail() -> None:
        treasure = "gold-in-a-local"
        raise ValueError(f"two\n2026-01-01 [error] forged {len(treasure)}")

    for style in ("json", "console"):
        log = StructuredLog("debug", style, tmp_path / style)
        try:
            fail()
        except ValueError as error:
            log.warn("failed", {}, error)
        log.close()
        content = (tmp_path / style).read_text()
        assert "gold-in-a-local" not in content
        assert "in fail" in content
        assert 1 == len([line for line in content.splitlines() if not line.startswith("    ")])


async def test_a_handler_may_log_and_raise_what_it_likes(make_runner: MakeRunner, tmp_path: Path) -> None:
    """Every line of the log stays one JSON object, with the run's id on each."""
    logging = {"level": "debug", "format": "json", "file": str(tmp_path / "log")}

    async def hostile(event: Event, state: State, ctx: Any) -> None:
        for text in HOSTILE[:-1]:
            ctx.log.info(text, object=Unprintable(), text=text)
        raise ValueError(HOSTILE[0])

    async with make_runner({"mode": "sequential", "sequential_agents": ["a"]}, {"a": hostile}, logging=logging) as runner:
        result = await runner.run(Event("x"))
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {result.run_id} == {line["run_id"] for line in lines}
    assert HOSTILE[:-1] == [line["text"] for line in lines if "object" in line]


@pytest.mark.parametrize("secret", ["hunter2-canary", 'quo"te\\back\\', "slash/plus+eq=%&", "ключ-секрет-42", "x" * 40 + "yz"])
def test_no_line_has_a_secret_that_the_process_knows(tmp_path: Path, secret: str) -> None:
    """Not as it is, reversed, in hex, Base64 or URL encoding, and not in a key; the lines stay JSON."""
    import base64
    from urllib.parse import quote, quote_plus

    KNOWN.learn(secret)
    raw = secret.encode()
    forms = [secret, secret[::-1], raw.hex(), quote(raw, safe=""), quote_plus(raw), f"{secret!r}", json.dumps(secret)]
    forms += [base64.b64encode(b"-" * before + raw + b"-" * after).decode() for before in range(4) for after in range(4)]
    told = [(f"it is {form}!", {"field": f"<{form}>", form: [form], "nested": {"deep": form}}) for form in forms]
    for style in ("json", "console"):
        content = written(tmp_path / style, style, *told)
        assert len(forms) == len(content.splitlines())
        assert [] == [form for form in (secret, secret[::-1], raw.hex(), quote(raw, safe=""), json.dumps(secret)[1:-1]) if form in content]
        for before in range(3):
            encoded = base64.b64encode(b"-" * before + raw).decode()
            assert encoded[len(encoded) // 3 : -(len(encoded) // 3)] not in content
    assert len(forms) == len([json.loads(line) for line in (tmp_path / "json").read_text().splitlines()])


def test_what_is_no_secret_stays(tmp_path: Path) -> None:
    """A very short secret is not looked for: that would mask words that are none."""
    KNOWN.learn("tea")
    KNOWN.learn("much-longer-secret")
    assert "a tea for much-longer" == json.loads(written(tmp_path / "log", "json", ("a tea for much-longer", {})))["event"]


def test_of_very_many_secrets_the_last_ones_are_known(tmp_path: Path) -> None:
    """A token that changes every day costs no more after years; one that is read again and again stays known."""
    KNOWN.learn("the-lasting-secret")
    for number in range(300):
        KNOWN.learn(f"token-of-day-{number:04}")
        KNOWN.learn("the-lasting-secret")
    told = "the-lasting-secret token-of-day-0299 token-of-day-0210 token-of-day-0000"
    assert "*** *** *** token-of-day-0000" == json.loads(written(tmp_path / "log", "json", (told, {})))["event"]


def test_a_log_that_is_made_is_private(tmp_path: Path) -> None:
    """Only its owner may read it; one that is there already keeps the mode that somebody has given it."""
    (tmp_path / "shared").touch()
    (tmp_path / "shared").chmod(0o640)
    for name, mode in (("own", 0o600), ("shared", 0o640)):
        written(tmp_path / name, "json", ("one", {}))
        assert mode == (tmp_path / name).stat().st_mode & 0o777
