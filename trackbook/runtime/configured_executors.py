"""The configured executors, for HTTP clients: of this process, or read in the background where they come late."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from contextlib import AsyncExitStack

from trackbook.engine.ports import Blobs, ExecutorUnavailable, Folders
from trackbook.runtime.executor_role import open_executors
from trackbook.runtime.executors.configuration import LOCAL
from trackbook.runtime.executors.registry import Backends
from trackbook.runtime.executors.reload import ExecutorReload
from trackbook.runtime.system import Base

_AT_ONCE = 1.0  # seconds within which a configuration that can't be used keeps this process from starting


class Configured:
    """Implements `trackbook.http.ports.Executors`; `reload` is None until the configuration could be read."""

    def __init__(self, reload: ExecutorReload | None) -> None:
        self._reload = reload

    async def read(self, base: Base, blobs: Blobs, stack: AsyncExitStack) -> None:
        """Read the executors where this process has no role that does, in the background if there is no log yet.

        Raises ExecutorsMisconfigured.
        """
        if self._reload is not None:
            return

        async def read() -> None:
            reload = await open_executors(base, blobs, stack)
            reload.start()
            self._reload = reload

        reading = asyncio.create_task(read(), name="executors")

        async def stop() -> None:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await reading

        stack.push_async_callback(stop)
        done, _ = await asyncio.wait({reading}, timeout=_AT_ONCE)
        for task in done:
            task.result()

    @property
    def default(self) -> str:
        """The name of the executor that runs what names none."""
        return self._backends().default

    @property
    def problem(self) -> str:
        """Why the configuration can't be used as it is now, '' where it can."""
        return self._reload.problem if self._reload else ""

    async def refresh(self) -> None:
        """Read the configuration again if it changed."""
        if self._reload is not None:
            await self._reload.refresh()

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
        if self._reload is None:
            raise ExecutorUnavailable("the executors aren't known yet: no engine has made the log")
        return self._reload.backends
