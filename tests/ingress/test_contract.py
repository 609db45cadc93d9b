"""The service keeps to its own OpenAPI, whatever it is sent (schemathesis; S20)."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.ingress.conftest import TOKEN, served

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    ignored_auth,
    unsupported_method,
]
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
EXAMPLES = 25  # of each operation; besides them each boundary of each parameter is tried
WAIT_S = 20.0


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve in a thread of its own, with one run of each kind to be found."""
    begun, told = threading.Event(), dict[str, Any]()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(tmp_path_factory.mktemp("contract"), begun, told)))
    thread.start()
    assert begun.wait(WAIT_S)
    yield told["url"]
    told["loop"].call_soon_threadsafe(told["over"].set)
    thread.join(WAIT_S)


async def _serve(folder: Path, begun: threading.Event, told: dict[str, Any]) -> None:
    async with served(folder) as it:
        await it.client.post("/v1/events?wait=5s", json={"id": "known"})
        told.update(url=it.http.url, loop=asyncio.get_running_loop(), over=asyncio.Event())
        begun.set()
        await told["over"].wait()


@pytest.fixture(scope="module")
def operations(url: str) -> list[Any]:
    """What the service says that it can be asked."""
    described = schemathesis.openapi.from_url(f"{url}/openapi.json", headers=HEADERS)
    described.config.update(base_url=url)
    return [found.ok() for found in described.get_all_operations()]


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_s20_every_answer_is_one_that_the_description_names(operations: list[Any], mode: GenerationMode) -> None:
    """Good, bad and odd requests: never a fault, always a status, a media type and a body that are declared."""
    asked: Counter[str] = Counter()
    for operation in operations:
        try:
            cases = operation.as_strategy(generation_mode=mode)

            @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
            @given(case=cases)
            def ask(case: schemathesis.Case) -> None:
                case.call_and_validate(headers=HEADERS, checks=CHECKS)
                asked[case.operation.label] += 1

            ask()
        except Unsatisfiable:  # there is nothing wrong to be said to it
            continue
    print(f"{sum(asked.values())} requests, {len(asked)} of {len(operations)} operations, {mode.value}")
    assert len(asked) > len(operations) // 2


def test_every_address_is_described(url: str) -> None:
    """What is routed is described, and what is described is routed."""
    paths = httpx2.get(f"{url}/openapi.json", headers=HEADERS, trust_env=False).json()["paths"]
    assert {
        "/v1/events",
        "/v1/runs/{run_id}/approve",
        "/v1/runs",
        "/v1/runs/{run_id}",
        "/livez",
        "/metrics",
        "/openapi.json",
    } <= paths.keys()
