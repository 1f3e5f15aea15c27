"""The commit: the events of one decision and everything the decision used, as one message.

The bytes are JSON and are what the hash chain covers: `prev` is the SHA-256 of the aggregate's previous commit
exactly as it was stored (ADR 0001, 0006).
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct, field

SCHEMA = 1
FORMAT = 2
"""The number of the storage format: of both streams and the data directory. A release that writes what earlier
ones can't read raises it; what has a higher number is refused."""
OLDEST = 2
"""The lowest number that is still read. Format 1, before the first release, had one event for the end of a task
and of its attempt."""
E = TypeVar("E")
C = TypeVar("C")


class Input(Struct, Generic[C], omit_defaults=True):
    """What a decision answered: a command or report, who gave it, and the reply if it was owed one.

    `command` is None where nobody asked: the aggregate's owner added what was due. It is the commit's last input.
    `digest` is the SHA-256 of the request's payload, so that the same id with another payload is recognised.
    `causation` names the event for which the engine gave a command itself; '' for what came from outside.
    """

    actor: str
    command: C
    id: str = ""
    correlation: str = ""
    digest: str = ""
    reply: dict[str, Any] | None = None
    causation: str = ""


class BlobRef(Struct, frozen=True):
    """The reference to a body too large for a message: its SHA-256 and size in bytes."""

    sha256: str
    size: int


class Body(Struct, Generic[C, E]):
    """Inputs and events. causes[k] is the index of the input that event k answers, or -(j + 1) for event j."""

    inputs: list[Input[C]]
    events: list[E]
    causes: list[int]


class Commit(Struct, Generic[C, E], omit_defaults=True):
    """One commit of an aggregate (`kind`, `id`); `version` counts its commits from 1.

    `batch` names all commits of an atomic batch in their order, this one included, as `kind/id/version`; they
    have consecutive sequences. It is empty for a commit that was appended alone.
    """

    schema: int
    kind: str
    id: str
    version: int
    at: datetime
    prev: str
    inputs: list[Input[C]] = field(default_factory=list)
    events: list[E] = field(default_factory=list)
    causes: list[int] = field(default_factory=list)
    blob: BlobRef | None = None
    batch: list[str] = field(default_factory=list)


RawCommit = Commit[msgspec.Raw, dict[str, Any]]


def digest(data: bytes) -> str:
    """Return the SHA-256 of `data` in hex."""
    return hashlib.sha256(data).hexdigest()


def event_id(kind: str, id: str, version: int, index: int) -> str:  # noqa: A002
    """Return an event's id: its place on the log."""
    return f"{kind}/{id}/{version}/{index}"


def cause_input(causes: list[int], index: int) -> int:
    """Return the index of the input from which event `index` follows, over however many reactions."""
    while (cause := causes[index]) < 0:
        index = -cause - 1
    return cause
