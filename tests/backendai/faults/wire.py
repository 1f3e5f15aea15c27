"""What lies between us and a manager: it sees every request, cuts what it is asked to, and loses answers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

EVENTS = "/events"


@dataclass(eq=False)
class Request:
    """One request: when it came (by the monotonic clock), and when the last of its answer went back."""

    method: str
    path: str
    body: bytes
    came: float
    answered: float = 0.0
    heard: list[tuple[float, bytes]] = field(default_factory=list)

    @property
    def is_events(self) -> bool:
        """Whether it opened the stream of events."""
        return self.path.startswith(EVENTS)


class Wire:
    """Forwards HTTP to a port on loopback, request by request.

    `loses` names the requests whose answers never arrive, though they were done; `silent` refuses streams of
    events.
    """

    def __init__(self, endpoint: str) -> None:
        self._target = urlsplit(endpoint).port
        self._open: dict[asyncio.StreamWriter, Request | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[Request] = []
        self.loses: Callable[[Request], bool] = lambda _: False
        self.silent = False
        self.endpoint = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.endpoint = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut_events(self) -> int:
        """Break the streams of events that are open; returns how many."""
        streams = [writer for writer, request in self._open.items() if request and request.is_events]
        for writer in streams:
            writer.transport.abort()
        return len(streams)

    def kinds(self, since: int = 0) -> Counter[str]:
        """Count requests by method and path without its query and ids, from the given number on."""
        return Counter(f"{each.method} {_kind(each.path)}" for each in self.requests[since:])

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self._open[writer] = None
        theirs: asyncio.StreamWriter | None = None
        try:
            answers, theirs = await asyncio.open_connection("127.0.0.1", self._target)
            pumping = asyncio.create_task(self._answer(answers, writer))
            self._tasks.add(pumping)
            pumping.add_done_callback(self._tasks.discard)
            while (asked := await self._read(reader)) is not None:
                request, data = asked
                self.requests.append(request)
                self._open[writer] = request
                if request.is_events and self.silent:
                    break
                theirs.write(data)
                await theirs.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for each in (writer, theirs):
                if each:
                    each.transport.abort()
            self._open.pop(writer, None)
            self._tasks.discard(task)

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> tuple[Request, bytes] | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        size = next((int(line[15:]) for line in lines if line.lower().startswith("content-length:")), 0)
        body = await reader.readexactly(size)
        method, path, _ = first.split(" ")
        return Request(method, path, body, time.monotonic()), head + body

    async def _answer(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await answers.read(65536):
                request = self._open.get(writer)
                if request is not None:
                    request.answered = time.monotonic()
                    if request.is_events:
                        request.heard.append((request.answered, data))
                    if self.loses(request):
                        break
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


def _kind(path: str) -> str:
    """Return a path without what differs from one request to the next of its kind."""
    parts = urlsplit(path).path.split("/")
    return "/".join("…" if len(part) > 20 else part for part in parts)
