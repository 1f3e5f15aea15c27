"""Virtual folders and their files, by the manager and the storage proxy; each call raises ClusterError.

The storage proxy is asked without a signature, with tokens that the manager gives for one file.
"""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from msgspec import Struct

from trackbook.adapters.backendai.api.client import Client, part
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.transfer import Transfer

_AT_ONCE = 8
_PATIENCE = 30.0
"""Seconds that the cluster may take to delete a folder, which it does in the background."""
_PAUSE = 0.1
_UNMOUNTING = 1.0
"""Seconds between questions whether a folder may go that sessions still mount."""
_UPLOADS = ".upload"
"""Where the storage proxy keeps half uploads, in the folder itself."""
_GONE = "delete-complete"


class Folder(Struct, frozen=True):
    """A virtual folder; `project` is the id of the project that it belongs to, '' for one of a user."""

    id: str
    name: str
    status: str
    host: str = ""
    permission: str = ""
    project: str = ""
    owned: bool = True
    created_at: str = ""

    @property
    def trashed(self) -> bool:
        """Whether it lies in the trash, which 26.8 has: it can be restored, and its name is taken."""
        return self.status == "delete-pending"

    @property
    def going(self) -> bool:
        """Whether it is being deleted for good."""
        return self.status.startswith("delet") and not self.trashed


class Item(Struct, frozen=True):
    """A file or folder in a virtual folder; `size` in bytes, meaningless for a folder."""

    name: str
    type: Literal["file", "folder"]
    size: int
    modified_at: datetime | None
    executable: bool = False


