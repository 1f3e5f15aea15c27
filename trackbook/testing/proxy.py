"""A TCP proxy that drops data on request: for tests of broken connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from random import Random
from typing import Self


class Proxy:
    """Forwards connections to a port on loopback until they are cut; `deaf` swallows what the server says."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.deaf = False
        self.port = 0
        self._received = 0
        self._read = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """Where it listens, as a broker's URL."""
        return f"nats://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Break all connections at once; new ones are forwarded again and heard."""
        self.deaf = False
        for writer in self._writers:
            writer.transport.abort()

    async def received(self, reads: int) -> None:
        """Wait until the server has sent something that many more times, swallowed or not."""
        wanted = self._received + reads
        async with self._read:
            await self._read.wait_for(lambda: self._received >= wanted)

    @contextlib.asynccontextmanager
    async def disturbed(self, moments: Random, most: int) -> AsyncIterator[None]:
        """Break all connections again and again, each time after the server has sent something 1 to `most` times.

        Half of the times what it sends is swallowed first. Connections are heard again behind the block: a
        disturbance that ended while deaf would leave its clients without an answer for good.
        """

        async def disturb() -> None:
            while True:
                await self.received(moments.randint(1, most))
                self.deaf = moments.random() < 0.5
                await self.received(1)
                self.cut()

        disturbance = asyncio.create_task(disturb())
        try:
            yield
        finally:
            disturbance.cancel()
            await asyncio.wait([disturbance])
            self.cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, server_writer}
        for source, sink, heard in ((reader, server_writer, False), (server_reader, writer, True)):
            task = asyncio.create_task(self._pump(source, sink, from_server=heard))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, from_server: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if from_server:
                    await self._count()
                if not (from_server and self.deaf):
                    sink.write(data)
                    await sink.drain()
        sink.transport.abort()
        self._writers.discard(sink)

    async def _count(self) -> None:
        self._received += 1
        async with self._read:
            self._read.notify_all()
