"""The interfaces that HTTP needs: commands, logs, old contents, status, executors and backups."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from trackbook.adapters.execution.output_log import Kept, Piece
from trackbook.engine.ports import Blobs, Folders
from trackbook.projections.read.finders import ReadModel


class CommandGateway(Protocol):
    """Answers commands, whatever carried them."""

    async def handle(self, kind: str, verb: str, payload: bytes, actor: str) -> dict[str, Any]:
        """Return the reply of the contract; never raises for what a command says."""
        ...


class LogSource(Protocol):
    """The output of sessions. Offsets count every byte that was written, also those that are no longer kept."""

    async def extent(self, session: str) -> Kept | None:
        """Return which bytes are there, None when there is no output (yet)."""
        ...

    async def read(self, session: str, offset: int, limit: int) -> Piece:
        """Return up to `limit` bytes from `offset`, or from the first kept byte behind it; none at the end."""
        ...

    def follow(self, session: str, offset: int) -> AsyncIterator[Piece]:
        """Yield from `offset` on what is there and what comes; waits for a log that isn't there yet.

        It may end with the session, or never: the reader stops once the task has ended.
        """
        ...


class History(Protocol):
    """Contents of pipelines at any version; raises Refused where there is none."""

    async def content(self, pipeline: str, version: int) -> dict[str, Any]:
        """Return the content of a pipeline (its id) as a mapping."""
        ...

    async def yaml(self, pipeline: str, version: int) -> str:
        """Return the content as YAML."""
        ...

    async def diff(self, pipeline: str, first: int, last: int) -> list[dict[str, Any]]:
        """Return the changes that lead from one version to another, each with its `type`."""
        ...


class Status(Protocol):
    """What the rest of the system says about itself."""

    def problems(self) -> Sequence[str]:
        """Return in words what keeps the system from working; empty when all is well."""
        ...

    def warnings(self) -> Sequence[str]:
        """Return in words what else is wrong, though the system works."""
        ...

    def metrics(self) -> Mapping[str, float]:
        """Return further figures by their metric names; those that end in _total count up."""
        ...


class Tools(Protocol):
    """Checks of the log."""

    async def verify(self) -> dict[str, Any]:
        """Return `ok`, what was read, and the `defects` found."""
        ...

    async def log(self) -> dict[str, Any]:
        """Return the `head`, the `witness`, open `evidence` of loss, what was `accepted`, and the `faults`."""
        ...

    async def quarantined(self, kind: str, id: str) -> dict[str, Any]:  # noqa: A002
        """Return up to which `version` a history is intact, and its `faults`; raises Refused without one."""
        ...

    async def replay(self, job: str) -> dict[str, Any]:
        """Return what was compared and the first `divergence`, None where today's code decides the same."""
        ...


class Executors(Protocol):
    """The configured executors by name; any of this raises ExecutorUnavailable while they aren't known here."""

    @property
    def default(self) -> str:
        """The name of the executor that runs what names none."""
        ...

    @property
    def problem(self) -> str:
        """Why the configuration can't be used as it is now, '' where it can."""
        ...

    async def refresh(self) -> None:
        """Read the configuration again if it changed."""
        ...

    def names(self) -> Sequence[str]:
        """Return the names, in the order in which they are shown."""
        ...

    def stores(self) -> Sequence[str]:
        """Return the names without those whose folders are another's too."""
        ...

    def store(self, name: str) -> str:
        """Return the name under which `stores` has the executor's folders; its own as a rule."""
        ...

    def folders(self, name: str) -> Folders:
        """Return the folders on an executor; raises Refused (`unknown_executor`)."""
        ...


class Backups(Protocol):
    """Makes backups of the whole installation."""

    async def backup(self, *, damaged: bool) -> AsyncIterator[bytes]:
        """Return a backup's bytes; raises Refused for a log that lost something, unless `damaged`."""
        ...


@dataclass(frozen=True)
class Services:
    """All that a request may need."""

    read: ReadModel
    gateway: CommandGateway
    logs: LogSource
    history: History
    status: Status
    tools: Tools
    executors: Executors
    blobs: Blobs
    backups: Backups | None = None
    storing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by what stores an archive of code: one at a time is in memory whole."""
