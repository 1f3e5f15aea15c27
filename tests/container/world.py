"""An installation of its own on a real engine: executors, sessions, and what the engine says of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from msgspec.structs import replace

from container.engine import SH_IMAGE, ContainerEngine
from trackbook.adapters.container.backend import ContainerBackend
from trackbook.adapters.container.client import Client, Listed
from trackbook.adapters.container.config import Engine
from trackbook.adapters.container.executor import ContainerExecutor
from trackbook.adapters.container.plan import container_name
from trackbook.adapters.execution import folders
from trackbook.engine.ports import SessionSpec
from trackbook.testing.reports import Reports

PATIENCE = 60.0


class World:
    """Sessions of the job j1 below a folder; `client` looks at the engine past the executor."""

    def __init__(self, folder: Path, engine: ContainerEngine, **settings: Any) -> None:
        self.reports = Reports(PATIENCE)
        self.data = folder
        self.real = engine
        self.installation = uuid4().hex[:8]
        defaults = {"image": SH_IMAGE, "network": "none", "grace": 1.0}
        self.engine = Engine(**{"socket": engine.address, **defaults, **settings})
        self.client = Client(self.engine)
        self._executors: list[ContainerExecutor] = []

    async def open(self, **options: Any) -> ContainerExecutor:
        """Start an executor on the sessions of this world."""
        executor = ContainerExecutor(self.data, self.engine, self.installation, **options)
        self._executors.append(executor)
        await executor.start(self.reports)
        return executor

    def backend(self) -> ContainerBackend:
        """Return the backend of this world's settings."""
        return ContainerBackend("container", self.engine, self.data, self.installation)

    def name(self, spec: SessionSpec) -> str:
        """Return the name of a session's container."""
        return container_name(self.installation, spec.session)

    def log(self, spec: SessionSpec) -> str:
        """Return a session's output so far."""
        return folders.log_file(self.data, spec.session).read_text()

    async def said(self, spec: SessionSpec, word: str, times: int = 1) -> None:
        """Wait until a session has written a line so often: a stop before it is ready ends it at once."""

        async def has_said() -> bool:
            return self.log(spec).split("\n").count(word) >= times

        await self.reports.started(spec.task)
        assert await holds(has_said), f"{word} was not said: {self.log(spec)}"

    async def containers(self) -> list[Listed]:
        """Return the installation's containers."""
        return await self.client.list_labelled(f"trackbook.installation={self.installation}")

    async def is_gone(self) -> bool:
        """Whether the installation has no container, after a while if need be."""
        return await holds(self._has_none)

    async def _has_none(self) -> bool:
        return not await self.containers()

    @property
    def vfroot(self) -> Path:
        """The folder that the pipeline's tasks share."""
        return folders.vfroot(self.data, "p1")

    def ledger(self) -> list[str]:
        """Return who wrote to /pipeline/vfroot/ledger, a line for each run of a command."""
        path = self.vfroot / "ledger"
        return path.read_text().split() if path.exists() else []

    async def close(self) -> None:
        """End all sessions."""
        for executor in self._executors:
            await executor.close(cancel=True)
        for left in await self.containers():
            await self.client.remove(left.name)
        await self.client.close()


@asynccontextmanager
async def opened(folder: Path, engine: ContainerEngine, **settings: Any) -> AsyncIterator[World]:
    """Give a world, closed afterwards."""
    world = World(folder, engine, **settings)
    try:
        yield world
    finally:
        await world.close()


def spec(task: str, command: str, **more: Any) -> SessionSpec:
    """Return a session of the job."""
    return replace(SessionSpec(f"tb-j1-{task}-1", "j1", "p1", "pipeline", task, 0, 1, command), **more)


async def holds(question: Callable[[], Awaitable[bool]], patience: float = PATIENCE) -> bool:
    """Ask until the answer is yes, or patience ends."""
    try:
        async with asyncio.timeout(patience):
            while not await question():  # noqa: ASYNC110 - what is asked is in other processes
                await asyncio.sleep(0.02)
    except TimeoutError:
        return False
    return True
