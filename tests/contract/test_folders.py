"""The folders below the data directory: the suite of the port, and what tasks may do there meanwhile."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 - it is imported late, when this test may be unable to read it
import os
import secrets
import shutil
import stat
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from folder_contract import SECRET, FoldersContract, names, pieces, put, whole

from trackbook.adapters.execution.data_folders import DataFolders
from trackbook.engine.ports import ExecutorUnavailable, FolderMissing, NoSuchFile, UnsafePath


@pytest.fixture
def pipeline() -> str:
    """The id of a pipeline."""
    return secrets.token_hex(8)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with something beside it that nobody may see."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(SECRET)
    return tmp_path / "data"


@pytest.fixture
def folders(data: Path) -> DataFolders:
    """The folders."""
    return DataFolders(data)


@pytest.fixture
async def vfroot(folders: DataFolders, pipeline: str) -> Path:
    """The folder that the pipeline's tasks share, where they do as they like."""
    await folders.create(pipeline)
    return folders.root(pipeline) / "vfroot"


class TestDataFolders(FoldersContract):
    """The suite on this machine's disk."""


async def refused(folders: DataFolders, pipeline: str, path: str) -> None:
    """Check that nothing can be done with a path that leads out."""
    with pytest.raises((UnsafePath, NoSuchFile)):
        await whole(folders, pipeline, path)
    with pytest.raises((UnsafePath, NoSuchFile)):
        await folders.stat(pipeline, path)
    with pytest.raises((UnsafePath, NoSuchFile)):
        await folders.entries(pipeline, path)


@pytest.mark.parametrize(
    "target", ["{outside}", "../../../../outside", "sub/../../../../../outside", "/", "loop"]
)
async def test_links_that_lead_out_are_not_followed(
    folders: DataFolders, pipeline: str, vfroot: Path, data: Path, target: str
) -> None:
    """Not to read, not to list, not to write; they are left out of listings, and only themselves deleted."""
    (vfroot / "sub").mkdir()
    (vfroot / "loop").symlink_to(target.format(outside=data.parent / "outside"))

    await refused(folders, pipeline, "vfroot/loop")
    await refused(folders, pipeline, "vfroot/loop/secret")
    with pytest.raises(UnsafePath):
        await put(folders, pipeline, "vfroot/loop/secret", b"overwritten")
    with pytest.raises(UnsafePath):
        await folders.delete(pipeline, "vfroot/loop/secret")
    assert await names(folders, pipeline, "vfroot") == ["sub"]
    await folders.delete(pipeline, "vfroot/loop")

    assert not (vfroot / "loop").is_symlink()
    assert (data.parent / "outside" / "secret").read_bytes() == SECRET


async def test_links_that_stay_inside_are_followed(folders: DataFolders, pipeline: str, vfroot: Path) -> None:
    """`latest -> step-3` is as good as a name; a write through it changes what it leads to."""
    for step in ("step-2", "step-3"):
        await put(folders, pipeline, f"vfroot/{step}/weights", step.encode())
    (vfroot / "latest").symlink_to("step-3")
    (vfroot / "step-2" / "next").symlink_to("../latest/weights")
    (vfroot / "dangling").symlink_to("step-4")

    assert await whole(folders, pipeline, "vfroot/latest/weights") == b"step-3"
    assert await whole(folders, pipeline, "vfroot/step-2/next") == b"step-3"
    assert [entry.type for entry in await folders.entries(pipeline, "vfroot")] == ["folder"] * 3
    assert (await folders.stat(pipeline, "vfroot/step-2/next")).path == "vfroot/step-2/next"
    await put(folders, pipeline, "vfroot/latest/weights", b"new")

    assert await whole(folders, pipeline, "vfroot/step-3/weights") == b"new"
    await folders.delete(pipeline, "vfroot/latest")
    assert await names(folders, pipeline, "vfroot/step-3") == ["weights"]


async def test_a_program_may_be_run_by_who_may_read_it(folders: DataFolders, pipeline: str, vfroot: Path) -> None:
    """The server's umask says who that is."""
    before = os.umask(0o027)
    try:
        await folders.write(pipeline, "vfroot/program", pieces(b"x"), 1, executable=True)
    finally:
        os.umask(before)

    assert stat.S_IMODE((vfroot / "program").stat().st_mode) == 0o750


