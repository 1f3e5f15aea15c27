"""The state of an attempt, as its folder has it: plan, claim, start, request to stop, exit record."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from trackbook.adapters.execution.claim import take
from trackbook.adapters.execution.exit_record import ExitRecord, decode, encode, now
from trackbook.private_files import write_private

CLAIM, STOP = "claim", "stop"
_PLAN, _STARTED, _EXIT = "plan.json", "started.json", "exit"


class Plan(Struct):
    """What a launcher runs. `grace` is the seconds between SIGTERM and SIGKILL."""

    command: str
    environment: dict[str, str]
    niceness: int
    grace: float


def write_plan(folder: Path, plan: Plan) -> None:
    """Leave the plan for the launcher."""
    write_private(folder / _PLAN, msgspec.json.encode(plan))


def read_plan(folder: Path) -> Plan:
    """Return the plan."""
    return msgspec.json.decode((folder / _PLAN).read_bytes(), type=Plan)


def claim(folder: Path, record: ExitRecord | None = None) -> int | None:
    """Claim the attempt; return a descriptor whose lock says that this process lives, None if it is claimed.

    With `record` the claim says at once how the attempt ended, so that its command never runs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ours = folder / f"{CLAIM}.{os.getpid()}"
    lock = os.open(ours, os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.write(lock, encode(record) if record else b"")
    taken = take(ours, folder / CLAIM)
    ours.unlink()
    if not taken:
        os.close(lock)
        return None
    return lock


def is_claimed(folder: Path) -> bool:
    """Whether the attempt is claimed: its command runs, has run, or never will."""
    return (folder / CLAIM).exists()


def has_launcher(folder: Path) -> bool:
    """Whether a living process has the claim."""
    with (folder / CLAIM).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def mark_started(folder: Path) -> datetime:
    """Note that the command has begun, and return when."""
    at = now()
    write_private(folder / _STARTED, msgspec.json.encode(at))
    return at


def started_at(folder: Path) -> datetime | None:
    """Return when the command began, None before that."""
    with suppress(FileNotFoundError):
        return msgspec.json.decode((folder / _STARTED).read_bytes(), type=datetime)
    return None


def ask_to_stop(folder: Path) -> None:
    """Ask the launcher to stop the command."""
    (folder / STOP).touch()


def is_stop_asked(folder: Path) -> bool:
    """Whether the command is to be stopped."""
    return (folder / STOP).exists()


def write_record(folder: Path, record: ExitRecord) -> None:
    """Leave the exit record, durably."""
    write_private(folder / _EXIT, encode(record), synced=True)


def read_record(folder: Path) -> ExitRecord | None:
    """Return the exit record, None if there is none."""
    for path in (folder / _EXIT, folder / CLAIM):
        with suppress(FileNotFoundError):
            if data := path.read_bytes():
                return decode(data)
    return None
