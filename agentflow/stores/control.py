"""Control: orders from other processes to the one that has a journal locked, over a Unix socket beside it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import tempfile
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from agentflow.errors import StorageError, StoreError

Handle: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]

LONGEST = 64 * 1024  # bytes of an order
LONGEST_ANSWER = 16 * 1024 * 1024
READ_S = 5.0  # from a connection to the whole order
ANSWER_S = 30.0  # from an order to its answer: it is recorded before
CLOSE_S = 1.0  # for answers that are on their way when the server closes
_LONGEST_PATH = 100  # bytes: the system's limit is a little above
_PRIVATE = 0o600


class ControlServer:
    """Takes orders, each a JSON object on one line of its own connection, and answers each with another.

    Only the journal's owner may serve beside it: whatever socket is found there is left over and replaced. Nobody but the
    user can connect.

    Args:
        journal: the journal's file.
        handle: answers an order; what it raises is told as an error that nobody expected.

    Attributes:
        address: where it listens: `<journal>.sock`, or a short name in a folder of its own where that is too long.
    """

    def __init__(self, journal: Path, handle: Handle) -> None:
        self.address = f"{journal}.sock"
        self._folder = ""
        if len(os.fsencode(self.address)) > _LONGEST_PATH:
            self._folder = tempfile.mkdtemp(prefix="agentflow-")  # 0700
            self.address = f"{self._folder}/control.sock"
        self._handle = handle
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            StoreError: there is a file at the address that is no socket, or none can be made there.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._bind(listener)
            self._server = await asyncio.start_unix_server(self._talk, sock=listener, limit=LONGEST)
        except OSError as error:
            listener.close()
            raise StoreError(f"{self.address} cannot take orders: {error.strerror or error}", hint="take another --journal PATH") from error

    def _bind(self, listener: socket.socket) -> None:
        self._remove()
        listener.bind(self.address)
        Path(self.address).chmod(_PRIVATE)  # nobody can connect before it listens

    async def close(self) -> None:
        """Take no more orders, finish answers that are on their way, and remove the socket; twice is once."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            if self._talks:
                await asyncio.wait(self._talks, timeout=CLOSE_S)
            for talk in tuple(self._talks):
                talk.cancel()
            with suppress(OSError):
                self._remove()
        self._leave_folder()

    def _leave_folder(self) -> None:
        if self._folder:
            with suppress(OSError):
                Path(self._folder).rmdir()

    def _remove(self) -> None:
        path = Path(self.address)
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise FileExistsError(0, "something else is there")
            path.unlink()

    async def _talk(self, reader: StreamReader, writer: StreamWriter) -> None:
        talk = asyncio.current_task()
        assert talk is not None  # noqa: S101 - each connection has its task
        self._talks.add(talk)
        try:
            async with asyncio.timeout(READ_S):
                line = await reader.readline()
            if line:
                writer.write(_line(await self._answer(line)))
                await writer.drain()
        except (OSError, ValueError):  # gone, too slow or too long: there is nobody to tell
            pass
        finally:
            self._talks.discard(talk)
            writer.close()

    async def _answer(self, line: bytes) -> Mapping[str, Any]:
        try:
            order = json.loads(line)
        except (ValueError, RecursionError):
            order = None
        if not isinstance(order, dict):
            return {"error": {"code": "AF0500", "message": "an order is a JSON object on one line", "hint": ""}}
        try:
            return await self._handle(order)
        except Exception as error:  # noqa: BLE001 - whoever asks is told; the owner goes on
            return {"error": {"code": "AF0500", "message": f"{type(error).__name__}: {error}", "hint": ""}}


async def ask(address: str, order: Mapping[str, Any]) -> dict[str, Any]:
    """Send an order to the owner of a journal and return its answer.

    Raises:
        OSError: nobody listens there.
        StorageError: there was no answer; whether the order was carried out is not known.
    """
    reader, writer = await asyncio.open_unix_connection(address, limit=LONGEST_ANSWER)
    try:
        async with asyncio.timeout(ANSWER_S):
            writer.write(_line(order))
            await writer.drain()
            told = dict(json.loads(await reader.readline()))
    except (OSError, ValueError, TypeError) as error:
        hint = "look with `agentflow runs show`, then ask again: an order that was carried out is not carried out twice"
        raise StorageError("the process that has the journal did not answer", is_unknown=True, hint=hint) from error
    else:
        return told
    finally:
        writer.close()


def _line(told: Mapping[str, Any]) -> bytes:
    return json.dumps(told, separators=(",", ":")).encode() + b"\n"
