"""Uploads for `files put`: one file, stdin, or all files of a folder."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from trackbook.cli.client.http_client import Client
from trackbook.cli.errors import CliError
from trackbook.cli.terminal.streams import say
from trackbook.cli.transfer.file_transfer import send
from trackbook.cli.transfer.remote_path import RemotePath

Source = tuple[str, str, Callable[[], BinaryIO]]
"""A file: its path below where it goes ('' for that itself), what it is called, and how it is opened."""


@contextmanager
def gather(source: str) -> Iterator[tuple[str | None, list[Source]]]:
    """Yield the name of what is sent (stdin has none) and its files; raises CliError for what can't be read."""
    if source == "-":
        with tempfile.TemporaryFile() as spool:  # its length must be known first
            shutil.copyfileobj(sys.stdin.buffer, spool)
            spool.flush()
            yield None, [("", "stdin", lambda: os.fdopen(os.dup(spool.fileno()), "rb"))]
        return
    path = Path(source)
    if path.is_dir():
        yield path.resolve().name, list(_below(path))
    elif path.is_file():
        yield path.name, [("", source, lambda: path.open("rb"))]
    elif path.exists():
        raise CliError(f"{source} is neither a file nor a folder")
    else:
        raise CliError(f"there is no file {source}")


def _below(top: Path) -> Iterator[Source]:
    """Yield the files below a folder; prints what it leaves out."""

    def refuse(error: OSError) -> None:
        raise CliError(f"{error.filename} can't be read: {error.strerror}")

    for folder, inner, names in os.walk(top, onerror=refuse):
        inner.sort()
        for name in inner:
            if (Path(folder) / name).is_symlink():
                say(f"trackbook: {Path(folder) / name} is left out: a link to a folder")
        for name in sorted(names):
            path = Path(folder) / name
            if not path.is_file():
                kind = "a link that leads nowhere" if path.is_symlink() else "not a file"
                say(f"trackbook: {path} is left out: {kind}")
                continue
            yield path.relative_to(top).as_posix(), str(path), lambda path=path: path.open("rb")  # type: ignore[misc]


def upload_files(client: Client, at: RemotePath, files: list[Source]) -> list[tuple[str, str, int]]:
    """Send the files and return of each where it was, where it is, and its bytes."""
    done: list[tuple[str, str, int]] = []
    not_executable = []
    for below, called, opened in files:
        target = at.child(below)
        try:
            file = opened()
        except OSError as error:
            raise CliError(f"{called} can't be read: {error.strerror}") from None
        with file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise CliError(f"{called} is not a file any more")
            executable = bool(status.st_mode & stat.S_IXUSR)
            try:
                entry = send(client, file, status.st_size, target, executable=executable)
            except CliError:
                if done:
                    say(f"trackbook: {len(done)} of {len(files)} files are there; {called} is not")
                raise
        done.append((called, str(target), status.st_size))
        if executable and not entry.get("executable"):
            not_executable.append(str(target))
    _say_lost_modes(not_executable)
    return done


def _say_lost_modes(files: list[str]) -> None:
    if files:
        first = f"{files[0]} and {len(files) - 1} more are" if len(files) > 1 else f"{files[0]} is"
        say(f"trackbook: {first} not executable there: the executor's storage can't set it. A task can: chmod +x")
