"""What every executor does, in memory and with real processes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from container.engine import SH_IMAGE, ContainerEngine

from trackbook.adapters.container.config import Engine
from trackbook.adapters.container.executor import ContainerExecutor
from trackbook.adapters.execution import folders, result
from trackbook.adapters.local.executor import LocalExecutor
from trackbook.engine.ports import Executor, SessionSpec
from trackbook.testing.executor import Play, ScriptedExecutor
from trackbook.testing.executor_contract import *  # noqa: F403 - the suite's tests
from trackbook.testing.executor_contract import World
from trackbook.testing.reports import Reports


class Shell:
    """What sessions of an executor without processes do: as the commands of these tests, at once."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def __call__(self, spec: SessionSpec) -> Play:
        """Return what a session does; a command about outputs is run, upon folders below the data directory."""
        word, _, rest = spec.command.partition(" ")
        if word == "sleep":
            return Play(hold=True)
        if word == "exit":
            return Play(exit_code=int(rest), tail="")
        if word.startswith("-"):
            return Play(exit_code=127, tail="")
        return self._run(spec) if "$PIPELINE_" in spec.command else Play()

    def _run(self, spec: SessionSpec) -> Play:
        places = {"outputs": folders.outputs(self._data, spec)}
        places |= {name: folders.outputs(self._data, spec, of) for name, of in folders.sources(spec).items()}
        for place in places.values():
            place.mkdir(parents=True, exist_ok=True)
        environment = {f"PIPELINE_{name.upper()}": str(place) for name, place in places.items()}
        done = subprocess.run(["sh", "-c", spec.command], env=os.environ | environment, check=False)
        left = result.read(places["outputs"]) if done.returncode == 0 else result.Result()
        return Play(exit_code=done.returncode, message=left.warning, result=left.value)


class MemoryWorld:
    protects_inputs = False

    def __init__(self, folder: Path) -> None:
        self.reports = Reports()
        self._shell = Shell(folder)
        self._executor: ScriptedExecutor | None = None

    async def open(self, limit: int = 8) -> Executor:
        """Go on with the one executor, as its sessions live in it."""
        self._executor = self._executor or ScriptedExecutor(self._shell, limit=limit)
        await self._executor.start(self.reports)
        return self._executor

    async def close(self) -> None:
        """End all sessions."""
        if self._executor:
            await self._executor.close(cancel=True)


class LocalWorld:
    protects_inputs = False

    def __init__(self, folder: Path) -> None:
        self.reports = Reports()
        self._folder = folder
        self._executors: list[LocalExecutor] = []

    async def open(self, limit: int = 8) -> Executor:
        """Open another executor on the same data directory."""
        self._executors.append(LocalExecutor(self._folder, limit=limit, grace=1, durable=False))
        await self._executors[-1].start(self.reports)
        self.protects_inputs = self._executors[-1].private_root
        return self._executors[-1]

    async def close(self) -> None:
        """End all sessions."""
        for executor in self._executors:
            await executor.close(cancel=True)


class ContainerWorld:
    protects_inputs = True

    def __init__(self, folder: Path, engine: ContainerEngine) -> None:
        self.reports = Reports()
        self._folder = folder
        self._engine = Engine(socket=engine.address, image=SH_IMAGE, network="none", grace=1)
        self._installation = uuid4().hex[:8]
        self._executors: list[ContainerExecutor] = []

    async def open(self, limit: int = 8) -> Executor:
        """Open another executor on the same data directory and engine."""
        executor = ContainerExecutor(self._folder, self._engine, self._installation, limit=limit)
        self._executors.append(executor)
        await executor.start(self.reports)
        return executor

    async def close(self) -> None:
        """End all sessions."""
        for executor in self._executors:
            await executor.close(cancel=True)


@pytest.fixture(params=["memory", "local", pytest.param("container", marks=pytest.mark.container)])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """Give a world of each kind."""
    made: World
    if request.param == "container":
        made = ContainerWorld(tmp_path, request.getfixturevalue("container_engine"))
    else:
        made = (MemoryWorld if request.param == "memory" else LocalWorld)(tmp_path)
    yield made
    await made.close()
