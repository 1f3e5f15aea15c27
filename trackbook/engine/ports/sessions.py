"""One attempt of a task as an executor runs it, and how it is reported."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from msgspec import Struct, field

from trackbook.engine.job import Report


class SessionInput(Struct, frozen=True):
    """An attempt of the same pipeline whose outputs a session reads; empty when its task was skipped.

    `job` is the session's own or an earlier one.
    """

    job: str
    task: str
    index: int
    attempt: int
    skipped: bool = False


class SessionSpec(Struct, frozen=True):
    """All that an executor needs to run one attempt of one task.

    `session` is unique to the attempt and deterministic (`[A-Za-z0-9-]{1,64}`); `variables` are merged already
    (pipeline, then task, then the job's parameters). Of `resources` sizes are in bytes, as is `shmem`;
    `mounts` are `FOLDER[/SUBPATH][:ALIAS]`, found at `/home/work/ALIAS`. `service` is what a serving task serves.
    `settings` is the task as the pipeline has it. `virtual_env` is the Python virtual environment of the user who
    started the job, for executors that run on the machine where it is. `code` is the SHA-256 of a tar archive,
    stored as a blob, of which the session starts in a writable copy; '' for none.

    The session finds the outputs of `inputs` at `/pipeline/input1` …, in their order, and those of `previous`, an
    earlier attempt of its own task, at `/pipeline/previous`: both read-only where the executor can.
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
    previous: SessionInput | None = None


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
        """Release the sessions, which run on and are adopted by the next start, or end them with `cancel`."""
        ...
