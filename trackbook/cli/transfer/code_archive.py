"""Packs a folder of code into an archive: the same files give the same bytes on every machine and at any time."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from trackbook.adapters.execution.code_archive import LONGEST_NAME, MOST_BYTES, MOST_ENTRIES, leads_outside
from trackbook.adapters.execution.safe_path import display_name
from trackbook.cli.errors import CliError
from trackbook.cli.terminal.render import amount_text
from trackbook.cli.transfer.gitignore import Ignored, rules_above

_LEAVE_OUT = "List it in a .gitignore to leave it out."
_TOO_MUCH = (
    "List what tasks don't need in a .gitignore. Large data belongs into the pipeline's folder (`trackbook files "
    "put`) or into a mount."
)
_NEVER = frozenset((".git",))


class Entry(NamedTuple):
    """A file, folder or symbolic link (with its `target`) below the folder that is packed."""

    name: str
    path: Path
    status: os.stat_result
    target: str = ""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return stat.S_ISDIR(self.status.st_mode)


def scan(folder: Path, left_out: Collection[Path] = ()) -> list[Entry]:
    """Return what is to be packed, folders before what is in them; raises CliError.

    `left_out` are files and folders that are no part of the code, by their real paths. As in Git, a folder in
    which nothing is to be packed is left out.
    """
    found: list[Entry] = []
    if not folder.is_dir():
        raise CliError(f"there is no folder {folder}, which `code` names")
    root = os.path.realpath(folder)
    with _describing_errors(folder):
        _scan(folder, "", rules_above(folder), frozenset(map(str, left_out)), root, found)
    _refuse_too_much(folder, found)
    return found


def _scan(
    folder: Path, base: str, ignored: Ignored, left_out: Collection[str], root: str, found: list[Entry]
) -> None:
    ignored = ignored.within(folder, base)
    for path in sorted(folder.iterdir(), key=lambda each: os.fsencode(each.name)):
        name = f"{base}{path.name}"
        status = path.lstat()
        is_folder = stat.S_ISDIR(status.st_mode)
        if path.name in _NEVER or ignored.has(name, folder=is_folder) or os.path.realpath(path) in left_out:
            continue
        _check_name(name)
        if is_folder:
            before = len(found)
            found.append(Entry(name, path, status))
            _scan(path, f"{name}/", ignored, left_out, root, found)
            if len(found) == before + 1:
                found.pop()
        elif stat.S_ISLNK(status.st_mode):
            found.append(Entry(name, path, status, _target(name, path, root)))
        elif stat.S_ISREG(status.st_mode):
            found.append(Entry(name, path, status))
        else:
            raise CliError(
                f"{display_name(name)} is neither a file, nor a folder, nor a symbolic link", _LEAVE_OUT
            )
        if len(found) > MOST_ENTRIES:
            raise _too_many(found)


def _check_name(name: str) -> None:
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise CliError(f"the name {display_name(name)} is not UTF-8 text", _LEAVE_OUT) from None
    if length > LONGEST_NAME:
        raise CliError(f"the path {name[:60]}… has {length:,} bytes, of {LONGEST_NAME:,} that it may", _LEAVE_OUT)


def _target(name: str, path: Path, root: str) -> str:
    target = str(path.readlink())
    inside = Path(os.path.realpath(path)).is_relative_to(root)
    if not inside or leads_outside(name, target):
        message = f"{display_name(name)} is a link that leads out of the folder, to {display_name(target)}"
        raise CliError(message, "Use a relative link to a file in the folder, or list it in a .gitignore.")
    return target


def _too_many(found: list[Entry]) -> CliError:
    numbers = Counter(entry.name.partition("/")[0] for entry in found)
    most = ", ".join(f"{name} ({number:,})" for name, number in numbers.most_common(3))
    return CliError(f"the code has more than {MOST_ENTRIES:,} files and folders; most are in {most}", _TOO_MUCH)


def _refuse_too_much(folder: Path, found: list[Entry]) -> None:
    """Raise CliError where the files have more bytes than an archive may have, and name the largest."""
    files = [entry for entry in found if stat.S_ISREG(entry.status.st_mode)]
    total = sum(entry.status.st_size for entry in files)
    if total <= MOST_BYTES:
        return
    sizes: Counter[str] = Counter()
    for entry in files:
        sizes[entry.name.partition("/")[0]] += entry.status.st_size
    sizes.update({entry.name: entry.status.st_size for entry in files if "/" in entry.name})
    largest = ", ".join(f"{name} ({amount_text('mem', size)})" for name, size in sizes.most_common(4))
    message = (
        f"the code in {folder} has {amount_text('mem', total)}, {amount_text('mem', MOST_BYTES)} can be sent"
    )
    raise CliError(f"{message}. The largest: {largest}", _TOO_MUCH)


def pack(folder: Path, entries: Collection[Entry], file: IO[bytes]) -> str:
    """Write the archive and return its SHA-256; raises CliError, also where a file changes meanwhile."""
    with (
        _describing_errors(folder),
        tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8") as archive,
    ):
        for entry in entries:
            _add(archive, entry)
    if file.tell() > MOST_BYTES:
        raise CliError(f"the archive of {folder} has more than {amount_text('mem', MOST_BYTES)}", _TOO_MUCH)
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _add(archive: tarfile.TarFile, entry: Entry) -> None:
    info = tarfile.TarInfo(entry.name)  # of no account, at no time
    mode = entry.status.st_mode
    info.mode = 0o755 if entry.is_folder or mode & 0o111 else 0o644
    if entry.is_folder:
        info.type = tarfile.DIRTYPE
    elif entry.target:
        info.type, info.linkname = tarfile.SYMTYPE, entry.target
    else:
        return _add_file(archive, entry, info)
    return archive.addfile(info)


def _add_file(archive: tarfile.TarFile, entry: Entry, info: tarfile.TarInfo) -> None:
    info.size = entry.status.st_size
    with entry.path.open("rb") as file:
        before = _version(os.fstat(file.fileno()))
        try:
            archive.addfile(info, file)
            whole = not file.read(1)
        except OSError as error:
            if error.errno is not None:
                raise
            whole = False  # it ended before its size
        if not whole or {before, _version(os.fstat(file.fileno()))} != {_version(entry.status)}:
            raise CliError(
                f"{display_name(entry.name)} changed while it was packed", "Try again once it is written."
            )


def _version(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@contextmanager
def _describing_errors(folder: Path) -> Iterator[None]:
    """Raise CliError for what the system refuses: a file that vanished or can't be read, a full disk."""
    try:
        yield
    except OSError as error:
        what = display_name(os.fsdecode(error.filename)) if error.filename else str(folder)
        raise CliError(f"{what} can't be packed: {error.strerror or error}") from None
