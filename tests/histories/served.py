"""A read model that follows a history in memory, and HTTP over it, all real but the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Connection

from histories.made import History
from trackbook.adapters.execution.data_folders import DataFolders
from trackbook.adapters.execution.output_log import Kept, Piece
from trackbook.engine.errors import Refused
from trackbook.engine.ports import ExecutorUnavailable, Folders
from trackbook.http.app import create_app
from trackbook.http.transport.server import HttpServer
from trackbook.projections.database import Database
from trackbook.projections.read.finders import ReadModel
from trackbook.projections.tables import metadata, snapshots
from trackbook.projections.write.batch_writer import Writer
from trackbook.projections.write.projector import Projector

TOKEN = "token-of-the-tests"


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


async def caught_up(read: ReadModel, history: History) -> None:
    """Wait until all of the history is projected."""
    await read.settled(await history.store.head())


async def until(projector: Projector, condition: Callable[[], object]) -> None:
    """Wait until a condition on the projector holds."""
    async with asyncio.timeout(60):
        while not condition():
            await projector.moved()


def begun_anew(projector: Projector) -> bool:
    """Whether the projector has made its file again."""
    return projector.restarts == 1


class Gateway:
    """Answers every command with the same reply."""

    def __init__(self) -> None:
        self.reply: dict[str, Any] = {"command_id": "c", "status": "accepted", "seq": 0}
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

    async def extent(self, session: str) -> Kept | None:
        """Return all of it."""
        size = len(self.logs.get(session, b""))
        return Kept(size, size, size) if session in self.logs else None

    async def read(self, session: str, offset: int, limit: int) -> Piece:
        """Return a part."""
        return Piece(offset, self.logs.get(session, b"")[offset : offset + limit])

    async def follow(self, session: str, offset: int) -> AsyncIterator[Piece]:
        """Yield for ever."""
        while True:
            if data := self.logs.get(session, b"")[offset:]:
                yield Piece(offset, data)
                offset += len(data)
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
    """Says what it is asked to say."""

    def __init__(self) -> None:
        self.wrong: list[str] = []

    def warnings(self) -> list[str]:
        """Return none."""
        return []

    def problems(self) -> list[str]:
        """Return what is wrong."""
        return self.wrong

    def metrics(self) -> dict[str, float]:
        """Return figures."""
        return {"trackbook_sessions_running": 3}


class Tools:
    """The tools of the log, which find nothing wrong."""

    async def verify(self) -> dict[str, Any]:
        """Return that all is well."""
        return {"ok": True, "defects": []}

    async def log(self) -> dict[str, Any]:
        """Return that nothing was lost."""
        return {"head": 0, "witness": {"seq": 0, "sha256": ""}, "evidence": [], "accepted": [], "faults": []}

    async def quarantined(self, kind: str, id: str) -> dict[str, Any]:  # noqa: A002
        """Return a history that is damaged from its first commit on."""
        return {"kind": kind, "id": id, "version": 0, "faults": []}

    async def replay(self, job: str) -> dict[str, Any]:
        """Return that nothing differs."""
        return {"job": job, "divergence": None}


class Executors:
    """The local executor's folders, and a cluster that is away."""

    default = "local"

    def __init__(self, data: Path) -> None:
        self.data = data
        self.away: Any = Away()
        self.problem = ""

    async def refresh(self) -> None:
        """Do nothing: these stay."""

    def names(self) -> list[str]:
        """Return both."""
        return ["local", "backendai/away"]

    def stores(self) -> list[str]:
        """Return both."""
        return self.names()

    def store(self, name: str) -> str:
        """Return the name."""
        return name

    def folders(self, name: str) -> Folders:
        """Return real folders for `local`."""
        if name == "local":
            return DataFolders(self.data)
        if name not in self.names():
            raise Refused("unknown_executor", f"there is no executor {name!r}")
        folders: Folders = self.away
        return folders


class Away:
    """Folders of an executor that can't be reached, whatever is asked of them."""

    def __getattr__(self, name: str) -> Any:
        async def refuse(*_: Any) -> Any:
            raise ExecutorUnavailable("the cluster away can't be reached: connection refused")

        return refuse


class Site:
    """A server over a history, a client for it, and what stands behind it."""

    def __init__(self, history: History, read: ReadModel, data: Path) -> None:
        self.history, self.read = history, read
        self.executors = Executors(data)
        self.gateway, self.logs, self.status = Gateway(), Logs(), Health()
        self.app = create_app(
            read,
            self.gateway,
            self.logs,
            Contents(),
            self.status,
            Tools(),
            self.executors,
            blobs=history.blobs,
            token=TOKEN,
        )
        self.server = HttpServer(self.app, port=0, stopping=read.projector.feed.close)
        self.client = httpx.AsyncClient(timeout=60, headers={"authorization": f"Bearer {TOKEN}"})

    async def get(self, path: str, /, **query: Any) -> Any:
        """Return the JSON of an answer that must be 200."""
        answer = await self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def head(self) -> int:
        """Return the last sequence of the log."""
        return await self.history.store.head()


@asynccontextmanager
async def site(history: History, path: Path) -> AsyncIterator[Site]:
    """Serve a history on loopback."""
    async with projected(history, path) as read:
        served = Site(history, read, path.parent)
        served.client.base_url = await served.server.start()
        await read.settled(await history.store.head())
        try:
            yield served
        finally:
            await served.client.aclose()
            await served.server.stop()


async def all_rows(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Return every table of a read model, row by row, but for what depends on what was held in memory."""

    def dump(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
        return {
            table.name: sorted(tuple(row) for row in connection.execute(table.select()))
            for table in metadata.sorted_tables
            if table is not snapshots
        }

    return await database.read(dump)


async def written(
    history: History, path: Path, cuts: Iterable[int] = (), *, restarts: bool = False
) -> dict[str, list[tuple[Any, ...]]]:
    """Project a history in batches that end at `cuts`, with a restart before each if asked; return the rows."""
    database = Database(path)
    writer = Writer(database, history.store, history.blobs)
    await writer.resume(await database.open())
    bounds = sorted({0, len(history.store.commits), *cuts})
    for start, end in pairwise(bounds):
        if restarts:
            checkpoint = (writer.checkpoint, writer.digest)
            writer = Writer(database, history.store, history.blobs)
            await writer.resume(checkpoint)
        await writer.write(history.store.commits[start:end])
    rows = await all_rows(database)
    await database.close()
    return rows
