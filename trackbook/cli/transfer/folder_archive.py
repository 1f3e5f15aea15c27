"""Downloads a folder as one archive, for folders whose listing may be cut."""

from __future__ import annotations

import http.client
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from trackbook.cli.client.exchange import Json
from trackbook.cli.client.http_client import Client
from trackbook.cli.errors import CliError
from trackbook.cli.transfer.file_transfer import replacing
from trackbook.cli.transfer.remote_path import RemotePath

_CHUNK = 256 * 1024
_TRIES = 2
_BROKEN = (OSError, http.client.HTTPException)


class Archive:
    """The files of a folder; `entries` are as a list of it has them, with paths from the folder."""

    def __init__(self, client: Client, at: RemotePath, beside: Path) -> None:
        """Fetch it whole; raises CliError where that fails, and where it isn't what it should be."""
        place = next(folder for folder in (beside, *beside.absolute().parents) if folder.is_dir())
        self._at = at
        self._spool = tempfile.TemporaryFile(dir=place)  # noqa: SIM115 - kept open until all is unpacked
        try:
            self._open(client, place)
        except BaseException:
            self._spool.close()
            raise

    def close(self) -> None:
        """Free its disk space."""
        self._spool.close()

    def _open(self, client: Client, place: Path) -> None:
        at = self._at
        _fetch(client, at, self._spool)
        try:
            self._zip = zipfile.ZipFile(self._spool)
        except zipfile.BadZipFile:
            raise CliError(f"the archive of {at} is not whole") from None
        self.entries = [
            _entry(at, info) for info in self._zip.infolist() if info.filename not in ("./", ".", "/")
        ]
        needed = sum(entry["size"] for entry in self.entries)
        if len({entry["path"] for entry in self.entries}) < len(self.entries):
            raise CliError(f"the archive of {at} has two files of one name")
        if needed > shutil.disk_usage(place).free:
            raise CliError(f"{at} takes {needed} bytes, which the disk of {place} does not have")

    def same(self, entry: Json, path: Path) -> bool:
        """Whether a file is what an earlier download left: of the same size and checksum."""
        try:
            if not path.is_file() or path.stat().st_size != entry["size"]:
                return False
            found = 0
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    found = zlib.crc32(chunk, found)
        except OSError:
            return False
        return found == self._zip.getinfo(entry["path"]).CRC

    def unpack(self, entry: Json, target: Path, *, force: bool) -> None:
        """Write a file to its place, whole or not at all; raises CliError."""
        with replacing(target, entry, force=force) as file:
            try:
                with self._zip.open(entry["path"]) as member:
                    shutil.copyfileobj(member, file, _CHUNK)
            except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
                raise CliError(f"the archive of {self._at} is damaged at {entry['path']!r}") from None


def _fetch(client: Client, at: RemotePath, spool: IO[bytes]) -> None:
    for _ in range(_TRIES):
        spool.seek(0)
        spool.truncate()
        try:
            for chunk in _chunks(client, at):
                spool.write(chunk)
        except _BROKEN:
            continue
        return
    raise CliError(f"the archive of {at} breaks off, again and again")


def _chunks(client: Client, at: RemotePath) -> Iterator[bytes]:
    connection, answer = client.open(f"{at.base}/archive", {}, **at.params)
    try:
        while chunk := answer.read1(_CHUNK):
            yield chunk
    finally:
        answer.close()
        connection.close()


def _entry(at: RemotePath, info: zipfile.ZipInfo) -> Json:
    """Return a member as an entry; nothing in an archive leads anywhere but below its folder."""
    path = info.filename.removesuffix("/")
    mode = info.external_attr >> 16
    if set(path.split("/")) & {"", ".", ".."} or stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise CliError(f"the archive of {at} has {info.filename!r}, which can't be there")
    return {
        "path": path,
        "type": "folder" if info.is_dir() else "file",
        "size": info.file_size,
        "executable": bool(mode & stat.S_IXUSR) and not info.is_dir(),
    }
