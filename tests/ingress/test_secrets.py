"""Secrets that the process was given by reference stand in nothing that it writes, whatever handlers do with them."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from agentflow import Hook
from agentflow.cli import main
from agentflow.config.references import SecretReference
from tests.ingress.conftest import TOKEN, Serve

COUNT = 30
CANARIES = [f"canary-{number:02}-{number * 7919:08x}/+=ü" for number in range(COUNT)]


def forms(secret: str) -> list[str]:
    """Return a secret as a careless handler may tell it."""
    raw = secret.encode()
    return [secret, secret[::-1], raw.hex(), base64.b64encode(raw).decode(), quote(raw, safe=""), json.dumps(secret), f"Bearer {secret}"]


def leaks(text: str) -> list[str]:
    """Return which canaries stand in a text, and in what form."""
    found = {part for part in text.split() if "canary" in part or "yranac" in part or "63616e617279" in part.lower()}
    for secret in [*CANARIES, TOKEN]:
        encoded = base64.b64encode(secret.encode()).decode()
        found |= {form for form in (secret, secret[::-1], encoded[:-4], json.dumps(secret)[1:-1]) if form in text}
    return sorted(found)


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty secrets, in the environment and in files, each read as whatever needs one reads it."""
    for number, secret in enumerate(CANARIES):
        if number % 2:
            monkeypatch.setenv(f"GIVEN_{number}", secret)
            reference = SecretReference(env=f"GIVEN_{number}")
        else:
            (tmp_path / f"given-{number}").write_text(secret + "\n", encoding="utf-8")
            reference = SecretReference(file=f"given-{number}")
        assert secret == reference.resolved(tmp_path)
        assert secret not in repr(reference)


def handlers() -> dict[str, Callable[..., Any]]:
    """Return handlers that tell all secrets: to the log, by what they raise, by what they hang on."""
    told = [form for secret in CANARIES for form in forms(secret)]

    async def raising(event: Any, state: Any, ctx: Any) -> None:
        local = list(told)
        for form in local:
            ctx.log.warning(f"login with {form}", password=form, tried=[form])
        raise ConnectionError(f"refused: {' '.join(local)}")

    async def naming(event: Any, state: Any) -> None:
        raise type("Odd", (Exception,), {"code": CANARIES[0], "category": CANARIES[1]})(told[event.data["n"] % len(told)])

    async def chained(event: Any, state: Any) -> None:
        try:
            raise ValueError(" ".join(told[:20]))  # noqa: TRY301 - it is there to be chained
        except ValueError as error:
            raise RuntimeError(" ".join(told[20:40])) from error

    async def slow(event: Any, state: Any) -> None:
        await asyncio.sleep(30)

    return {"raising": raising, "naming": naming, "chained": chained, "slow": slow}


async def test_no_secret_stands_in_what_the_service_writes(
    given: None, serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Thirty canaries, told by handlers in every form: none is in the journal, the log, an answer, a stream or on the terminal."""
    tables = {
        "orchestration": {"mode": "route"},
        "agents": {"slow": {"timeout_seconds": 0.05}, "raising": {"retry": {"max_retries": 1, "initial_delay_seconds": 0.001}}},
        "logging": {"level": "debug", "format": "json", "file": str(tmp_path / "log")},
        "runner": {"drain_timeout_seconds": 0.2, "cancel_grace_seconds": 0.05},
    }
    answers: list[str] = []
    async with serve(handlers(), **tables) as served:

        @served.service.runner.on(Hook.AFTER_AGENT_RUN)
        async def fail(args: Any) -> None:
            raise ValueError(CANARIES[3])

        for target in ("raising", "naming", "chained", "slow", "nobody"):
            answer = await served.client.post("/v1/events?wait=10s", json={"target": target, "data": {"n": 1}})
            answers.append(answer.text)
        for run in (await served.client.get("/v1/runs")).json():
            address = f"/v1/runs/{run['run_id']}"
            answers += [(await served.client.get(f"{address}{path}")).text for path in ("", "/events", "/diagram")]
            async with served.client.stream("GET", f"{address}/events", headers={"Accept": "text/event-stream"}) as stream:
                answers += [line async for line in stream.aiter_lines()]
        for path in ("/v1/runs", "/v1/config", "/v1/agents", "/v1/dead-letters", "/v1/metrics", "/metrics", "/readyz", "/openapi.json"):
            answers.append((await served.client.get(path)).text)
        answers.append((await served.client.get("/v1/runs", headers={"Authorization": f"Bearer {CANARIES[0].encode()!r}"})).text)
    assert len([text for text in answers if "***" in text]) > 10
    assert [] == leaks("\n".join(answers))
    log = (tmp_path / "log").read_text(encoding="utf-8")
    assert log.count("***") > COUNT
    assert [] == leaks(log)
    assert [] == leaks("\n".join(str(json.loads(line)) for line in log.splitlines()))
    stored = _stored(tmp_path)
    assert "***" in stored
    assert [] == leaks(stored)
    capsys.readouterr()
    journal = str(tmp_path / "journal.db")
    for words in (["runs", "list"], ["dead-letters", "list"], ["doctor"], ["status"], ["stats"], ["runs", "verify"]):
        await asyncio.to_thread(main, [*words, "--journal", journal])
    streams = capsys.readouterr()
    assert [] == leaks(streams.out + streams.err)


def _stored(folder: Path) -> str:
    """Return all bytes of the journal, as text as far as they are."""
    return b"".join(path.read_bytes() for path in folder.glob("journal.db*") if path.is_file()).decode("utf-8", "replace")


def test_what_a_command_says_on_stderr_has_no_secret(given: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even with `--debug`, which shows the traceback: it has the exception's text, and no locals."""
    source = f"treasure = {CANARIES[2]!r}\ndef register(runner):\n    hidden = {CANARIES[4]!r}\n"
    source += "    raise ValueError('cannot log in: ' + treasure)\n"
    (tmp_path / "handlers.py").write_text(source, encoding="utf-8")
    config = tmp_path / "agentflow.toml"
    config.write_text(
        '[agent_flow]\nentrypoint = "handlers:register"\n[orchestration]\nmode = "route"\ndefault_agent = "a"\n[agents.a]\n',
        encoding="utf-8",
    )
    assert 2 == main(["run", str(config), "--debug"])
    streams = capsys.readouterr()
    assert "cannot log in: ***" in streams.err
    assert [] == leaks(streams.out + streams.err)
