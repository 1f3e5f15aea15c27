"""The pipelines' folders on a cluster, as the port promises them and as people meddle with them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backendai.cases import connected, installation
from backendai.cluster import Cluster
from trackbook.adapters.backendai.api.storage import Folder, Storage
from trackbook.adapters.backendai.folders import ClusterFolders
from trackbook.engine.ports import ExecutorUnavailable, FolderMissing, FolderState, NoSuchFile, UnsafePath

OURS = installation()


@pytest.fixture
async def storage(stack: Cluster) -> AsyncIterator[Storage]:
    """Give the storage of the stack; what the test has made is gone afterwards."""
    async with connected(stack) as client:
        made = Storage(client)
        yield made
        for folder in await made.folders():
            if f"tb-{OURS}-" in folder.name:
                await made.remove(folder)


@pytest.fixture
def folders(storage: Storage, tmp_path: Path) -> ClusterFolders:
    """Give the folders of an installation."""
    return ClusterFolders(storage, tmp_path, OURS)


@pytest.fixture
def pipeline() -> str:
    """Give the id of a pipeline."""
    return uuid.uuid4().hex[:16]


async def some(*parts: bytes) -> AsyncIterator[bytes]:
    """Yield the parts."""
    for part in parts:
        yield part


async def read(folders: ClusterFolders, pipeline: str, path: str) -> bytes:
    """Return a file."""
    return b"".join([chunk async for chunk in folders.read(pipeline, path)])


async def test_none_present_and_none_again(folders: ClusterFolders, pipeline: str) -> None:
    """A folder is made once, with its vfroot, and purged for good."""
    before = await folders.state(pipeline)
    made = await folders.create(pipeline)
    again = await folders.create(pipeline)
    entries = await folders.entries(pipeline)
    purged = [await folders.purge(pipeline), await folders.purge(pipeline)]

    assert (before.state, before.name) == ("none", f"tb-{OURS}-{pipeline}")
    assert made == again
    assert (made.state, made.name) == ("present", before.name)
    assert [(entry.path, entry.type) for entry in entries] == [("vfroot", "folder")]
    assert purged == [True, False]
    assert (await folders.state(pipeline)).state == "none"


async def test_a_folder_that_somebody_removed_is_missing(
    folders: ClusterFolders, storage: Storage, pipeline: str, stack: Cluster
) -> None:
    """That is reported until it is made again, by whatever way the folder went."""
    made = await folders.create(pipeline)
    await storage.client.request("DELETE", f"/folders/{made.name}")

    missing = await folders.state(pipeline)
    with pytest.raises(FolderMissing, match="removed"):
        await folders.entries(pipeline)
    again = await folders.create(pipeline)

    assert (missing.state, missing.id) == ("missing", made.id)
    assert again.state == "present"
    assert (again.id == made.id) is stack.newer, "26.8 has a trash, from which it is restored"


async def test_another_folder_of_the_name_is_not_ours(
    folders: ClusterFolders, storage: Storage, pipeline: str
) -> None:
    """The folder is known by its id, not by its name."""
    made = await folders.create(pipeline)
    first = await storage.folder(made.name)
    assert first
    await storage.remove(first)
    await storage.ensure(made.name)

    assert (await folders.state(pipeline)).state == "missing"


async def test_a_folder_has_its_pipelines_name(
    folders: ClusterFolders, storage: Storage, pipeline: str, tmp_path: Path
) -> None:
    """It is readable on the cluster; who has nothing on disk finds it, whatever the pipeline is called by now."""
    made = await folders.create(pipeline, "train bert")
    other = ClusterFolders(storage, tmp_path / "other", OURS)

    assert made.name == f"train-bert-tb-{OURS}-{pipeline}"
    assert await other.create(pipeline, "renamed") == made
    assert await folders.create(pipeline, "renamed") == made


async def test_two_who_make_a_folder_under_two_names_have_one(
    storage: Storage, pipeline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes second uses the first one's, and leaves none behind."""
    first, second = (ClusterFolders(storage, tmp_path / name, OURS) for name in ("first", "second"))
    made: list[FolderState] = []
    ensure = storage.ensure

    async def overtaken(name: str, host: str = "") -> Folder:
        if not made:
            monkeypatch.setattr(storage, "ensure", ensure)
            made.append(await first.create(pipeline, "one"))
        return await ensure(name, host)

    monkeypatch.setattr(storage, "ensure", overtaken)
    assert await second.create(pipeline, "two") == made[0]
    found = [each for each in await storage.folders() if each.name.endswith(f"tb-{OURS}-{pipeline}")]
    assert [each.name for each in found if not each.going and not each.trashed] == [made[0].name]


