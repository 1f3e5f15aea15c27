"""Open paths in a folder that tasks write to: links are followed within it only, whatever is swapped meanwhile.

Each step opens one name in the folder before it and never follows a link by itself; links are read and walked
here, `..` in them by going back to the folder that we came from. So no race can lead out of the root.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_MOST_LINKS = 40  # as many as Linux follows
_ENTER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f])")


class Outside(Exception):
    """The path leads out of the root."""


Identity = tuple[int, int]


class Place:
    """Where a path leads: an open folder and a name in it, which is '.' for the folder itself.

    `above` are the folders that the way led through.
    """

    def __init__(self, folder: int, name: str, above: set[Identity]) -> None:
        self.folder, self.name, self.above = folder, name, above

    def status(self) -> os.stat_result:
        """Return the status of what is there; a link counts as itself."""
        return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)

    def open(self, flags: int) -> int:
        """Open what is there; a link is refused (it came after we looked)."""
        return os.open(self.name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=self.folder)


@contextmanager
def open_beneath(root: Path, path: str, *, make: bool = False, last: bool = True) -> Iterator[Place]:
    """Yield where a clean path leads below a root; the folder stays open for so long.

    With `make`, folders above the last name are made; without `last`, a link that the path ends with is not
    followed. Raises Outside, and OSError as the system does.
    """
    folders = [os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
    above = {identity(os.fstat(folders[0]))}
    try:
        yield Place(*_walk(folders, above, path, make=make, last=last), above)
    finally:
        for folder in folders:
            os.close(folder)


def display_name(name: str) -> str:
    r"""Return a name as it can be shown: bytes that are not UTF-8 as `\xff`; it leads to the same file."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def identity(status: os.stat_result) -> Identity:
    """Return what tells a folder from every other."""
    return status.st_dev, status.st_ino


def _walk(folders: list[int], above: set[Identity], path: str, *, make: bool, last: bool) -> tuple[int, str]:
    left = [part for part in reversed(path.split("/")) if part]
    links = 0
    while left:
        part = left.pop()
        if part == "..":
            if len(folders) == 1:
                raise Outside(path)
            os.close(folders.pop())
            continue
        part = _actual(folders[-1], part)
        target = _link(folders[-1], part) if left or last else None
        if target is not None:
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            if target.startswith("/"):
                raise Outside(path)
            left += [each for each in reversed(target.split("/")) if each not in ("", ".")]
        elif left:
            folders.append(_enter(folders[-1], part, make=make))
            above.add(identity(os.fstat(folders[-1])))
        else:
            return folders[-1], part
    return folders[-1], "."


def _enter(folder: int, name: str, *, make: bool) -> int:
    try:
        return os.open(name, _ENTER, dir_fd=folder)
    except FileNotFoundError:
        if not make:
            raise
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)
    return os.open(name, _ENTER, dir_fd=folder)


def _link(folder: int, name: str) -> str | None:
    """Return what a link holds, None for anything else."""
    try:
        if not stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            return None
        return os.readlink(name, dir_fd=folder)
    except FileNotFoundError:
        return None


def _actual(folder: int, name: str) -> str:
    r"""Return the name that is meant by a shown one: `\xff` in it may stand for a byte that is not UTF-8."""
    if "\\x" not in name:
        return name
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        given = os.fsdecode(_ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), os.fsencode(name)))
        with suppress(FileNotFoundError):
            os.stat(given, dir_fd=folder, follow_symlinks=False)
            return given
    return name
