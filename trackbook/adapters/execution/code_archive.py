"""Archives of a pipeline's code: their limits and checks, and the writable copy in which each attempt starts.

An archive is a plain tar with files, folders and symbolic links, named by its SHA-256. Nothing of it is believed:
the same checks are made when it is uploaded and when it is unpacked.
"""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path, PurePosixPath
from typing import IO
from uuid import uuid4

from trackbook.adapters.execution.boot import boot
from trackbook.adapters.execution.tree_removal import remove_tree
from trackbook.engine.mounts import parse
from trackbook.engine.ports import BlobMissing, Blobs, SessionSpec

MOST_BYTES = 100 * 2**20
"""Bytes of an archive."""
MOST_ENTRIES = 50_000
LONGEST_NAME = 1_000
"""Bytes of an entry's path, and of where a link leads."""
WORK = "work"
"""The folder of an attempt, below that of its session, in which its command starts."""
_PLACED = ".boot"
_CHUNK = 1 << 20


class BadCode(ValueError):
    """The archive holds what no code may hold, or there is none: says what and where."""


def entries(archive: IO[bytes]) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield the entries of an archive, each checked, folders before what is in them; raises BadCode."""
    kinds: dict[str, bool] = {"": True}
    try:
        with tarfile.open(fileobj=archive, mode="r:", encoding="utf-8") as opened:
            for entry in opened:
                if entry.isdir() and entry.name == ".":
                    continue
                entry.name = entry.name.removeprefix("./")
                kinds[_check_entry(entry, kinds)] = entry.isdir()
                if len(kinds) > MOST_ENTRIES + 1:
                    raise BadCode(f"the archive has more than {MOST_ENTRIES:,} entries")
                yield opened, entry
    except (tarfile.TarError, EOFError, UnicodeError) as error:
        raise BadCode(f"this is no whole tar archive: {error}") from None


def _check_entry(entry: tarfile.TarInfo, known: dict[str, bool]) -> str:
    """Return an entry's name; raises BadCode for one that could be anything but a new entry of the folder."""
    name = entry.name
    shown = repr(name[:200])
    if not (entry.isdir() or entry.issym() or entry.type in (tarfile.REGTYPE, tarfile.AREGTYPE)):
        raise BadCode(f"{shown} is neither a file, nor a folder, nor a symbolic link")
    if not name or not _is_clean(name):
        raise BadCode(f"{shown} can't be the name of an entry")
    if name in known:
        raise BadCode(f"{shown} is there twice")
    if not known.get(name.rpartition("/")[0], False):
        raise BadCode(f"{shown} comes before its folder")
    if entry.issym() and leads_outside(name, entry.linkname):
        raise BadCode(f"{shown} is a link that leads outside")
    return name