async def test_links_that_lead_in_circles_are_left_out(folders: DataFolders, pipeline: str, vfroot: Path) -> None:
    """Whoever lists a folder and all below it comes to an end, however links cross."""
    for name in ("a", "b"):
        (vfroot / name).mkdir()
    for link, target in (("a/x", "../b"), ("b/y", "../a"), ("a/up", ".."), ("a/self", "."), ("b/loop", "loop")):
        (vfroot / link).symlink_to(target)
    seen, left = [], ["vfroot"]
    while left:
        for entry in await folders.entries(pipeline, left.pop()):
            seen.append(entry.path)
            left += [entry.path] if entry.type == "folder" else []

    assert sorted(seen) == ["vfroot/a", "vfroot/a/x", "vfroot/b", "vfroot/b/y"]


async def test_a_purge_and_a_delete_leave_what_links_lead_to(
    folders: DataFolders, pipeline: str, vfroot: Path, data: Path
) -> None:
    """Folders that hold links out go with their links only."""
    (vfroot / "sub").mkdir()
    (vfroot / "sub" / "out").symlink_to(data.parent / "outside")
    (vfroot / "out").symlink_to(data.parent / "outside")
    await folders.delete(pipeline, "vfroot/sub")
    await folders.purge(pipeline)

    assert (data.parent / "outside" / "secret").read_bytes() == SECRET
    assert not folders.root(pipeline).exists()


async def test_no_swap_of_folders_and_links_leads_out(
    folders: DataFolders, pipeline: str, vfroot: Path, data: Path
) -> None:
    """While a task swaps a folder for a link that leads out and back, nothing outside is ever read or written."""
    inside, link, shown = vfroot / "real", vfroot / "link", vfroot / "shown"
    inside.mkdir()
    (inside / "secret").write_bytes(b"inside")
    link.symlink_to(data.parent / "outside")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for each in (link, inside):
                try:
                    each.rename(shown)
                except OSError:  # a write made a folder of that name in the moment when there was none
                    shutil.rmtree(shown, ignore_errors=True)
                else:
                    shown.rename(each)

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen = set()
    try:
        for _ in range(300):
            try:
                seen.add(await whole(folders, pipeline, "vfroot/shown/secret"))
                await put(folders, pipeline, "vfroot/shown/written", b"x")
                await folders.delete(pipeline, "vfroot/shown/written")
            except (UnsafePath, NoSuchFile) as error:
                seen.add(type(error).__name__.encode())
            except ExecutorUnavailable as error:
                assert "exists" in str(error)  # noqa: PT017 - the folder was made, and swapped away at once
    finally:
        stop.set()
        swapping.join()

    assert seen <= {b"inside", b"UnsafePath", b"NoSuchFile"}
    assert [path.name for path in (data.parent / "outside").iterdir()] == ["secret"]


async def test_only_files_and_folders_are_shown(folders: DataFolders, pipeline: str, vfroot: Path) -> None:
    """Pipes and sockets are left out, and reading one never waits for somebody to write."""
    os.mkfifo(vfroot / "pipe")
    os.mknod(vfroot / "socket", stat.S_IFSOCK | 0o600)
    (vfroot / "to-pipe").symlink_to("pipe")

    assert await names(folders, pipeline, "vfroot") == []
    for name in ("pipe", "socket", "to-pipe"):
        async with asyncio.timeout(60):
            with pytest.raises(NoSuchFile):
                await whole(folders, pipeline, f"vfroot/{name}")


async def test_names_that_are_not_utf_8_are_shown_and_found(
    folders: DataFolders, pipeline: str, vfroot: Path
) -> None:
    r"""Bytes that are not UTF-8 are shown as `\xff`, and what is shown leads to the file."""
    with open(os.fsencode(vfroot) + b"/caf\xe9 \xff", "wb") as file:  # noqa: ASYNC230, PTH123 - bytes
        file.write(b"old encoding")

    (entry,) = await folders.entries(pipeline, "vfroot")

    assert entry.path == "vfroot/caf\\xe9 \\xff"
    assert await whole(folders, pipeline, entry.path) == b"old encoding"
    await folders.delete(pipeline, entry.path)
    assert await names(folders, pipeline, "vfroot") == []


