"""The log, as the engine needs it: appends that are fenced, and reads in order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from msgspec import Struct

from trackbook.engine.store_condition import RestoredLimits, StoreCondition


class Stored(Struct, frozen=True):
    """One message of the event stream: a commit's bytes exactly as stored, and where they stand."""

    seq: int
    kind: str
    id: str
    data: bytes


class Append(Struct, frozen=True):
    """One commit to append; `expected_seq` is the sequence of the aggregate's last commit, 0 for none."""

    kind: str
    id: str
    expected_seq: int
    data: bytes
    message_id: str


class AppendConflict(Exception):
    """Another commit stands where ours should: fold again and decide again."""


class LossFound(Exception):
    """The log lost something since the last look; the finder has recorded it."""


class StoreUnanswered(Exception):
    """The store leaves reads unanswered, or is away: what was asked for may be intact all the same."""


class EventStore(Protocol):
    """The log. Appends are fenced by the aggregate's last sequence; reads are in order.

    Sequences count from 1 without a gap as they are appended. A message that the store has lost is left out by
    reads: its absence shows by the sequences, and means that it does not exist, never that it is on its way.
    """

    async def append(self, *commits: Append) -> list[int]:
        """Append all or none and return their sequences; raises AppendConflict.

        An unknown outcome (a lost acknowledgement, a broker that restarts) is resolved here: the last message
        of the subject either is ours, byte for byte, or it is a conflict. Waits while the broker is away, however
        long; `unanswered` says when a client is not to wait for that.
        """
        ...

    def read(self, kind: str, id: str, from_seq: int = 1) -> AsyncIterator[Stored]:  # noqa: A002
        """Yield one aggregate's commits from a stream sequence on, in order; raises StoreUnanswered."""
        ...

    def read_all(self, from_seq: int) -> AsyncIterator[list[Stored]]:
        """Yield the whole stream in batches, up to its head at the time of the call; raises StoreUnanswered."""
        ...

    def tail(self, from_seq: int) -> AsyncIterator[list[Stored]]:
        """Yield batches from a sequence on and follow for ever; costs nothing while nothing happens."""
        ...

    async def head(self) -> int:
        """Return the last sequence, 0 for an empty stream; its message may have been lost.

        Raises StoreUnanswered.
        """
        ...

    @property
    def problem(self) -> str:
        """Say in words what has kept commits from being stored, and since when; '' when all is well."""
        ...

    def unanswered(self, waited: float) -> str:
        """Say why a client that has waited so many seconds for a command is not to wait any longer.

        '' where it is: appends are acknowledged. One that is not may be stored later, so its outcome is unknown.
        """
        ...

    async def condition(self) -> StoreCondition:
        """Return what is known of the store without reading it: what is missing, lost or changed."""
        ...

    async def restore_limits(self) -> list[RestoredLimits]:
        """Put back the settings that let messages fall out, stream by stream; none where nothing was changed."""
        ...
