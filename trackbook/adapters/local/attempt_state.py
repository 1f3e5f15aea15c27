"""The state of an attempt, as its session's folder has it: claim, launcher and exit record."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import threading
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from trackbook.adapters.execution.claim import take
from trackbook.adapters.execution.exit_record import ExitRecord, decode, encode, unreadable
from trackbook.private_files import is_lasting, read_file, require_file, sync_folder

_LOCK = "hhqqi4x"


class Claim(Struct):
    """What the claim says: who runs the attempt, and since when its command runs; or why it never will."""

    pid: int = 0
    command_pid: int = 0
    started_at: datetime | None = None
    record: ExitRecord | None = None


class State(Struct):
    """The state of an attempt: `new` has no claim, `alive` a launcher (`pid`), `lost` neither it nor a record.

    A `lost` one whose claim or exit record can't be read has the `record` that says so; it is not on the disk.
    """

    name: Literal["new", "alive", "ended", "lost"]
    pid: int = 0
    record: ExitRecord | None = None


def examine(folder: Path) -> State:
    """Return the state of the attempt. Raises OSError where another look may succeed."""
    try:
        return _examine(folder)
    except OSError as error:
        if not is_lasting(error):
            raise
        return State("lost", record=unreadable(error))


def _examine(folder: Path) -> State:
    record = read_record(folder)
    if record:
        return State("ended", record=record)
    require_file(folder / "claim")
    try:
        file = os.open(folder / "claim", os.O_RDONLY)
    except FileNotFoundError:
        return State("new")
    try:
        pid = _holder(file)
    finally:
        os.close(file)
    if pid:
        return State("alive", pid)
    record = read_record(folder) or read_claim(folder).record  # it may have been left between the two looks
    return State("ended", record=record) if record else State("lost")


def _holder(file: int) -> int:
    """Return the process that holds the claim's lock, 0 if none does."""
    asked = struct.pack(_LOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = struct.unpack(_LOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))
    return 0 if kind == fcntl.F_UNLCK else int(pid)


def watch(folder: Path, pid: int) -> int | None:
    """Return a pidfd of the living launcher, None if it is gone: the lock, asked again, rules out a reused id."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return None
    if examine(folder).pid == pid:
        return handle
    os.close(handle)
    return None


def read_record(folder: Path) -> ExitRecord | None:
    """Return the exit record, None if there is none."""
    try:
        return decode(read_file(folder / "exit"))
    except FileNotFoundError:
        return None


def read_claim(folder: Path) -> Claim:
    """Return what the claim says; an empty one if there is none or its text did not survive a crash."""
    with contextlib.suppress(FileNotFoundError, msgspec.DecodeError, msgspec.ValidationError):
        return msgspec.json.decode(read_file(folder / "claim").partition(b"\n")[0], type=Claim)
    return Claim()


def withdraw(folder: Path, record: ExitRecord) -> bool:
    """Take the attempt so that it never runs, and record its end; False if a launcher has taken it.

    The record is in the claim as well: nobody may see a claim of ours without it, and take it for a lost session.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mine = folder / f"claim.{os.getpid()}-{threading.get_ident()}"
    _fill(mine, msgspec.json.encode(Claim(record=record)) + b"\n", synced=True)
    try:
        if not take(mine, folder / "claim"):
            return False
    finally:
        mine.unlink()
    sync_folder(folder.parent)
    leave_record(folder, record)
    return True


def mark(folder: Path, name: str) -> None:
    """Leave a mark for the session's launcher; a full disk has no room for it, and nothing can be done then."""
    with contextlib.suppress(OSError):
        _fill(folder / name, b"")


def leave_record(folder: Path, record: ExitRecord) -> None:
    """Write the exit record for a session that no launcher will."""
    write(folder / "exit", encode(record))


def write(path: Path, data: bytes) -> None:
    """Write a private file whole or not at all."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    _fill(new, data)
    new.rename(path)


def _fill(path: Path, data: bytes, *, synced: bool = False) -> None:
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        if synced:
            file.flush()
            os.fsync(file.fileno())
