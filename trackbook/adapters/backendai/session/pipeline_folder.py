"""Pipelines' folders as sessions use them: created before they run, with the records that wrappers leave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

from trackbook.adapters.backendai.api.client import part
from trackbook.adapters.backendai.api.cluster_connection import ClusterConnection
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.storage import Item, Storage
from trackbook.adapters.backendai.folders import ClusterFolders
from trackbook.adapters.backendai.session import exit_record, plan
from trackbook.engine.ports import ExecutorUnavailable, SessionSpec

_T = TypeVar("_T")
REMOVED = "folder-removed"
"""The slug of our own error for a pipeline's folder that somebody deleted on the cluster."""


class PipelineFolders:
    """Creates each pipeline's folder once and reads records from it. Each call may raise ClusterError."""

    def __init__(self, connection: ClusterConnection, data: Path) -> None:
        self._connection = connection
        self._storage = Storage(connection.client)
        self._folders = ClusterFolders(self._storage, data, connection.installation)
        self._named: dict[str, str] = {}
        self._made: dict[str, set[str]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def prepare(self, pipeline: str, paths: list[str], label: str = "") -> str:
        """Have the folders there, the pipeline's own as well, whose name is returned and contains `label`.

        Asks only for what was not made here before. A pipeline's folder that somebody deleted is a ClusterError
        `folder-removed`.
        """
        async with self._locks.setdefault(pipeline, asyncio.Lock()):
            known = pipeline in self._made
            if not known:
                await self._begin(pipeline, label)
        missing = [path for path in paths if path not in self._made[pipeline]]
        if not missing:
            return self._named[pipeline]
        try:
            await self._storage.mkdir(self._named[pipeline], missing)
        except ClusterError as error:
            if error.kind != "permanent" or not known:
                raise
            await self._begin(pipeline, label)  # somebody may have removed it, with all that was in it
            missing = paths
            await self._storage.mkdir(self._named[pipeline], missing)
        self._made.setdefault(pipeline, set()).update(missing)
        return self._named[pipeline]

    async def _begin(self, pipeline: str, label: str) -> None:
        """Have the pipeline's folder; one that somebody deleted is not replaced by an empty one unseen."""
        with _in_its_words():
            state = await self._folders.state(pipeline)
            if state.state == "missing":
                self._made.pop(pipeline, None)
                message = (
                    f"the pipeline's folder {state.name} was deleted on the cluster by someone else; "
                    "`trackbook files create PIPELINE` creates it again, or restores it from the trash"
                )
                raise ClusterError(self._connection.cluster.name, "permanent", REMOVED, message)
            state = await self._folders.create(pipeline, label)
        self._named[pipeline] = state.name
        self._made[pipeline] = set()

    async def is_there(self, pipeline: str) -> bool:
        """Whether the pipeline has a folder, without which no session can be there that runs."""
        if pipeline in self._made:
            return True
        with _in_its_words():
            return (await self._folders.state(pipeline)).state == "present"

    async def is_removed(self, pipeline: str) -> bool:
        """Whether the pipeline's folder is not there any more, by its id."""
        with _in_its_words():
            return (await self._folders.state(pipeline)).state != "present"

    async def claim(self, spec: SessionSpec) -> bool:
        """Take the attempt, so that no wrapper will ever run its command; False where somebody has it.

        Without the pipeline's folder no wrapper can take it, nor need we.
        """
        try:
            await self.prepare(spec.pipeline, [exit_record.folder(spec.job)], spec.pipeline_name)
        except ClusterError as error:
            if error.slug == REMOVED:
                return True
            raise
        body = {"path": exit_record.path(spec, "claim"), "parents": False, "exist_ok": False}
        try:
            await self._connection.client.request(
                "POST", f"/folders/{part(self._named[spec.pipeline])}/mkdir", body=body
            )
        except ClusterError:  # the managers' words differ; after a lost answer it may be ours, which does no harm
            if await self.is_claimed(spec):
                return False
            raise
        return True

    async def is_claimed(self, spec: SessionSpec) -> bool:
        """Whether somebody has the attempt."""
        try:
            inside = await self._in_folder(
                spec.pipeline, lambda name: self._storage.items(name, exit_record.path(spec, "claim"))
            )
        except ClusterError as error:
            if _is_missing(error):
                return False
            raise
        return inside is not None

    async def records(self, pipeline: str, job: str) -> dict[str, Item]:
        """Return what there is of a job's sessions, by name; nothing where there is no such folder.

        The storage proxy cuts long listings without saying so: nothing follows from what is not in this one.
        """
        try:
            found = await self._in_folder(
                pipeline, lambda name: self._storage.items(name, exit_record.folder(job))
            )
        except ClusterError as error:
            if _is_missing(error):
                return {}
            raise
        return {item.name: item for item in found or []}

    async def read(self, spec: SessionSpec, suffix: str, start: int = 0, size: int | None = None) -> bytes | None:
        """Return a record's bytes from `start` on, None where there is no such file."""
        return await self._read(spec, exit_record.path(spec, suffix), start, size)

    async def read_output(self, spec: SessionSpec, name: str, size: int) -> bytes | None:
        """Return at most `size` bytes of a file in the attempt's outputs, None where there is no such file."""
        return await self._read(spec, f"{plan.outputs(spec)}/{name}", 0, size)

    async def _read(self, spec: SessionSpec, path: str, start: int, size: int | None) -> bytes | None:
        end = None if size is None else start + size

        async def whole(name: str) -> bytes:
            return b"".join([chunk async for chunk in self._storage.read(name, path, start, end)])

        try:
            return await self._in_folder(spec.pipeline, whole)
        except ClusterError as error:
            if _is_missing(error):
                return None
            raise

    async def has(self, pipeline: str, path: str) -> bool:
        """Whether the folder, which was prepared, has a file; one that was seen or put there is remembered."""
        if path in self._made[pipeline]:
            return True
        found = await self._in_folder(pipeline, lambda name: self._storage.find(name, path))
        if found:
            self._made.setdefault(pipeline, set()).add(path)
        return found is not None

    async def put(self, pipeline: str, path: str, chunks: AsyncIterator[bytes], size: int) -> None:
        """Upload a file of `size` bytes into the folder, which was prepared: whole, or it is as it was before."""
        await self._storage.write(self._named[pipeline], path, chunks, size)
        self._made.setdefault(pipeline, set()).add(path)

    async def write(self, spec: SessionSpec, suffix: str, data: bytes) -> None:
        """Leave a record of ours."""
        path = exit_record.path(spec, suffix)
        await self._in_folder(spec.pipeline, lambda name: self._storage.write_small(name, path, data))

    async def _in_folder(self, pipeline: str, work: Callable[[str], Awaitable[_T]]) -> _T:
        """Do something in the pipeline's folder by its name, which somebody may change; its id leads to it."""
        known = self._named.get(pipeline)
        if known:
            try:
                return await work(known)
            except ClusterError as error:
                if not _is_missing(error) or error.slug == "file-not-found":
                    raise
        name = await self._look_up(pipeline)
        return await work(name)

    async def _look_up(self, pipeline: str) -> str:
        with _in_its_words():
            name = (await self._folders.state(pipeline)).name
        self._named[pipeline] = name
        return name


@contextlib.contextmanager
def _in_its_words() -> Iterator[None]:
    """Raise what the cluster said, where that was put into the words of the folders' port."""
    try:
        yield
    except ExecutorUnavailable as error:
        raise error.__cause__ if isinstance(error.__cause__, ClusterError) else error from None


def _is_missing(error: ClusterError) -> bool:
    """Whether there is no such file; a folder in the trash has none (26.8)."""
    return error.missing or error.slug == "vfolder-filter-status-failed"
