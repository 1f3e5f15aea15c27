"""Removing read-only trees, as an ordinary account: of root, no mode keeps anything."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import tree_removal_child as child

ROOT = Path(__file__).parents[2]


class Folder:
    """The folder of the pipeline p1 below a data directory, and beside it a folder that links in it lead to."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.root = data / "pipelines" / "p1"
        self.cache = self.root / "vfroot" / "cache"
        self.module = self.cache / "module@v1" / "deep" / "deeper"
        self.module.mkdir(parents=True)
        (self.module / "file.go").write_text("package")
        self.outside = data / "outside"
        self.outside.mkdir()
        (self.outside / "kept").write_text("kept")
        (self.cache / "link").symlink_to(self.outside)
        (self.module / "link").symlink_to(self.outside / "kept")
        (self.module / "dead").symlink_to("nowhere")

    def seal(self) -> None:
        """Make the cache read-only, one folder of it unreadable, and what is outside read-only too."""
        (self.module / "file.go").chmod(0o444)
        self.module.chmod(0)
        for path in (self.module.parent, self.module.parent.parent, self.cache):
            path.chmod(0o555)
        (self.outside / "kept").chmod(0o444)
        self.outside.chmod(0o555)
        if os.geteuid() == 0:
            for path in (self.data, *self.data.rglob("*")):
                os.chown(path, child.NOBODY, child.NOBODY, follow_symlinks=False)

    def remove(self, verb: str, path: str = "") -> str:
        """Remove as an ordinary account and return what is said."""
        program = [sys.executable, child.__file__, str(self.data), verb, path]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(program, check=True, capture_output=True, text=True, env=environment).stdout

    def outside_is_unchanged(self) -> bool:
        """Whether what links lead to is as it was."""
        kept = self.outside / "kept"
        modes = [path.stat().st_mode & 0o777 for path in (self.outside, kept)]
        return modes == [0o555, 0o444] and kept.read_text() == "kept"


@pytest.fixture
def folder() -> Iterator[Folder]:
    """Give a folder that an ordinary account can reach."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as data:
        Path(data).chmod(0o755)
        yield Folder(Path(data))


def test_a_read_only_tree_is_removed(folder: Folder) -> None:
    """`files remove` deletes it whole, and changes nothing that a link in it leads to."""
    folder.seal()
    assert folder.remove("delete", "vfroot/cache") == ""
    assert list((folder.root / "vfroot").iterdir()) == []
    assert folder.outside_is_unchanged()


def test_a_folder_with_a_read_only_tree_is_purged(folder: Folder) -> None:
    """`pipeline delete --purge` deletes all of it, and nothing beside it."""
    folder.seal()
    assert folder.remove("purge") == ""
    assert list(folder.root.parent.iterdir()) == []
    assert folder.outside_is_unchanged()


@pytest.mark.parametrize("path", ["vfroot/cache/module@v1/deep", "vfroot/cache/link"])
def test_a_part_of_a_read_only_tree_is_removed(folder: Folder, path: str) -> None:
    """The folder that it was in stays, with the mode that it had."""
    folder.seal()
    above = (folder.root / path).parent
    assert folder.remove("delete", path) == ""
    assert not os.path.lexists(folder.root / path)
    assert above.stat().st_mode & 0o777 == 0o555
    assert folder.outside_is_unchanged()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs files of two accounts")
def test_what_another_account_owns_is_reported(folder: Folder) -> None:
    """A tree that can't be deleted is reported, by the name of what is in the way."""
    folder.seal()
    os.chown(folder.module.parent, 0, 0)
    assert "can't be deleted: Permission denied" in folder.remove("purge")
    assert folder.module.exists()
    assert folder.outside_is_unchanged()
