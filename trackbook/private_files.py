"""Files and folders that nobody but their owner can read, whatever the umask says."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

FOLDER, FILE = 0o700, 0o600
_OURS = ("lock-engine", "broker", "executors.toml")


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
    """Create the file if it isn't there, close it to others, and return its path."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE))
    _restrict(path, FILE)
    return path


def write_private(path: Path, data: bytes, *, synced: bool = False) -> None:
    """Replace a file by one that only its owner can read, whole or not at all, whoever else writes it meanwhile.

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
