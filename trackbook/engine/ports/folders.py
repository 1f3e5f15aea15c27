"""The pipelines' folders of one executor, and the files in them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Literal, Protocol

from msgspec import Struct


class FileEntry(Struct, frozen=True):
    """A file or folder in a pipeline's folder; `path` is relative to that, `size` in bytes (0 for a folder).

    `executable` says that its owner may run the file; always False for a folder.
    """

    name: str
    path: str
    type: Literal["file", "folder"]
    size: int = 0
    modified_at: datetime | None = None
    executable: bool = False


class CutListing(list[FileEntry]):
    """Entries of a folder that may have more of them: the executor's storage cuts long listings."""


class FolderState(Struct, frozen=True):
    """A pipeline's folder: `none` was made yet, `present`, or `missing`: somebody removed it. `name` and `id` are
    the executor's own."""

    state: Literal["none", "present", "missing"]
    name: str = ""
    id: str = ""


class FolderMissing(LookupError):
    """The pipeline has no folder on this executor, or it was removed there."""


class NoSuchFile(LookupError):
    """There is no such file or folder in the pipeline's folder."""


class UnsafePath(ValueError):
    """The path leads out of the pipeline's folder, or can't be one."""


class Folders(Protocol):
    """The pipelines' folders of one executor, each by the pipeline's id.

    A folder has `vfroot/` and, for each attempt of a task, `jobs/<job>/<index>-<name>/<attempt>/outputs/`.
    Paths are relative to it, with `/` between their parts, '' the folder itself. Any call may raise
    ExecutorUnavailable.
    """

    async def state(self, pipeline: str) -> FolderState:
        """Look whether the folder is there."""
        ...

    async def create(self, pipeline: str, label: str = "") -> FolderState:
        """Make the folder where there is none, again where it is missing.

        Where it has a name that people see, that contains `label`, the pipeline's own name.
        """
        ...

    async def purge(self, pipeline: str) -> bool:
        """Delete the folder with all that is in it, for good; False where there was none."""
        ...

    async def stat(self, pipeline: str, path: str) -> FileEntry:
        """Return one entry; raises FolderMissing, NoSuchFile, UnsafePath."""
        ...

    async def entries(self, pipeline: str, path: str = "") -> list[FileEntry]:
        """Return what is in a folder, by name; raises FolderMissing, NoSuchFile, UnsafePath.

        A CutListing says that there may be more.
        """
        ...

    def read(self, pipeline: str, path: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield a file's bytes from `start` up to `end`, exclusive.

        Raises FolderMissing, NoSuchFile, UnsafePath.
        """
        ...

    async def write(
        self,
        pipeline: str,
        path: str,
        chunks: AsyncIterator[bytes],
        size: int,
        label: str = "",
        *,
        executable: bool = False,
    ) -> None:
        """Write a file of `size` bytes, which is there whole or not at all, and the folders above it.

        Makes the pipeline's folder where there is none, as `create` does. Storage that has no way to set
        `executable` leaves it; `stat` tells. Raises FolderMissing, UnsafePath, ValueError for chunks that are not
        `size` bytes.
        """
        ...

    def archive(self, pipeline: str, path: str) -> AsyncIterator[bytes]:
        """Yield a folder below the root with all that is in it as a zip archive, whole where listings are cut.

        An archive that ends without its directory is not whole. Raises FolderMissing, NoSuchFile, UnsafePath.
        """
        ...

    async def delete(self, pipeline: str, path: str) -> None:
        """Delete a file, or a folder with all that is in it; raises FolderMissing, NoSuchFile, UnsafePath."""
        ...