async def test_a_renamed_folder_is_found(folders: ClusterFolders, storage: Storage, pipeline: str) -> None:
    """Its id leads to it; its name is given as it is now."""
    made = await folders.create(pipeline)
    await storage.client.request("POST", f"/folders/{made.name}/rename", body={"new_name": f"{made.name}-x"})

    state = await folders.state(pipeline)

    assert (state.state, state.name, state.id) == ("present", f"{made.name}-x", made.id)
    assert [entry.path for entry in await folders.entries(pipeline)] == ["vfroot"]


async def test_another_data_directory_finds_it_by_name(
    folders: ClusterFolders, storage: Storage, pipeline: str, tmp_path: Path
) -> None:
    """What was kept on disk may be lost, or broken."""
    made = await folders.create(pipeline)
    other = ClusterFolders(storage, tmp_path / "other", OURS)
    kept = next(tmp_path.glob(f"executors/*/folders/{pipeline}.json"))
    kept.write_bytes(b"{")

    assert await other.state(pipeline) == made
    assert await folders.state(pipeline) == made


async def test_files_in_it(folders: ClusterFolders, pipeline: str) -> None:
    """Written with the folders above, listed by name, read in parts, deleted."""
    await folders.write(pipeline, "vfroot/b/ü.txt", some(b"hel", b"lo"), 5)
    await folders.write(pipeline, "vfroot/a", some(), 0)

    entries = await folders.entries(pipeline, "vfroot")
    stat = await folders.stat(pipeline, "vfroot/b/ü.txt")
    part = b"".join([chunk async for chunk in folders.read(pipeline, "vfroot/b/ü.txt", 1, 4)])
    await folders.delete(pipeline, "vfroot/b")

    assert [(entry.name, entry.path, entry.type, entry.size) for entry in entries] == [
        ("a", "vfroot/a", "file", 0),
        ("b", "vfroot/b", "folder", 0),
    ]
    assert (stat.path, stat.type, stat.size) == ("vfroot/b/ü.txt", "file", 5)
    assert stat.modified_at
    assert part == b"ell"
    for path in ("vfroot/b", "vfroot/b/ü.txt", "none", "vfroot/a/x"):
        with pytest.raises(NoSuchFile):
            await folders.stat(pipeline, path)
        with pytest.raises(NoSuchFile):
            await folders.delete(pipeline, path)
        with pytest.raises(NoSuchFile):
            await read(folders, pipeline, path)
    with pytest.raises(NoSuchFile):
        await folders.entries(pipeline, "vfroot/a")
    with pytest.raises(NoSuchFile):
        await read(folders, pipeline, "vfroot")
    with pytest.raises(UnsafePath):
        await folders.write(pipeline, "vfroot", some(b"x"), 1)


async def test_what_is_ours_is_not_shown(folders: ClusterFolders, storage: Storage, pipeline: str) -> None:
    """Records of sessions lie in the folder, and can't be reached by a path."""
    made = await folders.create(pipeline)
    await storage.write_small(made.name, ".trackbook/j/0-1.exit", b"{}")

    assert [entry.name for entry in await folders.entries(pipeline)] == ["vfroot"]
    for path in (".trackbook", "../x", "/etc/passwd", "vfroot/../../x", "a\0b"):
        with pytest.raises(UnsafePath):
            await folders.stat(pipeline, path)


async def test_a_manager_that_is_away(stack: Cluster, tmp_path: Path, pipeline: str) -> None:
    """It is reported as such: a folder isn't missing because nobody answers."""
    async with connected(stack, endpoint="http://127.0.0.1:9") as client:
        folders = ClusterFolders(Storage(client), tmp_path, OURS)
        for asked in (folders.state, folders.create, folders.purge, folders.entries):
            with pytest.raises(ExecutorUnavailable, match="can't be reached"):
                await asked(pipeline)


async def test_a_storage_proxy_that_is_away(stack: Cluster, tmp_path: Path, pipeline: str) -> None:
    """No file counts as missing then, and nothing as written."""
    _ = stack.own
    async with connected(stack) as client:
        folders = ClusterFolders(Storage(client), tmp_path, OURS)
        await folders.write(pipeline, "vfroot/a", some(b"x"), 1)
        with stack.without("storage"):
            state = await folders.state(pipeline)
            for path in ("vfroot/a", "vfroot/none"):
                with pytest.raises(ExecutorUnavailable):
                    await folders.stat(pipeline, path)
                with pytest.raises(ExecutorUnavailable):
                    await read(folders, pipeline, path)
                with pytest.raises(ExecutorUnavailable):
                    await folders.write(pipeline, path, some(b"y"), 1)
        after = await read(folders, pipeline, "vfroot/a")
        await folders.purge(pipeline)

    assert state.state == "present"
    assert after == b"x"
