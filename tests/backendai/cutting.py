"""Connections to a storage proxy that break in the middle."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self

import httpx


class Cutter:
    """Puts itself between a client and storage proxies, and cuts each connection after so many bytes.

    `sent` counts what goes up, `received` what comes down. The first requests of a client learn the way here.
    """

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.sent = self.received = 2**62
        self.cuts = 0
        self._client = client
        self._targets: dict[int, tuple[str, int]] = {}
        self._servers: dict[tuple[str, int], asyncio.Server] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._client.event_hooks["request"] = [self._redirect]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.event_hooks["request"] = []
        for server in self._servers.values():
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _redirect(self, request: httpx.Request) -> None:
        if "token=" not in str(request.url):
            return
        target = (request.url.host, request.url.port or 80)
        if target not in self._servers:
            self._servers[target] = await asyncio.start_server(
                lambda reader, writer: self._serve(target, reader, writer), "127.0.0.1", 0
            )
        port = self._servers[target].sockets[0].getsockname()[1]
        request.url = request.url.copy_with(host="127.0.0.1", port=port)

    async def _serve(
        self, target: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        there, back = await asyncio.open_connection(*target)
        ways = [
            asyncio.create_task(self._pump(reader, back, self.sent)),
            asyncio.create_task(self._pump(there, writer, self.received)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for each in (writer, back):
                each.transport.abort()
            await asyncio.gather(*ways, return_exceptions=True)
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int) -> None:
        with suppress(OSError):
            while data := await reader.read(min(65536, most)):
                writer.write(data)
                await writer.drain()
                most -= len(data)
                if most <= 0:
                    self.cuts += 1
                    return
