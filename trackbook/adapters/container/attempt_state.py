"""The state of an attempt, as its session's folder has it: the note of its container, claim and exit record."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from trackbook.adapters.execution.boot import boot
from trackbook.adapters.execution.claim import take
from trackbook.adapters.execution.exit_record import ExitRecord, decode, encode, unreadable
from trackbook.private_files import is_lasting, read_file, write_private

BOX = "session"
"""The folder that the container sees as /pipeline/.session; the claim is made there."""
CLAIM = "claim"
REFUSED = "refused"
"""Left by a container that was started although the attempt was taken."""
_NOTE, _EXIT, _STOP, _WITHDRAWN = "container", "exit", "stop", "withdrawn"
_USED = ".containers"
"""In the folder of all sessions: there once a container was made."""


class Note(Struct):
    """Says that a container may exist, and since which start of the machine."""

    name: str
    boot: str = ""


def read(folder: Path) -> ExitRecord | None:
    """Return the record of the session's end; None where it has not ended."""
    for path in (folder / _EXIT, *([folder / _WITHDRAWN] if _is_withdrawn(folder) else [])):
        try:
            return decode(read_file(path))
        except FileNotFoundError:
            continue
        except OSError as error:
            if not is_lasting(error):
                raise
            return unreadable(error)
    return None


def _is_withdrawn(folder: Path) -> bool:
    """Whether the claim is ours: the very file, since a command can write whatever it likes beside it."""
    try:
        return (folder / _WITHDRAWN).samefile(folder / BOX / CLAIM)
    except FileNotFoundError:
        return False


def leave(folder: Path, record: ExitRecord) -> ExitRecord:
    """Write the record unless there is one, and return the one that stands. Blocks; raises OSError."""
    if stands := read(folder):
        return stands
    write_private(folder / _EXIT, encode(record), synced=True)
    return record


def withdraw(folder: Path, record: ExitRecord) -> bool:
    """Take the attempt so that its command never runs, and record its end; False if a container has it.

    Blocks; raises OSError.
    """
    claim, ours = make_box(folder) / CLAIM, folder / _WITHDRAWN
    if not ours.exists():
        write_private(ours, encode(record), synced=True)
    return take(ours, claim) or _is_withdrawn(folder)


def is_claimed(folder: Path) -> bool:
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


def is_used(data: Path) -> bool:
    """Whether a container was ever made for this data directory."""
    return (data / "sessions" / _USED).exists()


def read_note(folder: Path) -> Note | None:
    """Return the note; None where there is no container."""
    try:
        return msgspec.json.decode(read_file(folder / _NOTE), type=Note)
    except FileNotFoundError:
        return None
    except OSError as error:
        if not is_lasting(error):
            raise
        return Note("")
    except (msgspec.DecodeError, msgspec.ValidationError):
        return Note("")


def drop_note(folder: Path) -> None:
    """Say that the container is gone."""
    (folder / _NOTE).unlink(missing_ok=True)


def mark_stop(folder: Path) -> None:
    """Say that the session is ended on request."""
    with suppress(FileExistsError):
        (folder / _STOP).touch(0o600, exist_ok=False)


def stop_requested_at(folder: Path) -> datetime | None:
    """Return when the session was first to be ended on request; None if it was not."""
    try:
        return datetime.fromtimestamp((folder / _STOP).stat().st_mtime, UTC)
    except FileNotFoundError:
        return None
