"""What the engine needs from outside, as small protocols; one contract suite each under tests/contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

from msgspec import Struct, field

from trackbook.engine.job import Report


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
    """Another commit stands where ours should: fold again and decide anew."""


class BlobMissing(LookupError):
    """No blob with that SHA-256 is stored whole."""


class EventStore(Protocol):
    """The log. Appends are fenced by the aggregate's last sequence; reads are gapless and in order."""

    async def append(self, *commits: Append) -> list[int]:
        """Append all or none and return their sequences; raises AppendConflict.

        An unknown outcome (a lost acknowledgement, a broker that restarts) is resolved here: the last message
        of the subject either is ours, byte for byte, or it is a conflict. Waits while the broker is away.
        """
        ...

    def read(self, kind: str, id: str, from_seq: int = 1) -> AsyncIterator[Stored]:  # noqa: A002
        """Yield one aggregate's commits from a stream sequence on, in order."""
        ...

    def read_all(self, from_seq: int) -> AsyncIterator[list[Stored]]:
        """Yield the whole stream in batches, up to its head at the time of the call."""
        ...

    def tail(self, from_seq: int) -> AsyncIterator[list[Stored]]:
        """Yield batches from a sequence on and follow for ever; costs nothing while nothing happens."""
        ...

    async def head(self) -> int:
        """Return the sequence of the last message, 0 for an empty stream."""
        ...


class Blobs(Protocol):
    """Content-addressed bytes for what is too large for a commit."""

    async def put(self, data: bytes) -> str:
        """Store and return the SHA-256 in hex, once acknowledged; what is there already is not written again."""
        ...

    async def get(self, sha256: str) -> bytes:
        """Return the bytes, their digest checked; raises BlobMissing."""
        ...


class SessionInput(Struct, frozen=True):
    """A dependency whose outputs the task reads as `/pipeline/inputN`; empty when it was skipped."""

    task: str
    index: int
    skipped: bool = False


class SessionSpec(Struct, frozen=True):
    """All that an executor needs to run one attempt of one task.

    `session` is unique to the attempt and deterministic (`[A-Za-z0-9-]{1,64}`); `variables` are merged already
    (pipeline, then task, then the job's parameters); `settings` is the task as the pipeline has it.
    """

    session: str
    job: str
    pipeline: str
    pipeline_name: str
    task: str
    index: int
    attempt: int
    command: str
    variables: dict[str, str] = field(default_factory=dict)
    inputs: list[SessionInput] = field(default_factory=list)
    mounts: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)


ReportSink = Callable[[str, Report], Awaitable[None]]
"""Hands a report for a job (its id) to the engine and returns once that is on the log; may raise: try again."""


class Executor(Protocol):
    """Runs sessions. Everything may be asked twice; reports may come late, twice and in any order."""

    async def start(self, report: ReportSink) -> None:
        """Make ready; reports go to `report`, each repeated until it returns."""
        ...

    async def launch(self, spec: SessionSpec) -> None:
        """Run the session, or adopt it if it was launched before; one that has ended is reported again."""
        ...

    async def stop(self, spec: SessionSpec) -> None:
        """End the session and report it ended; one never launched can't be launched any more afterwards."""
        ...

    async def close(self, *, cancel: bool = False) -> None:
        """Let go: sessions run on and are adopted by the next start, or end when `cancel` is set."""
        ...
