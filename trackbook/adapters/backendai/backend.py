"""A Backend.AI cluster as an executor under its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trackbook.adapters.backendai.api.cluster_connection import ClusterConnection
from trackbook.adapters.backendai.api.storage import Storage
from trackbook.adapters.backendai.cleanup import sweep
from trackbook.adapters.backendai.config import Cluster
from trackbook.adapters.backendai.executor import BackendAIExecutor
from trackbook.adapters.backendai.folders import ClusterFolders
from trackbook.adapters.backendai.preflight import project_checks, service_checks
from trackbook.adapters.backendai.preflight.diagnose import diagnose
from trackbook.adapters.backendai.service import plan as service_plan
from trackbook.adapters.backendai.service.cleanup import Services
from trackbook.adapters.execution.kind import Host
from trackbook.engine.definition import Task
from trackbook.engine.errors import Refused, Warned
from trackbook.engine.ports import Blobs, Executor, Finding, Folders, Live, SessionSpec


class BackendAIBackend:
    """Implements `trackbook.engine.ports.Backend`."""

    def __init__(
        self, name: str, cluster: Cluster, data: Path, installation: str, blobs: Blobs | None = None
    ) -> None:
        self.name = name
        self._blobs = blobs
        self._cluster = cluster
        self._data = data
        self._connection = ClusterConnection(cluster, installation)
        self._services = Services(self._connection)
        self._folders = ClusterFolders(Storage(self._connection.client), data, installation)

    @property
    def folders(self) -> Folders:
        """The pipelines' folders on the cluster."""
        return self._folders

    def executor(self) -> Executor:
        """Return the one that runs sessions on the cluster."""
        return BackendAIExecutor(self._cluster, self._data, self._connection.installation, blobs=self._blobs)

    def validate(self, tasks: Sequence[Task]) -> list[Refused | Warned]:
        """Refuse tasks without an image, and code and services that can't be, as far as the version is known."""
        found: list[Refused | Warned] = [*_refused_code(tasks)]
        for task in tasks:
            if not task.image and not self._cluster.image:
                message = f"task {task.name!r} names no image, and neither does cluster {self._cluster.name!r}"
                found.append(Refused("no_image", message, f"tasks[{task.index}].environment.image"))
        serving = [task for task in tasks if task.serving]
        return found + service_plan.validate(serving, self._connection.known_version)

    async def preflight(self, specs: Sequence[SessionSpec]) -> list[Finding]:
        """Look at what the sessions need; that the cluster can't be asked is a finding, too."""
        found = await project_checks.check(self._connection, self.folders, specs)
        more = await service_checks.check(self._connection, specs)
        known = [each.found for each in found if each.verdict == "fail"]
        return found + [each for each in more if not _is_known(each, known)]

    async def diagnose(self) -> list[Finding]:
        """Look whether the cluster could work."""
        return await diagnose(self._connection)

    async def sweep(self, live: Live, *, end: bool, unknown: bool = False) -> list[Finding]:
        """Find sessions of the installation that no live attempt owns, and services. Raises ClusterError."""
        sessions = await sweep(self._connection, live, end=end, unknown=unknown)
        return sessions + await self._services.sweep(live, end=end, unknown=unknown)

    async def release(self, job: str) -> None:
        """Take down the services that were to live as long as the job."""
        await self._services.release(job)

    async def close(self) -> None:
        """Close connections."""
        await self._connection.close()


def open_backend(name: str, settings: Mapping[str, Any], host: Host) -> BackendAIBackend:
    """Return the executor of a cluster, named `backendai/CLUSTER`. Raises ValueError for unusable settings."""
    cluster = Cluster.from_mapping(name.partition("/")[2], settings)
    return BackendAIBackend(name, cluster, host.data, host.installation, host.blobs)


def _refused_code(tasks: Sequence[Task]) -> list[Refused]:
    """Return the refusals of tasks of which not every container would have the pipeline's code."""
    message = (
        "task {!r} runs in {} containers, of which only the one of role `main` would get the pipeline's code"
    )
    hint = "Leave out `code` and put the files into the pipeline's folder: `trackbook files put`."
    return [
        Refused(
            "code_unsupported",
            message.format(task.name, task.cluster_size),
            f"tasks[{task.index}].cluster_size",
            hint=hint,
        )
        for task in tasks
        if task.code and task.cluster_size > 1 and not task.serving
    ]


def _is_known(finding: Finding, known: Sequence[str]) -> bool:
    """Whether a failure of a service was found already, with its task, when its session was looked at."""
    folder = f"the folder {finding.what.removeprefix('model ')!r} is"
    return finding.verdict == "fail" and any(finding.found in each or each.startswith(folder) for each in known)
