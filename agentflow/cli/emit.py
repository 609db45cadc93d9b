"""`agentflow emit`: one event to a service that runs, over HTTP or by MQTT."""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agentflow import app
from agentflow.cli import terminal
from agentflow.cli.events import Wish
from agentflow.cli.exits import Exit, code_of
from agentflow.cli.sources import config_file
from agentflow.cli.usage import UsageError
from agentflow.config.serving import is_loopback
from agentflow.config.topics import topic_fault
from agentflow.core.event import Event
from agentflow.core.values import adopt_mapping
from agentflow.errors import AgentflowError
from agentflow.ingress.tokens import read as read_token
from agentflow.system import SystemClock

if TYPE_CHECKING:
    from agentflow.ingress.manual_ack import Delivery, Link

EVENT_ID = "event_id"
ANSWER_S = 30.0  # for the acceptance of an event
LARGEST_ANSWER = 64 * 1024 * 1024
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where one listens at all addresses, one of them is asked


class EmitError(AgentflowError):
    """An event could not be sent, or nobody knows whether it was accepted."""

    code = "AF0607"


@dataclass(frozen=True)
class Wanted:
    """What `agentflow emit` was asked to do.

    Attributes:
        url, token_file: of the service; None takes what the configuration says.
        topic: where to publish it, by MQTT; None sends it over HTTP.
        wait_s: how long to wait for the result, in seconds; None does not.
    """

    config: Path | None
    wish: Wish
    event_id: str | None = None
    url: str | None = None
    token_file: Path | None = None
    ca: Path | None = None
    topic: str | None = None
    wait_s: float | None = None


def emit(wanted: Wanted) -> int:
    """Send the event, print what comes back as JSON, and return the exit code.

    Raises:
        AgentflowError: it cannot be sent, or is refused.
    """
    event = wanted.wish.event()
    clock = SystemClock()
    told: dict[str, Any] = {"id": wanted.event_id or f"event-{clock.fresh_id()}", "target": event.target}
    told |= {"data": adopt_mapping(event.data, "event.data"), "metadata": event.metadata}
    if event.session_id is not None:
        told["session_id"] = event.session_id
    if wanted.wait_s is not None and not 0 < wanted.wait_s <= 600:
        raise UsageError(f"--wait {wanted.wait_s:g} is not between 0 and 600 seconds")
    try:
        answer = _by_http(wanted, told) if wanted.topic is None else asyncio.run(_by_mqtt(wanted, event, told, clock))
    except (OSError, http.client.HTTPException) as error:
        raise EmitError(f"nobody knows whether the event was accepted: {error or type(error).__name__}", hint=_again(told)) from None
    terminal.out(terminal.as_json(answer, is_indented=True))
    status = answer.get("status")
    return Exit.DONE if status is None else code_of(str(status), str(answer.get("reason", "")))


def _again(told: dict[str, Any]) -> str:
    return f"send it again with --id {told['id']}: it will not run twice"


def _by_http(wanted: Wanted, told: dict[str, Any]) -> dict[str, Any]:
    """Post the event.

    Raises:
        AgentflowError: there is no service, no token, or the event is refused.
    """
    url, token_file = _service(wanted)
    connection = _connected(url, wanted)
    headers = {"Authorization": f"Bearer {read_token(token_file).decode()}", "Content-Type": "application/json"}
    try:
        connection.request("POST", f"/v1/events{_query(wanted.wait_s)}", json.dumps(told).encode(), headers)
        response = connection.getresponse()
        body = response.read(LARGEST_ANSWER)
    except ConnectionRefusedError:
        raise EmitError(f"nobody listens at {url}", hint="start `agentflow serve`, or name another --url") from None
    finally:
        connection.close()
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise EmitError(f"{url} answers {response.status}, and not as the service does", hint="check the --url")
    if response.status not in (HTTPStatus.OK, HTTPStatus.ACCEPTED):
        said = str(answer.get("detail", ""))
        hint = str(answer.get("hint", "")) if response.status < HTTPStatus.INTERNAL_SERVER_ERROR else _again(told)
        raise EmitError(f"the service answers {response.status} ({answer.get('code')}): {said}", hint=hint)
    return answer


