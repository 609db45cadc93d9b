"""`agentflow emit`: one event to a service that runs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from agentflow.cli import main
from tests.ingress.brokers import MOSQUITTO, free_port
from tests.ingress.conftest import TOKEN

needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


async def run(*words: str) -> int:
    """Run a command beside the service."""
    return await asyncio.to_thread(main, list(words))


async def fail(event: Any, state: Any) -> None:
    """Fail."""
    raise ValueError("no")


async def test_an_event_is_sent_over_http_with_the_token_of_a_file(serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """It exits 0 once the event is recorded; the same id again is the same run; with --wait the result is printed."""
    async with serve() as here:
        words = ("emit", "--url", here.http.url, "--token-file", str(here.folder / "token"), "--id", "e-1", "--set", "name=you")
        assert 0 == await run(*words)
        first = json.loads(capsys.readouterr().out)
        assert ("e-1", False) == (first["event_id"], first["duplicate"])
        assert 0 == await run(*words, "--wait", "5")
        result = json.loads(capsys.readouterr().out)
        assert (first["run_id"], "hello you") == (result["run_id"], result["state"]["data"]["greeting"])


async def test_the_exit_code_is_that_of_the_result(serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Who waits is told by the exit code how the run ended."""
    async with serve({"fail": fail}) as here:
        assert 1 == await run("emit", "--url", here.http.url, "--token-file", str(here.folder / "token"), "--wait", "20")
        assert "failed" == json.loads(capsys.readouterr().out)["status"]


async def test_what_the_service_refuses_exits_2_with_its_words(serve: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A wrong token, another event under a known id and a forbidden key are told as the service tells them; no token is shown."""
    wrong = tmp_path / "wrong"
    wrong.write_text("f" * 32)
    async with serve() as here:
        url, right = ("--url", here.http.url), ("--token-file", str(here.folder / "token"))
        assert 2 == await run("emit", *url, "--token-file", str(wrong))
        assert "AF0810" in capsys.readouterr().err
        assert 0 == await run("emit", *url, *right, "--id", "e-1")
        assert 2 == await run("emit", *url, *right, "--id", "e-1", "--set", "n=1")
        assert "AF0708" in (said := capsys.readouterr()).err
        assert TOKEN not in said.err + said.out


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://example.com", "plain text"),
        ("ftp://x", "no address"),
        ("http://me@localhost", "no address"),
        ("http://127.0.0.1:1", "nobody"),
    ],
)
async def test_a_token_goes_nowhere_unprotected(url: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Plain HTTP is for this machine alone; where nobody listens that is said."""
    token = tmp_path / "token"
    token.write_text(TOKEN)
    assert 2 == await run("emit", "--url", url, "--token-file", str(token))
    assert told in capsys.readouterr().err


def described(folder: Path, port: int) -> str:
    """Write a configuration with a broker, and return its name."""
    file = folder / "emit.toml"
    file.write_text(f'[agents.echo]\n[mqtt]\nurl = "mqtt://127.0.0.1:{port}"\ntopics = {{ "in/+" = "echo" }}\n')
    return str(file)


@needs_broker
async def test_an_event_is_sent_by_mqtt(broker: Any, listen: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It exits 0 once the broker has it; with --wait the result comes back; the same id again has the same result."""
    file = described(tmp_path, broker.port)
    async with listen() as here:
        assert 0 == await run("emit", file, "--topic", "in/1", "--id", "e-1", "--set", "n=1", "--meta", "who=me")
        assert {"event_id": "e-1", "topic": "in/1"} == json.loads(capsys.readouterr().out)
        (row,) = await here.ended()
        assert {"mqtt_topic": "in/1", "who": "me"} == (await here.runner.get(row.run_id)).state["meta"]
        for _ in range(2):
            assert 0 == await run("emit", file, "--topic", "in/1", "--wait", "10", "--set", "n=2", "--session", "s", "--id", "e-2")
        assert 0 == await run("emit", file, "--topic", "in/1", "--wait", "10", "--set", "n=2", "--session", "s")
        assert {"n": 2} == json.loads(capsys.readouterr().out.split("\n}\n")[-2] + "}")["state"]["data"]["got"]


@needs_broker
async def test_a_result_that_does_not_come_is_no_success(broker: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without anybody who listens it exits 2, and says under which id to send it again."""
    file = described(tmp_path, broker.port)
    assert 2 == await run("emit", file, "--topic", "in/1", "--wait", "0.3", "--id", "e-9")
    assert "--id e-9" in capsys.readouterr().err
    assert 2 == await run("emit", described(tmp_path, free_port()), "--topic", "in/1")
    assert 2 == await run("emit", file, "--topic", "in/+")
    assert 2 == await run("emit", file, "--topic", "in/1", "--target", "echo")
