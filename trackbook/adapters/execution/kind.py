"""What a package that adds a kind of executor offers, under the entry point group `trackbook.executors`.

The entry point's name is the kind, and the table of its settings in executors.toml: `[KIND]` is one executor of
that name, `[KIND.NAME]` is the executor `KIND/NAME`. Its value is a function, an OpenBackend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from trackbook.engine.ports import Backend, Blobs

GROUP = "trackbook.executors"


class Host(Struct, frozen=True, kw_only=True):
    """What an executor has from the process that it runs in.

    `data` is the data directory, `installation` the id under which sessions are named outside of it, `blobs` the
    archives of code (None where nothing is run). For sessions of this machine: `limit` at once (None: the
    executor's default), `grace` seconds between SIGTERM and SIGKILL, `pass_environment` the server's variables
    that tasks see, and `durable`, whether a claim is synced to disk.
    """

    data: Path
    installation: str
    blobs: Blobs | None = None
    limit: int | None = None
    grace: float = 5.0
    pass_environment: Sequence[str] = ()
    durable: bool = True


class OpenBackend(Protocol):
    """Makes the backend of an executor; asks nobody and starts nothing."""

    def __call__(self, name: str, settings: Mapping[str, Any], host: Host) -> Backend:
        """Return the executor of this name. Raises ValueError for settings that can't be used."""
        ...
