"""The configured executors, for HTTP clients: of this process, or read in the background where they come late."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from contextlib import AsyncExitStack

from trackbook.engine.ports import ExecutorUnavailable, Folders
from trackbook.runtime.executor_role import open_backends
from trackbook.runtime.executors.configuration import LOCAL
from trackbook.runtime.executors.registry import Backends
from trackbook.runtime.system import System

_AT_ONCE = 1.0  # seconds within which a configuration that can't be used keeps this process from starting


async def read_executors(system: System, stack: AsyncExitStack) -> None:
    """Read the executors where this process has no role that does, in the background if the log isn't there yet.

    Raises ExecutorsMisconfigured.
    """
    if system.backends is not None:
        return

    async def read() -> None:
        system.backends = await open_backends(system, stack)
        assert system.reload is not None
        system.reload.start()

    reading = asyncio.create_task(read(), name="executors")

    async def stop() -> None:
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await reading

    stack.push_async_callback(stop)
    done, _ = await asyncio.wait({reading}, timeout=_AT_ONCE)
    for task in done:
        task.result()


class Configured:
    """Implements `trackbook.http.ports.Executors`."""

    def __init__(self, system: System) -> None:
        self._system = system

    @property
    def default(self) -> str:
        """The name of the executor that runs what names none."""
        return self._backends().default

    @property
    def problem(self) -> str:
        """Why the configuration can't be used as it is now, '' where it can."""
        return self._system.reload.problem if self._system.reload else ""

    async def refresh(self) -> None:
        """Read the configuration again if it changed."""
        if self._system.reload is not None:
            await self._system.reload.refresh()

    def names(self) -> Sequence[str]:
        """Return the names, those of this machine first."""
        return sorted(self._backends(), key=lambda name: ("/" in name, name != LOCAL, name))

    def stores(self) -> Sequence[str]:
        """Return the names without those whose folders are another's too."""
        return [name for name in self.names() if self.store(name) == name]

    def store(self, name: str) -> str:
        """Return whose folders an executor has."""
        return self._backends().store(name)

    def folders(self, name: str) -> Folders:
        """Return the folders on an executor; raises Refused."""
        backends = self._backends()
        if name not in backends:
            raise backends.unknown(name, "executor")
        return backends[name].folders

    def _backends(self) -> Backends:
        if self._system.backends is None:
            raise ExecutorUnavailable("the executors aren't known yet: no engine has made the log")
        return self._system.backends
