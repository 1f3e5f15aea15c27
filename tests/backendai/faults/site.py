"""One installation whose tasks run on a real cluster, while parts of either are taken away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kill.nursery import Kept
from kill.workload import Job
from kill.world import World

from backendai.cluster import Cluster

EXECUTOR = "backendai/main"
PATIENCE = 120.0
"""Seconds within which jobs end and sessions are gone, whatever was taken away."""
_LIVE = """
query($limit: Int!, $offset: Int!, $filter: String) {
  compute_session_list(limit: $limit, offset: $offset, filter: $filter) { items { id name status } total_count }
}
"""


@dataclass
class Site(World):
    """A data directory with its processes, and what it has on the cluster.

    `settings` are those of the cluster, by the names that a configuration has; `endpoint` may lie before the
    manager's own.
    """

    cluster: Cluster = field(kw_only=True)
    settings: dict[str, str] = field(kw_only=True, default_factory=dict)
    endpoint: str = field(kw_only=True, default="")
    jobs: list[Job] = field(init=False, default_factory=list)
    pipelines: set[str] = field(init=False, default_factory=set)
    folders: dict[str, Path] = field(init=False, default_factory=dict)
    enough: bool = field(init=False, default=False)

    def add(self, name: str, argv: list[str], data: Path | None = None, **environment: str) -> Kept:
        """Start a process that knows the cluster, and keep it running."""
        key = self.cluster.keys[self.cluster.key]
        reported = {
            "endpoint": self.endpoint or self.cluster.endpoint,
            "access_key": key.access,
            "secret_key": key.secret,
            "image": self.cluster.image,
            "poll_interval": "2",
            "stop_timeout": "15",
        } | self.settings
        ours = {f"TRACKBOOK_BACKENDAI_{setting.upper()}": value for setting, value in reported.items()}
        return super().add(name, argv, data, **{"TRACKBOOK_EXECUTOR": EXECUTOR, **ours, **environment})

    # Jobs -----------------------------------------------------------------------------------------------------

    async def begin(self, definition: dict[str, Any]) -> Job:
        """Apply a pipeline and start a job of it."""
        reply = await self.client.give("pipeline", "apply", definition=definition)
        assert reply["status"] == "accepted", f"{reply} ({self})"
        self.pipelines.add(reply["pipeline"])
        reply = await self.client.give("job", "start", pipeline=definition["name"])
        assert reply["status"] == "accepted", f"{reply} ({self})"
        self.jobs.append(Job(reply["job"], "plain", time.monotonic() - self.began))
        return self.jobs[-1]

    async def cancel(self, job: Job) -> None:
        """Ask for the job's end."""
        reply = await self.client.give("job", "cancel", job=job.id)
        assert reply["status"] == "accepted", f"{reply} ({self})"

    async def ended(self, job: Job, state: str, within: float = PATIENCE) -> dict[str, Any]:
        """Wait until the job has ended, in that state; returns it."""
        found: dict[str, Any] = {}

        async def is_over() -> bool:
            found.update(await self.client.get(f"/api/jobs/{job.id}"))
            return bool(found["finished_at"])

        await self.until(is_over, f"job {job.id} did not end", within)
        job.seconds = time.monotonic() - self.began - job.began
        assert found["state"] == state, f"{found} ({self})"
        return found

    async def tasks(self, job: Job) -> dict[str, dict[str, Any]]:
        """Return the job's tasks by their names."""
        found = await self.client.get(f"/api/jobs/{job.id}/tasks?limit=500")
        return {task["name"]: task for task in found["items"]}

    async def shows(self, job: Job, task: str, *words: str, within: float = PATIENCE) -> None:
        """Wait until what is shown of a task has one of these words: of its status, or why it is in it."""
        shown: dict[str, Any] = {}

        async def said() -> bool:
            shown.update((await self.tasks(job))[task])
            return any(word in f"{shown}" for word in words)

        try:
            await self.until(said, f"{task} never showed {' or '.join(words)}", within)
        except AssertionError as error:
            raise AssertionError(f"{error}: {shown}") from None

    # The commands' own word -----------------------------------------------------------------------------------

    async def place(self, pipeline: str) -> Path | None:
        """Return the pipeline's folder as it lies below the cluster's volume."""
        found = await self.client.get(f"/api/pipelines/{pipeline}/folder")
        if found["state"] != "present":
            return None
        number = found["id"].replace("-", "")
        places = self.cluster.volume.glob(f"*/{number[:2]}/{number[2:4]}/{number[4:]}")
        return next(places, None) or next(self.cluster.volume.glob(f"{number[:2]}/{number[2:4]}/{number[4:]}"))

    async def lines(self) -> list[str]:
        """Return what the commands have written into their ledgers."""
        found: list[str] = []
        for pipeline in self.pipelines:
            if folder := await self._found(pipeline):
                with suppress(FileNotFoundError):
                    found += (folder / "vfroot" / "ledger").read_text().splitlines()
        return found

    async def _found(self, pipeline: str) -> Path | None:
        if pipeline not in self.folders and (place := await self.place(pipeline)):
            self.folders[pipeline] = place
        return self.folders.get(pipeline)

    async def said(self, what: str, *tasks: str, job: Job | None = None, within: float = PATIENCE) -> None:
        """Wait until the tasks' commands have said `start` or `end`."""
        job = job or self.jobs[-1]

        async def written() -> bool:
            said = {tuple(line.split()[1:4:2]) for line in await self.lines() if line.startswith(job.id)}
            return all((task, what) in said for task in tasks)

        await self.until(written, f"{', '.join(tasks)} did not {what}", within)

    async def let_go(self, gate: str = "go") -> None:
        """Let the commands end that wait for the gate."""
        for pipeline in self.pipelines:
            if folder := await self._found(pipeline):
                (folder / "vfroot" / gate).touch()

    # The cluster ----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def without(self, *names: str, kill: bool = False) -> AsyncIterator[None]:
        """Take parts of the cluster away for a while."""
        for name in names:
            await asyncio.to_thread(self.cluster.kill if kill else self.cluster.stop, name)
        try:
            yield
        finally:
            for name in names:
                await asyncio.to_thread(self.cluster.start, name)

    async def live(self) -> list[dict[str, Any]]:
        """Return our jobs' sessions that live, by the manager's word."""
        return await asyncio.to_thread(self._sessions)

    def _sessions(self) -> list[dict[str, Any]]:
        condition = '(name like "tb-%") & (status != "TERMINATED") & (status != "CANCELLED")'
        try:
            found = self.cluster.client().gql(_LIVE, limit=1000, offset=0, filter=condition)
        except AssertionError as error:  # the manager's transactions get into each other's way at times
            raise ConnectionError(str(error)) from None
        ours = {job.id for job in self.jobs}
        items: list[dict[str, Any]] = found["compute_session_list"]["items"]
        return [item for item in items if item["name"].split("-")[2] in ours]

    def processes(self, *, all_of_them: bool = False) -> list[int]:
        """Return the living processes of our jobs' commands; what holds their sandboxes as well, if asked."""
        marks = {f"TRACKBOOK_JOB_ID={job.id}".encode() for job in self.jobs}
        found = []
        for folder in Path("/proc").iterdir():
            with suppress(OSError):
                if folder.name.isdecimal() and marks & {*(folder / "environ").read_bytes().split(b"\0")}:
                    inside = (folder / "root").readlink() != Path("/")
                    found += [int(folder.name)] if inside or all_of_them else []
        return found

    async def nothing_is_left(self, within: float = PATIENCE) -> None:
        """Wait until the manager has no session of ours, and nothing of one runs."""
        left: list[Any] = []

        async def gone() -> bool:
            left[:] = await self.live() or self.processes()
            return not left

        try:
            await self.until(gone, "something is left on the cluster", within)
        except AssertionError as error:
            raise AssertionError(f"{error}: {left}") from None

    def sweep(self) -> None:
        """End what a failed test has left."""
        for session in self._sessions():
            self.cluster.client().call(
                "DELETE", f"/session/{session['id']}", query={"forced": "true"}, timeout=10
            )
