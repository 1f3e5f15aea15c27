"""Unpacking archives of code that anybody may have made: nothing outside of the copy, nothing that is no file."""

from __future__ import annotations

import io
import os
import tarfile
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from trackbook.adapters.execution import code_archive
from trackbook.adapters.execution.code_archive import BadCode, check, unpack


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    """Return an entry of an archive."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


def archive(*entries: tarfile.TarInfo, data: bytes = b"") -> io.BytesIO:
    """Return an archive, whose files hold `data`."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as made:
        for each in entries:
            if each.type == tarfile.REGTYPE:
                each.size = len(data)
            made.addfile(each, io.BytesIO(data))
    file.seek(0)
    return file


HOSTILE = {
    "absolute": [entry("/tmp/evil")],
    "above": [entry("../evil")],
    "above, inside": [entry("a", tarfile.DIRTYPE), entry("a/../../evil")],
    "no name": [entry("a", tarfile.DIRTYPE), entry("a//b")],
    "through a link": [entry("a", tarfile.SYMTYPE, "b"), entry("a/evil")],
    "over a link": [entry("a", tarfile.SYMTYPE, "b"), entry("a")],
    "over a file": [entry("a"), entry("a")],
    "in a file": [entry("a"), entry("a/b")],
    "before its folder": [entry("a/b"), entry("a", tarfile.DIRTYPE)],
    "link to the root": [entry("a", tarfile.SYMTYPE, "/etc")],
    "link above": [entry("a", tarfile.SYMTYPE, "../evil")],
    "link to nothing": [entry("a", tarfile.SYMTYPE, "")],
    "links that lead outside together": [
        entry("s", tarfile.DIRTYPE),
        entry("s/up", tarfile.SYMTYPE, ".."),
        entry("out", tarfile.SYMTYPE, "s/up/../x"),
    ],
    "hard link": [entry("a"), entry("b", tarfile.LNKTYPE, "a")],
    "device": [entry("a", tarfile.CHRTYPE)],
    "block device": [entry("a", tarfile.BLKTYPE)],
    "pipe": [entry("a", tarfile.FIFOTYPE)],
    "sparse": [entry("a", tarfile.CONTTYPE)],
    "long name": [entry("a" * 256)],
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_archives_are_refused(what: str, tmp_path: Path) -> None:
    """Whatever an entry is called, is, or leads to: nothing is written outside of the copy."""
    made = archive(*HOSTILE[what])

    with pytest.raises(BadCode):
        unpack(made, tmp_path / "copy")

    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
    if what != "links that lead outside together":
        made.seek(0)
        with pytest.raises(BadCode):
            check(made)


def test_modes_are_ours(tmp_path: Path) -> None:
    """Set-user-id bits and rights of others are not taken over; the copy is writable in any case."""
    made = archive(entry("d", tarfile.DIRTYPE, mode=0), entry("d/x", mode=0o6777), entry("r", mode=0o444))

    unpack(made, tmp_path / "copy")

    modes = {name: (tmp_path / "copy" / name).stat().st_mode & 0o7777 for name in ("d", "d/x", "r", "")}
    assert modes == {"d": 0o755, "d/x": 0o755, "r": 0o644, "": 0o755}


def test_an_archive_by_tar_itself_is_taken(tmp_path: Path) -> None:
    """`tar -C FOLDER -cf FILE .` puts ./ before each name."""
    made = archive(entry(".", tarfile.DIRTYPE), entry("./a", tarfile.DIRTYPE), entry("./a/b"), data=b"x")

    unpack(made, tmp_path / "copy")

    assert (tmp_path / "copy/a/b").read_bytes() == b"x"


def test_too_many_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive of more entries than one may have is refused."""
    monkeypatch.setattr(code_archive, "MOST_ENTRIES", 3)

    with pytest.raises(BadCode, match="more than 3 entries"):
        unpack(archive(*(entry(f"f{number}") for number in range(4))), tmp_path / "copy")


@pytest.mark.parametrize("cut", [1, 511, 512, 700, 1023, 1030])
def test_an_archive_that_was_cut_is_refused(cut: int, tmp_path: Path) -> None:
    """A file of which bytes are missing is never taken for whole."""
    whole = archive(entry("a"), entry("b"), data=b"x" * 600).getvalue()

    with pytest.raises(BadCode):
        unpack(io.BytesIO(whole[:cut]), tmp_path / "copy")


@for_all(st.binary(max_size=2000), st.integers(0, 4000))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_refused_or_taken(noise: bytes, at: int) -> None:
    """Whatever is in the file, checking it ends, with BadCode or nothing."""
    whole = bytearray(archive(entry("a", tarfile.DIRTYPE), entry("a/b"), data=b"x" * 600).getvalue())
    whole[at : at + len(noise)] = noise

    with suppress(BadCode):
        check(io.BytesIO(bytes(whole)))


def test_a_mount_needs_its_place(tmp_path: Path) -> None:
    """An empty folder makes room for a mount; anything else there is reported, and nothing is hidden."""
    made = archive(entry("data", tarfile.DIRTYPE), entry("src", tarfile.DIRTYPE), entry("src/a"))

    unpack(made, tmp_path / "one", ["data", "other"])
    made.seek(0)

    assert not (tmp_path / "one/data").exists()
    with pytest.raises(BadCode, match="the code has 'src', where a mount is to be found"):
        unpack(made, tmp_path / "two", ["src"])


@pytest.mark.parametrize(
    ("place", "found"),
    [
        *((place, True) for place in ("src", "src/a", "src/a/b", "link", "link/x")),
        *((place, False) for place in ("src/b", "sr", "other/src")),
    ],
)
def test_a_check_for_mounts(place: str, found: bool) -> None:
    """Where the code isn't unpacked here, the check tells as well what is in the place of a mount."""
    made = archive(entry("src", tarfile.DIRTYPE), entry("src/a"), entry("link", tarfile.SYMTYPE, "src"))

    with pytest.raises(BadCode, match=f"the code has '{place}'") if found else nullcontext():
        check(made, [place])


def test_a_full_disk_is_the_systems_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system refuses goes through to who can say it of the task."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(archive(entry("a", tarfile.DIRTYPE)), tmp_path / "copy")
