"""What `agentflow serve` takes events from besides HTTP: the broker of [mqtt], where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentflow.cli.usage import UsageError

if TYPE_CHECKING:
    from agentflow.ingress.service import Ingress, Service


def brokers_of(service: Service) -> list[Ingress]:
    """Return the ways in by MQTT.

    Raises:
        UsageError: the extra [mqtt] is not installed.
        MqttSetupError: a secret or a certificate is missing.
    """
    config = service.runner.project.config.mqtt
    if config is None:
        return []
    try:
        from agentflow.ingress.mqtt import MqttIngress
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed, which [mqtt] needs", hint="pip install 'agentflow[server,mqtt]'") from None
    return [MqttIngress(service, config)]
