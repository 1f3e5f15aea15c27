"""A Backend.AI cluster as an executor under its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trackbook.adapters.backendai.config import Cluster
from trackbook.adapters.backendai.executor import BackendAIExecutor
from trackbook.adapters.backendai.link import Link
from trackbook.engine.definition import Task
from trackbook.engine.errors import Refused, Warned
from trackbook.engine.ports import Executor, Finding, Folders, Live, SessionSpec


class BackendAIBackend:
    """Implements `trackbook.engine.ports.Backend`."""

    def __init__(self, name: str, cluster: Cluster, data: Path, installation: str) -> None:
        self.name = name
        self._cluster = cluster
        self._data = data
        self._link = Link(cluster, installation)

    @property
    def folders(self) -> Folders:
        """The pipelines' folders on the cluster."""
        raise NotImplementedError

    def executor(self) -> Executor:
        """Return the one that runs sessions on the cluster."""
        return BackendAIExecutor(self._cluster, self._data, self._link.installation)

    def judge(self, tasks: Sequence[Task]) -> list[Refused | Warned]:
        """Refuse tasks without an image."""
        found: list[Refused | Warned] = []
        for task in tasks:
            if not task.image and not self._cluster.image:
                message = f"task {task.name!r} names no image, and neither does cluster {self._cluster.name!r}"
                found.append(Refused("no_image", message, f"tasks[{task.index}].environment.image"))
        return found

    async def check(self, specs: Sequence[SessionSpec]) -> list[Finding]:  # noqa: ARG002
        """Look at what the sessions need."""
        return []

    async def examine(self) -> list[Finding]:
        """Look whether the cluster could work."""
        return []

    async def sweep(self, live: Live, *, end: bool) -> list[Finding]:  # noqa: ARG002
        """Find what nobody owns."""
        return []

    async def release(self, job: str) -> None:
        """Keep nothing for a job."""

    async def close(self) -> None:
        """Close connections."""
        await self._link.close()
