"""Uploads and downloads: atomic, resumed after a dropped connection, with progress."""

from __future__ import annotations

import http.client
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO
from uuid import uuid4

from trackbook.cli.client.exchange import Json
from trackbook.cli.client.http_client import Client
from trackbook.cli.errors import CliError
from trackbook.cli.terminal.escapes import escape, raw
from trackbook.cli.terminal.render import amount_text
from trackbook.cli.transfer.remote_path import RemotePath

_CHUNK = 256 * 1024
_FRUITLESS = 3
"""Times that a download may break without having brought a byte."""
_BROKEN = (OSError, http.client.HTTPException)


class Meter:
    """Shows on a terminal how far a file is; says nothing elsewhere. A `total` of 0 is not known."""

    _EVERY = 0.1

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total = name, total
        self._shown = sys.stderr.isatty()
        self._next = time.monotonic() + 5 * self._EVERY

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=raw(sys.stderr), flush=True)

    def at(self, done: int) -> None:
        """Show how many bytes are done."""
        now = time.monotonic()
        if self._shown and now >= self._next:
            self._next = now + self._EVERY
            share = f" of {size_text(self._total)}  {100 * done // self._total} %" if self._total else ""
            line = f"{self._name[-40:]}  {size_text(done)}{share}"
            print(f"\r\x1b[K{escape(line)}", end="", file=raw(sys.stderr), flush=True)


def size_text(size: int) -> str:
    """Return a number of bytes for people."""
    return amount_text("mem", size)


def pieces(client: Client, at: RemotePath) -> Iterator[tuple[int, bytes]]:
    """Yield a file's bytes with their places; where it changed meanwhile, from 0 again.

    Resumes after a dropped connection. Raises Rejected, Unreachable, and CliError if it drops again and again.
    """
    done, tag, fruitless = 0, "", 0
    while True:
        resumed = {"Range": f"bytes={done}-", "If-Range": tag} if done and tag else {}
        connection, answer = client.open(at.content, resumed, **at.params)
        began = done = done if answer.status == http.client.PARTIAL_CONTENT else 0
        tag = answer.getheader("ETag") or ""
        end = done + int(answer.getheader("Content-Length") or 0)
        try:
            while done < end and (chunk := answer.read1(_CHUNK)):
                yield done, chunk
                done += len(chunk)
        except _BROKEN:
            pass
        finally:
            answer.close()
            connection.close()
        if done >= end:
            if done == 0:
                yield 0, b""
            return
        fruitless = fruitless + 1 if done == began else 0
        if fruitless >= _FRUITLESS:
            raise CliError(f"{at} breaks off after {done} of {end} bytes, again and again")


def fetch(client: Client, at: RemotePath, entry: Json, target: Path, *, force: bool) -> None:
    """Download a file to a path, executable as it was; until it is whole nothing is there, or what was before.

    Raises CliError where something is there and `force` is not set, and where the disk refuses.
    """
    with replacing(target, entry, force=force) as file, Meter(str(at), entry["size"]) as meter:
        for place, chunk in pieces(client, at):
            if place == 0:
                file.seek(0)
                file.truncate()
            file.write(chunk)
            meter.at(place + len(chunk))


@contextmanager
def replacing(target: Path, entry: Json, *, force: bool) -> Iterator[BinaryIO]:
    """Yield a file to write to, which gets its name, mode and time at the end; raises CliError as `fetch`."""
    part = target.parent / f".{uuid4().hex}.part"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            yield file
        if entry.get("executable"):
            make_executable(part)
        if entry.get("modified_at"):
            moment = int(datetime.fromisoformat(entry["modified_at"]).timestamp() * 1e6) * 1000
            os.utime(part, ns=(moment, moment))
        _rename_to_target(part, target, force=force)
    except OSError as error:
        raise CliError(f"{target} can't be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            part.unlink()


def _rename_to_target(part: Path, target: Path, *, force: bool) -> None:
    """Give a file its name, without taking anybody else's."""
    if force:
        part.replace(target)
        return
    try:
        os.link(part, target)
    except FileExistsError:
        raise CliError(f"{target} is there already", "--force overwrites it.") from None
    except OSError:  # this file system has no links
        if target.exists():
            raise CliError(f"{target} is there already", "--force overwrites it.") from None
        part.rename(target)


def make_executable(path: Path) -> None:
    """Let everyone who may read a file run it; raises OSError."""
    from trackbook.engine.files import runnable

    mode = path.stat().st_mode
    if not mode & stat.S_IXUSR:
        path.chmod(runnable(mode))


def is_unchanged(entry: Json, path: Path) -> bool:
    """Whether a file is what an earlier download left: of the same size and time."""
    try:
        status = path.stat()
    except OSError:
        return False
    if not entry.get("modified_at") or not path.is_file() or status.st_size != entry["size"]:
        return False
    return abs(status.st_mtime - datetime.fromisoformat(entry["modified_at"]).timestamp()) < 2e-6


def send(client: Client, file: BinaryIO, size: int, at: RemotePath, *, executable: bool) -> Json:
    """Upload a file that is open and return its entry; raises CliError where it gets shorter meanwhile."""
    with Meter(str(at), size) as meter:

        def chunks() -> Iterator[bytes]:
            file.seek(0)
            done = 0
            while done < size:
                chunk = file.read(min(_CHUNK, size - done))
                if not chunk:
                    raise CliError(f"{file.name} got shorter while it was sent: {done} of {size} bytes")
                yield chunk
                done += len(chunk)
                meter.at(done)

        mode = {"executable": "true"} if executable else {}  # servers before this release refuse the word
        found: Json = client.send(at.content, size, chunks, **at.params, **mode)
    return found
