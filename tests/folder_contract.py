"""What every implementation of the port `Folders` has to do; each world derives from the suite."""

from __future__ import annotations

import io
import unicodedata
import zipfile
from collections.abc import AsyncIterator, Iterable

import pytest

from trackbook.engine.ports import FolderMissing, Folders, NoSuchFile, UnsafePath
from trackbook.http.endpoints.path_spelling import with_stored_spelling

UNSAFE = ("..", "a/../..", "vfroot/../../b", "/etc/passwd", "//etc", "a\0b", "vfroot/" + "n" * 300, "x/" * 2100)
SECRET = b"not yours"
ODD = (
    "two words",
    "한글 이름",
    "%2e%2e",
    "a#b?c&d=e",
    "-rf",
    "'quoted\"",
    ".hidden",
    "back\\slash",
    "a:b",
    "\\x41",
)


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    """Yield these chunks."""
    for piece in given:
        yield piece


async def broken(*given: bytes) -> AsyncIterator[bytes]:
    """Yield these chunks, and break then."""
    for piece in given:
        yield piece
    raise ConnectionResetError("the sender is gone")


async def whole(folders: Folders, pipeline: str, path: str, start: int = 0, end: int | None = None) -> bytes:
    """Return the bytes of a file, or a part of them."""
    return b"".join([chunk async for chunk in folders.read(pipeline, path, start, end)])


async def put(folders: Folders, pipeline: str, path: str, text: bytes) -> None:
    """Write a file."""
    await folders.write(pipeline, path, pieces(text), len(text))


async def names(folders: Folders, pipeline: str, path: str = "") -> list[str]:
    """Return the names in a folder."""
    return [entry.name for entry in await folders.entries(pipeline, path)]


