"""Pipelines' folders below the data directory, for executors of this machine."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, ParamSpec, TypeVar

from trackbook.adapters.execution import folders
from trackbook.adapters.execution.folder_archive import zip_folder
from trackbook.adapters.execution.safe_path import Identity, Outside, display_name, identity, open_beneath
from trackbook.adapters.execution.tree_removal import remove_file, remove_tree
from trackbook.adapters.execution.upload import Upload
from trackbook.engine.files import OURS, below_root, clean
from trackbook.engine.ports import (
    ExecutorUnavailable,
    FileEntry,
    FolderMissing,
    FolderState,
    NoSuchFile,
    UnsafePath,
)

T = TypeVar("T")
P = ParamSpec("P")
_CHUNK = 256 * 1024
_CANT_BE = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)


class DataFolders:
    """Implements `trackbook.engine.ports.Folders` on `DATA/pipelines/<id>`.

    Tasks write there as they like, so that nothing here follows a link out of the folder (see `safe_path`). All
    that touches the disk does so in a thread, each with files of its own: a call may be cancelled at any point.
    """

    def __init__(self, data: Path) -> None:
        self._data = data.resolve()

    def shares(self, other: object) -> bool:
        """Whether these are the same folders as another executor's."""
        return isinstance(other, DataFolders) and other._data == self._data

    def root(self, pipeline: str) -> Path:
        """Return where the pipeline's folder is or would be; raises UnsafePath."""
        try:
            return self._data / "pipelines" / folders.part(pipeline)
        except ValueError as error:
            raise UnsafePath(str(error)) from None

    async def state(self, pipeline: str) -> FolderState:
        """Look whether the folder is there; a removed one and one never made look the same."""
        root = self.root(pipeline)
        return await asyncio.to_thread(self._state, root)

    async def create(self, pipeline: str, label: str = "") -> FolderState:  # noqa: ARG002
        """Make the folder with its `vfroot`."""
        root = self.root(pipeline)

        def make() -> FolderState:
            with self._translated_errors(pipeline, "", "made"):
                (root / "vfroot").mkdir(parents=True, exist_ok=True)
            return self._state(root)

        return await asyncio.to_thread(make)

    async def purge(self, pipeline: str) -> bool:
        """Delete the folder with all that is in it; where a part can't be, says so and may be asked again."""
        root = self.root(pipeline)

        def remove() -> bool:
            with self._translated_errors(pipeline, "", "deleted"):
                if root.is_symlink():
                    raise ExecutorUnavailable(f"{root} is a link: delete it, and what it leads to, by hand")
                if not root.is_dir():
                    return False
                above = os.open(root.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    remove_tree(root.name, above)
                finally:
                    os.close(above)
                return True

        return await asyncio.to_thread(remove)

    async def stat(self, pipeline: str, path: str) -> FileEntry:
        """Return one entry."""
        return await asyncio.to_thread(self._stat, pipeline, clean(path))

    async def entries(self, pipeline: str, path: str = "") -> list[FileEntry]:
        """Return what is in a folder, by name; what is neither file nor folder, or leads outside, is left out."""
        return await asyncio.to_thread(self._list, pipeline, clean(path))

    async def read(
        self, pipeline: str, path: str, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield a file's bytes from `start` up to `end`."""
        path = clean(path)
        left = end - start if end is not None else None
        with await _in_thread(IO.close, self._open, pipeline, path, start) as file:
            while left is None or left > 0:
                with self._translated_errors(pipeline, path, "read"):
                    chunk = await asyncio.to_thread(file.read, _CHUNK if left is None else min(_CHUNK, left))
                if not chunk:
                    return
                left = None if left is None else left - len(chunk)
                yield chunk

    async def write(
        self,
        pipeline: str,
        path: str,
        chunks: AsyncIterator[bytes],
        size: int,
        label: str = "",  # noqa: ARG002
        *,
        executable: bool = False,
    ) -> None:
        """Write a file: apart first, which then gets its name, so that it is whole whenever it is seen."""
        path = clean(path)
        if not path:
            raise UnsafePath("the pipeline's folder is a folder: name the file")
        upload = await _in_thread(Upload.discard, self._begin, pipeline, path, executable=executable)
        try:
            async for chunk in chunks:
                with self._translated_errors(pipeline, path, "written"):
                    await asyncio.to_thread(upload.write, chunk, size)
            await asyncio.to_thread(self._finish, pipeline, path, upload, size)
        finally:
            upload.discard()

    def archive(self, pipeline: str, path: str) -> AsyncIterator[bytes]:
        """Yield a folder as a zip archive."""
        return zip_folder(self, pipeline, below_root(path))

    async def delete(self, pipeline: str, path: str) -> None:
        """Delete a file, or a folder with all that is in it; of a link, the link."""
        path = clean(path)
        if not path:
            raise UnsafePath("the pipeline's folder itself is deleted by purging it")

        def remove() -> None:
            with (
                self._translated_errors(pipeline, path, "deleted"),
                open_beneath(self._present(pipeline), path, last=False) as place,
            ):
                if stat.S_ISDIR(place.status().st_mode):
                    remove_tree(place.name, place.folder)
                else:
                    remove_file(place.name, place.folder)

        await asyncio.to_thread(remove)

    # In threads -----------------------------------------------------------------------------------------------

    def _state(self, root: Path) -> FolderState:
        with self._translated_errors(root.name, "", "read"):
            return FolderState("present" if root.is_dir() else "none", root.name, str(root))

    def _present(self, pipeline: str) -> Path:
        """Return the pipeline's folder; raises FolderMissing."""
        root = self.root(pipeline)
        if root.is_dir():
            return root
        where = f"pipeline {pipeline} has no folder in {root.parent}"
        if root.parent.is_dir():
            raise FolderMissing(f"{where}: the first run makes it")
        raise FolderMissing(
            f"{where}, which isn't there: no pipeline has run here yet. Where the executor's role runs on "
            "another machine, its folders are there"
        )

    def _stat(self, pipeline: str, path: str) -> FileEntry:
        with (
            self._translated_errors(pipeline, path, "read"),
            open_beneath(self._present(pipeline), path) as place,
        ):
            entry = _entry(path.rpartition("/")[2], path, place.status())
        if entry is None:
            raise NoSuchFile(f"{path!r} of pipeline {pipeline} is neither a file nor a folder")
        return entry

    def _list(self, pipeline: str, path: str) -> list[FileEntry]:
        root = self._present(pipeline)
        found: list[FileEntry] = []
        with self._translated_errors(pipeline, path, "listed"), open_beneath(root, path) as place:
            folder = place.open(os.O_RDONLY | os.O_DIRECTORY)
            try:
                with os.scandir(folder) as entries:
                    above = place.above | {identity(os.fstat(folder))}
                    found += [entry for each in entries if (entry := self._list_entry(root, path, each, above))]
            finally:
                os.close(folder)
        return sorted(found, key=lambda entry: entry.name)

    @staticmethod
    def _list_entry(root: Path, path: str, each: os.DirEntry[str], above: set[Identity]) -> FileEntry | None:
        """Return an entry of a folder; None for what is not to be shown, or is gone again.

        Links that lead back up are left out, so that a walk down ends.
        """
        name = display_name(each.name)
        inside = f"{path}/{name}" if path else name
        if inside == OURS:
            return None
        try:
            if not each.is_symlink():
                return _entry(name, inside, each.stat(follow_symlinks=False))
            with open_beneath(root, inside) as place:
                status = place.status()
                return None if identity(status) in above else _entry(name, inside, status)
        except (OSError, Outside):
            return None

    def _open(self, pipeline: str, path: str, start: int) -> IO[bytes]:
        with (
            self._translated_errors(pipeline, path, "read"),
            open_beneath(self._present(pipeline), path) as place,
        ):
            if not stat.S_ISREG(place.status().st_mode):
                raise NoSuchFile(f"{path!r} of pipeline {pipeline} is not a file")
            # Nothing is waited for, whatever took the file's place meanwhile.
            file = os.fdopen(place.open(os.O_RDONLY | os.O_NONBLOCK), "rb")
        file.seek(start)
        return file

    def _begin(self, pipeline: str, path: str, *, executable: bool) -> Upload:
        """Refuse early what can't be written, and make ready for the bytes."""
        root = self.root(pipeline)
        with self._translated_errors(pipeline, "", "made"):
            (root / "vfroot").mkdir(parents=True, exist_ok=True)
        with self._translated_errors(pipeline, path, "written"):
            with suppress(FileNotFoundError), open_beneath(root, path) as place:
                _refuse_folder(path, place.status())
            return Upload(root / OURS, executable=executable)

    def _finish(self, pipeline: str, path: str, upload: Upload, size: int) -> None:
        with self._translated_errors(pipeline, path, "written"):
            upload.complete(size)
            with open_beneath(self._present(pipeline), path, make=True) as place:
                with suppress(FileNotFoundError):
                    _refuse_folder(path, place.status())
                os.replace(upload.path, place.name, dst_dir_fd=place.folder)

    @contextmanager
    def _translated_errors(self, pipeline: str, path: str, done: str) -> Iterator[None]:
        """Tell what the system says no to in the port's words."""
        what = f"{path!r} of pipeline {pipeline}" if path else f"the folder of pipeline {pipeline}"
        try:
            yield
        except Outside:
            raise UnsafePath(f"{path!r} leads out of the pipeline's folder, by a link") from None
        except (FileNotFoundError, NotADirectoryError) as error:
            if not path:
                raise ExecutorUnavailable(f"{what} can't be {done}: {error.strerror or error}") from error
            if done == "written" and isinstance(error, NotADirectoryError):
                raise UnsafePath(f"{path!r} leads through a file, as if that were a folder") from None
            word = "folder" if done == "listed" else "file"
            raise NoSuchFile(f"there is no {word} {path!r} in the folder of pipeline {pipeline}") from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise UnsafePath(f"{path!r} leads along links that never end, or changed meanwhile") from None
            if error.errno in _CANT_BE:
                raise UnsafePath(f"{path!r} can't be a path here: {error.strerror}") from None
            raise ExecutorUnavailable(f"{what} can't be {done}: {error.strerror or error}") from error


async def _in_thread(release: Callable[[T], object], make: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """Return what is made in a thread, or have it released there where nobody waits for it any more."""
    making = asyncio.ensure_future(asyncio.to_thread(make, *args, **named))
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        making.add_done_callback(lambda made: made.cancelled() or made.exception() or release(made.result()))
        raise


def _refuse_folder(path: str, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise UnsafePath(f"{path!r} is a folder: name the file in it")


def _entry(name: str, path: str, status: os.stat_result) -> FileEntry | None:
    """Return an entry, None for what is neither file nor folder."""
    try:
        at = datetime.fromtimestamp(status.st_mtime, UTC)
    except (OverflowError, ValueError, OSError):  # a task may set any time
        at = None
    if stat.S_ISDIR(status.st_mode):
        return FileEntry(name, path, "folder", 0, at)
    if not stat.S_ISREG(status.st_mode):
        return None
    return FileEntry(name, path, "file", status.st_size, at, bool(status.st_mode & stat.S_IXUSR))
