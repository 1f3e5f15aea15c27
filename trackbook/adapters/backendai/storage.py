"""Virtual folders and their files, by the manager and the storage proxy; each call raises ClusterError.

The storage proxy is asked without a signature, with tokens that the manager gives for one file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from msgspec import Struct

from trackbook.adapters.backendai.client import Client, part
from trackbook.adapters.backendai.errors import ClusterError
from trackbook.adapters.backendai.transfer import Transfer

_AT_ONCE = 8
_PURGED = 30.0
"""Seconds that the cluster may take to delete a folder for good."""
_UPLOADS = ".upload"
"""Where the storage proxy keeps half uploads, in the folder itself."""


class Folder(Struct, frozen=True):
    """A virtual folder. `trashed` ones keep their name until they are deleted for good or restored."""

    id: str
    name: str
    host: str
    permission: str
    trashed: bool
    project: str = ""
    """Its project's id, '' for a folder of a user."""


class Item(Struct, frozen=True):
    """A file or folder in a virtual folder; `size` in bytes, meaningless for a folder."""

    name: str
    type: Literal["file", "folder"]
    size: int
    modified_at: datetime | None


class Storage:
    """The folders of one cluster, by their names."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._transfer = Transfer(client)
        self._one_by_one = False

    # Folders ------------------------------------------------------------------------------------------------

    async def folder(self, name: str) -> Folder | None:
        """Return the folder of that name, a trashed one too; None where there is none."""
        try:
            return _folder(await self.client.get(f"/folders/{part(name)}"))
        except ClusterError as error:
            if error.missing or error.slug == "vfolder-filter-status-failed":  # being deleted for good (26.8)
                return None
            raise

    async def folders(self) -> list[Folder]:
        """Return all folders that the key may see."""
        return [_folder(item) for item in await self.client.get("/folders")]

    async def ensure(self, name: str, host: str = "") -> Folder:
        """Return the folder of that name, made where there is none and restored where it is in the trash."""
        try:
            made = await self.client.request("POST", "/folders", body={"name": name, "host": host or None})
            return _folder(made)
        except ClusterError as error:  # 23.09 has a slug for a name that is taken, 26.8 has words
            found = await self.folder(name) if error.status in (400, 409) or error.status >= 500 else None
            if found is None:
                raise
        if found.trashed:
            await self.client.request("POST", "/folders/restore-from-trash-bin", body={"vfolder_id": found.id})
            found = await self.folder(name) or found
        return found

    async def remove(self, folder: Folder) -> None:
        """Delete the folder with all that is in it, for good, so that its name is free again."""
        if not folder.trashed:
            try:
                await self.client.request("DELETE", f"/folders/{part(folder.name)}")
            except ClusterError as error:
                if not error.missing:
                    raise
        until = asyncio.get_running_loop().time() + _PURGED
        while (left := await self.folder(folder.name)) and left.id == folder.id:
            if left.trashed:
                await self._purge(left)
            if asyncio.get_running_loop().time() > until:
                message = f"it did not delete the folder {folder.name} in {_PURGED:.0f} seconds"
                raise ClusterError(self.client.cluster.name, "infrastructure", "not-purged", message)
            await asyncio.sleep(0.1)

    async def _purge(self, folder: Folder) -> None:
        try:
            await self.client.request("POST", "/folders/delete-from-trash-bin", body={"vfolder_id": folder.id})
        except ClusterError as error:  # asked twice, the second is refused while the first works
            if error.status not in (400, 404, 409):
                raise

    # Files --------------------------------------------------------------------------------------------------

    async def mkdir(self, folder: str, paths: Sequence[str]) -> None:
        """Make folders with those above them, where they aren't there; one request where the version can."""
        wanted = _leaves(paths)
        if len(wanted) > 1 and not self._one_by_one:
            try:
                await self._mkdir(folder, wanted)
            except ClusterError as error:
                if error.status != 400 or not _refuses_lists(error):
                    raise
                self._one_by_one = True
            else:
                return
        gate = asyncio.Semaphore(_AT_ONCE)

        async def make(path: str) -> None:
            async with gate:
                await self._mkdir(folder, path)

        await asyncio.gather(*(make(path) for path in wanted))

    async def _mkdir(self, folder: str, path: str | list[str]) -> None:
        body = {"path": path, "parents": True, "exist_ok": True}
        answer = await self.client.request("POST", f"/folders/{part(folder)}/mkdir", body=body)
        failed = ((answer or {}).get("results") or {}).get("failed") or []
        if failed:
            words = "; ".join(f"{item.get('item')}: {item.get('msg')}" for item in failed[:3])
            raise ClusterError(self.client.cluster.name, "permanent", "mkdir-failed", f"it can't make {words}")

    async def items(self, folder: str, path: str = "") -> list[Item] | None:
        """Return what is in a folder, None where it isn't there or is a file."""
        try:
            answer = await self.client.get(f"/folders/{part(folder)}/files", {"path": path or "."})
        except ClusterError as error:
            if error.status == 400 and _no_such_path(error):
                return None
            raise
        return [_item(item) for item in answer["items"] if path or item["name"] != _UPLOADS]

    async def delete(self, folder: str, paths: Sequence[str]) -> None:
        """Delete files and folders with all that is in them; what isn't there is well."""
        body = {"files": list(paths), "recursive": True}
        try:
            await self.client.request("DELETE", f"/folders/{part(folder)}/delete-files", body=body)
        except ClusterError as error:
            if not _no_such_path(error):
                raise

    def read(self, folder: str, path: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield a file's bytes from `start` up to `end`, exclusive; ClusterError `missing` without it."""
        return self._transfer.read(folder, path, start, end)

    async def read_small(self, folder: str, path: str, start: int = 0) -> bytes | None:
        """Return a file from `start` on in one piece, None where there is none."""
        try:
            return b"".join([chunk async for chunk in self.read(folder, path, start)])
        except ClusterError as error:
            if error.slug == "file-not-found":
                return None
            raise

    async def write(self, folder: str, path: str, chunks: AsyncIterator[bytes], size: int) -> None:
        """Upload a file of `size` bytes, with the folders above it; ValueError where there are more or less.

        The file is there whole or as it was before; asking again is harmless.
        """
        if await self._transfer.write(folder, path, chunks, size):
            return
        above, _, name = path.rpartition("/")
        if not any(item.name == name and item.size == size for item in await self.items(folder, above) or []):
            message = f"the upload of {path} broke at its end, and the file is not there"
            raise ClusterError(self.client.cluster.name, "infrastructure", "upload-broken", message)

    async def write_small(self, folder: str, path: str, data: bytes) -> None:
        """Upload a small file in one piece."""

        async def whole() -> AsyncIterator[bytes]:
            yield data

        await self.write(folder, path, whole(), len(data))


def _leaves(paths: Sequence[str]) -> list[str]:
    """Return the paths that are not above another one: making those makes all."""
    wanted = sorted(set(paths))
    return [path for path in wanted if not any(other.startswith(f"{path}/") for other in wanted)]


def _refuses_lists(error: ClusterError) -> bool:
    return error.slug == "invalid-api-params" and isinstance(error.data, dict) and "path" in error.data


def _no_such_path(error: ClusterError) -> bool:
    """23.09 says errno 2; 26.8 says no more than that the request was bad, for which paths are checked before."""
    if isinstance(error.data, dict) and error.data.get("errno") in (2, 20):
        return True
    return error.status == 400 and error.slug == "vfolder-operation-failed"


def _folder(item: dict[str, Any]) -> Folder:
    project = item.get("group")
    return Folder(
        str(item["id"]).replace("-", ""),
        item["name"],
        item.get("host") or "",
        item.get("permission") or "",
        str(item.get("status", "")).lower().startswith("delete"),
        str(project) if project and project != "None" else "",
    )


def _item(item: dict[str, Any]) -> Item:
    modified = item.get("modified")
    return Item(
        item["name"],
        "folder" if item["type"] == "DIRECTORY" else "file",
        int(item["size"]),
        datetime.fromisoformat(modified).astimezone(UTC) if modified else None,
    )
