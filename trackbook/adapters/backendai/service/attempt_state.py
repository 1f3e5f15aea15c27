"""Local state of a serving task's attempt: what it began, read again after a crash."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from trackbook.private_files import read_file, write_private

_NAME = "service.json"


class PreviousService(Struct, omit_defaults=True):
    """What a service was before this attempt changed it, and the sessions that it had."""

    image: str
    replicas: int
    slots: dict[str, Any]
    options: dict[str, Any]
    cluster_mode: str
    cluster_size: int
    sessions: list[str]


class ServiceState(Struct, omit_defaults=True):
    """`id` is the service; `made` says that this attempt makes it, so that it is this attempt's to take down.

    Of a change that 26.8 rolls out, `before` are the revisions from before it, `previous` the one that ran, and
    `revision` is ours. Of one that we do, `former` is what there was, and `changed` says that it was begun.
    """

    id: str = ""
    made: bool = False
    before: list[str] | None = None
    previous: str = ""
    revision: str = ""
    previous_service: PreviousService | None = None
    changed: bool = False


def load(folder: Path) -> ServiceState:
    """Return the state in a session's folder, an empty one where there is none."""
    with contextlib.suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
        return msgspec.json.decode(read_file(folder / _NAME), type=ServiceState)
    return ServiceState()


def save(folder: Path, state: ServiceState) -> None:
    """Save the state; a full disk is no reason not to serve."""
    path = folder / _NAME
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, msgspec.json.encode(state))
