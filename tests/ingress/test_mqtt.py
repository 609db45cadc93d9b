"""MQTT, against a real broker: what becomes an event, for whom, and when it is acknowledged."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("aiomqtt")

from agentflow.cli import main
from agentflow.ingress.manual_ack import Connection, Delivery
from tests.ingress.brokers import MOSQUITTO, Broker, Listening, properties, send, until

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")

Listen = Callable[..., Any]
MIB = 1024 * 1024


async def echo(event: Any, state: Any) -> dict[str, Any]:
    """Answer with what came."""
    return {"got": dict(event.data), "target": event.target}


def nested(depth: int) -> bytes:
    """Return an object so many levels deep."""
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


# --- what an event is ---


async def test_a_message_is_an_event_for_whom_the_table_of_topics_says(broker: Broker, listen: Listen) -> None:
    """The payload is the data, the filter that takes the topic says the target, the topic goes with the metadata."""
    async with listen({"echo": echo, "other": echo}, mqtt={"topics": {"in/+": "echo", "far/#": "other"}}) as here:
        await send(broker, "in/1", {"a": 1})
        await send(broker, "far/2/3", {"b": 2}, properties({"who": "me"}))
        rows = await here.ended(2)
        views = [await here.runner.get(row.run_id) for row in rows]
        assert [{"a": 1}, {"b": 2}] == [view.state["data"]["got"] for view in views]
        assert ["echo", "other"] == [view.state["data"]["target"] for view in views]
        assert [{"mqtt_topic": "in/1"}, {"mqtt_topic": "far/2/3", "who": "me"}] == [view.state["meta"] for view in views]


async def test_a_user_property_gives_event_and_session_their_ids(broker: Broker, listen: Listen) -> None:
    """`event_id` and `session_id` are the event's, and no metadata."""
    async with listen() as here:
        await send(broker, "in/1", {}, properties({"event_id": "e-1", "session_id": "s-1"}))
        (row,) = await here.ended()
        assert ("e-1", "s-1") == (row.event_id, row.session_id)
        assert {"mqtt_topic": "in/1"} == (await here.runner.get(row.run_id)).state["meta"]


async def test_the_same_id_and_body_has_the_run_that_it_had(broker: Broker, listen: Listen) -> None:
    """A publisher that sends an event again makes no second run."""
    async with listen() as here:
        for _ in range(3):
            await send(broker, "in/1", {"n": 1}, properties({"event_id": "e-1"}))
        await until(lambda: here.ingress.counts["acknowledged"] == 3)
        assert 1 == len(await here.ended())
        assert 2 == here.ingress.counts["duplicates"]


async def test_the_same_request_is_known_by_its_correlation_data(broker: Broker, listen: Listen) -> None:
    """A message without an id of its own is the same when asker, correlation data and body are; another body is another event."""
    asked = properties(reply_to="replies/me", correlation=b"42")
    async with listen() as here:
        for number in (1, 1, 2):
            await send(broker, "in/1", {"n": number}, asked)
        await until(lambda: here.ingress.counts["acknowledged"] == 3)
        assert 2 == len(await here.ended(2))


async def test_equal_messages_without_an_id_are_events_of_their_own(broker: Broker, listen: Listen) -> None:
    """Two presses of the same button are two events."""
    async with listen() as here:
        for _ in range(3):
            await send(broker, "in/button", {"pressed": True})
        assert 3 == len(await here.ended(3))


@pytest.mark.parametrize("is_restarted", [True, False])
async def test_a_message_without_an_id_that_comes_again_is_the_same(
    broker: Broker, listen: Listen, monkeypatch: pytest.MonkeyPatch, is_restarted: bool
) -> None:
    """Recorded, and its acknowledgement lost: the broker sends it again, to this process or the next, and it has the run that it had."""
    with monkeypatch.context() as patched:
        patched.setattr(Connection, "ack", lambda self, delivery: None)
        async with listen() as here:
            for _ in range(3):
                await send(broker, "in/button", {"pressed": True})
            await here.ended(3)
            if not is_restarted:
                broker.kill(signal.SIGTERM)  # it keeps everything
                patched.undo()
                broker.start()
                await until(lambda: here.ingress.counts["received"] == 6)
                await until(lambda: here.ingress.counts["duplicates"] == 3)
                assert 3 == len(await here.runner.runs())
    if is_restarted:
        async with listen() as here:
            await until(lambda: here.ingress.counts["duplicates"] == 3)
            await send(broker, "in/button", {"pressed": True})
            assert 4 == len(await here.ended(4))


