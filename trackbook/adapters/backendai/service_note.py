"""What an executor keeps of a serving task in its data directory: what it began, for after a crash."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec
from msgspec import Struct

_NAME = "service.json"


class ServiceNote(Struct, omit_defaults=True):
    """`id` is the service; `made` says that this attempt makes it, so that it is this attempt's to take down.

    Of a change in place, `before` are the revisions from before it, `previous` the one that ran, `revision` ours.
    """

    id: str = ""
    made: bool = False
    before: list[str] | None = None
    previous: str = ""
    revision: str = ""


def load(folder: Path) -> ServiceNote:
    """Return the note in a session's folder, an empty one where there is none."""
    with contextlib.suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
        return msgspec.json.decode((folder / _NAME).read_bytes(), type=ServiceNote)
    return ServiceNote()


def save(folder: Path, note: ServiceNote) -> None:
    """Keep the note; a full disk is no reason not to serve."""
    path = folder / _NAME
    new = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(msgspec.json.encode(note))
        new.rename(path)