class Storage:
    """The folders of one cluster, by their names."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._transfer = Transfer(client)
        self._one_by_one = False
        self._making = asyncio.Lock()

    # Folders ------------------------------------------------------------------------------------------------

    async def folders(self) -> list[Folder]:
        """Return all folders that the key may see; needs no storage proxy, as asking for one does."""
        return [_folder(item) for item in await self.client.get("/folders")]

    async def folder(self, name: str) -> Folder | None:
        """Return the folder of that name, a trashed one too, one of our own rather than one shared with us."""
        return _first(await self.folders(), name)

    async def ensure(self, name: str, host: str = "") -> Folder:
        """Return the folder of that name, made where there is none and restored where it is in the trash."""
        async with self._making:
            async for _ in _patiently():
                try:
                    body = {"name": name, "host": host or None}
                    return await self._only(_folder(await self.client.request("POST", "/folders", body=body)))
                except ClusterError as error:  # 23.09 has a slug for a name that is taken, 26.8 words alone
                    looked = error.status in (400, 409) or error.status >= 500
                    found = await self.folder(name) if looked else None
                    if found is None and not _is_taken(error):
                        raise
                    problem = error
                if found and found.trashed:
                    body = {"vfolder_id": found.id}
                    await self.client.request("POST", "/folders/restore-from-trash-bin", body=body)
                elif found:
                    return found
        raise problem

    async def _only(self, made: Folder) -> Folder:
        """Return the first of that name: on 26.8 several who make it at once get one each, and ours goes."""
        first = _first(await self.folders(), made.name) or made
        if first.id != made.id and first.owned and not first.trashed:
            await self.remove(made)
            return first
        return made

    async def remove(self, folder: Folder) -> None:
        """Delete the folder with all that is in it, for good, so that its name is free again.

        26.8 refuses that while a session that ends is still on its books; it is asked again until that has ended.
        """
        asked: set[str] = set()
        refusal = None
        async for _ in _patiently():
            found = await self.folders()
            left = next((each for each in found if each.id == folder.id), None)
            if left is None or left.status == _GONE:
                return
            if left.status in asked or left.going:
                continue
            asked.add(left.status)
            try:
                await self._remove(left, several=len([each for each in found if each.name == left.name]) > 1)
            except ClusterError as error:
                if _is_mounted(error):
                    refusal = error
                    asked.discard(left.status)
                    await asyncio.sleep(_UNMOUNTING)
                elif not error.missing:
                    raise
        if refusal:
            raise refusal
        message = f"it did not delete the folder {folder.name} in {_PATIENCE:.0f} seconds"
        raise ClusterError(self.client.cluster.name, "infrastructure", "not-deleted", message)

    async def _remove(self, folder: Folder, *, several: bool) -> None:
        if folder.trashed:
            body = {"vfolder_id": folder.id}
            await self.client.request("POST", "/folders/delete-from-trash-bin", body=body)
        elif several:  # 26.8 alone has several of a name, and takes ids from anybody
            await self.client.request("DELETE", "/folders", body={"id": folder.id})
        else:
            await self.client.request("DELETE", f"/folders/{part(folder.name)}")

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
        """Return what is in a folder, None where it isn't there or is a file.

        Storage proxies cut a listing after some entries, without saying so: what is not in it may be there.
        """
        try:
            answer = await self.client.get(f"/folders/{part(folder)}/files", {"path": path or "."})
        except ClusterError as error:
            if error.status == 400 and _no_such_path(error):
                return None
            raise
        return [_item(item) for item in answer["items"] if path or item["name"] != _UPLOADS]

    async def find(self, folder: str, path: str) -> Item | None:
        """Return a file or folder, looked for in the folder above it, then by its own path; None without it."""
        above, _, name = path.rpartition("/")
        listed = next((item for item in await self.items(folder, above) or [] if item.name == name), None)
        if listed:
            return listed
        if await self.items(folder, path) is not None:
            return Item(name, "folder", 0, None)
        try:
            return Item(name, "file", *await self._transfer.measure(folder, path))
        except ClusterError as error:
            if error.slug == "file-not-found" or error.missing:
                return None
            raise

    async def delete(self, folder: str, paths: Sequence[str]) -> None:
        """Delete files and folders with all that is in them; what isn't there is well."""
        body = {"files": list(paths), "recursive": True}
        try:
            await self.client.request("DELETE", f"/folders/{part(folder)}/delete-files", body=body)
        except ClusterError as error:
            if not _has_errno(error):
                raise
            if len(paths) > 1:  # 23.09 deletes nothing then
                for path in paths:
                    await self.delete(folder, [path])

    def read(self, folder: str, path: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield a file's bytes from `start` up to `end`, exclusive; ClusterError `missing` without it."""
        return self._transfer.read(folder, path, start, end)

    def archive(self, folder: str, path: str) -> AsyncIterator[bytes]:
        """Yield a folder with all that is in it as a zip archive, made while it is sent."""
        return self._transfer.archive(folder, path)

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
        found = await self.find(folder, path)
        if found is None or found.size != size:
            message = f"the upload of {path} broke at its end, and the file is not there"
            raise ClusterError(self.client.cluster.name, "infrastructure", "upload-broken", message)

    async def write_small(self, folder: str, path: str, data: bytes) -> None:
        """Upload a small file in one piece."""

        async def whole() -> AsyncIterator[bytes]:
            yield data

        await self.write(folder, path, whole(), len(data))


def _first(folders: Sequence[Folder], name: str) -> Folder | None:
    """Return the folder that has the name: our own, not in the trash, and of several the oldest."""
    named = [folder for folder in folders if folder.name == name and not folder.going]
    return min(named, key=lambda each: (not each.owned, each.trashed, each.created_at, each.id), default=None)


def _leaves(paths: Sequence[str]) -> list[str]:
    """Return the paths that are not above another one: making those makes all."""
    wanted = sorted(set(paths))
    return [path for path in wanted if not any(other.startswith(f"{path}/") for other in wanted)]


def _refuses_lists(error: ClusterError) -> bool:
    return error.slug == "invalid-api-params" and isinstance(error.data, dict) and "path" in error.data


def _is_taken(error: ClusterError) -> bool:
    return error.slug == "vfolder-already-exists" or "already exists" in error.message


def _is_mounted(error: ClusterError) -> bool:
    return error.slug == "vfolder-deletion-not-allowed" and "mounted on sessions" in error.message


def _has_errno(error: ClusterError) -> bool:
    """Whether the storage says ENOENT or ENOTDIR, as it does on 23.09."""
    return isinstance(error.data, dict) and error.data.get("errno") in (2, 20)


def _no_such_path(error: ClusterError) -> bool:
    """26.8 says no more than that the request was bad, for which paths are checked before."""
    return _has_errno(error) or (error.slug == "vfolder-operation-failed" and "bad request" in error.message)


async def _patiently() -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    until = loop.time() + _PATIENCE
    while loop.time() < until:
        yield
        await asyncio.sleep(_PAUSE)


def _folder(item: dict[str, Any]) -> Folder:
    project = item.get("group")
    return Folder(
        str(item["id"]).replace("-", ""),
        item["name"],
        str(item.get("status") or "ready").lower(),
        item.get("host") or "",
        item.get("permission") or "",
        str(project) if project and project != "None" else "",
        bool(item.get("is_owner", True)),
        str(item.get("created_at") or ""),
    )


def _item(item: dict[str, Any]) -> Item:
    modified = item.get("modified")
    return Item(
        item["name"],
        "folder" if item["type"] == "DIRECTORY" else "file",
        int(item["size"]),
        datetime.fromisoformat(modified).astimezone(UTC) if modified else None,
        _is_executable(item.get("mode")),
    )


def _is_executable(mode: object) -> bool:
    """Whether the owner may run a file: 23.09 gives the mode as octal digits, 26.8 as a number."""
    if isinstance(mode, str):
        try:
            mode = int(mode, 8)
        except ValueError:
            return False
    return isinstance(mode, int) and bool(mode & stat.S_IXUSR)