async def test_messages_of_any_quality_are_taken_once(broker: Broker, listen: Listen) -> None:
    """What was published at QoS 0, 1 or 2 becomes one event each."""
    async with listen() as here:
        for qos in (0, 1, 2):
            await send(broker, "in/1", {"qos": qos}, qos=qos)
        assert 3 == len(await here.ended(3))
        await here.settled()


async def test_a_publisher_cannot_reach_what_no_filter_names(broker: Broker, listen: Listen) -> None:
    """Other topics and the broker's own never arrive."""
    async with listen() as here:
        for topic in ("out/1", "in/1/2", "in", "agentflow"):
            await send(broker, topic, {})
        await send(broker, "in/1", {})
        await here.ended()
        assert 1 == here.ingress.counts["received"]


# --- what is none ---

POISON = {
    "no JSON": b"{",
    "no object": b"[1]",
    "no text": b"\xff\xfe{}",
    "no number": b'{"a":NaN}',
    "beyond a float": b'{"a":1e999}',
    "beyond 64 bits": b'{"a":%d}' % 2**63,
    "a key twice": b'{"a":1,"a":2}',
    "half a character": b'{"a":"\\ud800"}',
    "too deep": nested(65),
    "far too deep": b"[" * 100_000,
    "too many values": json.dumps({"a": [0] * 100_001}).encode(),
    "a long key": json.dumps({"k" * 257: 1}).encode(),
    "too large": b'{"a":"%s"}' % (b"x" * (MIB - 7)),
}
ALLOWED = {
    "deep": nested(64),
    "many values": json.dumps({"a": [0] * 99_990}).encode(),
    "a key": json.dumps({"k" * 256: 1}).encode(),
    "large": b'{"a":"%s"}' % (b"x" * (MIB - 8)),
    "nothing": b"",
}


async def dead_letters(here: Listening) -> list[Any]:
    """Return the dead letters."""
    return list(await here.runner.runs(flag="dead_lettered"))


async def test_poison_becomes_a_dead_letter_and_holds_nobody_up(broker: Broker, listen: Listen) -> None:
    """Each payload over a limit is acknowledged and kept with the reason; what comes behind it is served."""
    async with listen() as here:
        async with broker.client() as client:
            for payload in POISON.values():
                await client.publish("in/1", payload, qos=1)
            await client.publish("in/1", b'{"fine":true}', qos=1)
        rows = await here.ended(len(POISON) + 1)
        await here.settled()
        dead = await dead_letters(here)
        assert len(POISON) == len(dead) == here.ingress.counts["refused"]
        assert ["completed"] == [row.state for row in rows if row not in dead]
        view = await here.runner.get(dead[-1].run_id)
        assert ("failed", "refused") == (view.row.status, view.row.reason)
        assert "in/1" == view.state["data"]["refused"]["topic"]
        assert "{" == view.state["data"]["refused"]["payload"]


async def test_what_is_within_the_limits_is_taken(broker: Broker, listen: Listen) -> None:
    """The largest, deepest and widest that is allowed becomes an event."""

    async def see(event: Any, state: Any) -> None:
        """Answer nothing: what an answer adds would be over the limit."""

    async with listen({"see": see}) as here:
        async with broker.client() as client:
            for payload in ALLOWED.values():
                await client.publish("in/1", payload, qos=1)
        rows = await here.ended(len(ALLOWED))
        assert {"completed"} == {row.state for row in rows}


@pytest.mark.parametrize(
    "user",
    [
        [("route", "secret")],
        [("orchestration_override", "secret")],
        [("mqtt_topic", "in/other")],
        [("a", "1"), ("a", "2")],
        [("event_id", "../x")],
        [("event_id", "")],
        [("a", "x" * 17_000)],
        [("agentflow_hops", "8")],
        [("agentflow_hops", "-1")],
    ],
)
async def test_a_user_property_steers_nothing(broker: Broker, listen: Listen, user: list[tuple[str, str]]) -> None:
    """A publisher cannot name a route, a flow, where a message came from, or an id that is none: such a message is a dead letter."""
    secret: list[str] = []

    async def note(event: Any, state: Any) -> None:
        secret.append(event.id)

    async with listen({"echo": echo, "secret": note}) as here:
        await send(broker, "in/1", {}, properties(user))
        await here.ended()
        assert 1 == len(await dead_letters(here))
        assert [] == secret


