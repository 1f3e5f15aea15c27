"""The local executor as a backend: what this machine's processes can and can't do for a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trackbook.adapters.execution.data_folders import DataFolders
from trackbook.adapters.execution.kind import Host
from trackbook.adapters.execution.refusals import refused_service, unknown_slots
from trackbook.adapters.local.plan import NO_ABSOLUTE
from trackbook.engine.definition import Task
from trackbook.engine.errors import Refused, Warned
from trackbook.engine.mounts import parse
from trackbook.engine.ports import Executor, Finding, Live, SessionSpec

_SLOTS = ("cpu", "mem")


def _refused_mounts(task: Task) -> list[Refused]:
    """Refuse mounts that a process can't be given."""
    hint = "Use an alias without the leading '/', or another executor."
    return [
        Refused("mount_unsupported", f"{text!r}: {NO_ABSOLUTE}", f"tasks[{task.index}].mounts", hint=hint)
        for text in task.mounts
        if not parse(text).below_work
    ]


class LocalBackend:
    """Implements `trackbook.engine.ports.Backend`."""

    def __init__(self, name: str, data: Path, make: Callable[[], Executor]) -> None:
        self.name = name
        self.folders = DataFolders(data)
        self._make = make

    def executor(self) -> Executor:
        """Return an executor of this machine's processes."""
        return self._make()

    def validate(self, tasks: Sequence[Task]) -> list[Refused | Warned]:
        """Refuse serving tasks; images, clusters and accelerators mean nothing to processes."""
        found: list[Refused | Warned] = []
        if imaged := [task for task in tasks if task.image]:
            first, more = imaged[0], len({task.image for task in imaged}) - 1
            others = f" ({more} more image{'s' if more > 1 else ''} in other tasks)" if more else ""
            message = (
                f"task {first.name!r} asks for the image {first.image}{others}, and runs as a process of this "
                f"machine without it: its executor is {self.name!r}"
            )
            hint = "Choose one that has images with --executor, or as `default` in executors.toml."
            found.append(Warned("image_ignored", f"{message}. {hint}", f"tasks[{first.index}].environment.image"))
        for task in tasks:
            found += _refused_mounts(task)
            if task.serving:
                found.append(refused_service(task, self.name))
            elif task.cluster_size > 1:
                message = f"task {task.name!r} runs as one process here, not on {task.cluster_size} nodes"
                found.append(Warned("cluster_ignored", message, f"tasks[{task.index}].cluster_size"))
            found += unknown_slots(task, _SLOTS, "processes of this machine")
        return found

    async def preflight(self, specs: Sequence[SessionSpec]) -> list[Finding]:  # noqa: ARG002 - nothing is scarce here
        """Find nothing: resources are advisory here."""
        return []

    async def diagnose(self) -> list[Finding]:
        """Find nothing beside what is looked at for the machine itself."""
        return []

    async def sweep(self, live: Live, *, end: bool, unknown: bool = False) -> list[Finding]:  # noqa: ARG002 - no session is left behind
        """Find nothing: a session whose launcher is gone is taken down when its job is taken up."""
        return []

    async def release(self, job: str) -> None:
        """Keep nothing for a job."""

    async def close(self) -> None:
        """Hold nothing open."""


def open_backend(name: str, settings: Mapping[str, Any], host: Host) -> LocalBackend:
    """Return the executor of this machine's processes, which has no settings. Raises ValueError."""
    if settings:
        raise ValueError(f"{next(iter(settings))!r} is not a setting: this executor has none")

    def make() -> Executor:
        from trackbook.adapters.local.executor import LocalExecutor

        return LocalExecutor(
            host.data,
            limit=host.limit,
            grace=host.grace,
            pass_environment=host.pass_environment,
            durable=host.durable,
            blobs=host.blobs,
        )

    return LocalBackend(name, host.data, make)
