"""Containers as a backend: what an engine of this machine can and can't do for a task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackbook.adapters.container import attempt_state, cleanup
from trackbook.adapters.container.client import Client, EngineAway, EngineRefused, Facts
from trackbook.adapters.container.config import HINT, Engine
from trackbook.adapters.container.plan import GPUS, SLOTS
from trackbook.adapters.execution.data_folders import DataFolders
from trackbook.adapters.execution.kind import Host
from trackbook.adapters.execution.refusals import refused_service, unknown_slots
from trackbook.engine.definition import Task
from trackbook.engine.errors import Refused, Warned
from trackbook.engine.ports import Blobs, ExecutorUnavailable, Finding, Live, SessionSpec

if TYPE_CHECKING:
    from trackbook.adapters.container.executor import ContainerExecutor

_MIB = 2**20


class ContainerBackend:
    """Implements `trackbook.engine.ports.Backend`."""

    def __init__(
        self, name: str, engine: Engine, data: Path, installation: str, blobs: Blobs | None = None
    ) -> None:
        self.name = name
        self.folders = DataFolders(data)
        self._engine = engine
        self._data = data
        self._installation = installation
        self._blobs = blobs
        self._client = Client(engine)

    def executor(self) -> ContainerExecutor:
        """Return an executor of the engine's containers."""
        from trackbook.adapters.container.executor import ContainerExecutor

        return ContainerExecutor(self._data, self._engine, self._installation, blobs=self._blobs)

    def validate(self, tasks: Sequence[Task]) -> list[Refused | Warned]:
        """Refuse serving tasks and those without an image; one container means nothing to a cluster."""
        found: list[Refused | Warned] = []
        if self._engine.address() is None:
            found.append(Warned("no_container_engine", f"{self._engine.missing()}. {HINT}"))
        for task in tasks:
            found.extend(self._validate_task(task))
        return found

    def _validate_task(self, task: Task) -> Iterator[Refused | Warned]:
        place = f"tasks[{task.index}]"
        if task.serving:
            yield refused_service(task, self.name)
            return
        if not (task.image or self._engine.image):
            hint = "Give it `environment.image`, or set a default: `image` below [container] of executors.toml."
            message = f"task {task.name!r} names no image, which the executor {self.name!r} needs"
            yield Refused("image_missing", message, f"{place}.environment.image", hint=hint)
        if task.cluster_size > 1:
            message = f"task {task.name!r} runs as one container here, not on {task.cluster_size} nodes"
            yield Warned("cluster_ignored", message, f"{place}.cluster_size")
        yield from unknown_slots(task, SLOTS, "containers of this machine")

    async def preflight(self, specs: Sequence[SessionSpec]) -> list[Finding]:
        """Look whether the engine has the images, and as much as the sessions ask for."""
        try:
            facts = await self._client.facts()
            images = dict.fromkeys(spec.image or self._engine.image for spec in specs)
            found = [await self._image(image) for image in images if image]
        except EngineAway as away:
            return [self._nobody(away)]
        except EngineRefused as refused:
            return [Finding("container engine", refused.message, "fail", HINT)]
        return found + [problem for spec in specs for problem in _scarce(spec, facts)]

    async def _image(self, image: str) -> Finding:
        if await self._client.has_image(image):
            return Finding(f"image {image}", "is there")
        if image.startswith("localhost/"):
            return Finding(
                f"image {image}", "is not there, and a local one can't be fetched", "fail", "Build it."
            )
        hint = "One from a registry that asks for a password has to be fetched beforehand."
        return Finding(f"image {image}", "is not there; it is fetched when a session needs it", "warn", hint)

    async def diagnose(self) -> list[Finding]:
        """Look whether an engine answers, and what limits it can hold."""
        try:
            facts = await self._client.facts()
            default = [await self._image(self._engine.image)] if self._engine.image else []
        except EngineAway as away:
            return [self._nobody(away)]
        except EngineRefused as refused:
            return [Finding("container engine", refused.message, "fail", HINT)]
        kind = f"{facts.name} {facts.version}{' (rootless)' if facts.rootless else ''}"
        found = [Finding("container engine", f"{kind} at {facts.address}, {facts.cores} cores")]
        if not facts.address.startswith("unix://"):
            hint = "Folders are bound by their paths, so it has to be an engine of this machine."
            found.append(Finding("container engine", "is not at a socket of this machine", "warn", hint))
        if facts.unlimited:
            message = f"the engine can't limit {' and '.join(facts.unlimited)} here: tasks get what they take"
            found.append(Finding("limits of containers", message, "warn", "Look at its cgroups (`docker info`)."))
        return found + default

    def _nobody(self, away: ExecutorUnavailable) -> Finding:
        return Finding("container engine", str(away), "fail", "" if HINT in str(away) else HINT)

    async def sweep(self, live: Live, *, end: bool, unknown: bool = False) -> list[Finding]:
        """Find containers of this installation that no live attempt owns, and remove them where `end` is set.

        Raises ExecutorUnavailable where there may be some and the engine can't be asked.
        """
        if not attempt_state.is_used(self._data):
            return []  # nor is an engine asked that nobody may have meant to be
        return await cleanup.sweep(self._client, self._installation, live, end=end, unknown=unknown)

    async def release(self, job: str) -> None:
        """Keep nothing for a job."""

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def open_backend(name: str, settings: Mapping[str, Any], host: Host) -> ContainerBackend:
    """Return the executor of an engine's containers. Raises ValueError for settings that can't be used."""
    return ContainerBackend(name, Engine.from_mapping(settings), host.data, host.installation, host.blobs)


def _scarce(spec: SessionSpec, facts: Facts) -> Iterator[Finding]:
    """Yield what a session asks for that the engine has not."""
    cores, memory = spec.resources.get("cpu") or 0, spec.resources.get("mem") or 0
    if cores > facts.cores:
        message = f"{cores:g} cores are asked for, the engine has {facts.cores}"
        yield Finding("cpu", message, "fail" if facts.name == "Docker" else "warn", task=spec.task)
    if memory > facts.memory:
        message = f"{memory / _MIB:,.0f} MiB are asked for, the engine has {facts.memory / _MIB:,.0f}"
        yield Finding("mem", message, "warn", task=spec.task)
    if spec.resources.get(GPUS):
        if facts.name == "Podman":
            message = f"Podman {facts.version} gives no GPUs through this API"
            yield Finding(GPUS, message, "fail", "Use Docker for it.", spec.task)
        elif not facts.nvidia:
            hint = "Install the NVIDIA Container Toolkit."
            yield Finding(GPUS, "the engine names no runtime `nvidia`", "warn", hint, spec.task)
