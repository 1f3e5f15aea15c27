"""Reloads executors.toml while the server runs; an invalid file changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from trackbook.adapters.execution.supervisor import TaskSupervisor
from trackbook.engine.ports import Backend
from trackbook.runtime.executors.configuration import (
    CLUSTERS,
    CONTAINER,
    LOCAL,
    Configuration,
    ExecutorsMisconfigured,
    configuration,
)
from trackbook.runtime.executors.registry import Backends

EVERY = 10.0
"""Seconds between checks of the file; it is also checked whenever a command names an executor."""

log = structlog.get_logger(__name__)

Make = Callable[[Configuration], Backends]
Attach = Callable[[str, Backend], Awaitable[None]]
"""Has an executor run sessions, in place of one that has the name already."""


class ExecutorReload:
    """Keeps `backends` as the file says. `problem` says why the file can't be used, '' where it can.

    An executor whose settings change is replaced, and the new one adopts what runs. One that is removed takes no
    new jobs; its sessions continue. `attach` is set by a process that runs sessions.
    """

    def __init__(self, data: Path, make: Make, loaded: Configuration) -> None:
        self._data = data
        self._make = make
        self._loaded = loaded
        self._stamp = _stamp(loaded.path)
        self._retired: list[Backend] = []
        self._lock = asyncio.Lock()
        self._tasks = TaskSupervisor()
        self.backends = make(loaded)
        self.attach: Attach | None = None
        self.problem = ""

    def start(self) -> None:
        """Check the file periodically."""
        self._tasks.keep(self._look, "executors.toml")

    async def close(self) -> None:
        """Stop looking, and close all backends."""
        await self._tasks.close()
        await asyncio.gather(*(each.close() for each in self._retired), return_exceptions=True)
        await self.backends.close()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.refresh()
            except Exception:  # one failure must not end the checks for later changes
                log.exception("executors.not_reloaded")

    async def refresh(self) -> None:
        """Read the file again if it changed."""
        async with self._lock:
            stamp = _stamp(self._loaded.path)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            try:
                found = configuration(self._data)
                made = self._make(found)
            except ExecutorsMisconfigured as wrong:
                self.problem = f"{wrong}. The configuration from before stays in use"
                log.error("executors.not_reloaded", error=str(wrong))  # noqa: TRY400 - it is said in words
                return
            self.problem = ""
            if found != self._loaded:
                await self._replace(found, made)

    async def _replace(self, found: Configuration, made: Backends) -> None:
        before, after = _settings(self._loaded), _settings(found)
        kept = [name for name in after if before.get(name) == after[name]]
        removed = sorted(before.keys() - after.keys())
        replaced = [self.backends[name] for name in self.backends if name not in kept]
        await asyncio.gather(*(made[name].close() for name in kept), return_exceptions=True)
        self.backends.replace(
            {name: self.backends[name] if name in kept else made[name] for name in after}, made.default
        )
        self._loaded = found
        self._retired += replaced  # what uses one now may finish; all are closed at last
        added = [name for name in after if name not in kept]
        log.info("executors.reloaded", changed=added, removed=removed, default=made.default)
        for name in added if self.attach else ():
            try:
                await self.attach(name, self.backends[name])  # type: ignore[misc]
            except Exception as error:
                self.problem = f"the executor {name} could not be started: {error}"
                log.exception("executor.not_started", executor=name)


def _settings(found: Configuration) -> Mapping[str, Any]:
    """Return what is said of each executor, by name."""
    clusters = {f"{CLUSTERS}/{name}": settings for name, settings in found.clusters.items()}
    return {LOCAL: None, CONTAINER: found.container, **clusters, **found.others}


def _stamp(path: Path) -> tuple[int, ...]:
    """Return what changes when the file is written, replaced or made readable; () where there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_mtime_ns, found.st_ino, found.st_size, found.st_mode)
