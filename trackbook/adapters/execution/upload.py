"""Write an upload apart from its folder until all bytes have arrived."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from trackbook.engine.files import runnable

_FOLDER, _SUFFIX = "uploads", ".part"


class Upload:
    """A file of its own below `ours`, locked for as long as it is written.

    One that nobody has locked was left by a process that died; the next upload removes it. An
    `executable` one may be run by everyone who may read it.
    """

    def __init__(self, ours: Path, *, executable: bool = False) -> None:
        folder = ours / _FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        _take_away(folder)
        self.written = 0
        while True:
            self.path = folder / f"{uuid4().hex}{_SUFFIX}"
            self._file = self.path.open("xb")
            if executable:
                mode = os.fstat(self._file.fileno()).st_mode
                os.fchmod(self._file.fileno(), runnable(mode))
            fcntl.flock(self._file, fcntl.LOCK_EX)
            if os.fstat(self._file.fileno()).st_nlink:  # else it was taken away before it was locked
                return
            self._file.close()

    def write(self, chunk: bytes, size: int) -> None:
        """Write the next bytes; raises ValueError where there are more than `size`."""
        self.written += len(chunk)
        if self.written > size:
            raise ValueError(f"more bytes came than the {size} that were announced")
        self._file.write(chunk)

    def complete(self, size: int) -> None:
        """Have it all on disk; raises ValueError where bytes are missing."""
        if self.written != size:
            raise ValueError(f"{self.written} bytes came where {size} were announced")
        self._file.flush()
        os.fsync(self._file.fileno())

    def discard(self) -> None:
        """Close; an upload that is not finished is discarded."""
        self.path.unlink(missing_ok=True)
        with suppress(OSError):  # what is left to write, to a disk that is full, say, is not wanted any more
            self._file.close()


def _take_away(folder: Path) -> None:
    for path in folder.glob(f"*{_SUFFIX}"):
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
