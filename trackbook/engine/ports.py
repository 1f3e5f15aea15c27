"""What the engine needs from outside, as small protocols; one contract suite each under tests/contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

from msgspec import Struct, field

from trackbook.engine.definition import Task
from trackbook.engine.errors import Refused, Warned
from trackbook.engine.job import Report
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
    """The store stopped answering although it can be reached: what was asked for may be intact all the same."""


class BlobMissing(LookupError):
    """No blob with that SHA-256 is stored whole."""


class EventStore(Protocol):
    """The log. Appends are fenced by the aggregate's last sequence; reads are in order.

    Sequences count from 1 without a gap as they are appended. A message that the store has lost is left out by
    reads: its absence shows by the sequences, and means that it does not exist, never that it is on its way.
    """

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
        """Return the last sequence, 0 for an empty stream; its message may have been lost."""
        ...

    @property
    def problem(self) -> str:
        """Say in words what has kept commits from being stored, and since when; '' when all is well."""
        ...

    async def condition(self) -> StoreCondition:
        """Return what is known of the store without reading it: what is missing, lost or changed."""
        ...

    async def restore_limits(self) -> list[RestoredLimits]:
        """Put back the settings that let messages fall out, stream by stream; none where nothing was changed."""
        ...


class Blobs(Protocol):
    """Content-addressed bytes for what is too large for a commit."""

    async def put(self, data: bytes) -> str:
        """Store and return the SHA-256 in hex, once acknowledged; what is there already is not written again."""
        ...

    async def get(self, sha256: str) -> bytes:
        """Return the bytes, their digest checked; raises BlobMissing, StoreUnanswered."""
        ...

    async def has(self, sha256: str) -> bool:
        """Tell whether a blob is stored whole."""
        ...


class SessionInput(Struct, frozen=True):
    """A dependency whose outputs the task reads as `/pipeline/inputN`; empty when it was skipped."""

    task: str
    index: int
    skipped: bool = False


class SessionSpec(Struct, frozen=True):
    """All that an executor needs to run one attempt of one task.

    `session` is unique to the attempt and deterministic (`[A-Za-z0-9-]{1,64}`); `variables` are merged already
    (pipeline, then task, then the job's parameters). Of `resources` sizes are in bytes, as is `shmem`;
    `mounts` are `FOLDER[/SUBPATH][:ALIAS]`, found at `/home/work/ALIAS`. `service` is what a serving task serves.
    `settings` is the task as the pipeline has it. `virtual_env` is the Python virtual environment of whoever
    started the job, for executors that run on the machine where it is. `code` is the SHA-256 of a tar archive,
    stored as a blob, of which the session starts in a writable copy; '' for none.
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
    image: str = ""
    resources: dict[str, int | float] = field(default_factory=dict)
    shmem: int | None = None
    cluster_mode: str = "single-node"
    cluster_size: int = 1
    project: str = ""
    scaling_group: str = ""
    service: dict[str, Any] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    virtual_env: str = ""
    code: str = ""


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


class Finding(Struct, frozen=True, omit_defaults=True):
    """One line of a check: what was looked at, what was found, and what to do about it."""

    what: str
    found: str
    verdict: Literal["ok", "warn", "fail"] = "ok"
    hint: str = ""
    task: str = ""


class FileEntry(Struct, frozen=True):
    """A file or folder in a pipeline's folder; `path` is relative to that, `size` in bytes (0 for a folder).

    `executable` says that its owner may run the file; always False for a folder.
    """

    name: str
    path: str
    type: Literal["file", "folder"]
    size: int = 0
    modified_at: datetime | None = None
    executable: bool = False


class CutListing(list[FileEntry]):
    """Entries of a folder that may have more of them: the executor's storage cuts long listings."""


class FolderState(Struct, frozen=True):
    """A pipeline's folder: `none` was made yet, `present`, or `missing`: somebody removed it. `name` and `id` are
    the executor's own."""

    state: Literal["none", "present", "missing"]
    name: str = ""
    id: str = ""


class FolderMissing(LookupError):
    """The pipeline has no folder on this executor, or it was removed there."""


class NoSuchFile(LookupError):
    """There is no such file or folder in the pipeline's folder."""


class UnsafePath(ValueError):
    """The path leads out of the pipeline's folder, or can't be one."""


class ExecutorUnavailable(Exception):
    """What the executor stands on (a cluster, an engine) can't be reached or doesn't answer; says why."""


class Folders(Protocol):
    """The pipelines' folders of one executor, each by the pipeline's id.

    A folder has `vfroot/` and, for each task of a job, `jobs/<job>/<index>-<name>/outputs/`. Paths are relative
    to it, with `/` between their parts, '' the folder itself. Any call may raise ExecutorUnavailable.
    """

    async def state(self, pipeline: str) -> FolderState:
        """Look whether the folder is there."""
        ...

    async def create(self, pipeline: str, label: str = "") -> FolderState:
        """Make the folder where there is none, again where it is missing.

        Where it has a name that people see, that contains `label`, the pipeline's own name.
        """
        ...

    async def purge(self, pipeline: str) -> bool:
        """Delete the folder with all that is in it, for good; False where there was none."""
        ...

    async def stat(self, pipeline: str, path: str) -> FileEntry:
        """Return one entry; raises FolderMissing, NoSuchFile, UnsafePath."""
        ...

    async def entries(self, pipeline: str, path: str = "") -> list[FileEntry]:
        """Return what is in a folder, by name; raises FolderMissing, NoSuchFile, UnsafePath.

        A CutListing says that there may be more.
        """
        ...

    def read(self, pipeline: str, path: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield a file's bytes from `start` up to `end`, exclusive.

        Raises FolderMissing, NoSuchFile, UnsafePath.
        """
        ...

    async def write(
        self,
        pipeline: str,
        path: str,
        chunks: AsyncIterator[bytes],
        size: int,
        label: str = "",
        *,
        executable: bool = False,
    ) -> None:
        """Write a file of `size` bytes, which is there whole or not at all, and the folders above it.

        Makes the pipeline's folder where there is none, as `create` does. Storage that has no way to set
        `executable` leaves it; `stat` tells. Raises FolderMissing, UnsafePath, ValueError for chunks that are not
        `size` bytes.
        """
        ...

    def archive(self, pipeline: str, path: str) -> AsyncIterator[bytes]:
        """Yield a folder below the root with all that is in it as a zip archive, whole where listings are cut.

        An archive that ends without its directory is not whole. Raises FolderMissing, NoSuchFile, UnsafePath.
        """
        ...

    async def delete(self, pipeline: str, path: str) -> None:
        """Delete a file, or a folder with all that is in it; raises FolderMissing, NoSuchFile, UnsafePath."""
        ...


class Owned(Struct, frozen=True):
    """What the log says of an executor's sessions, by the log's names.

    `sessions` are those that a live attempt owns, and those of services that an open job offers. A job that the
    log doesn't know may belong to another copy of this data directory, or to a log that is newer than this one.
    """

    sessions: set[str]
    knows_job: Callable[[str], bool] = lambda job: True  # noqa: ARG005 - the log knows every job


Live = Callable[[], Awaitable[Owned]]
"""Returns what the folded log owns on this executor."""

UNKNOWN_JOB = (
    "The log does not know its job: a copy of this data directory may own it, or the log was restored from an "
    "older backup. It is never ended automatically; `trackbook doctor --sweep` ends it."
)
"""What to say of a session that is of this installation and of no job of the log."""


class Backend(Protocol):
    """One configured executor under its name; what needs no sessions of its own can be asked in any process."""

    name: str

    @property
    def folders(self) -> Folders:
        """The pipelines' folders on this executor."""
        ...

    def executor(self) -> Executor:
        """Return the one that runs sessions, to be started in the process that has the role `executor`."""
        ...

    def judge(self, tasks: Sequence[Task]) -> list[Refused | Warned]:
        """Return what this executor can't do of what the tasks ask for, and what it leaves aside; asks nobody."""
        ...

    async def check(self, specs: Sequence[SessionSpec]) -> list[Finding]:
        """Look before a run at what the sessions need: images, slots, quotas, folders, permissions."""
        ...

    async def examine(self) -> list[Finding]:
        """Look whether the executor could work: reachability, versions, keys, what it offers."""
        ...

    async def sweep(self, live: Live, *, end: bool, unknown: bool = False) -> list[Finding]:
        """Find sessions of this installation that no live attempt owns, and end them where `end` is set.

        Those of jobs that the log doesn't know are only listed, unless `unknown` is set as well. Lists what is
        there before it asks `live`, so that a session launched meanwhile is never taken for one.
        """
        ...

    async def release(self, job: str) -> None:
        """Let go of what was kept for a job that has ended; may be asked again."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...
