"""Archives of code on their way to a cluster, whose folder is in memory here."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.session import code_archives
from trackbook.adapters.backendai.session.code_archives import Archives
from trackbook.adapters.execution.code_archive import BadCode
from trackbook.engine.ports import SessionSpec
from trackbook.testing.store import MemoryBlobs

SPEC = SessionSpec("tb-j1-0-1", "j1", "p1", "pipeline", "a", 0, 1, "true")


class Folder:
    """A pipeline's folder as sessions see it; `uploads` are the files written, `broken` lets them fail."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.uploads: list[str] = []
        self.broken = False

    async def prepare(self, pipeline: str, paths: list[str], label: str) -> str:
        """Have folders there."""
        assert (pipeline, paths, label) == ("p1", [".trackbook/code"], "pipeline")
        return "folder"

    async def has(self, pipeline: str, path: str) -> bool:
        """Whether there is a file."""
        return path in self.files

    async def put(self, pipeline: str, path: str, chunks: AsyncIterator[bytes], size: int) -> None:
        """Write a file."""
        data = b""
        async for chunk in chunks:
            await asyncio.sleep(0)
            data += chunk
            if self.broken:
                raise ClusterError("main", "infrastructure", "upload-broken", "the upload broke")
        assert len(data) == size
        self.files[path] = data
        self.uploads.append(path)


class Stored:
    """A folder, stored blobs, and what uploads from one to the other."""

    def __init__(self) -> None:
        self.folder, self.blobs = Folder(), MemoryBlobs()
        self.archives = self.another()

    def another(self, **other: Any) -> Archives:
        """Return what uploads after a restart."""
        return Archives(self.folder, **{"blobs": self.blobs} | other)  # type: ignore[arg-type]

    async def spec(self, *names: str) -> SessionSpec:
        """Return a session whose code has such files."""
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as made:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = 10
                made.addfile(info, io.BytesIO(b"0123456789"))
        return replace(SPEC, code=await self.blobs.put(file.getvalue()))


@pytest.fixture
def stored() -> Stored:
    """Give an empty folder."""
    return Stored()


def no() -> bool:
    """Nobody asks for the session's end."""
    return False


async def test_an_archive_is_uploaded_once(stored: Stored) -> None:
    """However many sessions need it at once; under its hash, byte for byte."""
    spec = await stored.spec("main.py")
    path = f".trackbook/code/{spec.code}.tar"

    await asyncio.gather(*(stored.archives.place(spec, no) for _ in range(5)))

    assert stored.folder.uploads == [path]
    assert stored.folder.files[path] == stored.blobs.blobs[spec.code]


async def test_an_archive_that_is_there_is_not_fetched(stored: Stored) -> None:
    """After a restart one look in the folder is enough."""
    spec = await stored.spec("main.py")
    await stored.archives.place(spec, no)

    await stored.another(blobs=None).place(spec, no)

    assert len(stored.folder.uploads) == 1


async def test_another_version_is_another_file(stored: Stored) -> None:
    """What one job runs is never replaced by what another one runs."""
    one, two = await stored.spec("one"), await stored.spec("two")

    await stored.archives.place(one, no)
    await stored.archives.place(two, no)

    assert len(stored.folder.files) == 2


async def test_an_upload_that_broke_is_made_again(stored: Stored) -> None:
    """The error is the cluster's, and the next try uploads the archive."""
    spec = await stored.spec("main.py")
    stored.folder.broken = True
    with pytest.raises(ClusterError, match="upload broke"):
        await stored.archives.place(spec, no)
    stored.folder.broken = False

    await stored.archives.place(spec, no)

    assert len(stored.folder.uploads) == 1


async def test_what_a_session_found_damaged_is_uploaded_anew(stored: Stored) -> None:
    """Once, for the next session, though a file of that name is there."""
    spec = await stored.spec("main.py")
    await stored.archives.place(spec, no)
    stored.folder.files[f".trackbook/code/{spec.code}.tar"] = b"damaged"
    stored.archives.was_bad(spec)

    await stored.archives.place(spec, no)
    await stored.archives.place(spec, no)

    assert len(stored.folder.uploads) == 2
    assert [*stored.folder.files.values()] == [stored.blobs.blobs[spec.code]]


async def test_an_upload_ends_when_the_session_is_to_end(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is there then, and the next session uploads all of it."""
    monkeypatch.setattr(code_archives, "_CHUNK", 512)
    spec = await stored.spec("main.py")
    asked = iter([False, False, True])

    await stored.archives.place(spec, lambda: next(asked))

    assert (stored.folder.files, [*asked]) == ({}, [])
    await stored.archives.place(spec, no)
    assert len(stored.folder.uploads) == 1


async def test_code_in_the_place_of_a_mount(stored: Stored) -> None:
    """It is refused before anything is unpacked into that folder; a session without the mount has its code."""
    spec = await stored.spec("data")

    for mounts in (["data"], ["sets:data/more"]):
        with pytest.raises(BadCode, match="the code has 'data"):
            await stored.archives.place(replace(spec, mounts=mounts), no)
    await stored.archives.place(replace(spec, mounts=["data:/mnt/data", "other"]), no)

    with pytest.raises(BadCode, match="the code has 'data"):
        await stored.archives.place(replace(spec, mounts=["data"]), no)


@pytest.mark.parametrize("name", ["../evil", "/evil"])
async def test_hostile_code_is_not_uploaded(stored: Stored, name: str) -> None:
    """What no executor unpacks is not handed to a cluster's tar."""
    spec = await stored.spec(name)

    with pytest.raises(BadCode, match="can't be the name of an entry"):
        await stored.archives.place(spec, no)

    assert stored.folder.files == {}


async def test_code_that_is_not_stored(stored: Stored) -> None:
    """The error says so, and what to do."""
    with pytest.raises(BadCode, match="Apply the pipeline again"):
        await stored.archives.place(replace(SPEC, code="5" * 64), no)