async def test_the_same_poison_is_one_dead_letter(broker: Broker, listen: Listen) -> None:
    """However often it is sent, what is refused is kept once: nobody fills the disk with one message."""
    async with listen() as here:
        for _ in range(5):
            await send(broker, "in/1", b"{")
        await until(lambda: here.ingress.counts["acknowledged"] == 5)
        assert 1 == len(await dead_letters(here))


async def test_another_event_under_a_known_id_is_refused(broker: Broker, listen: Listen) -> None:
    """The first event keeps its run; the second is a dead letter that names the conflict."""
    async with listen() as here:
        await send(broker, "in/1", {"n": 1}, properties({"event_id": "e-1"}))
        await here.ended()
        await send(broker, "in/1", {"n": 2}, properties({"event_id": "e-1"}))
        await here.ended(2)
        (dead,) = await dead_letters(here)
        assert "AF0708" == (await here.runner.get(dead.run_id)).state["data"]["refused"]["code"]


async def test_a_journal_with_dead_letters_of_messages_is_sound(broker: Broker, listen: Listen) -> None:
    """What was refused is a run like others for `journal verify`, and can be replayed."""
    async with listen() as here:
        await send(broker, "in/1", b"{")
        await here.ended()
        (dead,) = await dead_letters(here)
        path = here.runner.journal_url.partition(":")[2]
    assert 0 == await asyncio.to_thread(main, ["journal", "verify", "--journal", path])
    assert 0 == await asyncio.to_thread(main, ["dead-letters", "replay", dead.run_id, "--journal", path])
    assert 0 == await asyncio.to_thread(main, ["journal", "verify", "--journal", path])


# --- retained messages ---


async def test_retained_messages_are_ignored_unless_asked_for(broker: Broker, listen: Listen) -> None:
    """What the broker had before anybody listened is no event by default; what comes while one listens is, retained or not."""
    await send(broker, "in/state", {"old": True}, retain=True)
    async with listen() as here:
        await send(broker, "in/state", {"new": True}, retain=True)
        (row,) = await here.ended()
        assert {"new": True} == (await here.runner.get(row.run_id)).state["data"]["got"]


async def test_a_retained_message_is_taken_once(broker: Broker, listen: Listen) -> None:
    """With `retained = "once"` it is one event, also when a session begins anew, and until its content changes."""
    await send(broker, "in/state", {"n": 1}, retain=True)
    for client_id, expected in (("a", 1), ("a", 1), ("b", 1), ("c", 1)):
        async with listen(mqtt={"retained": "once", "client_id": client_id}) as here:
            await here.ended(expected)
            await here.settled()
            assert expected == len(await here.runner.runs())
    await send(broker, "in/state", {"n": 2}, retain=True)
    async with listen(mqtt={"retained": "once", "client_id": "d"}) as here:
        assert 2 == len(await here.ended(2))


# --- answers ---


async def test_who_asks_is_answered(broker: Broker, listen: Listen) -> None:
    """The result goes to the response topic with the correlation data, and once more to `results_topic`."""
    async with listen(mqtt={"results_topic": "results"}), broker.client() as client:
        await client.subscribe("replies/me", qos=1)
        await client.subscribe("results", qos=1)
        await client.publish(
            "in/1", b'{"a":1}', qos=1, properties=properties({"event_id": "e"}, reply_to="replies/me", correlation=b"\0\xff")
        )
        found = {}
        async for message in client.messages:
            found[str(message.topic)] = message
            if len(found) == 2:
                break
    told = json.loads(found["replies/me"].payload)
    assert ("completed", "e", {"a": 1}) == (told["status"], told["event_id"], told["state"]["data"]["got"])
    assert b"\0\xff" == found["replies/me"].properties.CorrelationData
    assert told == json.loads(found["results"].payload)
    assert ("agentflow_hops", "1") in found["results"].properties.UserProperty


async def test_who_asks_with_poison_is_told_what_is_wrong(broker: Broker, listen: Listen) -> None:
    """A refusal is an answer: code, message, and the dead letter's id."""
    async with listen() as here, broker.client() as client:
        await client.subscribe("replies/me", qos=1)
        await client.publish("in/1", b"{", qos=1, properties=properties(reply_to="replies/me", correlation=b"7"))
        message = await anext(client.messages)
        told = json.loads(message.payload)
        (dead,) = await dead_letters(here)
        assert ("failed", "refused", "AF0815", dead.run_id) == (told["status"], told["reason"], told["error"]["code"], told["run_id"])


