"""The read model's file: one connection that writes, a few that read, and errors for a full disk."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, select, update
from sqlalchemy.exc import DatabaseError
from sqlalchemy.util import greenlet_spawn

from trackbook.private_files import private_file
from trackbook.projections.errors import DamagedError, DiskFullError, LockedError, UnavailableError
from trackbook.projections.loop_thread import LoopThread
from trackbook.projections.tables import MODEL, checkpoint, metadata

T = TypeVar("T")
READERS = 4
PATIENCE = 10.0
"""Seconds for which a read waits while the file is being exchanged."""

_SIDE_FILES = ("-wal", "-shm", "-journal")


class _Side:
    """Connections to the file, and the thread that works with them.

    `greenlet_spawn` is what SQLAlchemy's AsyncEngine is made of; that itself imports the whole ORM, which is an
    eighth of all that a server imports.
    """

    def __init__(self, name: str, path: Path, connections: int, pragmas: tuple[str, ...]) -> None:
        self._engine = _engine(path, connections, pragmas)
        self._thread = LoopThread(f"read-model-{name}")

    async def write(self, work: Callable[[Connection], T]) -> T:
        def transaction() -> T:
            with self._engine.begin() as connection:
                return work(connection)

        return await self._thread.run(greenlet_spawn(transaction))

    async def read(self, work: Callable[[Connection], T]) -> T:
        def reading() -> T:
            with self._engine.connect() as connection:
                return work(connection)

        return await self._thread.run(greenlet_spawn(reading))

    async def close(self) -> None:
        await self._thread.run(greenlet_spawn(self._engine.dispose))
        await asyncio.to_thread(self._thread.close)


class Database:
    """The read model's SQLite file, in WAL mode.

    Work on it runs in threads of its own, one to write and one to read: the rows of a large job take long.

    `synchronous` is NORMAL: after a power cut the last transactions may be gone, rows and checkpoint together,
    and the projector takes them from the log again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: _Side | None = None
        self._readers: _Side | None = None
        self._working = 0
        self._rests = asyncio.Event()
        self._may_read = asyncio.Event()

    async def open(self) -> tuple[int, str]:
        """Open or create the file and return its checkpoint: sequence and digest; raises DamagedError."""
        return await finish_despite_cancel(self._open())

    async def _open(self) -> tuple[int, str]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        private_file(self.path)  # SQLite gives the files beside it the same mode
        self._writer = _Side(
            "writer", self.path, 1, ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=10000")
        )
        found = await self.write(_prepare)
        self._readers = _Side("readers", self.path, READERS, ("query_only=ON", "busy_timeout=10000"))
        self._may_read.set()
        return found

    async def close(self) -> None:
        """Close all connections, once what is under way on them is done."""
        await finish_despite_cancel(self._close())

    async def _close(self) -> None:
        self._may_read.clear()
        while self._working:
            self._rests.clear()
            await self._rests.wait()
        for side in (self._readers, self._writer):
            if side is not None:
                await side.close()
        self._readers = self._writer = None

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction; raises DiskFullError, LockedError, DamagedError or others."""
        return await finish_despite_cancel(self._counted(self._write(work)))

    async def _write(self, work: Callable[[Connection], T]) -> T:
        assert self._writer is not None
        try:
            return await self._writer.write(work)
        except DatabaseError as error:
            raise self._in_words(error) from error

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which only reads; waits while the file is being exchanged. Raises DamagedError."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._may_read.wait()
        except TimeoutError:
            raise UnavailableError("the read model's file can't be opened now; /health/ready says why") from None
        return await finish_despite_cancel(self._counted(self._read(work)))

    async def _read(self, work: Callable[[Connection], T]) -> T:
        assert self._readers is not None
        try:
            return await self._readers.read(work)
        except DatabaseError as error:
            raise self._in_words(error) from error

    async def replace_by(self, path: Path) -> tuple[int, str]:
        """Put another finished file in this one's place; readers wait for as long as that takes."""
        return await finish_despite_cancel(self._replace_by(path))

    async def _replace_by(self, path: Path) -> tuple[int, str]:
        await self.close()
        self._remove_side_files()
        path.replace(self.path)  # noqa: ASYNC240 - a rename
        return await self.open()

    async def set_aside(self, name: str) -> Path:
        """Move the file to `name` beside it, so that a new one can be begun, and return where it went."""
        return await finish_despite_cancel(self._set_aside(name))

    async def _set_aside(self, name: str) -> Path:
        await self.close()
        self._remove_side_files()
        aside = self.path.with_name(name)
        if self.path.exists():
            self.path.replace(aside)
        return aside

    async def remove(self) -> None:
        """Close and delete the file."""
        await finish_despite_cancel(self._remove())

    async def _remove(self) -> None:
        await self.close()
        self._remove_side_files()
        self.path.unlink(missing_ok=True)

    def _counted(self, work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """Count work from now on, before its first step, so that closing waits for it."""
        self._working += 1

        async def counted() -> T:
            try:
                return await work
            finally:
                self._working -= 1
                self._rests.set()

        return counted()

    def _remove_side_files(self) -> None:
        for suffix in _SIDE_FILES:
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def _in_words(self, error: DatabaseError) -> Exception:
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return DamagedError(f"{self.path} is damaged: {error.orig}")
        # The shared-memory file of WAL can't say that the disk is full: it only reports an I/O error.
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _no_space(self.path)):
            return DiskFullError(f"the disk that holds {self.path} is full")
        if code == sqlite3.SQLITE_BUSY:
            hint = f"`lsof {self.path}` shows which; end it."
            return LockedError(f"another program has {self.path} locked", hint)
        return error


async def finish_despite_cancel(work: Coroutine[Any, Any, T]) -> T:
    """Await work that is finished even when its caller is cancelled, who then waits for that.

    A connection whose statement is cancelled in the middle can't be used, and with aiosqlite not even closed.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        with suppress(asyncio.CancelledError):  # a second cancellation is obeyed; the work continues
            await asyncio.wait({task})
        raise


def _no_space(path: Path) -> bool:
    return shutil.disk_usage(path.parent).free < 1 << 20


def _engine(path: Path, connections: int, pragmas: tuple[str, ...]) -> Engine:
    url = URL.create("sqlite+aiosqlite", database=str(path))
    engine = create_engine(url, pool_size=connections, max_overflow=0)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


def _prepare(connection: Connection) -> tuple[int, str]:
    metadata.create_all(connection)
    row = connection.execute(select(checkpoint)).one_or_none()
    if row is None:
        connection.execute(insert(checkpoint), {"one": 1, "model": MODEL, "seq": 0, "digest": ""})
        return 0, ""
    if row.model != MODEL:
        raise DamagedError(
            f"the read model's file has form {row.model}, this version of Trackbook writes {MODEL}"
        )
    return row.seq, row.digest


def set_checkpoint(connection: Connection, seq: int, digest: str) -> None:
    """Note up to where the rows go, in the same transaction as the rows."""
    connection.execute(update(checkpoint).values(seq=seq, digest=digest))
