"""The pipelines' folders on a cluster: a virtual folder each, known by its id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

import msgspec
from msgspec import Struct

from trackbook.adapters.backendai import names
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.storage import Folder, Item, Storage
from trackbook.engine.files import OURS, below_root, clean
from trackbook.engine.ports import (
    CutListing,
    ExecutorUnavailable,
    FileEntry,
    FolderMissing,
    FolderState,
    NoSuchFile,
    UnsafePath,
)
from trackbook.private_files import read_file, write_private

VFROOT = "vfroot"


class _Kept(Struct):
    """What is kept on disk of a pipeline's folder."""

    id: str
    name: str


class ClusterFolders:
    """Implements `trackbook.engine.ports.Folders` on virtual folders.

    The id of each is kept in `DATA/executors/<cluster>/folders/<pipeline>.json`, so that one that somebody
    removed or replaced is reported as missing, and one that was renamed is found.
    """

    def __init__(self, storage: Storage, data: Path, installation: str) -> None:
        self.storage = storage
        self._cluster = storage.client.cluster
        self._installation = installation
        self._kept = data.resolve() / "executors" / self._cluster.name / "folders"

    async def state(self, pipeline: str) -> FolderState:
        """Look whether the folder is there; one that this disk doesn't know is known by its name."""
        name = self._name(pipeline)
        with self._translated_errors(pipeline):
            found = await self.storage.folders()
        kept = await asyncio.to_thread(self._load, pipeline)
        if kept:
            ours = next((folder for folder in found if folder.id == kept.id), None)
            there = ours is not None and not ours.trashed and not ours.going
            return FolderState("present" if there else "missing", ours.name if ours else kept.name, kept.id)
        ours = self._first(found, pipeline)
        if ours is None:
            return FolderState("none", name)
        await asyncio.to_thread(self._save, pipeline, ours)
        return FolderState("present", ours.name, ours.id)

    async def create(self, pipeline: str, label: str = "") -> FolderState:
        """Make the folder with its `vfroot`; one in the trash of the cluster is restored with what is in it.

        Its name begins with `label`. One that is missing is made again under the name that it had.
        """
        state = await self.state(pipeline)
        if state.state == "present":
            return state
        name = state.name if state.id else names.vfolder(self._installation, pipeline, label)
        with self._translated_errors(pipeline):
            before = {folder.id for folder in await self.storage.folders()}
            made = await self.storage.ensure(name, self._cluster.vfolder_host)
            first = self._first(await self.storage.folders(), pipeline)
            if first and not state.id and first.id != made.id and made.id not in before:
                await self.storage.remove(made)  # somebody else has made one meanwhile, under another label
                made = first
            await self.storage.mkdir(made.name, [VFROOT])
        await asyncio.to_thread(self._save, pipeline, made)
        return FolderState("present", made.name, made.id)

    def _first(self, found: Sequence[Folder], pipeline: str) -> Folder | None:
        """Return the folder that was made for the pipeline, of several the oldest."""
        ours = [
            each for each in found if _usable(each) and names.is_vfolder(self._installation, pipeline, each.name)
        ]
        return min(ours, key=lambda each: (each.created_at, each.id), default=None)

    async def purge(self, pipeline: str) -> bool:
        """Delete the folder with all that is in it, for good, from the trash too."""
        state = await self.state(pipeline)
        if state.id:
            with self._translated_errors(pipeline):
                found = next((each for each in await self.storage.folders() if each.id == state.id), None)
                if found:
                    await self.storage.remove(found)
            await asyncio.to_thread(self._forget, pipeline)
        return state.state == "present"

    async def stat(self, pipeline: str, path: str) -> FileEntry:
        """Return one entry, from the folder that it is in."""
        path = clean(path)
        name = await self._present(pipeline)
        if not path:
            return FileEntry("", "", "folder")
        return await self._stat(pipeline, name, path)

    async def entries(self, pipeline: str, path: str = "") -> list[FileEntry]:
        """Return what is in a folder, by name."""
        path = clean(path)
        items = await self._items(pipeline, await self._present(pipeline), path)
        if items is None:
            raise NoSuchFile(f"there is no folder {path!r} in the folder of pipeline {pipeline}")
        found = sorted((_entry(path, item) for item in items), key=lambda entry: entry.name)
        limit = self._cluster.listing_limit
        return CutListing(found) if limit and len(items) >= limit else found

    async def read(
        self, pipeline: str, path: str, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield a file's bytes from `start` up to `end`."""
        path = clean(path)
        name = await self._present(pipeline)
        with self._translated_errors(pipeline, path):
            try:
                async for chunk in self.storage.read(name, path, start, end):
                    yield chunk
            except ClusterError as error:  # the proxy has a word of its own for each thing that is no file
                if error.status < 500 and await self._type(pipeline, name, path) == "folder":
                    raise NoSuchFile(f"{path!r} of pipeline {pipeline} is a folder, not a file") from None
                raise

    async def write(
        self,
        pipeline: str,
        path: str,
        chunks: AsyncIterator[bytes],
        size: int,
        label: str = "",
        *,
        executable: bool = False,  # noqa: ARG002 - no version of the storage proxy takes a mode
    ) -> None:
        """Write a file, which the storage proxy keeps apart until it is whole; it chooses the mode."""
        path = clean(path)
        if not path:
            raise UnsafePath("the pipeline's folder is a folder: name the file")
        state = await self.state(pipeline)
        if state.state == "missing":
            raise self._missing(pipeline, state)
        name = (state if state.state == "present" else await self.create(pipeline, label)).name
        await self._refuse_folder(pipeline, name, path)
        with self._translated_errors(pipeline, path):
            try:
                await self.storage.write(name, path, chunks, size)
            except ClusterError:  # of a file above it the proxy says no more than 500
                for above in PurePosixPath(path).parents:
                    if await self._type(pipeline, name, str(above)) == "file":
                        message = f"{path!r} leads through the file {str(above)!r}, as if that were a folder"
                        raise UnsafePath(message) from None
                raise

    async def archive(self, pipeline: str, path: str) -> AsyncIterator[bytes]:
        """Yield a folder as the storage proxy archives it, which cuts no listing for that."""
        path = below_root(path)
        name = await self._present(pipeline)
        if await self._type(pipeline, name, path) != "folder":
            raise NoSuchFile(f"there is no folder {path!r} in the folder of pipeline {pipeline}")
        with self._translated_errors(pipeline, path):
            async for chunk in self.storage.archive(name, path):
                yield chunk

    async def delete(self, pipeline: str, path: str) -> None:
        """Delete a file, or a folder with all that is in it."""
        path = clean(path)
        if not path:
            raise UnsafePath("the pipeline's folder itself is deleted by purging it")
        name = await self._present(pipeline)
        await self._stat(pipeline, name, path)
        with self._translated_errors(pipeline, path):
            await self.storage.delete(name, [path])

    # Parts ----------------------------------------------------------------------------------------------------

    async def _present(self, pipeline: str) -> str:
        """Return the name of the pipeline's folder; raises FolderMissing."""
        state = await self.state(pipeline)
        if state.state == "present":
            return state.name
        raise self._missing(pipeline, state)

    def _missing(self, pipeline: str, state: FolderState) -> FolderMissing:
        where = f"on cluster {self._cluster.name}"
        if state.state == "none":
            return FolderMissing(f"pipeline {pipeline} has no folder {where}: the first run makes it")
        return FolderMissing(f"the folder {state.name} of pipeline {pipeline} was removed {where}")

    async def _items(self, pipeline: str, name: str, path: str) -> list[Item] | None:
        with self._translated_errors(pipeline, path):
            items = await self.storage.items(name, path)
        return [item for item in items if path or item.name != OURS] if items is not None else None

    async def _stat(self, pipeline: str, name: str, path: str) -> FileEntry:
        above = path.rpartition("/")[0]
        if path.partition("/")[0] != OURS:
            with self._translated_errors(pipeline, path):
                item = await self.storage.find(name, path)
            if item:
                return _entry(above, item)
        raise NoSuchFile(f"there is no {path!r} in the folder of pipeline {pipeline}")

    async def _type(self, pipeline: str, name: str, path: str) -> str:
        """Return `file` or `folder`, '' for what isn't there."""
        with suppress(NoSuchFile):
            return (await self._stat(pipeline, name, path)).type
        return ""

    async def _refuse_folder(self, pipeline: str, name: str, path: str) -> None:
        if await self._type(pipeline, name, path) == "folder":
            raise UnsafePath(f"{path!r} is a folder: name the file in it")

    @contextmanager
    def _translated_errors(self, pipeline: str, path: str = "") -> Iterator[None]:
        """Tell what the cluster says no to in the port's words."""
        try:
            yield
        except ClusterError as error:
            if error.slug == "file-not-found" or "not a regular file" in error.message:
                raise NoSuchFile(f"there is no file {path!r} in the folder of pipeline {pipeline}") from None
            if error.missing and path:
                raise FolderMissing(f"the folder of pipeline {pipeline} is gone: {error}") from None
            raise ExecutorUnavailable(str(error)) from error

    def _name(self, pipeline: str) -> str:
        try:
            return names.vfolder(self._installation, pipeline)
        except ValueError as error:
            raise UnsafePath(str(error)) from None

    # On disk --------------------------------------------------------------------------------------------------

    def _load(self, pipeline: str) -> _Kept | None:
        try:
            return msgspec.json.decode(read_file(self._file(pipeline)), type=_Kept)
        except (OSError, msgspec.DecodeError):
            return None  # its name finds it again

    def _save(self, pipeline: str, folder: Folder) -> None:
        file = self._file(pipeline)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_private(file, msgspec.json.encode(_Kept(folder.id, folder.name)))

    def _forget(self, pipeline: str) -> None:
        self._file(pipeline).unlink(missing_ok=True)

    def _file(self, pipeline: str) -> Path:
        return self._kept / f"{pipeline}.json"


def _usable(folder: Folder) -> bool:
    return folder.owned and not folder.trashed and not folder.going


def _entry(above: str, item: Item) -> FileEntry:
    path = f"{above}/{item.name}" if above else item.name
    if item.type == "folder":
        return FileEntry(item.name, path, "folder", 0, item.modified_at)
    return FileEntry(item.name, path, "file", item.size, item.modified_at, item.executable)
