"""Upload archives of code, each once, into its pipeline's folder, where sessions find it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from trackbook.adapters.backendai.session import exit_record
from trackbook.adapters.backendai.session.pipeline_folder import PipelineFolders
from trackbook.adapters.execution.code_archive import Copies, check
from trackbook.engine.mounts import parse
from trackbook.engine.ports import Blobs, SessionSpec

_CHUNK = 4 * 2**20
"""Bytes after which an upload looks whether it is still wanted."""


class Archives:
    """Uploads archives, one at a time, so that few are in memory at once."""

    def __init__(self, pipeline_folders: PipelineFolders, blobs: Blobs | None) -> None:
        self._pipeline_folders = pipeline_folders
        self._copies = Copies(blobs)
        self._checked: set[tuple[str, frozenset[str]]] = set()
        self._damaged: set[tuple[str, str]] = set()
        self._turn = asyncio.Lock()

    async def place(self, spec: SessionSpec, asked: Callable[[], bool]) -> None:
        """Have the archive of a session's code in the pipeline's folder, whole, or stop once `asked` says so.

        What it holds is checked before it is uploaded, and that it leaves room for the session's mounts. Raises
        ClusterError, and BadCode for code that can't be used.
        """
        mounts = frozenset(mount.below_work for mount in map(parse, spec.mounts) if mount.below_work)
        async with self._turn:
            await self._pipeline_folders.prepare(spec.pipeline, [exit_record.ARCHIVES], spec.pipeline_name)
            there = await self._is_there(spec)
            if asked() or (there and (not mounts or (spec.code, mounts) in self._checked)):
                return
            data = await self._copies.archive(spec)
            await asyncio.to_thread(check, io.BytesIO(data), mounts)
            self._checked.add((spec.code, mounts))
            if not there:
                await self._upload(spec, data, asked)

    async def _is_there(self, spec: SessionSpec) -> bool:
        if (spec.pipeline, spec.code) in self._damaged:
            return False
        return await self._pipeline_folders.has(spec.pipeline, exit_record.archive(spec.code))

    async def _upload(self, spec: SessionSpec, data: bytes, asked: Callable[[], bool]) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(data), _CHUNK):
                if asked():
                    raise _NotWanted
                yield data[start : start + _CHUNK]

        with suppress(_NotWanted):
            await self._pipeline_folders.put(spec.pipeline, exit_record.archive(spec.code), pieces(), len(data))
            self._damaged.discard((spec.pipeline, spec.code))

    def was_bad(self, spec: SessionSpec) -> None:
        """Upload the archive again for the next session: one has found it missing or damaged."""
        self._damaged.add((spec.pipeline, spec.code))


class _NotWanted(Exception):
    """The session's end was asked for during the upload."""