def _service(wanted: Wanted) -> tuple[str, Path]:
    """Return where the service is, and the file with its token."""
    if wanted.url is not None and wanted.token_file is not None:
        return wanted.url, wanted.token_file
    project = app.load(config_file(wanted.config))
    project.require(may_lack_modes=True)
    serve = project.config.serve
    host = _ANY.get(serve.host, serve.host)
    scheme = "http" if serve.tls_cert is None else "https"
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{serve.port}"
    token_file = project.draft.folder_of(("serve", "token_file")) / serve.token_file
    return wanted.url or url, wanted.token_file or token_file


def _query(wait_s: float | None) -> str:
    if wait_s is None:
        return ""
    return f"?wait={max(1, round(wait_s * 1000))}ms" if wait_s < 10 else f"?wait={round(wait_s)}s"


def _connected(url: str, wanted: Wanted) -> http.client.HTTPConnection:
    """Return a connection, not opened yet, over which a token may be sent.

    Raises:
        UsageError: the address is none, or the token would go there in plain text.
    """
    try:
        where = urlsplit(url)
        host, port = where.hostname, where.port
    except ValueError:
        host = port = None
    if host is None or where.scheme not in ("http", "https") or where.path not in ("", "/") or where.username is not None:
        raise UsageError("--url is no address of a service", hint="e.g. http://127.0.0.1:8080 or https://agents.example.com")
    timeout = ANSWER_S + (wanted.wait_s or 0)
    if where.scheme == "https":
        try:
            context = ssl.create_default_context(cafile=wanted.ca)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"--ca cannot be read: {error.strerror or error}") from None
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
    if not is_loopback(host):
        raise UsageError(f"the token would go to {host} in plain text", hint="write https://")
    return http.client.HTTPConnection(host, port, timeout=timeout)


async def _by_mqtt(wanted: Wanted, event: Event, told: dict[str, Any], clock: SystemClock) -> dict[str, Any]:
    """Publish the event, and wait for its result where that is wanted.

    Raises:
        AgentflowError: there is no broker, or it does not take it.
    """
    topic = wanted.topic or ""
    fault = topic_fault(topic)
    if fault:
        raise UsageError(f"--topic {fault}")
    if event.target:
        raise UsageError("--target says nothing by MQTT", hint="whom it is for is said by the topic: [mqtt] topics")
    try:
        from agentflow.ingress.manual_ack import Connection, LinkError, RefusedPublicationError
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed, which MQTT needs", hint="pip install 'agentflow[mqtt]'") from None
    client_id = f"agentflow-emit-{clock.fresh_id()}"
    found: asyncio.Queue[Delivery] = asyncio.Queue()
    connection = Connection(_broker(wanted, client_id), found.put_nowait)
    user = ((EVENT_ID, told["id"]), *event.metadata.items(), *([("session_id", event.session_id)] if event.session_id else []))
    asks: dict[str, Any] = {}
    try:
        await connection.open()
        if wanted.wait_s is not None:
            asks = {"reply_to": f"agentflow/replies/{client_id}", "correlation": told["id"].encode()}
            await connection.subscribe(asks["reply_to"], retained=False)
        await connection.publish(topic, json.dumps(told["data"]).encode(), user=user, **asks)
        if wanted.wait_s is None:
            return {EVENT_ID: told["id"], "topic": topic}
        async with asyncio.timeout(wanted.wait_s):
            answer: dict[str, Any] = json.loads((await found.get()).payload)
            return answer
    except TimeoutError:
        raise EmitError(f"no result within {wanted.wait_s:g} seconds; the broker has the event", hint=_again(told)) from None
    except RefusedPublicationError as error:
        raise EmitError(f"the broker does not take it: {error}", hint="check what it allows this user to publish") from None
    except LinkError as error:
        raise EmitError(f"the broker: {error}", hint=_again(told)) from None
    finally:
        await connection.close()


def _broker(wanted: Wanted, client_id: str) -> Link:
    """Return how the broker of the configuration is reached.

    Raises:
        AgentflowError: it has none, or a secret or certificate is missing.
    """
    from agentflow.ingress.mqtt_setup import link_of

    project = app.load(config_file(wanted.config))
    project.require(may_lack_modes=True)
    if project.config.mqtt is None:
        raise UsageError("the configuration has no [mqtt]", hint="leave --topic out to send it over HTTP")
    return link_of(project, project.config.mqtt, client_id=client_id)