def _is_clean(name: str) -> bool:
    """Whether a path is relative, in its shortest form, and what every system takes."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or len(os.fsencode(part)) > 255 for part in parts):
        return False
    return "\0" not in name and len(name.encode("utf-8", "surrogateescape")) <= LONGEST_NAME


def leads_outside(name: str, target: str) -> bool:
    """Whether a link of this name can lead out of the folder that it is in, as far as its text says."""
    if not target or target.startswith("/") or "\0" in target or len(os.fsencode(target)) > LONGEST_NAME:
        return True
    depth = len(PurePosixPath(name).parts) - 1
    for part in target.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            return True
    return False


def check(archive: IO[bytes], mounts: Collection[str] = ()) -> None:
    """Raise BadCode for an archive that would not be unpacked, or leaves a mount no room. Blocks."""
    for _, entry in entries(archive):
        for place in mounts:
            inside = f"{entry.name}/".startswith(f"{place}/")
            if inside or (not entry.isdir() and place.startswith(f"{entry.name}/")):
                raise _no_room(place)


def unpack(archive: IO[bytes], folder: Path, mounts: Sequence[str] = (), *, for_all: bool = False) -> None:
    """Unpack an archive into a new folder; raises BadCode, OSError. Blocks.

    The folder is empty and ours, and links are made last: nothing is ever written through one. `mounts` are
    places below the folder that have to be free, or empty. With `for_all` every account may write to the copy.
    """
    folder.mkdir(parents=True)
    links: list[tuple[Path, str]] = []
    for opened, entry in entries(archive):
        path = folder / entry.name
        if entry.issym():
            links.append((path, entry.linkname))
        elif entry.isdir():
            path.mkdir()
            path.chmod(0o777 if for_all else 0o755)
        else:
            _write(opened, entry, path, for_all=for_all)
    for path, target in links:
        path.symlink_to(target)
    root = os.path.realpath(folder)
    for path, _ in links:
        if not Path(os.path.realpath(path)).is_relative_to(root):
            raise BadCode(f"{path.relative_to(folder)} is a link that leads outside, by other links")
    folder.chmod(0o777 if for_all else 0o755)
    for place in mounts:
        _make_room(folder, place)


def _write(opened: tarfile.TarFile, entry: tarfile.TarInfo, path: Path, *, for_all: bool) -> None:
    source = opened.extractfile(entry)
    assert source is not None
    left = entry.size
    with path.open("xb") as file, suppress(tarfile.TarError):
        while left and (chunk := source.read(min(_CHUNK, left))):
            file.write(chunk)
            left -= len(chunk)
    if left:
        raise BadCode(f"the archive ends in the middle of {entry.name!r}")
    mode = 0o666 if for_all else 0o644
    path.chmod(mode | 0o111 if entry.mode & 0o111 else mode)


def _make_room(folder: Path, place: str) -> None:
    """Remove an empty folder where a mount is to be found; raises BadCode where the code has something there."""
    path = folder / place
    if not os.path.lexists(path):
        return
    try:
        path.rmdir()
    except OSError:
        raise _no_room(place) from None


def _no_room(place: str) -> BadCode:
    return BadCode(f"the code has {place!r}, where a mount is to be found: give the mount another alias")


class Copies:
    """Makes the copies of one executor's attempts, one at a time, so that few archives are in memory at once."""

    def __init__(self, blobs: Blobs | None, *, for_all: bool = False) -> None:
        self._blobs = blobs
        self._for_all = for_all
        self._turn = asyncio.Lock()

    async def archive(self, spec: SessionSpec) -> bytes:
        """Return the archive of a session's code; raises BadCode where it is not stored."""
        if self._blobs is None:
            raise BadCode("this executor has no access to the stored code")
        try:
            return await self._blobs.get(spec.code)
        except BlobMissing as missing:
            raise BadCode(f"{missing}. Apply the pipeline again") from None

    async def place(self, spec: SessionSpec, folder: Path) -> None:
        """Have a copy of the session's code as `work` in its folder; raises BadCode, OSError.

        It is there whole or not at all, and is not made again while the machine runs: a command may have begun.
        """
        async with self._turn:
            if await asyncio.to_thread(_is_placed, folder):
                return
            data = await self.archive(spec)
            below = [mount.below_work for mount in map(parse, spec.mounts) if mount.below_work]
            await asyncio.to_thread(_place, data, folder, below, for_all=self._for_all)


def _is_placed(folder: Path) -> bool:
    """Whether the copy is there, made since the machine started: a loss of power may have emptied its files."""
    try:
        made = (folder / f"{WORK}{_PLACED}").read_text()
    except FileNotFoundError:
        return False
    return made == boot() and (folder / WORK).is_dir()


def _place(archive: bytes, folder: Path, mounts: Sequence[str], *, for_all: bool) -> None:
    part = folder / f"{WORK}.{uuid4().hex}"
    try:
        unpack(io.BytesIO(archive), part, mounts, for_all=for_all)
        marker = folder / f"{WORK}{_PLACED}"
        if marker.exists() and not _is_placed(folder):
            _remove(folder, WORK)
        marker.write_text(boot())
        with suppress(OSError) if _is_placed(folder) else nullcontext():
            part.rename(folder / WORK)
    finally:
        _remove(folder, part.name)


def remove_copy(folder: Path) -> None:
    """Delete the copy of an attempt that has ended, and what trying to make one left. Blocks; raises OSError."""
    with suppress(FileNotFoundError):
        for name in os.listdir(folder):  # noqa: PTH208 - a folder of a few names
            if name == WORK or name.startswith(f"{WORK}."):
                _remove(folder, name)


def _remove(folder: Path, name: str) -> None:
    path = folder / name
    if path.is_dir() and not path.is_symlink():
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            remove_tree(name, handle)
        finally:
            os.close(handle)
    else:
        path.unlink(missing_ok=True)
