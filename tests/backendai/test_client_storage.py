"""Virtual folders and their files, through the manager and the real storage proxy."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator

import pytest

from backendai.cases import connected
from backendai.cluster import Cluster
from backendai.cutting import Cutter
from trackbook.adapters.backendai.api.client import Client
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.storage import Folder, Storage


@pytest.fixture
async def client(stack: Cluster) -> AsyncIterator[Client]:
    """Give a client of the stack."""
    async with connected(stack) as made:
        yield made


@pytest.fixture
async def storage(client: Client) -> Storage:
    """Give the storage of the stack."""
    return Storage(client)


@pytest.fixture
async def folder(storage: Storage) -> AsyncIterator[Folder]:
    """Give a folder, which is gone afterwards."""
    made = await storage.ensure(f"tb-test-{uuid.uuid4().hex[:12]}")
    yield made
    await storage.remove(made)


async def chunks(data: bytes, size: int = 2**18) -> AsyncIterator[bytes]:
    """Yield the data in chunks."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def test_a_folder_is_made_once(storage: Storage, folder: Folder) -> None:
    """Asked for again, by two at once too, it is the same one; it is found by its name."""
    again = await asyncio.gather(*(storage.ensure(folder.name) for _ in range(3)))

    assert {each.id for each in again} == {folder.id}
    found = await storage.folder(folder.name)
    assert found
    assert found.id == folder.id
    assert await storage.folder("no-such-folder") is None


async def test_made_by_many_at_once(storage: Storage) -> None:
    """Whoever comes first makes it, all get the same."""
    name = f"tb-test-{uuid.uuid4().hex[:12]}"

    made = await asyncio.gather(*(Storage(storage.client).ensure(name) for _ in range(5)))
    left = [each for each in await storage.folders() if each.name == name and not each.going]
    await storage.remove(made[0])

    assert len({each.id for each in [*made, *left]}) == 1


async def test_a_removed_folder_leaves_its_name_free(storage: Storage) -> None:
    """Deleted for good, from the trash too; the next of that name is another one."""
    name = f"tb-test-{uuid.uuid4().hex[:12]}"
    first = await storage.ensure(name)
    await storage.write_small(name, "a", b"x")

    await storage.remove(first)
    gone = await storage.folder(name)
    second = await storage.ensure(name)
    left = await storage.items(name)
    await storage.remove(second)
    await storage.remove(second)

    assert gone is None
    assert second.id != first.id
    assert left == []


async def test_a_folder_in_the_trash_is_restored(stack: Cluster, client: Client, storage: Storage) -> None:
    """Where the version has a trash, a folder that somebody threw away comes back with what is in it."""
    name = f"tb-test-{uuid.uuid4().hex[:12]}"
    first = await storage.ensure(name)
    await storage.write_small(name, "a", b"x")
    await client.request("DELETE", f"/folders/{name}")

    again = await storage.ensure(name)
    kept = await storage.read_small(name, "a")
    await storage.remove(again)

    assert (again.id == first.id) is stack.newer
    assert (kept == b"x") is stack.newer
    assert not again.trashed


async def test_folders_in_folders(client: Client, storage: Storage, folder: Folder) -> None:
    """Made with those above, again without harm; one that can't be is an error."""
    await storage.mkdir(folder.name, ["vfroot", "jobs/j", "jobs/j/0-a/outputs", "jobs/j/1-ü b/outputs"])
    await storage.mkdir(folder.name, ["vfroot", "jobs/j/0-a/outputs"])
    await storage.write_small(folder.name, "file", b"")
    with pytest.raises(ClusterError):
        await storage.mkdir(folder.name, ["fine", "file"])

    inside = await storage.items(folder.name, "jobs/j")
    assert inside is not None
    assert sorted((item.name, item.type) for item in inside) == [("0-a", "folder"), ("1-ü b", "folder")]
    assert await storage.items(folder.name, "jobs/j/0-a/outputs") == []
    assert await storage.items(folder.name, "jobs/nothing") is None
    assert await storage.items(folder.name, "file") is None


async def test_small_files(storage: Storage, folder: Folder) -> None:
    """Written whole over what was there, with the folders above; read from a byte on, None without one."""
    await storage.write_small(folder.name, "deep/er/ü b.txt", b"hello")
    await storage.write_small(folder.name, "deep/er/ü b.txt", b"by")
    await storage.write_small(folder.name, "empty", b"")

    assert await storage.read_small(folder.name, "deep/er/ü b.txt") == b"by"
    assert await storage.read_small(folder.name, "deep/er/ü b.txt", 1) == b"y"
    assert await storage.read_small(folder.name, "deep/er/ü b.txt", 9) == b""
    assert await storage.read_small(folder.name, "empty") == b""
    assert await storage.read_small(folder.name, "none") is None
    with pytest.raises(ClusterError, match="No such virtual folder"):
        await storage.read_small("no-such-folder", "none")
    items = {item.name: item for item in await storage.items(folder.name) or []}
    assert (items["empty"].type, items["empty"].size, items["deep"].type) == ("file", 0, "folder")
    assert set(items) == {"empty", "deep"}
    assert items["empty"].modified_at


async def test_deleting(storage: Storage, folder: Folder) -> None:
    """Files and folders together; what isn't there is well."""
    for path in ("a", "b/c", "d"):
        await storage.write_small(folder.name, path, b"x")

    await storage.delete(folder.name, ["a", "nothing", "b"])
    await storage.delete(folder.name, ["nothing"])

    assert [item.name for item in await storage.items(folder.name) or []] == ["d"]


async def test_a_large_file_over_connections_that_break(stack: Cluster, folder: Folder) -> None:
    """Up and down, with connections cut after every so many bytes, each byte arrives once."""
    data = hashlib.shake_128(b"seed").digest(24 * 2**20)
    async with connected(stack) as client:
        storage = Storage(client)
        async with Cutter(client.http) as cutter:
            cutter.sent, cutter.received = 3 * 2**20, 2**62
            await storage.write(folder.name, "big", chunks(data), len(data))
            cutter.sent, cutter.received = 2**62, 5 * 2**20
            read = [chunk async for chunk in storage.read(folder.name, "big")]
            part = [chunk async for chunk in storage.read(folder.name, "big", 1000, 7 * 2**20)]
            cuts = cutter.cuts

    assert b"".join(read) == data
    assert b"".join(part) == data[1000 : 7 * 2**20]
    assert cuts > 6


async def test_a_file_of_another_size_than_reported(storage: Storage, folder: Folder) -> None:
    """More or fewer bytes than announced: refused, and the file of before is still there."""
    await storage.write_small(folder.name, "a", b"before")

    for size in (9, 11):
        with pytest.raises(ValueError, match="announced"):
            await storage.write(folder.name, "a", chunks(b"0123456789"), size)

    assert await storage.read_small(folder.name, "a") == b"before"
