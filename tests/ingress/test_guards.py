"""The guard: who gets in, and what is refused before it is read (S4-S9, S11, S20, S25, S26, S28)."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentflow.ingress.guards import MOST_BODY_BYTES, MOST_HEADER_BYTES, MOST_URL_BYTES
from agentflow.ingress.http import routed
from agentflow.ingress.limiter import BURST, FailureLimiter
from tests.ingress.conftest import TOKEN, Serve, Served, parsed

JSON = ("Content-Type", "application/json")
POST = ("POST", "/v1/events")


def is_problem(headers: dict[str, str], body: bytes) -> bool:
    """Say whether an answer is a problem with a code and an id, and nothing of our inside."""
    told = json.loads(body)
    shown = body.decode()
    is_bare = not re.search(r"Traceback|\.py\b|/tmp/|/root/|/home/|sqlite|SELECT |agentflow\.[a-z]+\.", shown)
    return headers["content-type"] == "application/problem+json" and told["code"] and told["id"] and is_bare


WRONG = [
    (),
    (("Authorization", ""),),
    (("Authorization", "Bearer"),),
    (("Authorization", "Bearer "),),
    (("Authorization", f"Basic {TOKEN}"),),
    (("Authorization", TOKEN),),
    (("Authorization", f"Bearer {TOKEN[:-1]}"),),
    (("Authorization", f"Bearer {TOKEN}x"),),
    (("Authorization", f"Bearer {TOKEN.upper()}"),),
    (("Authorization", "Bearer \xe9\xff"),),
    (("Authorization", f"Bearer {TOKEN}"), ("Authorization", f"Bearer {TOKEN}")),
    (("Authorization", "Bearer None"),),
    (("Cookie", f"token={TOKEN}"),),
    (("X-Api-Key", TOKEN),),
    (("Authorization", "Bearer " + "a" * 8000),),
]


async def test_s4_only_the_token_itself_lets_in(serve: Serve) -> None:
    """Whatever else is sent, in whatever form: 401, and never a fault."""
    async with serve() as it:
        for sent in WRONG:
            for method, path in (("GET", "/v1/runs"), POST):
                status, headers, body = await it.ask(method, path, JSON, *sent, token=None)
                assert (401, "Bearer", sent) == (status, headers["www-authenticate"], sent)
                assert is_problem(headers, body)


async def test_s4_a_token_in_the_query_counts_for_nothing(serve: Serve) -> None:
    """Addresses are written into logs."""
    async with serve() as it:
        for name in ("token", "access_token", "authorization", "api_key"):
            assert 401 == (await it.ask("GET", f"/v1/runs?{name}={TOKEN}", token=None))[0]


@pytest.mark.parametrize("value", [b"Bearer \x00", b"Bearer a\x00b", b"Bearer \r\n x", b"Bearer \x7f", b"Bearer " + b"a" * 1_000_000])
async def test_s4_what_is_no_header_is_refused_before_anybody_looks_at_it(serve: Serve, value: bytes) -> None:
    """NUL, a folded line, a megabyte: 400, 401 or 431 with a problem, and the service goes on."""
    async with serve() as it:
        request = b"GET /v1/runs HTTP/1.1\r\nHost: " + it.host.encode() + b"\r\nConnection: close\r\nAuthorization: " + value + b"\r\n\r\n"
        status, headers, body = parsed(await it.raw(request))
        assert status in (400, 401, 431)
        assert is_problem(headers, body)
        assert 200 == (await it.client.get("/v1/runs")).status_code


def inventory(it: Served) -> Iterator[tuple[str, str]]:
    """Yield every address of the service, and many beside them, with every method."""
    router = routed(it.service, it.http.streams)
    paths = [route.path for route in _routes(router)]
    known = [path.replace("{run_id}", "run-1") for path in paths if path not in ("/livez", "/readyz")]
    beside = [
        "/",
        "//",
        "/docs",
        "/redoc",
        "/static/x",
        "/metrics/",
        "/favicon.ico",
        "/v1",
        "/v1/",
        "/v1/health",
        "/v1/events/stream",
        "/ws",
    ]
    tricks = [
        "/livez/",
        "//livez",
        "/livez;x",
        "/LIVEZ",
        "/%6civez",
        "/livez%2f",
        "/x/livez",
        "/v1/runs/health",
        "/livez%00",
        "/livez/../v1/runs",
    ]
    tricks += ["/v1/runs%3flivez", "/v1/runs;/livez", "/v1/runs/%2e%2e/livez", "/./livez", "/readyz.json", "/v1/runs#/livez", "*"]
    for path in (*known, *beside, *tricks):
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO"):
            yield method, path
    for path in ("/livez", "/readyz"):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            yield method, path


def _routes(app: object) -> list[object]:
    return next(cell.cell_contents for cell in app.__closure__).routes  # type: ignore[attr-defined]


async def test_s5_nothing_is_answered_without_the_token(serve: Serve) -> None:
    """Every address with every method, known or not, is refused: 401, or 400 where it is no address at all."""
    async with serve() as it:
        asked = list(inventory(it))
        answers = [await it.ask(method, path, token=None) for method, path in asked]
        statuses = [status for status, _, _ in answers]
        odd = [(one, status) for one, status in zip(asked, statuses, strict=True) if status not in (400, 401)]
        assert [] == odd
        assert statuses.count(401) > 300


async def test_s5_no_upgrade_gets_past_the_token(serve: Serve) -> None:
    """A websocket is asked for like anything else."""
    async with serve() as it:
        upgrade = [("Upgrade", "websocket"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), ("Sec-WebSocket-Version", "13")]
        lines = "".join(f"{name}: {value}\r\n" for name, value in upgrade)
        request = f"GET /v1/runs HTTP/1.1\r\nHost: {it.host}\r\nConnection: Upgrade\r\n{lines}\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
        writer.write(request.encode())
        assert b" 401 " in await reader.readline()
        writer.close()


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_s5_liveness_and_readiness_are_open_and_say_nothing(serve: Serve, path: str) -> None:
    """A prober has no token, and learns one word."""
    async with serve() as it:
        status, _, body = await it.ask("GET", path, token=None)
        assert (200, {"status": "ok"}) == (status, json.loads(body))
        assert 200 == (await it.ask("HEAD", path, token=None))[0]


async def test_s6_reads_need_the_token_on_the_loopback_too(serve: Serve) -> None:
    """Other users of this machine reach its loopback."""
    async with serve() as it:
        for path in ("/v1/runs", "/v1/config", "/v1/metrics", "/metrics", "/openapi.json"):
            assert [401, 200] == [(await it.ask("GET", path, token=token))[0] for token in (None, TOKEN)]


BAD_HOSTS = [
    *("evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost", "127.0.0.1:{port}.evil.example", "127.0.0.1:{port}/"),
    *("127.0.0.1:{port}?", "127.0.0.1:{port}#", "127.0.0.1:{port}@evil", "x@127.0.0.1:{port}", "127.0.0.1:{port}\\evil", ""),
    *(
        "127.0.0.1:{port},evil",
        "127.0.0.1:{port} evil",
        "127.0.0.1:{port}\tevil",
        "127.1:{port}",
        "0.0.0.0:{port}",
        "[::ffff:127.0.0.1]:{port}",
    ),
    *("127.0.0.1:0{port}", "localhost.:{port}", "*", "127.0.0.1:{port}/../livez"),
]


async def test_s7_a_host_that_is_not_exactly_ours_is_refused(serve: Serve) -> None:
    """With the token and without, also for what is open: 400 before anything is routed."""
    async with serve() as it:
        for host in BAD_HOSTS:
            for path in ("/v1/runs", "/livez"):
                status, headers, body = await it.ask("GET", path, host=host.format(port=it.port))
                assert (400, host) == (status, host)
                assert is_problem(headers, body)


async def test_s7_missing_and_double_hosts_are_refused(serve: Serve) -> None:
    """None, two, or one in the address itself."""
    async with serve() as it:
        host, auth = f"Host: {it.host}\r\n", f"Authorization: Bearer {TOKEN}\r\nConnection: close\r\n"
        for head in ("GET /livez HTTP/1.1\r\n", "GET /livez HTTP/1.0\r\n", f"GET /livez HTTP/1.1\r\n{host}{host}"):
            assert 400 == parsed(await it.raw(f"{head}{auth}\r\n".encode()))[0]
        for target in (f"http://{it.host}/v1/runs", "http://evil.example/livez", "evil.example:80"):
            status, _, _ = parsed(await it.raw(f"GET {target} HTTP/1.1\r\n{host}{auth}\r\n".encode()))
            assert status in (400, 404)


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LocalHost:{port}", "[::1]:{port}", "agents.example.com"])
async def test_s7_our_own_names_are_answered(serve: Serve, host: str) -> None:
    """The loopback's names with the port, and what is allowed besides."""
    async with serve(serve={"allowed_hosts": ["agents.example.com"]}) as it:
        assert 200 == (await it.ask("GET", "/v1/runs", host=host.format(port=it.port)))[0]


