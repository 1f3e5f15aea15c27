"""What a session's folder says about it: the note of its container, the claim, and the record of its end."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from trackbook.adapters.execution.exit_codes import describe
from trackbook.adapters.execution.logs import tail
from trackbook.engine.job import Outcome, ReportTaskEnded
from trackbook.engine.ports import SessionSpec
from trackbook.events.job import Fault
from trackbook.private_files import sync_folder, write_private

BOX = "session"
"""The folder that the container sees as /pipeline/.session; the claim is made there."""
CLAIM = "claim"
REFUSED = "refused"
"""Left by a container that was started although the attempt was taken."""
_NOTE, _EXIT, _STOP, _WITHDRAWN = "container", "exit", "stop", "withdrawn"
_USED = ".containers"
"""In the folder of all sessions: there once a container was made."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Record(Struct, kw_only=True, omit_defaults=True):
    """How a session ended; written once, whole."""

    ended_at: datetime
    started_at: datetime | None = None
    exit_code: int | None = None
    stopped: bool = False
    lost: bool = False
    message: str = ""
    fault: Fault = ""


class Note(Struct):
    """Says that a container may exist, and since which start of the machine."""

    name: str
    boot: str = ""


def read(folder: Path) -> Record | None:
    """Return the record of the session's end; None where it has not ended."""
    for path in (folder / _EXIT, *([folder / _WITHDRAWN] if _withdrawn(folder) else [])):
        try:
            return _decoded(path.read_bytes())
        except FileNotFoundError:
            continue
    return None


def _withdrawn(folder: Path) -> bool:
    """Whether the claim is ours: the very file, since a command can write whatever it likes beside it."""
    try:
        return (folder / _WITHDRAWN).samefile(folder / BOX / CLAIM)
    except FileNotFoundError:
        return False


def _decoded(data: bytes) -> Record:
    try:
        return msgspec.json.decode(data, type=Record)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        return Record(ended_at=now(), lost=True, message=f"the session's record can't be read: {error}")


def leave(folder: Path, record: Record) -> Record:
    """Write the record unless there is one, and return the one that stands. Blocks; raises OSError."""
    if stands := read(folder):
        return stands
    write_private(folder / _EXIT, msgspec.json.encode(record) + b"\n", synced=True)
    return record


def withdraw(folder: Path, record: Record) -> bool:
    """Take the attempt so that its command never runs, and record its end; False if a container has it.

    Blocks; raises OSError.
    """
    claim, ours = make_box(folder) / CLAIM, folder / _WITHDRAWN
    if not ours.exists():
        write_private(ours, msgspec.json.encode(record) + b"\n", synced=True)
    try:
        os.link(ours, claim)
    except FileExistsError:
        return _withdrawn(folder)
    sync_folder(claim.parent)
    return True


def claimed(folder: Path) -> bool:
    """Whether the attempt is taken: its command ran, or never will."""
    return (folder / BOX / CLAIM).exists()


def was_refused(folder: Path) -> bool:
    """Whether a container was started, and left, since the attempt was taken."""
    return (folder / BOX / REFUSED).exists()


def make_box(folder: Path) -> Path:
    """Make the folder in which the claim is made, by whichever account the command runs under."""
    box = folder / BOX
    box.mkdir(parents=True, exist_ok=True)
    box.chmod(0o777)
    return box


def take_note(folder: Path, name: str) -> None:
    """Say that a container may exist from now on, durably. Blocks; raises OSError."""
    (folder.parent / _USED).touch(0o600)
    write_private(folder / _NOTE, msgspec.json.encode(Note(name, boot())) + b"\n", synced=True)


def were_used(data: Path) -> bool:
    """Whether a container was ever made for this data directory."""
    return (data / "sessions" / _USED).exists()


def read_note(folder: Path) -> Note | None:
    """Return the note; None where there is no container."""
    try:
        return msgspec.json.decode((folder / _NOTE).read_bytes(), type=Note)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, msgspec.ValidationError):
        return Note("")


def drop_note(folder: Path) -> None:
    """Say that the container is gone."""
    (folder / _NOTE).unlink(missing_ok=True)


def mark_stop(folder: Path) -> None:
    """Say that the session is ended on request."""
    with suppress(FileExistsError):
        (folder / _STOP).touch(0o600, exist_ok=False)


def stop_asked(folder: Path) -> datetime | None:
    """Return when the session was first to be ended on request; None if it was not."""
    try:
        return datetime.fromtimestamp((folder / _STOP).stat().st_mtime, UTC)
    except FileNotFoundError:
        return None


def boot() -> str:
    """Return which start of the machine this is: an engine may forget with a restart what has run."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def report(spec: SessionSpec, record: Record, log: Path) -> ReportTaskEnded:
    """Return what the engine is told; the tail only where something went wrong, since it is kept for ever."""
    outcome, message = verdict(record)
    return ReportTaskEnded(
        spec.task,
        spec.attempt,
        outcome,
        record.ended_at,
        record.started_at,
        record.exit_code,
        message=message,
        tail="" if outcome == "succeeded" else tail(log),
        fault=record.fault,
    )


def verdict(record: Record) -> tuple[Outcome, str]:
    """Return the outcome and its cause in a sentence, '' for success."""
    if record.lost:
        return "lost", record.message
    if record.stopped:
        return "cancelled", record.message or "the session was stopped on request"
    if record.message:
        return "failed", record.message
    if record.exit_code != 0:
        return "failed", describe(record.exit_code or 0)
    return "succeeded", ""
