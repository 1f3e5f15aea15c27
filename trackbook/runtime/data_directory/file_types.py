"""Checks the types of the files that a start opens in the data directory.

Something else in the place of one, such as a directory or a named pipe, would end the start in an error that
names no file, or hold it for good. So the start looks before it opens any.
"""

from __future__ import annotations

import os
from pathlib import Path

from trackbook.private_files import require_file, require_folder

_ANEW = "Trackbook makes it again."
_FROM_LOG = "Trackbook makes it again from the log."
_SQLITE = ("", "-wal", "-shm", "-journal")

_WITHOUT = {
    **{f"{name}.db{suffix}": _FROM_LOG for name in ("engine", "readmodel") for suffix in _SQLITE},
    **dict.fromkeys(("lock", "lock-broker", "lock-engine", "lock-executor", "server.json"), _ANEW),
    **dict.fromkeys(("nats.json", "trackbook.log"), _ANEW),
    **{f"broker/{name}": _ANEW for name in ("credentials.json", "engine.json", "owner.json", "store.lock")},
    **{f"broker/{name}": _ANEW for name in ("nats.conf", "nats.log")},
    "witness.log": "Without the file as it was, a loss of the log's end is not noticed at this start.",
    "identity.json": "Without the file as it was, nobody notices whether the directory is a copy.",
    "initialised": "Without the file as it was, a log that is missing counts as one that never was.",
    "executors.toml": "Without the file as it was, no executor but `local` is configured.",
}
"""What happens once the file is not there, by its path in the data directory."""

FILES = tuple(_WITHOUT)
FOLDERS = ("broker", "broker/ports", "broker/store", "executors", "pipelines", "sessions", "vfolders")

_WRITTEN = (
    "engine.db",
    "readmodel.db",
    "witness.log",
    "lock",
    "trackbook.log",
    "broker/store.lock",
    "broker/nats.log",
)
"""Files, and those beside them, that are opened for writing; others are replaced."""


def require_usable(data: Path) -> None:
    """Raise NotAFile for what is in the place of a file, OSError for a file that this user may not use."""
    for name in FOLDERS:
        require_folder(data / name, _hint(_ANEW))
    for name in FILES:
        require_file(data / name, _hint(_WITHOUT[name]))
        _require_access(data / name, os.R_OK | (os.W_OK if name.startswith(_WRITTEN) else 0))


def _hint(without: str) -> str:
    other = "" if without in (_ANEW, _FROM_LOG) else ", put the file back where there is a copy of it"
    return f"Move it away{other}. {without}"


def _require_access(path: Path, wanted: int) -> None:
    """Raise the system's own error for a file that is there and may not be used so."""
    if path.exists() and not os.access(path, wanted):
        os.close(os.open(path, (os.O_RDWR if wanted & os.W_OK else os.O_RDONLY) | os.O_CLOEXEC))
