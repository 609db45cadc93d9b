"""How a broker is reached by what a configuration says, with all files and secrets found; what is missing stops the start."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from agentflow.config.display import quoted
from agentflow.config.mqtt import MqttConfig
from agentflow.errors import AgentflowError
from agentflow.ingress.manual_ack import Link

if TYPE_CHECKING:
    from agentflow.app import Project


class MqttSetupError(AgentflowError):
    """The broker cannot be reached as it is configured: a secret or a certificate is missing."""

    code = "AF0830"


def link_of(project: Project, config: MqttConfig, *, client_id: str = "") -> Link:
    """Return how the broker is reached; under a `client_id` of its own, one that it forgets as soon as the connection ends.

    Raises:
        MqttSetupError: the password or a certificate cannot be had.
    """
    host, port = config.address
    return Link(
        host,
        port,
        client_id or config.client_id or f"agentflow-{project.config.agent_flow.name}",
        user=config.user,
        password=_password(project, config),
        tls=_tls(project, config) if config.is_tls else None,
        receive_maximum=config.receive_maximum,
        session_expiry_s=0 if client_id else config.session_expiry_seconds,
    )


def _password(project: Project, config: MqttConfig) -> str | None:
    if config.password is None:
        return None
    try:
        return config.password.resolved(project.draft.folder_of(("mqtt", "password")))
    except LookupError as error:
        raise MqttSetupError(
            f"there is no password for the broker: {error.args[0]}", hint="put it there, or correct [mqtt] password"
        ) from None


def _tls(project: Project, config: MqttConfig) -> ssl.SSLContext:
    """Return a context that checks the broker's certificate and its name."""

    def path(key: str, value: str | None) -> Path | None:
        return None if value is None else (project.draft.folder_of(("mqtt", key)) / value).absolute()

    ca, cert, key = path("ca", config.ca), path("cert", config.cert), path("key", config.key)
    try:
        context = ssl.create_default_context(cafile=ca)
        if cert is not None:
            context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(quoted(one) for one in (ca, cert, key) if one is not None)
        told = f"TLS cannot be had with {files}: {error.strerror or error}"
        raise MqttSetupError(told, hint="name certificates, and their key, in PEM") from None
    return context
