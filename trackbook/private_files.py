"""Files and folders that nobody but their owner can read, whatever the umask says."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

FOLDER, FILE = 0o700, 0o600
_OURS = ("lock-engine", "broker", "executors.toml")

_KINDS = (
    (stat.S_ISREG, "a file"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NotAFile(OSError):
    """Something else is in the place of a file or a folder of Trackbook's; `hint` says what to do."""

    def __init__(self, path: Path, found: str, wanted: str, hint: str) -> None:
        text = f"it is {found}, and a {wanted} of Trackbook's belongs there"
        super().__init__(errno.EINVAL, text, str(path))
        self.hint = hint


def private_folder(path: Path) -> Path:
    """Create the folder, closed to others, and close one that an earlier version left open; returns it.

    A folder of somebody's own that holds other things keeps its mode.
    """
    made = not path.exists()
    path.mkdir(parents=True, exist_ok=True, mode=FOLDER)
    if made or _is_ours(path):
        _restrict(path, FOLDER)
    return path


def private_file(path: Path) -> Path:
    """Create the file if it isn't there, close it to others, and return its path; raises OSError."""
    require_file(path)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE))
    _restrict(path, FILE)
    return path


def require_file(path: Path, hint: str = "Move it away.") -> None:
    """Raise NotAFile for something else at `path`: opening a named pipe may take for ever."""
    _require(path, stat.S_ISREG, "file", hint)


_LASTING = frozenset(
    (errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.ENODEV)
)


def read_file(path: Path) -> bytes:
    """Return a file's content. Raises FileNotFoundError, NotAFile and other OSError (see `is_lasting`)."""
    require_file(path)
    return path.read_bytes()


def is_lasting(error: OSError) -> bool:
    """Whether another try fails as well: something else is in the place of the file, or it is closed to us."""
    return error.errno in _LASTING


def require_folder(path: Path, hint: str = "Move it away.") -> None:
    """Raise NotAFile for something else at `path`."""
    _require(path, stat.S_ISDIR, "folder", hint)


def _require(path: Path, matches: Callable[[int], bool], wanted: str, hint: str) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not matches(mode):
        found = next((kind for is_kind, kind in _KINDS if is_kind(mode)), "something unknown")
        raise NotAFile(path, found, wanted, hint)


def write_private(path: Path, data: bytes, *, synced: bool = False) -> None:
    """Replace a file by one that only its owner can read, whole or not at all, even if others write it meanwhile.

    With `synced` it is on the disk when this returns. Raises OSError and leaves what was there.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if synced:
                os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
    if synced:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the folder's entries on the disk, without which a power cut may take a new file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_ours(path: Path) -> bool:
    """Whether a data directory is, or may become, one of Trackbook's alone."""
    return any((path / name).exists() for name in _OURS) or not any(path.iterdir())


def _restrict(path: Path, mode: int) -> None:
    if path.stat().st_mode & 0o077:
        with suppress(OSError):  # not ours to change, or a file system without modes
            path.chmod(mode)
