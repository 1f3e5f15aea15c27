"""The backend: what the executor can do for a task, and its settings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from trackbook.adapters.execution.data_folders import DataFolders
from trackbook.adapters.execution.kind import Host
from trackbook.adapters.execution.refusals import refused_service, unknown_slots
from trackbook.engine.definition import Task
from trackbook.engine.errors import Refused, Warned
from trackbook.engine.ports import Finding, Live, SessionSpec
from trackbook_nice.executor import NiceExecutor


class Settings(Struct, forbid_unknown_fields=True):
    """The table `[nice]` of executors.toml. `limit` attempts run at once (0: as many as there are cores)."""

    niceness: int = 10
    limit: int = 0


class NiceBackend:
    """Implements `trackbook.engine.ports.Backend`."""

    def __init__(self, name: str, settings: Settings, data: Path, grace: float) -> None:
        self.name = name
        self.folders = DataFolders(data)
        self._settings, self._data, self._grace = settings, data, grace

    def executor(self) -> NiceExecutor:
        """Return the one that runs sessions."""
        limit = self._settings.limit or os.cpu_count() or 1
        return NiceExecutor(self._data, niceness=self._settings.niceness, limit=limit, grace=self._grace)

    def validate(self, tasks: Sequence[Task]) -> list[Refused | Warned]:
        """Refuse what a process can't be: a service, a container, a copy of the pipeline's code, a mount."""
        found: list[Refused | Warned] = []
        for task in tasks:
            place = f"tasks[{task.index}]"
            if task.serving:
                found.append(refused_service(task, self.name))
            if task.code or task.mounts:
                words = f"task {task.name!r} has `code` or `mounts`, which the executor {self.name!r} does not do"
                found.append(Refused("unsupported", words, place, hint="Choose another executor."))
            found += unknown_slots(task, ("cpu", "mem"), "processes of low priority")
        return found

    async def preflight(self, specs: Sequence[SessionSpec]) -> list[Finding]:  # noqa: ARG002 - nothing is scarce
        """Find nothing: no resource is reserved."""
        return []

    async def diagnose(self) -> list[Finding]:
        """Say what the settings are."""
        return [Finding("niceness", str(self._settings.niceness))]

    async def sweep(self, live: Live, *, end: bool, unknown: bool = False) -> list[Finding]:  # noqa: ARG002
        """Find nothing: each attempt's folder leads to its process."""
        return []

    async def release(self, job: str) -> None:
        """Keep nothing for a job."""

    async def close(self) -> None:
        """Hold nothing open."""


def open_backend(name: str, settings: Mapping[str, Any], host: Host) -> NiceBackend:
    """Return the executor of this name. Raises ValueError for settings that can't be used."""
    return NiceBackend(name, msgspec.convert(settings, Settings), host.data, host.grace)
