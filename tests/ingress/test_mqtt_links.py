"""The link to a broker: what manual acknowledgement builds on, and who is let in."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiomqtt")

import aiomqtt
import paho.mqtt.client as paho

from agentflow.app import load
from agentflow.config.diagnostics import ConfigError
from agentflow.ingress.manual_ack import Connection, Delivery, Link, LinkError, RefusedPublicationError
from agentflow.ingress.mqtt_setup import MqttSetupError, link_of
from tests.ingress.brokers import MOSQUITTO, Broker, free_port, send, until

needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
Listen = Callable[..., Any]


async def connected(broker: Broker, found: list[Delivery], client_id: str = "c", **how: Any) -> Connection:
    """Connect, and subscribe to what the tests send."""
    connection = Connection(Link("127.0.0.1", broker.port, client_id, **how), found.append)
    await connection.open()
    await connection.subscribe("in/+", retained=False)
    return connection


# --- the contract with aiomqtt and paho ---


def test_the_libraries_have_what_is_reached_into() -> None:
    """Each private name that manual_ack.py uses is there; a release without it fails here and not in service."""
    assert {"manual_ack_set", "ack", "loop_read", "loop_write", "want_write", "socket", "_sock_close", "publish"} <= set(dir(paho.Client))
    hooks = ("on_connect", "on_message", "on_publish", "on_socket_open", "on_socket_register_write")
    assert all(isinstance(getattr(paho.Client, name), property) for name in hooks)
    assert {"_on_connect", "_on_socket_open", "__aenter__", "__aexit__", "subscribe"} <= set(dir(aiomqtt.Client))


async def test_a_client_has_the_fields_that_are_reached_into() -> None:
    """aiomqtt keeps paho's client in `_client`, and the end of the connection in the future `_disconnected`."""
    client = aiomqtt.Client("localhost")
    assert isinstance(client._client, paho.Client)
    assert isinstance(client._disconnected, asyncio.Future)


@needs_broker
async def test_nothing_is_acknowledged_before_we_say_so(broker: Broker) -> None:
    """What was received and not acknowledged comes again on the next connection, marked so, under its number; what was does not."""
    found: list[Delivery] = []
    first = await connected(broker, found)
    for number in range(3):
        await send(broker, "in/1", {"n": number})
    await until(lambda: len(found) == 3)
    first.ack(found[1])
    await send(broker, "in/1", {"last": True})  # once it is there, the acknowledgement was read as well
    await until(lambda: len(found) == 4)
    await first.close()
    again: list[Delivery] = []
    second = await connected(broker, again)
    await until(lambda: len(again) == 3)
    await second.close()
    assert second.is_resumed
    assert not first.is_resumed
    assert [(found[at].mid, found[at].payload, True) for at in (0, 2, 3)] == [(one.mid, one.payload, one.is_again) for one in again]


@needs_broker
async def test_an_acknowledgement_after_the_loss_reaches_nobody(broker: Broker) -> None:
    """A number that was given on a lost connection is not acknowledged on the next one, where it may be another message's."""
    found: list[Delivery] = []
    first = await connected(broker, found)
    await send(broker, "in/1", {})
    await until(lambda: found)
    await first.close()
    first.ack(found[0])
    second = await connected(broker, found)
    await until(lambda: len(found) == 2)
    await second.close()


@needs_broker
async def test_no_more_is_read_than_was_agreed(broker: Broker) -> None:
    """While messages wait to be acknowledged, a backlog stays with the broker, or where it does not keep to that, in the socket."""
    found: list[Delivery] = []
    first = await connected(broker, found, receive_maximum=3)
    async with broker.client() as client:
        for number in range(200):
            await client.publish("in/1", str(number), qos=1)
    for done in range(200):
        await until(lambda done=done: len(found) > done)
        assert 4 >= len(found) - done
        first.ack(found[done])
    await first.close()
    assert [str(number).encode() for number in range(200)] == [one.payload for one in found]


def open_things() -> tuple[int, int]:
    """Return how many tasks there are, and how many open files, where the system tells."""
    files = Path("/proc/self/fd")
    return len(asyncio.all_tasks()), len(list(files.iterdir())) if files.exists() else 0