@pytest.mark.parametrize("topic", ["in/2", "in/1", "$SYS/x"])
async def test_an_answer_never_becomes_an_event(broker: Broker, listen: Listen, topic: str) -> None:
    """A response topic that is listened to here, or is the broker's own, makes the message a dead letter; nothing is published."""
    async with listen() as here:
        await send(broker, "in/1", {}, properties(reply_to=topic))
        await here.ended()
        assert 1 == len(await dead_letters(here))
        await here.settled()
        assert 1 == here.ingress.counts["received"]


async def test_a_run_left_open_is_answered_after_a_restart(broker: Broker, listen: Listen) -> None:
    """Who asked before the service stopped has the result from the next one."""
    goes_on = asyncio.Event()

    async def slow(event: Any, state: Any) -> dict[str, Any]:
        await goes_on.wait()
        return {"done": True}

    async with broker.client() as client:
        await client.subscribe("replies/me", qos=1)
        async with listen({"slow": slow}, runner={"drain_timeout_seconds": 0.1}) as here:
            await client.publish("in/1", b"{}", qos=1, properties=properties(reply_to="replies/me", correlation=b"1"))
            await until(lambda: here.ingress.counts["acknowledged"] == 1)
        goes_on.set()
        async with listen({"slow": slow}):
            message = await asyncio.wait_for(anext(client.messages), 15)
    assert "completed" == json.loads(message.payload)["status"]


# --- a queue that is full, a service that stops ---


async def test_a_full_queue_lets_the_broker_keep_the_rest(broker: Broker, listen: Listen) -> None:
    """No more than `receive_maximum` messages are taken from the broker; none is lost, refused or out of order."""
    goes_on, order = asyncio.Event(), []

    async def slow(event: Any, state: Any) -> None:
        order.append(event.data["n"])
        await goes_on.wait()

    bounds = {"queue_size": 1, "max_running": 1}
    async with listen({"slow": slow}, mqtt={"receive_maximum": 3}, runner=bounds) as here:
        async with broker.client() as client:
            for number in range(20):
                await client.publish("in/1", json.dumps({"n": number}), qos=1)
        counts = here.ingress.counts
        await until(lambda: counts["received"] >= 5)  # one runs, one waits, three are on their way
        await asyncio.sleep(0.3)
        assert 6 >= counts["received"]  # one more where the broker does not keep to what was agreed
        assert 2 == counts["acknowledged"]
        assert 2 == len(await here.runner.runs())
        goes_on.set()
        rows = await here.ended(20)
        assert list(range(20)) == order
        assert {"completed"} == {row.state for row in rows}


async def test_what_comes_while_the_service_stops_stays_with_the_broker(broker: Broker, listen: Listen) -> None:
    """Nothing is acknowledged any more, and the next start has it."""
    async with listen() as here:
        here.service.close()
        await send(broker, "in/1", {"late": True})
        await until(lambda: here.ingress.counts["received"] == 1)
        assert 0 == here.ingress.counts["acknowledged"]
    await send(broker, "in/1", {"later": True})
    async with listen() as here:
        assert 2 == len(await here.ended(2))


async def test_only_one_replica_listens(broker: Broker, listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process has the lease of the session, this one does not connect; it does as soon as it can have it."""
    async with listen(wait=False) as here:
        is_held = True

        async def hold(name: str, lease_s: float) -> bool:
            return not is_held

        monkeypatch.setattr(here.runner, "hold", hold)
        await asyncio.sleep(0.5)
        assert not here.ingress.is_connected
        is_held = False
        await until(lambda: here.ingress.is_connected)


async def test_a_number_that_is_given_again_is_not_the_same_message(broker: Broker, listen: Listen) -> None:
    """After 65,535 messages numbers begin anew: only the broker's word makes an equal message the one from before.

    Asked of the ingress itself: so many messages would take minutes.
    """
    async with listen() as here:
        ids = [here.ingress._id_of(Delivery("in/1", b"{}", 7, is_again=again)) for again in (False, False, True)]
        assert ids[0] != ids[1] == ids[2]
