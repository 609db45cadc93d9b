"""`agentflow serve` as a process: where it listens, what it needs, and how it ends (S3, S4, S6, S22, S30, G15, G26)."""

from __future__ import annotations

import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import httpx2
import pytest

from agentflow import Runner
from agentflow.cli.run import runner_of
from agentflow.config.load import read
from agentflow.errors import EntrypointError
from agentflow.ingress.http import Setup
from agentflow.ingress.service import Service, ServiceError
from agentflow.ingress.tokens import TokenError, prepared
from agentflow.ingress.tokens import read as read_token
from agentflow.system import SystemClock
from tests.ingress.conftest import Serve, configured, greet
from tests.ingress.process import WAIT_S, command, project, serving

EVERYWHERE = ["0.0.0.0", "::", "192.0.2.1", "::ffff:127.0.0.1", "::ffff:0.0.0.0", "agents.example.com", "localhost.example.com", "0"]


def setup_of(folder: Path, **serve: object) -> Setup:
    """Return how a configuration would be served."""
    return Setup(Runner.from_dict(configured(folder, {"greet": greet}, serve=serve), environ={}).project)


@pytest.mark.parametrize("host", EVERYWHERE)
def test_s3_an_address_that_others_reach_needs_a_token_and_tls_or_a_proxy(tmp_path: Path, host: str) -> None:
    """Without one of them the service does not start; with both it does. A name counts as one that others reach."""
    config = configured(tmp_path, {"greet": greet}, serve={"host": host, "behind_proxy": True})
    del config["serve"]["token_file"]
    with pytest.raises(ServiceError, match="no token is configured"):
        Setup(Runner.from_dict(config, environ={}).project)
    with pytest.raises(ServiceError, match="in plain text"):
        setup_of(tmp_path, host=host)
    assert setup_of(tmp_path, host=host, behind_proxy=True).config.host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_s3_the_loopback_needs_neither(tmp_path: Path, host: str) -> None:
    """Only this machine reaches it."""
    assert setup_of(tmp_path, host=host).config.host == host


@pytest.mark.parametrize("host", ["unix:/tmp/x", "/tmp/x.sock", "", "http://x", "a b", "fe80::1%eth0", "x" * 300, "-x"])
def test_s3_what_is_no_address_is_refused_when_it_is_read(host: str) -> None:
    """Sockets, URLs and the rest are no host."""
    assert ["AF0104"] == [one.code for one in read({"serve": {"host": host}}).diagnostics]