async def test_what_a_dead_process_left_of_an_upload_goes_with_the_next(
    folders: DataFolders, pipeline: str, vfroot: Path
) -> None:
    """A part that nobody writes any more is taken away, one that is written at the same time is not."""
    uploads = vfroot.parent / ".trackbook" / "uploads"
    uploads.mkdir(parents=True)
    (uploads / "left.part").write_bytes(b"half of a fi")
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"one "
        begun.set()
        await go_on.wait()
        yield b"two"

    writing = asyncio.create_task(folders.write(pipeline, "vfroot/slow", slow(), 7))
    await begun.wait()
    assert [path.name for path in uploads.iterdir()] != ["left.part"]
    await put(folders, pipeline, "vfroot/quick", b"quick")
    assert len(list(uploads.iterdir())) == 1
    go_on.set()
    await writing

    assert await whole(folders, pipeline, "vfroot/slow") == b"one two"
    assert list(uploads.iterdir()) == []


async def test_a_cancelled_upload_leaves_nothing(folders: DataFolders, pipeline: str, vfroot: Path) -> None:
    """Whenever it is cancelled, there is neither a file nor a part of one."""
    never = asyncio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        yield b"one"
        begun.set()
        await never.wait()

    for _ in range(5):
        begun = asyncio.Event()
        writing = asyncio.create_task(folders.write(pipeline, "vfroot/new", stalled(), 7))
        await begun.wait()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing

    assert await names(folders, pipeline, "vfroot") == []
    assert list((vfroot.parent / ".trackbook" / "uploads").iterdir()) == []


async def test_of_two_uploads_at_once_one_is_there_whole(folders: DataFolders, pipeline: str) -> None:
    """Writers of one path don't mix."""
    texts = [letter.encode() * 300_000 for letter in "abcd"]
    await asyncio.gather(
        *(folders.write(pipeline, "vfroot/a", pieces(text[:9], text[9:]), len(text)) for text in texts)
    )

    assert await whole(folders, pipeline, "vfroot/a") in texts


async def test_a_folder_that_is_not_here_is_reported_in_words(
    folders: DataFolders, pipeline: str, data: Path
) -> None:
    """Where no pipeline's folder is at all, the executor may be another machine's."""
    with pytest.raises(FolderMissing, match="another machine"):
        await folders.entries(pipeline)
    (data / "pipelines").mkdir(parents=True)
    with pytest.raises(FolderMissing, match="first run makes it"):
        await folders.entries(pipeline)
    for no_id in ("", ".", "..", "a/b", "a\0b"):
        with pytest.raises(UnsafePath):
            await folders.state(no_id)


async def test_what_the_disk_refuses_is_reported_in_words(
    folders: DataFolders, pipeline: str, data: Path
) -> None:
    """Where something stands in the way, the path and the system's reason are reported."""
    (data / "pipelines").mkdir(parents=True)
    folders.root(pipeline).write_text("a file where a folder should be")

    assert (await folders.state(pipeline)).state == "none"
    with pytest.raises(ExecutorUnavailable, match=rf"the folder of pipeline {pipeline} can't be made: .+"):
        await folders.create(pipeline)
    with pytest.raises((ExecutorUnavailable, NoSuchFile)):
        await put(folders, pipeline, "vfroot/a", b"x")


async def test_times_out_of_range_are_no_times(folders: DataFolders, pipeline: str, vfroot: Path) -> None:
    """A task may set any time on a file; one that is no date is left out."""
    await put(folders, pipeline, "vfroot/a", b"x")
    try:
        os.utime(vfroot / "a", (1 << 40, 1 << 40))
    except OverflowError:
        pytest.skip("this file system takes no such times")
    entry = await folders.stat(pipeline, "vfroot/a")

    assert entry.modified_at is None or entry.modified_at.year > 2100


async def test_large_folders_are_listed(folders: DataFolders, pipeline: str, vfroot: Path) -> None:
    """Thousands of entries come by name, all of them."""
    for number in range(5000):
        (vfroot / f"{number:05}").touch()

    assert await names(folders, pipeline, "vfroot") == [f"{number:05}" for number in range(5000)]
