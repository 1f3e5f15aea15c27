"""What operators decided about damage to the log. Aggregate kind `log`, id `log`: one for each log."""

from __future__ import annotations

from msgspec import Struct


class Evidence(Struct, frozen=True, omit_defaults=True):
    """Evidence that acknowledged commits were lost or replaced, as it was found.

    `id` follows from what was found, so that finding it again is no new evidence. `kind` is tail, replaced, gap,
    blobs, batch, limits or history; `first` to `last` are sequences of the stream, 0 where there are none.
    """

    id: str
    kind: str
    message: str
    first: int = 0
    last: int = 0


class Dismissed(Struct, frozen=True):
    """A message of the event stream: its sequence, and the SHA-256 of its bytes."""

    seq: int
    sha256: str


class LogEvent(Struct, frozen=True, tag_field="type", omit_defaults=True):
    """Base of what happened to the log itself."""


class LossAccepted(LogEvent, frozen=True):
    """The operator accepted the loss and continues with what is left."""

    evidence: list[Evidence]


class CommitsDismissed(LogEvent, frozen=True):
    """These commits of an aggregate can't follow the intact ones before them and are left out from now on."""

    kind: str
    id: str
    commits: list[Dismissed]
    reason: str = ""


AnyLogEvent = LossAccepted | CommitsDismissed
