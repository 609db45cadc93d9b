"""A service that others reach: over TLS of its own, or behind a proxy; and what it keeps to itself (S3, S19, S30)."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path

import httpx2
import pytest

from agentflow.ingress.doors import MOST_CONNECTIONS
from agentflow.ingress.guards import Guard, Terms
from tests.ingress.conftest import TOKEN, Serve

CANARY = "canary-7f3a9b52c1"


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for the loopback, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl to make a certificate")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    made = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", str(key), "-out", str(cert), *subject]
    subprocess.run(made, check=True, capture_output=True)
    return cert, key


async def test_s3_a_service_speaks_tls_with_its_own_certificate(serve: Serve, certificate: tuple[Path, Path]) -> None:
    """Its origin is https then, plain HTTP gets nothing, and a large refusal is still read."""
    cert, key = certificate
    async with serve(serve={"tls_cert": str(cert), "tls_key": str(key)}) as it:
        assert it.http.url.startswith("https://127.0.0.1:")
        trusted = ssl.create_default_context(cafile=str(cert))
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        async with httpx2.AsyncClient(base_url=it.http.url, verify=trusted, headers=headers, trust_env=False) as client:
            assert 202 == (await client.post("/v1/events", json={}, headers={"Origin": it.http.url})).status_code
            assert 403 == (await client.post("/v1/events", json={}, headers={"Origin": f"http://{it.host}"})).status_code
            assert 413 == (await client.post("/v1/events", content=b"a" * (1024 * 1024 + 1))).status_code
        assert b"200" not in await it.raw(f"GET /livez HTTP/1.1\r\nHost: {it.host}\r\n\r\n".encode())


async def test_behind_a_proxy_the_last_forwarded_address_is_the_client(serve: Serve) -> None:
    """Only what the proxy itself has added counts, and its connections are not counted as one client's."""
    async with serve(serve={"behind_proxy": True, "allowed_hosts": ["agents.example.com"]}) as it:
        guard = Guard(_nobody, Terms(frozenset(), frozenset(), is_behind_proxy=True), it.http.tokens, str, float, it.service.runner.log)
        for told, client in ((b"6.6.6.6, 10.0.0.1", "10.0.0.1"), (b"", "9.9.9.9"), (b"x", "9.9.9.9"), (b"::1", "::1")):
            scope = {"headers": [(b"x-forwarded-for", told)], "client": ("9.9.9.9", 1)}
            assert client == guard._client_of(scope)
        origin = ("Origin", "https://agents.example.com")
        json = ("Content-Type", "application/json")
        assert 202 == (await it.ask("POST", "/v1/events", origin, json, body=b"{}", host="agents.example.com"))[0]
        held = [await asyncio.open_connection("127.0.0.1", it.port) for _ in range(MOST_CONNECTIONS + 10)]
        assert 200 == (await it.ask("GET", "/livez"))[0]
        for _, writer in held:
            writer.close()


async def test_without_a_proxy_nobody_is_believed_who_they_are(serve: Serve) -> None:
    """`X-Forwarded-For` from a client is ignored."""
    async with serve() as it:
        guard = Guard(_nobody, Terms(frozenset(), frozenset()), it.http.tokens, str, float, it.service.runner.log)
        assert "9.9.9.9" == guard._client_of({"headers": [(b"x-forwarded-for", b"1.1.1.1")], "client": ("9.9.9.9", 1)})


async def _nobody(scope: object, receive: object, send: object) -> None:
    raise AssertionError


async def test_s19_neither_token_nor_secrets_are_told(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    """Not by any address, not in the journal, not on the streams."""
    llm = {"provider": "ollama", "model": "m", "base_url": f"http://user:{CANARY}@127.0.0.1:1"}
    async with serve(llm=llm) as it:
        run_id = (await it.client.post("/v1/events?wait=5s", json={"data": {"name": "x"}})).json()["run_id"]
        paths = [
            "/v1/config",
            "/v1/agents",
            "/v1/metrics",
            "/metrics",
            "/openapi.json",
            "/v1/runs",
            f"/v1/runs/{run_id}",
            f"/v1/runs/{run_id}/events",
        ]
        for path in paths:
            answer = await it.client.get(path)
            assert 200 == answer.status_code
            assert CANARY not in answer.text
            assert TOKEN not in answer.text
            assert TOKEN not in str(answer.headers)
    for file in it.folder.glob("journal.db*"):
        assert not any(word.encode() in file.read_bytes() for word in (TOKEN, CANARY))
    printed = capfd.readouterr()
    assert not any(word in text for word in (TOKEN, CANARY) for text in printed)