class FoldersContract:
    """The suite; `folders` and `pipeline`, the id of one that has no folder, are fixtures of the world."""

    sets_modes = True
    """Whether the storage can make a file executable when it is written."""

    async def test_where_there_is_no_folder_nothing_is_read(self, folders: Folders, pipeline: str) -> None:
        """The state says so, every question is answered with FolderMissing, and nothing comes to be by asking."""
        assert (await folders.state(pipeline)).state == "none"
        with pytest.raises(FolderMissing):
            await folders.entries(pipeline)
        with pytest.raises(FolderMissing):
            await folders.stat(pipeline, "vfroot")
        with pytest.raises(FolderMissing):
            await whole(folders, pipeline, "vfroot/a")
        with pytest.raises(FolderMissing):
            await folders.delete(pipeline, "vfroot/a")
        assert await folders.purge(pipeline) is False
        assert (await folders.state(pipeline)).state == "none"

    async def test_a_folder_is_made_once(self, folders: Folders, pipeline: str) -> None:
        """To make it again changes nothing; it has the folder that tasks share, and keeps what is in it."""
        made = await folders.create(pipeline)
        await put(folders, pipeline, "vfroot/kept", b"kept")

        assert made.state == "present"
        assert made == await folders.create(pipeline) == await folders.state(pipeline)
        assert await names(folders, pipeline) == ["vfroot"]
        assert await whole(folders, pipeline, "vfroot/kept") == b"kept"

    async def test_what_is_written_is_read(self, folders: Folders, pipeline: str) -> None:
        """A write makes the folder and those above the file; parts are read as asked for."""
        text = bytes(range(256)) * 5000
        await folders.write(pipeline, "vfroot/deep/er/file.bin", pieces(text[:7], b"", text[7:]), len(text))

        assert (await folders.state(pipeline)).state == "present"
        assert await whole(folders, pipeline, "vfroot/deep/er/file.bin") == text
        for start, end in ((0, 1), (255, 300_000), (len(text) - 3, None), (5, 5)):
            assert await whole(folders, pipeline, "vfroot/deep/er/file.bin", start, end) == text[start:end]
        entry = await folders.stat(pipeline, "vfroot/deep/er/file.bin")
        assert (entry.name, entry.path, entry.type) == ("file.bin", "vfroot/deep/er/file.bin", "file")
        assert entry.size == len(text)
        assert entry.modified_at is not None
        assert entry.modified_at.tzinfo is not None

    async def test_an_empty_file_is_a_file(self, folders: Folders, pipeline: str) -> None:
        """It has no bytes, and is there."""
        await put(folders, pipeline, "vfroot/empty", b"")

        assert await whole(folders, pipeline, "vfroot/empty") == b""
        assert (await folders.stat(pipeline, "vfroot/empty")).size == 0

    async def test_a_write_takes_the_place_of_what_was_there(self, folders: Folders, pipeline: str) -> None:
        """The file is the new one, also where it is shorter."""
        await put(folders, pipeline, "vfroot/a", b"long enough")
        await put(folders, pipeline, "vfroot/a", b"short")

        assert await whole(folders, pipeline, "vfroot/a") == b"short"

    async def test_a_program_stays_one(self, folders: Folders, pipeline: str) -> None:
        """What is written as executable is so where the storage can, and says that it is not where it can't."""
        text = b"#!/bin/sh\n"
        await folders.write(pipeline, "vfroot/program", pieces(text), len(text), executable=True)
        await put(folders, pipeline, "vfroot/text", text)

        found = await folders.entries(pipeline, "vfroot")
        assert [entry.executable for entry in found] == [self.sets_modes, False]
        assert (await folders.stat(pipeline, "vfroot/program")).executable == self.sets_modes
        await put(folders, pipeline, "vfroot/program", text)
        assert not (await folders.stat(pipeline, "vfroot/program")).executable
        assert not (await folders.stat(pipeline, "vfroot")).executable

    @pytest.mark.parametrize(
        ("chunks", "size"), [((b"abc",), 4), ((b"abc", b"def"), 5), ((), 1)], ids=["short", "long", "nothing"]
    )
    async def test_what_is_not_as_long_as_announced_is_not_written(
        self, folders: Folders, pipeline: str, chunks: Iterable[bytes], size: int
    ) -> None:
        """A file is there whole or not at all, and one that was there before stays."""
        await put(folders, pipeline, "vfroot/old", b"old")
        for name in ("old", "new"):
            with pytest.raises(ValueError, match="bytes") as refused:
                await folders.write(pipeline, f"vfroot/{name}", pieces(*chunks), size)
            assert type(refused.value) is ValueError

        assert await names(folders, pipeline, "vfroot") == ["old"]
        assert await whole(folders, pipeline, "vfroot/old") == b"old"

    async def test_a_write_that_breaks_leaves_nothing(self, folders: Folders, pipeline: str) -> None:
        """Where the bytes stop to come, nothing shows that there were any."""
        await put(folders, pipeline, "vfroot/old", b"old")
        for name in ("old", "new"):
            with pytest.raises(ConnectionResetError):
                await folders.write(pipeline, f"vfroot/{name}", broken(b"half", b"of it"), 18)

        assert await names(folders, pipeline, "vfroot") == ["old"]
        assert await whole(folders, pipeline, "vfroot/old") == b"old"

    async def test_a_folder_is_listed_by_name(self, folders: Folders, pipeline: str) -> None:
        """Files have sizes, folders none; paths lead on from the pipeline's folder."""
        for name in ("b", "a", "C", "sub/x"):
            await put(folders, pipeline, f"vfroot/{name}", name.encode())

        found = await folders.entries(pipeline, "vfroot")

        assert [(each.name, each.path, each.type, each.size) for each in found] == [
            ("C", "vfroot/C", "file", 1),
            ("a", "vfroot/a", "file", 1),
            ("b", "vfroot/b", "file", 1),
            ("sub", "vfroot/sub", "folder", 0),
        ]
        assert await names(folders, pipeline, "vfroot/sub/") == ["x"]
        assert (await folders.stat(pipeline, "vfroot/sub")).type == "folder"
        assert (await folders.stat(pipeline, "")).type == "folder"

    async def test_odd_names_are_names(self, folders: Folders, pipeline: str) -> None:
        """Blanks, other scripts and what means something elsewhere stand for themselves."""
        for name in ODD:
            await put(folders, pipeline, f"vfroot/{name}", name.encode())

        assert await names(folders, pipeline, "vfroot") == sorted(ODD)
        for name in ODD:
            assert await whole(folders, pipeline, f"vfroot/{name}") == name.encode()
            await folders.delete(pipeline, f"vfroot/{name}")
        assert await names(folders, pipeline, "vfroot") == []

    async def test_a_path_is_found_however_its_accents_are_composed(
        self, folders: Folders, pipeline: str
    ) -> None:
        """Names stay as they were given; the other spelling leads to them, and what is new keeps its own."""
        composed, decomposed = (unicodedata.normalize(form, "données-훈련") for form in ("NFC", "NFD"))
        for there, asked in ((composed, decomposed), (decomposed, composed)):
            await put(folders, pipeline, f"vfroot/a/{there}/file", b"x")

            found = await with_stored_spelling(folders, pipeline, f"vfroot/a/{asked}/file")
            assert found == f"vfroot/a/{there}/file"
            assert await whole(folders, pipeline, found) == b"x"
            new = f"vfroot/a/{asked}/{asked}/new"
            assert await with_stored_spelling(folders, pipeline, new) == f"vfroot/a/{there}/{asked}/new"
            await folders.delete(pipeline, f"vfroot/a/{there}")

    async def test_what_is_not_there_is_reported(self, folders: Folders, pipeline: str) -> None:
        """A missing file or folder, a file taken for a folder and a folder for a file are NoSuchFile."""
        await put(folders, pipeline, "vfroot/file", b"x")
        for path in ("nothing", "vfroot/nothing", "vfroot/file/below"):
            with pytest.raises(NoSuchFile):
                await folders.stat(pipeline, path)
            with pytest.raises(NoSuchFile):
                await folders.entries(pipeline, path)
            with pytest.raises(NoSuchFile):
                await whole(folders, pipeline, path)
            with pytest.raises(NoSuchFile):
                await folders.delete(pipeline, path)
        with pytest.raises(NoSuchFile):
            await folders.entries(pipeline, "vfroot/file")
        with pytest.raises(NoSuchFile):
            await whole(folders, pipeline, "vfroot")

    @pytest.mark.parametrize("path", UNSAFE, ids=range(len(UNSAFE)))
    async def test_paths_that_lead_out_are_refused(self, folders: Folders, pipeline: str, path: str) -> None:
        """Whatever is asked, a path that leads out or that no file system takes is UnsafePath."""
        await folders.create(pipeline)
        with pytest.raises(UnsafePath):
            await folders.entries(pipeline, path)
        with pytest.raises(UnsafePath):
            await folders.stat(pipeline, path)
        with pytest.raises(UnsafePath):
            await whole(folders, pipeline, path)
        with pytest.raises(UnsafePath):
            await put(folders, pipeline, path, b"x")
        with pytest.raises(UnsafePath):
            await folders.delete(pipeline, path)

    async def test_folders_are_not_written_over(self, folders: Folders, pipeline: str) -> None:
        """A file can't take the place of a folder, or of the whole; nor can the whole be deleted like a file."""
        await put(folders, pipeline, "vfroot/sub/file", b"x")
        for path in ("", ".", "vfroot/sub", "vfroot/sub/", "vfroot/sub/file/below"):
            with pytest.raises(UnsafePath):
                await put(folders, pipeline, path, b"y")
        with pytest.raises(UnsafePath):
            await folders.delete(pipeline, "")

        assert await whole(folders, pipeline, "vfroot/sub/file") == b"x"

    async def test_a_folder_is_archived_whole(self, folders: Folders, pipeline: str) -> None:
        """Every file is in the archive under its path from the folder; the root and files have none."""
        for path in ("vfroot/sub/a", "vfroot/sub/deep/한글", "vfroot/beside"):
            await put(folders, pipeline, path, path.encode())

        made = b"".join([chunk async for chunk in folders.archive(pipeline, "vfroot/sub")])
        with zipfile.ZipFile(io.BytesIO(made)) as archive:
            assert archive.testzip() is None
            found = {name: archive.read(name).decode() for name in archive.namelist()}
        assert found == {"a": "vfroot/sub/a", "deep/한글": "vfroot/sub/deep/한글"}
        for path, refusal in (
            ("", UnsafePath),
            ("../x", UnsafePath),
            ("nothing", NoSuchFile),
            ("vfroot/beside", NoSuchFile),
        ):
            with pytest.raises(refusal):
                async for _ in folders.archive(pipeline, path):
                    pass

    async def test_folders_go_with_all_that_is_in_them(self, folders: Folders, pipeline: str) -> None:
        """To delete a folder deletes what is below; what is beside it stays."""
        for path in ("vfroot/sub/a", "vfroot/sub/deep/b", "vfroot/beside"):
            await put(folders, pipeline, path, b"x")
        await folders.delete(pipeline, "vfroot/sub")

        assert await names(folders, pipeline, "vfroot") == ["beside"]

    async def test_what_trackbook_keeps_there_is_not_shown(self, folders: Folders, pipeline: str) -> None:
        """Its own folder at the root is neither listed nor touched."""
        await put(folders, pipeline, "vfroot/a", b"x")
        for path in (".trackbook", ".trackbook/uploads"):
            with pytest.raises(UnsafePath):
                await folders.entries(pipeline, path)
            with pytest.raises(UnsafePath):
                await folders.delete(pipeline, path)

        assert await names(folders, pipeline) == ["vfroot"]

    async def test_a_purged_folder_is_gone_and_may_be_made_anew(self, folders: Folders, pipeline: str) -> None:
        """All of it is deleted, once; what is made afterwards is empty."""
        await put(folders, pipeline, "vfroot/a", b"x")

        assert await folders.purge(pipeline) is True
        assert (await folders.state(pipeline)).state != "present"
        assert await folders.purge(pipeline) is False
        with pytest.raises(FolderMissing):
            await folders.entries(pipeline)
        assert (await folders.create(pipeline)).state == "present"
        assert await names(folders, pipeline, "vfroot") == []

    async def test_pipelines_do_not_meet(self, folders: Folders, pipeline: str) -> None:
        """What is in one pipeline's folder is in no other's."""
        other = pipeline[::-1]
        await put(folders, pipeline, "vfroot/a", b"x")

        assert (await folders.state(other)).state == "none"
        with pytest.raises(FolderMissing):
            await folders.entries(other)