def test_s3_the_command_says_what_is_missing_and_exits_2(tmp_path: Path) -> None:
    """One line, with the cure; nothing is listened at."""
    done = subprocess.run(command("--host", "0.0.0.0"), cwd=project(tmp_path), capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert (2, "") == (done.returncode, done.stdout)
    assert "error[AF0801]: 0.0.0.0 can be reached from other machines, and no token is configured" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("lost", ["cert", "key", "both", "text"])
def test_s30_tls_that_cannot_be_had_stops_the_service(tmp_path: Path, lost: str) -> None:
    """A missing or spoilt file is never a service without TLS."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    if lost == "text":
        cert.write_text("x")
        key.write_text("y")
    with pytest.raises(ServiceError, match="TLS cannot be had"):
        setup_of(tmp_path, host="0.0.0.0", tls_cert=str(cert), tls_key=str(key))


def test_s30_half_of_tls_is_refused_when_it_is_read() -> None:
    """A certificate without its key says nothing."""
    assert ["AF0104"] == [one.code for one in read({"serve": {"tls_cert": "cert.pem"}}).diagnostics]


@pytest.mark.parametrize("text", ["", "short", "x" * 21, "with a space in it, and long", "ä" * 30, "x" * 5000])
def test_s4_a_token_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    """Less than 128 bits, or not printable: the service does not start."""
    (tmp_path / "token").write_text(text)
    with pytest.raises(TokenError):
        read_token(tmp_path / "token")


def test_s4_a_token_file_that_was_configured_has_to_be_there(tmp_path: Path) -> None:
    """It is never made in its place."""
    runner = Runner.from_dict(configured(tmp_path, {"greet": greet}, serve={"token_file": str(tmp_path / "other")}), environ={})
    from agentflow.ingress.http import Http

    with pytest.raises(TokenError, match="cannot be read"):
        Http(Service(runner, SystemClock()), Setup(runner.project))
    assert not (tmp_path / "other").exists()


def test_s6_s22_the_first_start_makes_a_token_for_its_user_alone(tmp_path: Path) -> None:
    """The file is 0600 in a folder that is 0700, has 256 bits, is named on stderr, and serves the next start too."""
    project(tmp_path)
    with serving(tmp_path) as first:
        file = tmp_path / ".agentflow" / "token"
        assert (0o600, 0o700) == (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode))
        assert 43 == len(first.token)
        assert f"the token is in {file}, made just now" in "".join(first.told)
        assert first.token not in "".join(first.told)
        assert 200 == first.client.get("/v1/runs").status_code
        assert 401 == httpx2.get(f"{first.url}/v1/runs", trust_env=False).status_code
    with serving(tmp_path) as second:
        assert (first.token, False) == (second.token, "made just now" in "".join(second.told))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_s22_a_token_of_ours_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """With the command that mends it."""
    file = tmp_path / "token"
    assert prepared(file)
    file.chmod(mode)
    with pytest.raises(TokenError, match="chmod 600"):
        prepared(file)


async def test_nothing_is_served_that_would_not_be_recorded(serve: Serve) -> None:
    """An acknowledgement without a journal would be a lie."""
    with pytest.raises(ServiceError, match="nothing would be recorded"):
        async with serve(journal={"url": "memory:", "durability": "none"}):
            pass


def test_a_port_that_is_taken_is_told_and_exits_2(tmp_path: Path) -> None:
    """As a mistake of whoever started it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(command("--port", port), cwd=project(tmp_path), capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert 2 == done.returncode
    assert f"error[AF0801]: cannot listen at 127.0.0.1 port {port}" in done.stderr


def test_g15_a_second_service_on_one_journal_is_refused(tmp_path: Path) -> None:
    """Exit 2, naming the process that has it; the first one goes on."""
    project(tmp_path)
    with serving(tmp_path) as first:
        done = subprocess.run(command(), cwd=tmp_path, capture_output=True, text=True, timeout=WAIT_S, check=False)
        assert 2 == done.returncode
        assert f"is in use by process {first.process.pid}" in done.stderr
        assert 200 == first.client.get("/readyz").status_code


def test_g26_sigterm_takes_nothing_more_lets_runs_end_and_exits_0(tmp_path: Path) -> None:
    """Readiness goes first, within a second; what is under way ends; reads are answered meanwhile."""
    project(tmp_path)
    with serving(tmp_path) as it:
        run_id = it.client.post("/v1/events", json={"data": {"n": 1, "sleep": 1.5}}).json()["run_id"]
        began = time.monotonic()
        it.signal(signal.SIGTERM)
        while it.client.get("/readyz").status_code != 503:
            assert time.monotonic() - began < 1.0
        answer = it.client.post("/v1/events", json={})
        assert (503, "AF0819", "1") == (answer.status_code, answer.json()["code"], answer.headers["retry-after"])
        assert 200 == it.client.get("/livez").status_code
        assert "running" == it.client.get(f"/v1/runs/{run_id}").json()["state_name"]
        assert 0 == it.ended()
        assert time.monotonic() - began > 1.0
    with serving(tmp_path) as it:
        assert "completed" == it.client.get(f"/v1/runs/{run_id}").json()["status"]


def test_g26_what_does_not_end_in_time_is_left_and_taken_up_again(tmp_path: Path) -> None:
    """The drain has its limit; the run is recorded, and the next start goes on with it without a step made twice."""
    config = (tmp_path, "--config-set", "runner.drain_timeout_seconds=0.2")
    project(tmp_path)
    with serving(*config) as it:
        run_id = it.client.post("/v1/events", json={"data": {"n": 1, "sleep": 2}}).json()["run_id"]
        it.signal(signal.SIGTERM)
        assert 0 == it.ended()
        assert "not done, and recorded: 1" in it.rest()
    with serving(*config) as it:
        assert "going on with 1 unfinished run" in it.next_line()
        while it.client.get(f"/v1/runs/{run_id}").json()["state_name"] != "completed":
            time.sleep(0.05)
    assert 1 == (tmp_path / "ledger").read_text().count("first 1 ")


@pytest.mark.parametrize("data", [{"sleep": 60}, {"block": True}])
def test_g26_a_second_signal_ends_at_once(tmp_path: Path, data: dict[str, object]) -> None:
    """Within two seconds, also while a handler holds the loop; the run is there at the next start."""
    project(tmp_path)
    with serving(tmp_path) as it:
        run_id = it.client.post("/v1/events", json={"data": data}).json()["run_id"]
        it.signal(signal.SIGTERM)
        time.sleep(0.1)
        began = time.monotonic()
        it.signal(signal.SIGTERM)
        assert 143 == it.ended()
        assert time.monotonic() - began < 2.5
    reader = subprocess.run(
        [command()[0], "-m", "agentflow", "runs", "list", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
    )
    assert run_id in reader.stdout


def test_a_signal_before_anything_was_served_ends_it_too(tmp_path: Path) -> None:
    """SIGINT is as good as SIGTERM."""
    project(tmp_path)
    with serving(tmp_path) as it:
        it.signal(signal.SIGINT)
        assert 0 == it.ended()


async def test_readiness_knows_a_full_disk(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """G28: below the low-water mark 507 and not ready; reads work; it takes events again by itself."""
    async with serve() as it:
        clock = [0.0]
        readiness = it.service.readiness
        monkeypatch.setattr(readiness, "_monotonic", lambda: clock[0])
        monkeypatch.setattr(readiness, "_low_water_bytes", 2**62)
        clock[0] += 10_000_000
        answer = await it.client.post("/v1/events", json={})
        assert (507, "AF0710") == (answer.status_code, answer.json()["code"])
        assert [503, 200, 200] == [(await it.client.get(path)).status_code for path in ("/readyz", "/livez", "/v1/runs")]
        monkeypatch.setattr(readiness, "_low_water_bytes", 0)
        clock[0] += 1
        assert 202 == (await it.client.post("/v1/events", json={})).status_code
        assert 200 == (await it.client.get("/readyz")).status_code


def test_s29_no_secret_is_an_argument() -> None:
    """The token is never on a command line."""
    from agentflow.cli.commands import command as commands

    words = [option for parameter in commands().commands["serve"].params for option in parameter.opts]
    assert not [word for word in words if "token" in word or "password" in word or "secret" in word]


@pytest.mark.parametrize(
    ("mode", "is_private", "is_refused"), [(0o664, False, True), (0o664, True, False), (0o666, True, True), (0o644, False, False)]
)
def test_s18_a_service_runs_nothing_that_others_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, is_private: bool, is_refused: bool
) -> None:
    """Handlers that a group can write are refused, unless the group is the owner's own; what anybody can write always is."""
    monkeypatch.setattr("agentflow.agents.entrypoint._is_private", lambda user, group: is_private)
    project(tmp_path)
    (tmp_path / "handlers.py").chmod(mode)
    if is_refused:
        with pytest.raises(EntrypointError, match="can be written by"):
            runner_of(tmp_path / "agentflow.toml", {}, is_quiet=True, is_strict=True)
    else:
        assert ("first", "second") == runner_of(tmp_path / "agentflow.toml", {}, is_quiet=True, is_strict=True).agents