@needs_broker
async def test_a_connection_leaves_nothing_behind(broker: Broker) -> None:
    """Closed or lost, its socket and its tasks are gone."""
    before = open_things()
    for number in range(3):
        connection = await connected(broker, [], f"c{number}")
        if number == 1:
            broker.kill()
            await connection.lost()
            broker.start()
        await connection.close()
    await asyncio.sleep(0.1)
    assert before == open_things()


# --- who is let in ---


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Broker]:
    """A broker that asks for a password, and lets `agentflow` read and write a few topics alone."""
    folder = tmp_path / "guarded"
    folder.mkdir()
    words = folder / "passwords"
    words.touch(mode=0o600)
    subprocess.run(["mosquitto_passwd", "-b", str(words), "agentflow", "right"], check=True, capture_output=True)
    rules = folder / "rules"
    rules.write_text("user agentflow\ntopic read in/#\ntopic write out/#\n")
    rules.chmod(0o600)
    one = Broker(folder, ("allow_anonymous false", f"password_file {words}", f"acl_file {rules}"))
    one.start()
    yield one
    one.kill()


def listening_to(listen: Listen, broker: Broker, **table: Any) -> Any:
    """Listen to another broker than the usual one."""
    return listen(wait=False, mqtt={"url": f"mqtt://127.0.0.1:{broker.port}", "user": "agentflow", **table})


@needs_broker
async def test_a_password_opens_the_broker_and_a_wrong_one_does_not(
    guarded: Broker, listen: Listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The password comes from its reference; where it is wrong the service goes on trying, and nothing shows it."""
    monkeypatch.setenv("MQTT_WORD", "wrong-8231")
    async with listening_to(listen, guarded, password={"env": "MQTT_WORD"}) as here:
        await until(lambda: "mqtt_disconnected" in capfd.readouterr().err)
        assert not here.ingress.is_connected
        assert "wrong-8231" not in repr(here.ingress._link)
    (tmp_path / "word").write_text("right\n")
    async with listening_to(listen, guarded, password={"file": str(tmp_path / "word")}) as here:
        await until(lambda: here.ingress.is_connected)


@needs_broker
async def test_a_publication_that_the_broker_refuses_is_noticed(guarded: Broker) -> None:
    """The broker's acknowledgement may be a refusal: that is no success."""
    connection = Connection(Link("127.0.0.1", guarded.port, "c", user="agentflow", password="right"), lambda delivery: None)
    await connection.open()
    try:
        await connection.publish("out/1", b"{}")
        with pytest.raises(RefusedPublicationError):
            await connection.publish("elsewhere", b"{}")
    finally:
        await connection.close()


@needs_broker
async def test_nobody_answers_under_a_wrong_name(guarded: Broker) -> None:
    """A connection that is refused says so, and can be made again by another object."""
    connection = Connection(Link("127.0.0.1", guarded.port, "c"), lambda delivery: None)
    with pytest.raises(LinkError):
        await connection.open()
    with pytest.raises(LinkError):
        await Connection(Link("127.0.0.1", free_port(), "c"), lambda delivery: None).open()


@pytest.mark.parametrize("missing", [{"password": {"env": "NO_SUCH_WORD"}}, {"password": {"file": "none"}}, {"ca": "none.pem"}])
async def test_a_protection_that_is_missing_stops_the_start(missing: dict[str, Any]) -> None:
    """A secret or a certificate that cannot be had is an error before anything begins."""
    table = {"url": "mqtts://localhost", "topics": {"in/+": "echo"}, "user": "me", **missing}
    project = load({"agents": {"echo": {}}, "mqtt": table}, environ={})
    assert project.config.mqtt is not None
    with pytest.raises(MqttSetupError):
        link_of(project, project.config.mqtt)


# --- TLS ---


def certificates(folder: Path) -> None:
    """Write `ca.pem`, and a certificate with its key that it vouches for, for the name `localhost` alone."""
    run = lambda *words: subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)  # noqa: E731
    fresh = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run("req", "-x509", *fresh, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test ca", "-days", "2")
    run("req", *fresh, "-keyout", "own.key", "-out", "own.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    run(
        "x509",
        "-req",
        "-in",
        "own.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-out",
        "own.pem",
        "-days",
        "2",
        "-extfile",
        "names",
    )


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Broker]:
    """A broker that speaks TLS, under the name `localhost`."""
    folder = tmp_path / "secured"
    folder.mkdir()
    certificates(folder)
    one = Broker(folder, (f"certfile {folder}/own.pem", f"keyfile {folder}/own.key", "allow_anonymous true"))
    one.start()
    yield one
    one.kill()


