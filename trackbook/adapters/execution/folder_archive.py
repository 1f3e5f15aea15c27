"""Send a folder as a zip archive that is written while it is sent."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from trackbook.engine.ports import FileEntry, Folders

_EARLIEST, _LATEST = datetime(1980, 1, 1, tzinfo=UTC), datetime(2107, 12, 31, tzinfo=UTC)
_PROGRAM, _TEXT = 0o100755, 0o100644


class _Sink(io.RawIOBase):
    """Takes what `zipfile` writes; it can't be sought in, so that nothing written is changed later."""

    def __init__(self) -> None:
        super().__init__()
        self._held = bytearray()

    def writable(self) -> bool:
        """It can."""
        return True

    def write(self, data: Any, /) -> int:
        """Keep the bytes, whatever holds them."""
        self._held += data
        return memoryview(data).nbytes

    def take(self) -> bytes:
        """Return what was written since the last call."""
        taken = bytes(self._held)
        self._held.clear()
        return taken


async def zip_folder(folders: Folders, pipeline: str, path: str) -> AsyncIterator[bytes]:
    """Yield the archive of a folder, not compressed; raises as `entries` and `read` do."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as archive:
        left = [path]
        while left:
            folder = left.pop()
            found = await folders.entries(pipeline, folder)
            if not found and folder != path:
                archive.writestr(zipfile.ZipInfo(_inside(path, folder) + "/"), b"")
            left += [entry.path for entry in found if entry.type == "folder"]
            for entry in found:
                if entry.type == "file":
                    with archive.open(_info(path, entry), "w", force_zip64=True) as member:
                        async for chunk in folders.read(pipeline, entry.path):
                            member.write(chunk)
                            yield sink.take()
    yield sink.take()


def _inside(above: str, path: str) -> str:
    return path[len(above) :].removeprefix("/") if above else path


def _info(above: str, entry: FileEntry) -> zipfile.ZipInfo:
    at = min(max(entry.modified_at or _EARLIEST, _EARLIEST), _LATEST)
    info = zipfile.ZipInfo(_inside(above, entry.path), at.timetuple()[:6])
    info.external_attr = (_PROGRAM if entry.executable else _TEXT) << 16
    return info