FOREIGN = [
    (("Origin", "https://evil.example"),),
    (("Origin", "null"),),
    (("Origin", ""),),
    (("Origin", "http://127.0.0.1:{port}.evil.example"),),
    (("Origin", "http://127.0.0.1"),),
    (("Origin", "https://127.0.0.1:{port}"),),
    (("Origin", "http://127.0.0.1:{port}"), ("Origin", "https://evil.example")),
    (("Sec-Fetch-Site", "cross-site"),),
    (("Sec-Fetch-Site", "same-site"),),
    (("Sec-Fetch-Site", "x"),),
    (("Origin", "http://127.0.0.1:{port}"), ("Sec-Fetch-Site", "cross-site")),
]


async def test_s8_another_sites_page_changes_nothing(serve: Serve) -> None:
    """Even with the token: 403, and no event."""
    async with serve() as it:
        for headers in FOREIGN:
            sent = [(name, value.format(port=it.port)) for name, value in headers]
            status, told, body = await it.ask(*POST, JSON, *sent, body=b"{}")
            assert (403, "AF0812", headers) == (status, json.loads(body)["code"], headers)
            assert is_problem(told, body)
        assert [] == (await it.client.get("/v1/runs")).json()


async def test_s8_our_own_page_and_programs_may_change_things(serve: Serve) -> None:
    """Same origin, an allowed origin, or none at all."""
    async with serve(serve={"allowed_origins": ["https://agents.example.com"]}) as it:
        own = ("Origin", f"http://{it.host}")
        for headers in ((), (own,), (own, ("Sec-Fetch-Site", "same-origin")), (("Origin", "https://agents.example.com"),)):
            assert 202 == (await it.ask(*POST, JSON, *headers, body=b"{}"))[0]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "application/jsonx"]
)
async def test_s8_a_body_that_is_not_declared_as_json_is_refused(serve: Serve, kind: str) -> None:
    """What a form of a browser can send is not read."""
    async with serve() as it:
        for headers in ([("Content-Type", kind)], [JSON, ("Content-Type", kind)], []):
            status, told, body = await it.ask(*POST, *headers, body=b"{}")
            assert 415 == status
            assert is_problem(told, body)


