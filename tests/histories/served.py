"""A read model that follows a history in memory, and HTTP over it, all real but the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from histories.made import History
from trackbook.projections.find import ReadModel
from trackbook.projections.projector import Projector


@asynccontextmanager
async def projected(history: History, path: Path) -> AsyncIterator[ReadModel]:
    """Follow the history with a projector for as long as this is open."""
    projector = Projector(path, history.store, history.blobs)
    await projector.start()
    running = asyncio.create_task(projector.run())
    try:
        yield ReadModel(projector, history.store, history.blobs)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await projector.close()


class Gateway:
    """Answers every command with the same reply."""

    def __init__(self) -> None:
        self.reply: dict[str, Any] = {"command_id": "c", "status": "accepted", "seq": 1}
        self.asked: list[tuple[str, str, bytes, str]] = []

    async def handle(self, kind: str, verb: str, payload: bytes, actor: str) -> dict[str, Any]:
        """Remember and answer."""
        self.asked.append((kind, verb, payload, actor))
        return self.reply


class Logs:
    """Logs of sessions in memory; `write` and `end` are what a session does."""

    def __init__(self) -> None:
        self.logs: dict[str, bytes] = {}
        self._more = asyncio.Event()

    def write(self, session: str, data: bytes) -> None:
        """Let a session write."""
        self.logs[session] = self.logs.get(session, b"") + data
        self._more.set()

    async def size(self, session: str) -> int | None:
        """Return the length."""
        return len(self.logs[session]) if session in self.logs else None

    async def read(self, session: str, offset: int, limit: int) -> bytes:
        """Return a part."""
        return self.logs.get(session, b"")[offset : offset + limit]

    async def follow(self, session: str, offset: int) -> AsyncIterator[bytes]:
        """Yield for ever."""
        while True:
            if data := self.logs.get(session, b"")[offset:]:
                offset += len(data)
                yield data
            else:
                self._more.clear()
                await self._more.wait()


class Contents:
    """Contents that only say which version they are."""

    async def content(self, pipeline: str, version: int) -> dict[str, Any]:
        """Return a content."""
        return {"name": pipeline, "version": version, "tasks": []}

    async def yaml(self, pipeline: str, version: int) -> str:
        """Return YAML."""
        return f"name: {pipeline}\nversion: {version}\n"

    async def diff(self, pipeline: str, first: int, last: int) -> list[dict[str, Any]]:
        """Return changes."""
        return [{"type": "TaskAdded", "pipeline": pipeline, "span": last - first}]


class Health:
    """Says what it is told to say."""

    def __init__(self) -> None:
        self.wrong: list[str] = []

    def problems(self) -> list[str]:
        """Return what is wrong."""
        return self.wrong

    def metrics(self) -> dict[str, float]:
        """Return figures."""
        return {"trackbook_sessions_running": 3}
