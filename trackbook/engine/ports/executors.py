"""A configured executor: what it can do, what it finds before a run, and what it cleans up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from trackbook.engine.definition import Task
from trackbook.engine.errors import Refused, Warned
from trackbook.engine.ports.folders import Folders
from trackbook.engine.ports.sessions import Executor, SessionSpec


class ExecutorUnavailable(Exception):
    """What the executor stands on (a cluster, an engine) can't be reached or doesn't answer; says why."""


class Finding(Struct, frozen=True, omit_defaults=True):
    """One line of a check: what was looked at, what was found, and what to do about it."""

    what: str
    found: str
    verdict: Literal["ok", "warn", "fail"] = "ok"
    hint: str = ""
    task: str = ""


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

    def validate(self, tasks: Sequence[Task]) -> list[Refused | Warned]:
        """Return what this executor can't do of what the tasks ask for, and what it leaves aside; asks nobody."""
        ...

    async def preflight(self, specs: Sequence[SessionSpec]) -> list[Finding]:
        """Look before a run at what the sessions need: images, slots, quotas, folders, permissions."""
        ...

    async def diagnose(self) -> list[Finding]:
        """Look whether the executor could work: reachability, versions, keys, what it offers."""
        ...

    async def sweep(self, live: Live, *, end: bool, unknown: bool = False) -> list[Finding]:
        """Find sessions of this installation that no live attempt owns, and end them where `end` is set.

        Those of jobs that the log doesn't know are only listed, unless `unknown` is set as well. Lists what is
        there before it asks `live`, so that a session launched meanwhile is never taken for one.
        """
        ...

    async def release(self, job: str) -> None:
        """Release what was kept for a job that has ended; may be called again."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...
