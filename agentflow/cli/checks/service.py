"""What the service needs beside its journal: a token, certificates, secrets, and a broker that can be reached."""

from __future__ import annotations

import asyncio
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

from agentflow.app import Project
from agentflow.cli.checks.finding import Finding
from agentflow.config.display import KeyPath, dotted
from agentflow.config.mqtt import MqttConfig
from agentflow.config.references import SecretReference
from agentflow.config.section import Section
from agentflow.config.serving import exposures
from agentflow.config.source import reason_of
from agentflow.ingress.tokens import TokenError, read

CONNECT_S = 3.0

_OTHERS = 0o077


def token(project: Project) -> Iterator[Finding]:
    """Yield whether there is a token to guard the service with; nothing where nobody has served or wants to."""
    config = project.config.serve
    path = _path(project, "token_file", config.token_file)
    is_given = "token_file" in config.given
    if not is_given and not path.exists():
        if "serve" in project.config.given:
            yield Finding("token", "ok", f"the first start of the service makes its token in {path}")
        return
    try:
        read(path)
        mode = stat.S_IMODE(path.stat().st_mode)
    except TokenError as error:
        yield Finding("token", "problem", error.message, error.hint)
        return
    if mode & _OTHERS:
        told = f"others can read the token file {path} (mode {mode:o})"
        yield Finding("token", "advice" if is_given else "problem", told, f"chmod 600 {path}, and replace the token")
    else:
        yield Finding("token", "ok", f"the token is in {path}")


def protection(project: Project) -> Iterator[Finding]:
    """Yield what is missing for the address that the service is to listen at."""
    config = project.config.serve
    if config.tls_cert is not None and config.tls_key is not None:
        files = _path(project, "tls_cert", config.tls_cert), _path(project, "tls_key", config.tls_key)
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*files)
            yield Finding("tls", "ok", f"the certificate {files[0]} and its key fit together")
        except (OSError, ssl.SSLError) as error:
            told = f"TLS cannot be had with {files[0]} and {files[1]}: {error.strerror or error}"
            yield Finding("tls", "problem", told, "name a certificate chain and its key, both in PEM")
    for told, advice in exposures(config):
        yield Finding("address", "problem", told, advice)


def secrets(project: Project) -> Iterator[Finding]:
    """Yield which secrets that the configuration refers to are not there, or lie open."""
    for path, reference in _references(project.config, ()):
        folder = project.draft.folder_of(path)
        try:
            reference.resolved(folder)
        except LookupError as error:
            yield Finding("secrets", "problem", f"{dotted(path)}: {error.args[0]}", "put it there, or correct the reference")
            continue
        mode = 0 if reference.file is None else stat.S_IMODE((folder / reference.file).stat().st_mode)
        if mode & _OTHERS:
            told = f"others can read the secret of {dotted(path)} in {folder / (reference.file or '')} (mode {mode:o})"
            yield Finding("secrets", "advice", told, f"chmod 600 {folder / (reference.file or '')}, and take a new secret")
        else:
            yield Finding("secrets", "ok", f"the secret of {dotted(path)} is there")


def _references(value: object, path: KeyPath) -> Iterator[tuple[KeyPath, SecretReference]]:
    if isinstance(value, SecretReference):
        yield path, value
    elif isinstance(value, Section):
        for key, inner in value:
            yield from _references(inner, (*path, key))
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _references(inner, (*path, str(key)))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _references(inner, (*path, number))


async def broker(config: MqttConfig, within_s: float = CONNECT_S) -> Finding:
    """Say whether the broker takes connections; nobody logs in."""
    host, port = config.address
    try:
        async with asyncio.timeout(within_s):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
    except TimeoutError:
        why = f"it has not answered for {within_s:g} s"
    except OSError as error:
        why = reason_of(error)
    else:
        return Finding("broker", "ok", f"the broker at {host} port {port} takes connections")
    told = f"the broker at {host} port {port} cannot be reached: {why}"
    advice = "start it, or correct [mqtt] url; the service waits for it, and takes other events meanwhile"
    return Finding("broker", "problem", told, advice)


def _path(project: Project, key: str, value: str) -> Path:
    return (project.draft.folder_of(("serve", key)) / value).absolute()