async def test_s9_every_answer_has_the_headers_that_bind_a_browser(serve: Serve) -> None:
    """Also refusals, and what is no HTTP; and none of them opens anything to other sites."""
    async with serve() as it:
        answers = [await it.ask("GET", path, token=token) for path in ("/v1/runs", "/livez", "/nothing") for token in (None, TOKEN)]
        answers.append(parsed(await it.raw(b"hello\r\n\r\n")))
        for _, headers, _ in answers:
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert ("nosniff", "no-referrer") == (headers["x-content-type-options"], headers["referrer-policy"])
            assert ("same-origin", "same-origin") == (headers["cross-origin-opener-policy"], headers["cross-origin-resource-policy"])
            assert not [name for name in headers if name.startswith("access-control-")]
            assert "server" not in headers


def _padded(size: int) -> bytes:
    frame = b'{"data":{"x":""}}'
    return frame.replace(b'""', b'"' + b"a" * (size - len(frame)) + b'"')


async def test_s11_a_body_is_taken_up_to_the_limit_and_not_a_byte_more(serve: Serve) -> None:
    """1 MiB with a length that says so, and in pieces that do not."""
    async with serve() as it:
        assert 202 == (await it.ask(*POST, JSON, body=_padded(MOST_BODY_BYTES)))[0]
        assert 413 == (await it.ask(*POST, JSON, body=_padded(MOST_BODY_BYTES + 1)))[0]

        async def pieces() -> object:
            for _ in range(20):
                yield b"a" * 65_536

        answer = await it.client.post("/v1/events", content=pieces(), headers={"Content-Type": "application/json"})
        assert 413 == answer.status_code
        assert 200 == (await it.client.get("/readyz")).status_code


