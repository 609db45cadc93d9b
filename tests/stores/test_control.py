"""The control socket: one JSON line each way, for nobody but the user."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agentflow.errors import StorageError, StoreError
from agentflow.stores import control
from agentflow.stores.control import LONGEST, ControlServer, ask


async def echo(order: Mapping[str, Any]) -> Mapping[str, Any]:
    """Answer an order with itself."""
    if order.get("is_bad"):
        raise ValueError("no way")
    return {"told": order}


@asynccontextmanager
async def serving(journal: Path) -> AsyncIterator[ControlServer]:
    """Serve beside a journal."""
    server = ControlServer(journal, echo)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def raw(address: str, line: bytes) -> bytes:
    """Send bytes and return what comes back."""
    reader, writer = await asyncio.open_unix_connection(address)
    try:
        writer.write(line)
        return await reader.read()
    finally:
        writer.close()


async def test_order_is_answered(tmp_path: Path) -> None:
    """Orders of several connections are answered, each on its own; the socket is the user's alone and goes at the end."""
    async with serving(tmp_path / "journal.db") as server:
        assert server.address == f"{tmp_path}/journal.db.sock"
        assert stat.S_IMODE(Path(server.address).stat().st_mode) == 0o600
        answers = await asyncio.gather(*(ask(server.address, {"n": number, "text": "é\n"}) for number in range(10)))
        assert answers == [{"told": {"n": number, "text": "é\n"}} for number in range(10)]
    assert not Path(server.address).exists()
    with pytest.raises(OSError, match="No such file"):
        await ask(server.address, {})
    await server.close()


async def test_left_over_socket_is_replaced(tmp_path: Path) -> None:
    """A socket that a killed owner has left is replaced; another file in its place is not touched."""
    address = tmp_path / "journal.db.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(address))
    with pytest.raises(ConnectionRefusedError):
        await ask(str(address), {})
    async with serving(tmp_path / "journal.db"):
        assert await ask(str(address), {}) == {"told": {}}
    address.write_text("mine", encoding="utf-8")
    with pytest.raises(StoreError, match="something else is there"):
        async with serving(tmp_path / "journal.db"):
            pass
    assert address.read_text(encoding="utf-8") == "mine"


async def test_long_path_has_a_short_address(tmp_path: Path) -> None:
    """Where the journal's path is too long for a socket, that is in a private folder of its own, which goes at the end."""
    async with serving(tmp_path / ("x" * 100) / "journal.db") as server:
        assert len(server.address) < 100
        assert stat.S_IMODE(Path(server.address).parent.stat().st_mode) == 0o700
        assert await ask(server.address, {"n": 1}) == {"told": {"n": 1}}
    assert not Path(server.address).parent.exists()


@pytest.mark.parametrize("line", [b"no json\n", b"[]\n", b"[" * 10_000 + b"\n", b'{"is_bad": true}\n', b"\xff\n"])
async def test_bad_order_is_answered_with_an_error(tmp_path: Path, line: bytes) -> None:
    """What is no order, and what its handler raises, is told to whoever asked; the server goes on."""
    async with serving(tmp_path / "journal.db") as server:
        assert json.loads(await raw(server.address, line))["error"]["message"]
        assert await ask(server.address, {}) == {"told": {}}


async def test_order_that_is_too_long_or_too_slow_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server reads a bounded line within a bounded time, and says nothing to whoever sends more, or nothing."""
    monkeypatch.setattr(control, "READ_S", 0.05)
    async with serving(tmp_path / "journal.db") as server:
        with pytest.raises(StorageError, match="did not answer"):
            await ask(server.address, {"text": "x" * LONGEST})
        assert await raw(server.address, b"") == b""
        assert await ask(server.address, {}) == {"told": {}}


async def test_answer_that_does_not_come_leaves_the_outcome_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gets no answer is told that nobody knows whether the order was carried out."""
    monkeypatch.setattr(control, "ANSWER_S", 0.05)
    monkeypatch.setattr(control, "CLOSE_S", 0.05)

    async def never(order: Mapping[str, Any]) -> Mapping[str, Any]:
        await asyncio.sleep(60)
        return order

    server = ControlServer(tmp_path / "journal.db", never)
    await server.start()
    with pytest.raises(StorageError) as caught:
        await ask(server.address, {})
    assert caught.value.is_unknown
    await server.close()
