"""Paths in a pipeline's folder on this machine's disk: what is refused, and what another user may not read."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - it is imported late, when this test may be unable to read it
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from folder_contract import SECRET, names, put, whole
from hypothesis import given
from hypothesis import strategies as st

from trackbook.adapters.execution.data_folders import DataFolders
from trackbook.engine.files import clean
from trackbook.engine.ports import ExecutorUnavailable, NoSuchFile, UnsafePath

NOBODY = 65534
SEGMENTS = st.one_of(
    st.sampled_from(["..", ".", "", "vfroot", "sub", "out", "inside", "secret", "\0", ".trackbook"]),
    st.text(st.characters(exclude_characters="/"), max_size=8),
)


@pytest.fixture
def ordinary() -> Iterator[Path]:
    """A data directory of a user who isn't root, as whom the test runs meanwhile."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        if os.geteuid() != 0:
            yield Path(folder)
            return
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)


async def test_what_may_not_be_read_is_reported_in_words(ordinary: Path) -> None:
    """A file of another user, as containers may leave, is named as such: it is not called missing."""
    folders = DataFolders(ordinary)
    await put(folders, "p", "vfroot/a", b"x")
    vfroot = folders.root("p") / "vfroot"
    (vfroot / "a").chmod(0)
    with pytest.raises(ExecutorUnavailable, match=r"'vfroot/a' of pipeline \w+ can't be read: Permission denied"):
        await whole(folders, "p", "vfroot/a")
    vfroot.chmod(0o500)
    with pytest.raises(ExecutorUnavailable, match="can't be written: Permission denied"):
        await put(folders, "p", "vfroot/b", b"x")
    assert await folders.purge("p") is True  # its own folder, read-only or not


@given(parts=st.lists(SEGMENTS, max_size=8), absolute=st.booleans())
def test_a_path_is_clean_or_refused(parts: list[str], absolute: bool) -> None:
    """What passes has no way up, no NUL and no root, and is its own clean form."""
    path = "/" * absolute + "/".join(parts)
    try:
        found = clean(path)
    except UnsafePath:
        assert (
            path.startswith("/") or ".." in parts or "\0" in path or ".trackbook" in parts or not path.isascii()
        )
        return
    assert clean(found) == found
    assert not found.startswith("/")
    assert not {"..", ".", ""} & set(found.split("/")) or not found
    assert "\0" not in found


@given(parts=st.lists(SEGMENTS, max_size=6))
async def test_no_path_reads_what_is_outside(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    """Over folders and links in and out, whatever is asked for, the secret outside never comes."""
    base = tmp_path_factory.getbasetemp() / "hostile"
    folders = DataFolders(base / "data")
    if not base.exists():
        vfroot = folders.root("p") / "vfroot"
        (vfroot / "sub").mkdir(parents=True)
        (base / "outside").mkdir()
        (base / "outside" / "secret").write_bytes(SECRET)
        (vfroot / "out").symlink_to(base / "outside")
        (vfroot / "sub" / "out").symlink_to("../../../../../outside")
        (vfroot / "inside").symlink_to("sub")
    path = "/".join(parts)
    with suppress(UnsafePath, NoSuchFile):
        assert await whole(folders, "p", path) != SECRET
    with suppress(UnsafePath, NoSuchFile):
        assert "secret" not in await names(folders, "p", path)