async def test_s11_a_body_that_claims_to_be_huge_is_not_waited_for(serve: Serve) -> None:
    """The length is enough to refuse it."""
    async with serve() as it:
        head = f"POST /v1/events HTTP/1.1\r\nHost: {it.host}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
        status, headers, _ = parsed(await it.raw(f"{head}Content-Length: 99999999999\r\n\r\n".encode()))
        assert (413, "close") == (status, headers["connection"])


async def test_s11_addresses_and_headers_are_bounded(serve: Serve) -> None:
    """One byte over the limit is refused; the limit itself is not."""
    async with serve() as it:
        path = "/v1/runs?session="
        assert 200 == (await it.ask("GET", path + "a" * (MOST_URL_BYTES - len(path))))[0]
        assert 414 == (await it.ask("GET", path + "a" * (MOST_URL_BYTES - len(path) + 2)))[0]
        assert 200 == (await it.ask("GET", "/v1/runs", ("X-Long", "a" * (MOST_HEADER_BYTES - 500))))[0]
        assert 431 == (await it.ask("GET", "/v1/runs", ("X-Long", "a" * MOST_HEADER_BYTES)))[0]


BODIES = [
    (b'{"data":' + b'{"a":' * 62 + b"1" + b"}" * 62 + b"}", 202),
    (b'{"data":' + b'{"a":' * 70 + b"1" + b"}" * 70 + b"}", 422),
    (b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
    (b"[" * 500_000, 400),
    (b'{"data":{"a":[' + b"1," * 99_000 + b"1]}}", 202),
    (b'{"data":{"a":[' + b"1," * 110_000 + b"1]}}", 422),
    (b'{"data":{"' + b"k" * 256 + b'":1}}', 202),
    (b'{"data":{"' + b"k" * 257 + b'":1}}', 422),
    (b'{"data":{"a":9223372036854775807}}', 202),
    (b'{"data":{"a":9223372036854775808}}', 422),
    (b'{"data":{"a":' + b"9" * 5000 + b"}}", 400),
    (b'{"data":{"a":NaN}}', 400),
    (b'{"data":{"a":Infinity}}', 400),
    (b'{"data":{"a":-Infinity}}', 400),
    (b'{"data":{"a":1e999}}', 422),
    (b'{"data":{"a":1,"a":2}}', 400),
    (b'{"id":"x","id":"y"}', 400),
    (b'{"data":{"a":"\\ud800"}}', 422),
    (b'{"data":{"\\ud800":1}}', 422),
    (b'{"target":"\\udfff"}', 422),
    (b'{"\\ud800":1}', 422),
    (b'{"data":{"a":"\xff"}}', 400),
    (b"\xef\xbb\xbf{}", 400),
    (b"{}x", 400),
    (b"[]", 400),
    (b"null", 400),
    (b"{", 400),
    (b"{'a':1}", 400),
    (b'{"data":{"a":01}}', 400),
    (b'{"data":{"a":"\x01"}}', 400),
]


async def test_s11_json_has_no_loose_ends(serve: Serve) -> None:
    """Depth, values, keys, numbers, twins and surrogates: what is over a limit is a 4xx with a problem, at the limit it is taken."""
    async with serve() as it:
        for body, status in BODIES:
            found, headers, answer = await it.ask(*POST, JSON, body=body)
            assert (status, body[:60]) == (found, body[:60])
            assert found == 202 or is_problem(headers, answer)


async def test_s11_one_client_has_a_hundred_connections(serve: Serve) -> None:
    """The next one is told so, and those it has go on."""
    async with serve() as it:
        held = [await asyncio.open_connection("127.0.0.1", it.port) for _ in range(100)]
        status, headers, body = parsed(await it.raw(b""))
        assert 429 == status
        assert is_problem(headers, body)
        reader, writer = held[0]
        writer.write(f"GET /livez HTTP/1.1\r\nHost: {it.host}\r\n\r\n".encode())
        assert b" 200 " in await reader.readline()
        for _, writer in held:
            writer.close()
        async with asyncio.timeout(5):
            while (await it.ask("GET", "/livez"))[0] != 200:
                await asyncio.sleep(0.01)


async def test_s11_a_head_that_does_not_end_ends_the_connection(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps nothing open."""
    monkeypatch.setattr("agentflow.ingress.doors.HEAD_S", 0.05)
    async with serve() as it:
        reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
        writer.write(b"GET /livez HTTP/1.1\r\nX-Slow: ")
        async with asyncio.timeout(5):
            assert b"" == await _rest(reader)
        writer.close()


async def test_s11_a_body_that_does_not_end_is_not_waited_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """408, and the connection ends."""
    monkeypatch.setattr("agentflow.ingress.guards.BODY_S", 0.05)
    async with serve() as it:
        head = f"POST /v1/events HTTP/1.1\r\nHost: {it.host}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
        status, headers, body = parsed(await it.raw(f"{head}Content-Length: 10\r\n\r\n{{".encode()))
        assert 408 == status
        assert is_problem(headers, body)


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


_HIDDEN = b"GET /v1/runs HTTP/1.1\r\nHost: h\r\nAuthorization: T\r\n\r\n"
UNCLEAN = [
    b"hello\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"POST /v1/events HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/events HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + _HIDDEN,
    b"POST /v1/events HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n",
    b"POST /v1/events HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nAuthorization: T\r\n\r\nzz\r\n",
    b"GET /livez HTTP/1.1\nHost : h\n\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


async def test_what_is_no_clean_request_is_refused_and_nothing_behind_it_is_answered(serve: Serve) -> None:
    """Smuggled lengths, bad chunks, other protocols: one refusal, and the connection ends."""
    async with serve() as it:
        for request in UNCLEAN:
            said = request.replace(b"Host: h", b"Host: " + it.host.encode()).replace(b": T", b": Bearer " + TOKEN.encode())
            answer = await it.raw(said)
            assert (1, request) == (answer.count(b"HTTP/1.1 "), request)
            status, headers, body = parsed(answer)
            assert 400 <= status < 500
            assert is_problem(headers, body)


async def test_s20_a_fault_of_ours_is_told_by_a_code_and_an_id(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client learns nothing of our inside; the log has it, under the same id."""
    logged: list[tuple[str, dict[str, object]]] = []
    async with serve() as it:
        monkeypatch.setattr(
            it.service.runner.log, "warn", lambda event, fields, error=None: logged.append((event, {**fields, "error": error}))
        )
        monkeypatch.setattr(it.service.runner, "runs", _fault)
        status, headers, body = await it.ask("GET", "/v1/runs", ("X-Request-ID", "my-1"))
        told = json.loads(body)
        assert (500, "AF0822", "my-1", "my-1") == (status, told["code"], told["id"], headers["x-request-id"])
        assert is_problem(headers, body)
        assert "secret" not in body.decode()
        ((event, fields),) = logged
        assert ("request_failed", "my-1", "secret /etc/x") == (event, fields["request_id"], str(fields["error"]))


async def _fault(**asked: object) -> None:
    raise ValueError("secret /etc/x")


@pytest.mark.parametrize("given", ["a b", "x" * 65, "ä", "a\tb", "../x"])
async def test_a_request_id_that_could_spoil_a_log_is_replaced(serve: Serve, given: str) -> None:
    """An id from outside is taken only where it is a word."""
    async with serve() as it:
        assert (await it.ask("GET", "/livez", ("X-Request-ID", given)))[1]["x-request-id"].startswith("req-")


async def test_s25_wrong_tokens_are_answered_at_the_least_cost_after_a_while(serve: Serve) -> None:
    """A client that only guesses gets 429; the right token from the same address is let in all the same."""
    async with serve() as it:
        limiter = FailureLimiter(lambda: 0.0)
        assert [False] * int(BURST) + [True] == [limiter.is_over("x") for _ in range(int(BURST) + 1)]
        assert not limiter.is_over("y")
        guesses = f"GET /v1/runs HTTP/1.1\r\nHost: {it.host}\r\nAuthorization: Bearer wrong\r\n\r\n".encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
        statuses = set()
        for _ in range(3 * int(BURST)):
            writer.write(guesses)
            head = await reader.readuntil(b"\r\n\r\n")
            statuses.add(int(head.split()[1]))
            length = re.search(rb"content-length: (\d+)", head)
            assert length is not None
            await reader.readexactly(int(length[1]))
            if 429 in statuses:
                break
        writer.close()
        assert {401, 429} == statuses
        assert 200 == (await it.client.get("/v1/runs")).status_code


async def test_s26_a_token_is_replaced_without_a_restart(serve: Serve) -> None:
    """Within a second the new one lets in and the old one does not; what was let in before can be told to end."""
    async with serve() as it:
        new = "f" * 40
        file = it.folder / "token"
        generation = it.http.tokens.generation
        assert it.http.tokens.is_current(generation)
        _replace(file, new)
        async with asyncio.timeout(1.0):
            while (await it.ask("GET", "/v1/runs", token=new))[0] != 200:
                await asyncio.sleep(0.05)
        assert 401 == (await it.ask("GET", "/v1/runs"))[0]
        assert not it.http.tokens.is_current(generation)


@pytest.mark.parametrize("text", ["", "short", "two words that are long enough", "\n\n"])
async def test_s26_s30_without_a_token_that_can_be_used_nobody_gets_in(serve: Serve, text: str) -> None:
    """A file that was emptied or spoilt closes the service, and opens it again when it is mended."""
    async with serve() as it:
        _replace(it.folder / "token", text)
        async with asyncio.timeout(2.0):
            while (await it.ask("GET", "/v1/runs"))[0] != 401:
                await asyncio.sleep(0.05)
        for token in (TOKEN, text.strip() or "x", ""):
            assert 401 == (await it.ask("GET", "/v1/runs", token=token))[0]
        _replace(it.folder / "token", TOKEN)
        async with asyncio.timeout(2.0):
            while (await it.ask("GET", "/v1/runs"))[0] != 200:
                await asyncio.sleep(0.05)


def _replace(file: Path, text: str) -> None:
    beside = file.with_suffix(".new")
    beside.write_text(text)
    beside.chmod(0o600)
    beside.rename(file)