@needs_broker
async def test_tls_carries_events_and_results(secured: Broker, listen: Listen) -> None:
    """Messages of a megabyte and many small ones come through, and answers go back."""
    url, ca = f"mqtts://localhost:{secured.port}", str(secured.folder / "ca.pem")
    async with listen(mqtt={"url": url, "ca": ca, "receive_maximum": 5}) as here:
        context = ssl.create_default_context(cafile=ca)
        async with aiomqtt.Client("localhost", secured.port, protocol=aiomqtt.ProtocolVersion.V5, tls_context=context) as client:
            await client.publish("in/1", b'{"a":"%s"}' % (b"x" * 900_000), qos=1)
            for number in range(100):
                await client.publish("in/1", b'{"n":%d}' % number, qos=1)
        assert 101 == len(await here.ended(101))
        await here.settled()


@needs_broker
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # paho lets go of a socket whose TLS failed without closing it
@pytest.mark.parametrize(("host", "has_ca"), [("127.0.0.1", True), ("localhost", False)])
async def test_a_broker_has_to_show_who_it_is(
    secured: Broker, listen: Listen, host: str, has_ca: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without a certificate for this very name, by somebody who is trusted, nothing is sent."""
    table = {"url": f"mqtts://{host}:{secured.port}", **({"ca": str(secured.folder / "ca.pem")} if has_ca else {})}
    async with listen(wait=False, mqtt=table) as here:
        await until(lambda: "certificate" in capfd.readouterr().err)
        assert not here.ingress.is_connected


# --- what is configured ---


@pytest.mark.parametrize(
    "table",
    [
        {"topics": {"#": "echo"}},
        {"topics": {"+/#": "echo"}},
        {"topics": {"+": "echo"}},
        {"topics": {"$SYS/#": "echo"}},
        {"topics": {"$share/g/in/+": "echo"}},
        {"topics": {"a/#/b": "echo"}},
        {"topics": {"a/b+": "echo"}},
        {"topics": {"": "echo"}},
        {"topics": {"a\0b": "echo"}},
        {"topics": {}},
        {"topics": {"a/+": "echo", "a/b": "echo"}},
        {"topics": {"a/#": "echo", "a": "echo"}},
        {"results_topic": "in/results"},
        {"results_topic": "out/+"},
        {"url": "mqtt://broker.example.com"},
        {"url": "http://localhost"},
        {"url": "mqtt://me:word@localhost"},
        {"password": "plain"},
        {"password": {"env": "X"}},
        {"ca": "ca.pem"},
        {"cert": "own.pem"},
        {"receive_maximum": 0},
        {"client_id": ""},
        {"retained": "always"},
    ],
)
def test_what_would_listen_to_too_much_or_unprotected_is_refused(table: dict[str, Any]) -> None:
    """Each mistake in [mqtt] is found when the configuration is read."""
    config = {"agents": {"echo": {}}, "mqtt": {"url": "mqtt://localhost", "topics": {"in/+": "echo"}, **table}}
    with pytest.raises(ConfigError):
        load(config, environ={}).require(may_lack_modes=True)


def test_a_network_of_ones_own_may_do_without_tls() -> None:
    """`allow_plaintext` says so in so many words."""
    table = {"url": "mqtt://broker", "topics": {"in/+": "echo"}, "allow_plaintext": True}
    load({"agents": {"echo": {}}, "mqtt": table}, environ={}).require(may_lack_modes=True)
