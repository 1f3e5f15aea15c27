"""The pipelines' folders below the data directory, for executors of this machine."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from uuid import uuid4

from trackbook.adapters.sessions import folders
from trackbook.engine.ports import FileEntry, FolderMissing, FolderState, NoSuchFile, UnsafePath

_CHUNK = 256 * 1024


class DataFolders:
    """Implements `trackbook.engine.ports.Folders` on `DATA/pipelines/<id>`."""

    def __init__(self, data: Path) -> None:
        self._data = data.resolve()

    def root(self, pipeline: str) -> Path:
        """Return where the pipeline's folder is or would be; raises UnsafePath."""
        try:
            return self._data / "pipelines" / folders.part(pipeline)
        except ValueError as error:
            raise UnsafePath(str(error)) from None

    async def state(self, pipeline: str) -> FolderState:
        """Look whether the folder is there; one that was removed can't be told from one never made."""
        root = self.root(pipeline)
        return FolderState("present" if root.is_dir() else "none", root.name, root.name)

    async def create(self, pipeline: str) -> FolderState:
        """Make the folder with its `vfroot`."""
        folders.vfroot(self._data, pipeline).mkdir(parents=True, exist_ok=True)
        return await self.state(pipeline)

    async def purge(self, pipeline: str) -> bool:
        """Delete the folder with all that is in it."""
        root = self.root(pipeline)
        if not root.is_dir():
            return False
        await asyncio.to_thread(shutil.rmtree, root)
        return True

    async def stat(self, pipeline: str, path: str) -> FileEntry:
        """Return one entry."""
        return await asyncio.to_thread(self._entry, self._place(pipeline, path), pipeline)

    async def entries(self, pipeline: str, path: str = "") -> list[FileEntry]:
        """Return what is in a folder, by name; what is neither file nor folder, or leads outside, is left out."""
        return await asyncio.to_thread(self._list, self._place(pipeline, path), pipeline)

    async def read(
        self, pipeline: str, path: str, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield a file's bytes from `start` up to `end`."""
        place = self._place(pipeline, path)
        try:
            file = await asyncio.to_thread(place.open, "rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NoSuchFile(f"there is no file {path!r} in the folder of pipeline {pipeline}") from None
        with file:
            file.seek(start)
            left = end - start if end is not None else None
            while left is None or left > 0:
                chunk = await asyncio.to_thread(file.read, _CHUNK if left is None else min(_CHUNK, left))
                if not chunk:
                    return
                left = None if left is None else left - len(chunk)
                yield chunk

    async def write(self, pipeline: str, path: str, chunks: AsyncIterator[bytes], size: int) -> None:
        """Write a file: under another name first, which then becomes its own."""
        if not (self.root(pipeline)).is_dir():
            await self.create(pipeline)
        place = self._place(pipeline, path)
        if place == self.root(pipeline) or place.is_dir():
            raise UnsafePath(f"{path!r} is a folder")
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f".{uuid4().hex}.part")
        written = 0
        try:
            with part.open("xb") as file:
                async for chunk in chunks:
                    await asyncio.to_thread(file.write, chunk)
                    written += len(chunk)
            if written != size:
                raise ValueError(f"{written} bytes came where {size} were announced")
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)

    async def delete(self, pipeline: str, path: str) -> None:
        """Delete a file, or a folder with all that is in it."""
        place = self._place(pipeline, path)
        if place == self.root(pipeline):
            raise UnsafePath("the pipeline's folder itself is deleted with the pipeline")
        if place.is_symlink() or place.is_file():
            place.unlink()
        elif place.is_dir():
            await asyncio.to_thread(shutil.rmtree, place)
        else:
            raise NoSuchFile(f"there is no {path!r} in the folder of pipeline {pipeline}")

    def _place(self, pipeline: str, path: str) -> Path:
        """Return where a path leads, links followed; raises UnsafePath, FolderMissing."""
        root = self.root(pipeline)
        parts = PurePosixPath(path).parts
        if path.startswith("/") or ".." in parts or "\0" in path:
            raise UnsafePath(f"{path!r} leads out of the pipeline's folder")
        if not root.is_dir():
            raise FolderMissing(f"pipeline {pipeline} has no folder here yet: it is made when it runs")
        place = root.joinpath(*parts)
        if not place.parent.resolve().is_relative_to(root) or (place.exists() and not self._inside(root, place)):
            raise UnsafePath(f"{path!r} leads out of the pipeline's folder")
        return place

    @staticmethod
    def _inside(root: Path, place: Path) -> bool:
        return place.resolve().is_relative_to(root)

    def _list(self, place: Path, pipeline: str) -> list[FileEntry]:
        root = self.root(pipeline)
        try:
            found = sorted(place.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            raise NoSuchFile(f"there is no folder {place.relative_to(root)} of pipeline {pipeline}") from None
        return [self._entry(each, pipeline) for each in found if each.exists() and self._inside(root, each)]

    def _entry(self, place: Path, pipeline: str) -> FileEntry:
        path = place.relative_to(self.root(pipeline)).as_posix()
        try:
            status = os.stat(place)  # noqa: PTH116 - a link counts as what it leads to
        except (FileNotFoundError, NotADirectoryError):
            raise NoSuchFile(f"there is no {path!r} in the folder of pipeline {pipeline}") from None
        at = datetime.fromtimestamp(status.st_mtime, UTC)
        if place.is_dir():
            return FileEntry(place.name, "" if path == "." else path, "folder", 0, at)
        return FileEntry(place.name, path, "file", status.st_size, at)
