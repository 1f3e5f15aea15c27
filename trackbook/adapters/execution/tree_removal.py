"""Remove what tasks left, read-only folders included, such as the caches of Go modules and conda."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_HANDLE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OWNER = stat.S_IRWXU


def remove_tree(name: str, folder: int) -> None:
    """Delete the folder `name` in the open `folder`, with all that is in it.

    Folders on the way become writable for their owner. A mode is changed through a descriptor of the very folder,
    which was opened without following a link, so that nothing outside of the tree is ever changed. Raises OSError
    at the first entry that can't be deleted; what is gone by itself meanwhile is no error.
    """
    with suppress(FileNotFoundError), writable(folder):
        _empty(name, folder)
        os.rmdir(name, dir_fd=folder)


def remove_file(name: str, folder: int) -> None:
    """Delete a file, or a link itself, in the open `folder`, which may be read-only."""
    with writable(folder):
        os.unlink(name, dir_fd=folder)


@contextmanager
def writable(folder: int) -> Iterator[None]:
    """Have an open folder (O_PATH will do) writable for its owner in the block, and give its mode back."""
    mode = stat.S_IMODE(os.fstat(folder).st_mode)
    changed = mode & _OWNER != _OWNER and _change(folder, mode | _OWNER)
    try:
        yield
    finally:
        if changed:
            _change(folder, mode)


def _empty(name: str, folder: int) -> None:
    """Delete all that is in a folder, and leave it writable."""
    handle = os.open(name, _HANDLE, dir_fd=folder)
    try:
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        if mode & _OWNER != _OWNER:
            _change(handle, mode | _OWNER)
        inside = os.open(".", _READ, dir_fd=handle)
    finally:
        os.close(handle)
    try:
        with os.scandir(inside) as found:
            entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
        for each, is_folder in entries:
            with suppress(FileNotFoundError):
                if is_folder:
                    _empty(each, inside)
                    os.rmdir(each, dir_fd=inside)
                else:
                    os.unlink(each, dir_fd=inside)
    finally:
        os.close(inside)


def _change(folder: int, mode: int) -> bool:
    """Change an open folder's mode; False where it is another account's, which deleting from it will tell."""
    try:
        Path(f"/proc/self/fd/{folder}").chmod(mode)
    except PermissionError:
        return False
    return True
