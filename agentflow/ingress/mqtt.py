"""MQTT: events come from a broker, and each message is acknowledged once its event is recorded.

One persistent session under a fixed name, QoS 1. What was not acknowledged the broker sends again, to this process or the next.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Mapping

from agentflow.config.mqtt import MqttConfig
from agentflow.core.event import Event
from agentflow.core.records import WorkflowCreated
from agentflow.core.replay import event_of
from agentflow.core.run_row import RunRow
from agentflow.engine.run import RunHandle
from agentflow.errors import AgentflowError, DuplicateEventError, QueueFullError, RunnerStateError, StoreError
from agentflow.ingress.manual_ack import Connection, Delivery, LinkError
from agentflow.ingress.mqtt_messages import MessageError, Reader, Reply, key_of, lasting_id, reply_of
from agentflow.ingress.mqtt_results import Results
from agentflow.ingress.mqtt_setup import link_of
from agentflow.ingress.problems import RefusedError
from agentflow.ingress.service import Service

FIRST_DELAY_S, LONGEST_DELAY_S = 0.1, 5.0  # between two attempts to connect
STEADY_S = 5.0  # a connection that has lasted so long was a good one: the next attempt comes soon again
RETRY_S = 0.2  # between two attempts to have an event accepted
LEASE_S = 10.0  # for which one replica alone listens
FAREWELL_S = 2.0  # for results that are ready when the service stops
_OPEN = ("running", "pending", "paused", "recovering")


class MqttIngress:
    """The way in by MQTT; an `Ingress` of a service.

    Args:
        service: whose it is.
        config: the section [mqtt].

    Attributes:
        counts: messages received, acknowledged, refused, ignored (retained) and dropped (QoS 0, while too many came at once), and
            connections made.

    Raises:
        MqttSetupError: a secret or a certificate is missing.
    """

    def __init__(self, service: Service, config: MqttConfig) -> None:
        self._service = service
        self._config = config
        self._link = link_of(service.runner.project, config)
        self._reader = Reader(config.topics)
        self._results = Results(config.results_topic or "", self._connection_or_none, self._warn)
        self._connection: Connection | None = None
        self._up = asyncio.Condition()
        self._closing = asyncio.Event()  # take no more messages
        self._ended = asyncio.Event()  # be no longer connected
        self._arrived: asyncio.Queue[Delivery] = asyncio.Queue()
        self._taking: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()  # of those that wait for room, in order of arrival
        self._known: OrderedDict[str, str] = OrderedDict()  # by key, the ids of the latest messages that have none of their own
        self._work: asyncio.Task[None] | None = None
        self._found: list[RunRow] = []
        self._fault = ""  # why there is no connection, as it was told last
        self.counts: Counter[str] = Counter()

    @property
    def is_connected(self) -> bool:
        """Whether messages can come."""
        return self._connection is not None and self._connection.is_open

    # --- the service's ---

    async def start(self) -> None:
        """Begin to listen as soon as the service is ready; a broker that is away is waited for."""
        runner = self._service.runner
        self._found = [row for state in _OPEN for row in await runner.runs(state=state)]
        for row in reversed(await runner.runs(limit=4 * self._config.receive_maximum)):
            self._remember(row.event_id.rpartition("-")[0], row.event_id)
        self._work = asyncio.get_running_loop().create_task(self._listen(), name="agentflow-mqtt")

    def close(self) -> None:
        """Take no more messages: what the broker sends from now on stays with it. Results are still published."""
        self._closing.set()

    async def stop(self) -> None:
        """Publish the results that are ready, and end the connection; the broker goes on keeping messages for the next start."""
        self.close()
        if self._taking:
            await asyncio.wait(self._taking, timeout=LONGEST_DELAY_S)
        await self._results.finish(FAREWELL_S if self.is_connected else 0)
        self._ended.set()
        async with self._up:
            self._up.notify_all()
        if self._work is not None:
            await asyncio.wait({self._work}, timeout=LONGEST_DELAY_S)
            self._work.cancel()  # whatever it waits for then, what it has not acknowledged stays with the broker

    # --- the connection ---

    async def _listen(self) -> None:
        """Be connected until the end."""
        if not await self._first_of(self._service.ready.wait()):
            return
        await self._expect_found()
        delay_s, clock = FIRST_DELAY_S, self._service.clock
        while not self._ended.is_set():
            began = clock.monotonic()
            try:
                await self._connect_once()
            except (LinkError, AgentflowError) as error:
                if str(error) != self._fault:  # once for each reason, however long it lasts
                    self._warn("mqtt_disconnected", {"broker": f"{self._link.host}:{self._link.port}", "detail": str(error)})
                self._fault = str(error)
            if clock.monotonic() - began >= STEADY_S:
                delay_s = FIRST_DELAY_S
            await self._first_of(asyncio.sleep(delay_s * (0.5 + clock.random() / 2)))
            delay_s = min(delay_s * 2, LONGEST_DELAY_S)

    async def _connect_once(self) -> None:
        """Connect, take messages as long as that lasts, and say why it does not any more.

        Raises:
            LinkError: the connection cannot be had, or was lost.
            StoreError: nobody can say whether another replica listens.
        """
        name = f"mqtt:{self._link.client_id}"
        await self._require_lease(name)
        self._arrived = asyncio.Queue()
        connection = Connection(self._link, self._receive)
        consumer: asyncio.Task[None] | None = None
        try:
            await connection.open()
            self.counts["connections"] += 1
            if not connection.is_resumed:
                self._start_anew()
            consumer = asyncio.get_running_loop().create_task(self._consume(connection, self._arrived), name="agentflow-mqtt-messages")
            for pattern in self._config.topics:
                await connection.subscribe(pattern, retained=self._config.retained == "once")
            async with self._up:
                self._connection, self._fault = connection, ""
                self._up.notify_all()
            lost = asyncio.ensure_future(connection.lost())
            while not lost.done() and not self._ended.is_set():
                await self._first_of(asyncio.wait({lost}, timeout=LEASE_S / 3))
                await self._require_lease(name)
            if lost.done() and not self._ended.is_set():
                raise LinkError(f"the connection was lost: {lost.result()}")
            lost.cancel()
        finally:
            self._connection = None
            if consumer is not None:
                consumer.cancel()
            await connection.close()

    async def _require_lease(self, name: str) -> None:
        if self._closing.is_set():
            return
        try:
            async with asyncio.timeout(LEASE_S):
                is_held = await self._service.runner.hold(name, LEASE_S)
        except TimeoutError:
            raise LinkError("the journal does not answer") from None
        if not is_held:
            raise LinkError("another replica listens")

    def _start_anew(self) -> None:
        """Note that the broker knows nothing of us: it has kept no message, and numbers new ones from the beginning."""
        self._known.clear()
        if self.counts["connections"] > 1:
            self._warn("mqtt_session_lost", {"detail": "the broker has kept nothing; what came while nobody listened is lost"})

    async def _connection_or_none(self) -> Connection | None:
        """Return a connection that can be used, as soon as there is one; None once there will be none."""
        async with self._up:
            await self._up.wait_for(lambda: self.is_connected or self._ended.is_set())
            return None if self._ended.is_set() else self._connection

    # --- messages ---

    def _receive(self, delivery: Delivery) -> None:
        """Keep a message until it is its turn. The broker sends no more that it wants acknowledged than was agreed."""
        self.counts["received"] += 1
        if not delivery.mid and self._arrived.qsize() >= self._config.receive_maximum:
            self.counts["dropped"] += 1
            return
        self._arrived.put_nowait(delivery)

    async def _consume(self, connection: Connection, arrived: asyncio.Queue[Delivery]) -> None:
        while True:
            delivery = await arrived.get()
            if self._closing.is_set():
                continue
            if self._turn.locked():  # something that came earlier waits for room
                async with self._turn:
                    pass
            task = asyncio.get_running_loop().create_task(self._take(connection, delivery), name="agentflow-mqtt-message")
            self._taking.add(task)
            task.add_done_callback(self._taking.discard)
            if len(self._taking) > 2 * self._config.receive_maximum:  # QoS 0, which no agreement bounds
                await asyncio.wait(self._taking, return_when=asyncio.FIRST_COMPLETED)

    async def _take(self, connection: Connection, delivery: Delivery) -> None:
        """See a message through: its event recorded, or its refusal; then acknowledge it. A failed attempt acknowledges nothing."""
        if delivery.is_retained and self._config.retained == "ignore":
            self.counts["ignored"] += 1
            connection.ack(delivery)
            return
        try:
            is_done = await self._accept(connection, delivery)
        except MessageError as error:
            is_done = await self._refuse(connection, delivery, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the message would bring it up again at each start
            self._service.runner.log.warn("mqtt_message_failed", {"topic": delivery.topic}, error)
            unexpected = MessageError("the service has failed at it; its log says why", code="AF0822")
            is_done = await self._refuse(connection, delivery, unexpected)
        if is_done:
            connection.ack(delivery)
            self.counts["acknowledged"] += 1

    async def _accept(self, connection: Connection, delivery: Delivery) -> bool:
        """Have a message's event accepted; False when nobody waits for that any more.

        Raises:
            MessageError: it is no event, or one that is refused.
        """
        event = self._reader.event_of(delivery, self._id_of(delivery))
        try:
            handle = await self._emit(connection, event)
        except RefusedError as error:
            raise MessageError(error.problem.detail, hint=error.problem.hint, code=error.problem.code) from None
        except AgentflowError as error:
            raise MessageError(error.message, hint=error.hint, code=error.code) from None
        if handle is None:
            return False
        if handle.is_duplicate:
            self.counts["duplicates"] += 1
        reply = reply_of(event.kept_metadata)
        if reply is not None:
            self._results.expect(handle, reply)
        return True

    async def _emit(self, connection: Connection, event: Event) -> RunHandle | None:
        try:
            return await self._service.emit(event)
        except (AgentflowError, RefusedError) as error:
            if not _is_passing(error):
                raise
            if not self._turn.locked():
                self._warn("mqtt_waiting", {"event_id": event.id, "detail": str(error)})
        async with self._turn:  # those behind wait, too, and the broker with what comes after them
            while await self._is_going_on(connection):
                try:
                    return await self._service.emit(event)
                except (AgentflowError, RefusedError) as error:
                    if not _is_passing(error):
                        raise
        return None

    async def _refuse(self, connection: Connection, delivery: Delivery, error: MessageError) -> bool:
        """Record a message that is no event as a dead letter, and tell who asked; False when nobody waits for that any more."""
        runner = self._service.runner
        self._warn("mqtt_refused", {"topic": delivery.topic, "code": error.code, "detail": error.message})
        while True:
            try:
                run_id = await runner.refuse(self._reader.refused(delivery, error), error)
                break
            except (DuplicateEventError, RunnerStateError, StoreError) as trouble:
                if isinstance(trouble, DuplicateEventError):
                    run_id = trouble.run_id  # refused before, for another reason
                    break
            if not await self._is_going_on(connection):
                return False
        self.counts["refused"] += 1
        if self._reader.may_answer(delivery.response_topic):
            self._results.tell_refusal(error, Reply(delivery.response_topic, delivery.correlation), run_id)
        return True

    async def _is_going_on(self, connection: Connection) -> bool:
        """Wait a little, and say whether what waits to be recorded is still wanted here: otherwise the broker sends it again."""
        if connection.is_open and not self._closing.is_set():
            waits = [asyncio.ensure_future(one) for one in (self._closing.wait(), asyncio.sleep(RETRY_S))]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for one in waits:
                one.cancel()
        return connection.is_open and not self._closing.is_set()

    def _id_of(self, delivery: Delivery) -> str:
        """Return the id of a message's event, should its sender give none: the same for a message that comes again."""
        lasting = lasting_id(delivery)
        if lasting is not None:
            return lasting
        key = key_of(delivery)
        if delivery.is_again and key in self._known:
            return self._known[key]
        told_id = f"{key}-{self._service.clock.fresh_id().replace('-', '.')}"
        self._remember(key, told_id)
        return told_id

    def _remember(self, key: str, told_id: str) -> None:
        if key.startswith("mqtt-"):
            self._known[key] = told_id
            self._known.move_to_end(key)
            if len(self._known) > 4 * self._config.receive_maximum:
                self._known.popitem(last=False)

    async def _expect_found(self) -> None:
        """Wait for the runs that an earlier process has left open: their results are still wanted."""
        runner, found, self._found = self._service.runner, self._found, []
        for row in found:
            try:
                created = (await runner.events(row.run_id))[0].fact
                if not isinstance(created, WorkflowCreated) or created.forked_from:
                    continue  # whoever asked has asked for another run
                reply = reply_of(event_of(row.run_id, created).kept_metadata)
                if reply is not None and self._results.is_wanted(reply) and (not reply.topic or self._reader.may_answer(reply.topic)):
                    self._results.expect(await runner.handle(row.run_id), reply)
            except AgentflowError as error:
                self._warn("mqtt_result_dropped", {"run_id": row.run_id, "detail": str(error)})

    async def _first_of(self, work: object) -> bool:
        """Do something until the end comes; say whether it was done before."""
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        end = asyncio.ensure_future(self._ended.wait())
        await asyncio.wait({task, end}, return_when=asyncio.FIRST_COMPLETED)
        is_done = bool(task.done())
        for one in (task, end):
            one.cancel()
        return is_done

    def _warn(self, event: str, fields: Mapping[str, object]) -> None:
        self._service.runner.log.warn(event, fields)


def _is_passing(error: AgentflowError | RefusedError) -> bool:
    """Say whether an event may be accepted later on that is not accepted now."""
    if isinstance(error, RefusedError):
        return error.problem.retry_s is not None
    if isinstance(error, DuplicateEventError):
        return False
    return isinstance(error, QueueFullError | RunnerStateError | StoreError)
