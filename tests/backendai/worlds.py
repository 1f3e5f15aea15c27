"""Executors on a real manager, for tests: each world has an installation of its own, and leaves no session."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from msgspec.structs import replace

from backendai.cluster import Cluster
from backendai.stack.settings import KEYS
from trackbook.adapters.backendai import config, names
from trackbook.adapters.backendai.api import session_calls
from trackbook.adapters.backendai.api.client import Client
from trackbook.adapters.backendai.api.session_calls import Session
from trackbook.adapters.backendai.api.storage import Storage
from trackbook.adapters.backendai.executor import BackendAIExecutor
from trackbook.adapters.execution import folders, logs
from trackbook.engine.job import ReportTaskStatus
from trackbook.engine.ports import SessionSpec
from trackbook.testing.reports import Reports
from trackbook.testing.store import MemoryBlobs

PATIENCE = 90.0


def settings(cluster: Cluster, **other: Any) -> config.Cluster:
    """Return the adapter's settings for a cluster; quick ones where tests wait."""
    key = KEYS[cluster.key]
    made = config.Cluster(
        name="main",
        endpoint=cluster.endpoint,
        access_key=key.access,
        secret_key=key.secret,
        project=cluster.project,
        domain=cluster.domain,
        image=cluster.image,
        poll_interval=2.0,
        stop_timeout=20.0,
    )
    return replace(made, **other)


class Made(Protocol):
    """Makes worlds of one installation, each on a data directory."""

    def __call__(self, folder: str = "", **settings: Any) -> ClusterWorld:
        """Make one, with settings other than usual."""
        ...


def spec(
    task: str, command: str, resources: dict[str, int | float] | None = None, **variables: str
) -> SessionSpec:
    """Return a session of the test's job; variables can ask the stack for faults."""
    index = int.from_bytes(task.encode())
    return SessionSpec(
        f"tb-j1-{index}-1",
        "j1",
        "p1",
        "pipeline",
        task,
        index,
        1,
        command,
        variables,
        resources=resources or {"cpu": 1, "mem": 128 * 2**20},
    )


class ClusterWorld:
    """Executors that follow one another on the same sessions."""

    def __init__(self, cluster: Cluster, folder: Path, **other: Any) -> None:
        self.reports = Reports(PATIENCE)
        self.installation = secrets.token_hex(4)
        self.cluster = cluster
        self.protects_inputs = cluster.newer  # 23.09 has no read-only mount of a part of a folder
        self.settings = settings(cluster, **other)
        self.folder = self.data = folder
        self.began = time.time()
        self.blobs = MemoryBlobs()
        self._executors: list[BackendAIExecutor] = []

    async def open(self, limit: int | None = None) -> BackendAIExecutor:
        """Open another executor on the same data directory."""
        self._executors.append(
            BackendAIExecutor(self.settings, self.folder, self.installation, limit=limit, blobs=self.blobs)
        )
        await self._executors[-1].start(self.reports)
        return self._executors[-1]

    async def break_off(self) -> None:
        """End the executor as a crash does: nothing that it was about to do is done."""
        executor = self._executors.pop()
        for task in asyncio.all_tasks():
            module = getattr(task.get_coro(), "cr_code", None)
            if module and "/adapters/" in module.co_filename:
                task.cancel()
        await asyncio.sleep(0)
        await executor.close()

    async def close(self) -> None:
        """End all sessions."""
        for executor in self._executors:
            await executor.close(cancel=True)

    # What there is on the cluster ----------------------------------------------------------------------------

    async def sessions(self, *, ended: bool = False) -> list[Session]:
        """Return the installation's sessions."""
        client = Client(settings(self.cluster))
        try:
            return await session_calls.sessions_with_prefix(client, names.prefix(self.installation), ended=ended)
        finally:
            await client.close()

    async def nothing_left(self) -> None:
        """Wait until no session of the installation is left."""
        await _until(self._none_left, "sessions are left")

    async def _none_left(self) -> bool:
        return not await self.sessions()

    async def ended_there(self, task: str) -> None:
        """Wait until the manager says that the task's session has ended."""
        name = f"-{spec(task, '').index}-1"

        async def ended() -> bool:
            return any(each.final and each.name.endswith(name) for each in await self.sessions(ended=True))

        await _until(ended, f"the session of {task} has not ended")

    async def record(self, task: str) -> None:
        """Wait until the task's exit record lies in the folder, on the storage's own disk."""
        index = spec(task, "").index

        async def there() -> bool:
            since = self.began
            records = self.cluster.volume.glob(f"**/.trackbook/j1/{index}-1.exit")
            return any(path.stat().st_mtime > since for path in records)

        await _until(there, f"no record of {task}")

    async def runs(self, task: str) -> int:
        """Return how often a command that counts has run."""
        client = Client(settings(self.cluster))
        try:
            storage = Storage(client)
            counted = b""
            for folder in await storage.folders():
                if names.is_vfolder(self.installation, "p1", folder.name):
                    counted += await storage.read_small(folder.name, f"vfroot/count-{task}") or b""
            return len(counted.split())
        finally:
            await client.close()

    async def remove_folder(self) -> None:
        """Remove the pipeline's folder, for good, as its owner may."""
        client = Client(settings(self.cluster))
        try:
            storage = Storage(client)
            for folder in await storage.folders():
                if names.is_vfolder(self.installation, "p1", folder.name):
                    await storage.remove(folder)
        finally:
            await client.close()

    # What was reported ---------------------------------------------------------------------------------------

    def _reported(self, task: str) -> list[ReportTaskStatus]:
        return [each for each in self.reports.of(task, ReportTaskStatus) if isinstance(each, ReportTaskStatus)]

    def statuses(self, task: str) -> list[str]:
        """Return the statuses that were reported."""
        return [each.status for each in self._reported(task)]

    def whys(self, task: str) -> list[str]:
        """Return what was reported with them."""
        return [each.message for each in self._reported(task)]

    async def status(self, task: str, *statuses: str) -> None:
        """Wait until one of the statuses was reported."""

        async def reported() -> bool:
            return bool({*statuses} & {*self.statuses(task)})

        await _until(reported, f"{task} was not {statuses}")

    async def returned(self, task: str, status: str) -> None:
        """Wait until the status is the last one that was reported."""

        async def last() -> bool:
            return self.statuses(task)[-1:] == [status]

        await _until(last, f"{task} is not {status} again")

    async def said(self, task: str, words: str) -> None:
        """Wait until the words were reported with a status."""

        async def reported() -> bool:
            return any(words in why for why in self.whys(task))

        await _until(reported, f"{words!r} was not said of {task}")

    def log(self, task: str) -> str:
        """Return our copy of the task's output."""
        path = folders.log_file(self.folder, spec(task, "").session)
        return path.read_text() if path.exists() else ""

    async def logged(self, task: str, enough: Callable[[str], bool]) -> None:
        """Wait until our copy of the output is so, as who follows it does."""

        async def copied() -> bool:
            logs.want(folders.log_file(self.folder, spec(task, "").session))
            return enough(self.log(task))

        await _until(copied, f"the log of {task} stays {self.log(task)!r}")


async def _until(condition: Callable[[], Any], otherwise: str) -> None:
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not await condition():
        assert asyncio.get_running_loop().time() < deadline, otherwise
        await asyncio.sleep(0.1)
