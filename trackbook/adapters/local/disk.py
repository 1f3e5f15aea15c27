"""What a session's folder says about it, and the claim that the executor takes itself."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from trackbook.adapters.execution import variables
from trackbook.adapters.execution.exit_codes import describe
from trackbook.adapters.execution.logs import tail
from trackbook.engine.job import Outcome, ReportTaskEnded
from trackbook.engine.ports import SessionSpec
from trackbook.private_files import sync_folder

_PATH = f"{variables.PATH}, after the virtual environment in which the job was started"
_LOCK = "hhqqi4x"
_OWNERS = re.compile(
    r"bad owner(ship)? or (permissions|modes)|must be owned by (uid 0|root)|effective uid is not 0"
    r"|owned by uid \d+, should be 0",
    re.IGNORECASE,
)
"""What ssh, sudo and git say to files of root that seem to belong to nobody."""
_OWNERS_HINT = (
    "in the private root of an ordinary account, root's files seem to belong to nobody: "
    "TRACKBOOK_PRIVATE_ROOT=off runs tasks without one"
)


class Record(Struct, kw_only=True):
    """How a session ended; the file `exit`. Written once, by rename."""

    ended_at: datetime
    started_at: datetime | None = None
    exit_code: int | None = None
    signal: int | None = None
    stopped: bool = False
    lost: bool = False
    message: str = ""
    left_out: int = 0
    shell: str = ""
    private_root: bool = False
    run_time: float | None = None


class Claim(Struct):
    """What the claim says: who runs the attempt, and since when its command runs; or why it never will."""

    pid: int = 0
    command_pid: int = 0
    started_at: datetime | None = None
    record: Record | None = None


class State(Struct):
    """Where a session stands: `new` has no claim, `alive` a launcher (`pid`), `lost` neither it nor a record."""

    name: Literal["new", "alive", "ended", "lost"]
    pid: int = 0
    record: Record | None = None


def examine(folder: Path) -> State:
    """Tell where the session stands."""
    record = read_record(folder)
    if record:
        return State("ended", record=record)
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


def read_record(folder: Path) -> Record | None:
    """Return the exit record, None if there is none."""
    try:
        return msgspec.json.decode((folder / "exit").read_bytes(), type=Record)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        return Record(ended_at=now(), lost=True, message=f"the exit record can't be read: {error}")


def read_claim(folder: Path) -> Claim:
    """Return what the claim says; an empty one if there is none or its text did not survive a crash."""
    with contextlib.suppress(FileNotFoundError, msgspec.DecodeError, msgspec.ValidationError):
        return msgspec.json.decode((folder / "claim").read_bytes().partition(b"\n")[0], type=Claim)
    return Claim()


def withdraw(folder: Path, record: Record) -> bool:
    """Take the attempt so that it never runs, and record its end; False if a launcher has taken it.

    The record is in the claim as well: nobody may see a claim of ours without it, and take it for a lost session.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mine = folder / f"claim.{os.getpid()}-{threading.get_ident()}"
    _fill(mine, msgspec.json.encode(Claim(record=record)) + b"\n", synced=True)
    try:
        os.link(mine, folder / "claim")
    except FileExistsError:
        return False
    finally:
        mine.unlink()
    for path in (folder, folder.parent):
        sync_folder(path)
    leave_record(folder, record)
    return True


def mark(folder: Path, name: str) -> None:
    """Leave a mark for the session's launcher; a full disk has no room for it, and nothing can be done then."""
    with contextlib.suppress(OSError):
        _fill(folder / name, b"")


def leave_record(folder: Path, record: Record) -> None:
    """Write the exit record for a session that no launcher will."""
    write(folder / "exit", msgspec.json.encode(record) + b"\n")


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


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def report(spec: SessionSpec, record: Record, folder: Path) -> ReportTaskEnded:
    """Return what the engine is told; the tail only where something went wrong, since it is kept for ever."""
    outcome, message = verdict(record)
    end = "" if outcome == "succeeded" else tail(folder / "log")
    if outcome == "failed" and record.private_root and os.geteuid() != 0 and _OWNERS.search(end):
        message = f"{message}; {_OWNERS_HINT}"
    return ReportTaskEnded(
        spec.task,
        spec.attempt,
        outcome,
        record.ended_at,
        record.started_at,
        record.exit_code,
        record.signal,
        message,
        end,
        run_time=record.run_time,
    )


def verdict(record: Record) -> tuple[Outcome, str]:
    """Return the outcome and its cause in a sentence, '' for success."""
    if record.lost:
        return "lost", record.message
    if record.stopped:
        return "cancelled", record.message or "the session was stopped on request"
    if record.message:
        return "failed", record.message
    if record.signal is not None:
        return "failed", f"the command was ended by {signal_name(record.signal)}"
    if record.exit_code != 0:
        return "failed", describe(record.exit_code or 0, _PATH)
    return "succeeded", ""


def signal_name(number: int) -> str:
    """Return a signal's name."""
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
