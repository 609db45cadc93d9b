"""The table that says where the service listens, and whom it answers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from agentflow.config.section import ADVICE, Section

_HOST_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*")
_ALLOWED_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:(?P<port>[0-9]{1,5}))?")
_ORIGIN = re.compile(r"https?://(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")


def _host(value: str) -> str:
    if is_address(value) or _HOST_NAME.fullmatch(value):
        return value
    raise PydanticCustomError("AF0104", "must be an address or a name of this machine", {ADVICE: 'e.g. "127.0.0.1", "::1" or "0.0.0.0"'})


def _allowed_host(value: str) -> str:
    if _ALLOWED_HOST.fullmatch(value):
        return value.lower()
    advice = 'as the browser sends it: "agents.example.com", "agents.example.com:8443"; no wildcards'
    raise PydanticCustomError("AF0104", "must be a host, with its port where it is not the scheme's own", {ADVICE: advice})


def _origin(value: str) -> str:
    if _ORIGIN.fullmatch(value):
        return value.lower()
    raise PydanticCustomError("AF0104", "must be an origin", {ADVICE: 'e.g. "https://agents.example.com"; no path, no wildcards'})


def is_address(host: str) -> bool:
    """Say whether a host is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach an address; of names that is known of `localhost` alone."""
    return host.lower() == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


class ServeConfig(Section):
    """Where the service listens, and whom it answers."""

    host: Annotated[str, AfterValidator(_host)] = Field(
        default="127.0.0.1",
        description="The address to listen at. Any but a loopback address needs a `token_file`, and TLS or `behind_proxy`.",
    )
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        default=8080, description="The port to listen at, 0 to 65,535; 0 takes a free one."
    )
    token_file: str = Field(
        default=".agentflow/token",
        description="The file with the token that every request has to carry, relative to the file that says it. "
        "The default one is made when it is missing; one that is given has to be there.",
    )
    allowed_hosts: list[Annotated[str, AfterValidator(_allowed_host)]] = Field(
        default=[],
        description="What the `Host` of a request may be, besides the address that the service listens at; exactly, with the port.",
    )
    allowed_origins: list[Annotated[str, AfterValidator(_origin)]] = Field(
        default=[], description="Which other sites' pages may change something here, by their `Origin`; exactly."
    )
    tls_cert: str | None = Field(
        default=None, description="The file with the certificate chain, relative to the file that says it; with `tls_key`."
    )
    tls_key: str | None = Field(default=None, description="The file with the certificate's key, relative to the file that says it.")
    behind_proxy: bool = Field(
        default=False,
        description="A proxy that speaks TLS stands in front, and tells in `X-Forwarded-For` who asks. Nobody else may reach the port.",
    )
    watch: bool = Field(default=False, description="Look every second whether the file has changed, and let it take over when it is valid.")

    @model_validator(mode="after")
    def _has_both_or_none(self) -> ServeConfig:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise PydanticCustomError("AF0104", "must have both of `tls_cert` and `tls_key`, or neither")
        return self


def exposures(config: ServeConfig) -> Iterator[tuple[str, str]]:
    """Yield what is missing for an address that other machines can reach, each with what to do; nothing for one of the loopback."""
    if is_loopback(config.host):
        return
    if "token_file" not in config.given:
        told = f"{config.host} can be reached from other machines, and no token is configured"
        yield told, "write a token to a file, and name it as `token_file` in [serve]"
    if config.tls_cert is None and not config.behind_proxy:
        told = f"{config.host} can be reached from other machines, and the token would go there in plain text"
        yield told, "set `tls_cert` and `tls_key` in [serve], or behind_proxy = true where a proxy speaks TLS"
