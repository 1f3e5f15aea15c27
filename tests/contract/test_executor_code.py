"""What every executor that takes code does with it: a writable copy for each attempt, whole or not at all."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pytest
from container.engine import SH_IMAGE, ContainerEngine
from msgspec.structs import replace

from trackbook.adapters.container.config import Engine
from trackbook.adapters.container.executor import ContainerExecutor
from trackbook.adapters.execution import code_archive, folders
from trackbook.adapters.local.executor import LocalExecutor
from trackbook.engine.ports import Executor, SessionSpec
from trackbook.testing.executor_contract import spec
from trackbook.testing.reports import Reports
from trackbook.testing.store import MemoryBlobs

FILES = {"main.py": "print('main')\n", "src/part": "one\n", "run.sh": "#!/bin/sh\necho ran\n"}


class World(Protocol):
    """An executor with stored archives, that can be closed and opened again upon the same sessions."""

    reports: Reports
    blobs: MemoryBlobs
    data: Path

    async def open(self) -> Executor:
        """Start an executor on the sessions of this world."""
        ...

    async def close(self) -> None:
        """End all sessions."""
        ...


class LocalWorld:
    def __init__(self, data: Path) -> None:
        self.reports, self.blobs, self.data = Reports(), MemoryBlobs(), data
        self._executors: list[LocalExecutor] = []

    async def open(self) -> Executor:
        """Open another executor on the same data directory."""
        self._executors.append(LocalExecutor(self.data, limit=4, grace=1, durable=False, blobs=self.blobs))
        await self._executors[-1].start(self.reports)
        return self._executors[-1]

    async def close(self) -> None:
        """End all sessions."""
        for executor in self._executors:
            await executor.close(cancel=True)


class ContainerWorld:
    def __init__(self, data: Path, engine: ContainerEngine) -> None:
        self.reports, self.blobs, self.data = Reports(), MemoryBlobs(), data
        self._engine = Engine(socket=engine.address, image=SH_IMAGE, network="none", grace=1)
        self._installation = uuid4().hex[:8]
        self._executors: list[ContainerExecutor] = []

    async def open(self) -> Executor:
        """Open another executor on the same data directory and engine."""
        executor = ContainerExecutor(self.data, self._engine, self._installation, limit=4, blobs=self.blobs)
        self._executors.append(executor)
        await executor.start(self.reports)
        return executor

    async def close(self) -> None:
        """End all sessions."""
        for executor in self._executors:
            await executor.close(cancel=True)


@pytest.fixture(params=["local", pytest.param("container", marks=pytest.mark.container)])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """Give a world of each kind."""
    made: World = LocalWorld(tmp_path)
    if request.param == "container":
        made = ContainerWorld(tmp_path, request.getfixturevalue("container_engine"))
    yield made
    await made.close()


def archive(files: dict[str, str]) -> bytes:
    """Return an archive of files, programs where they begin like scripts."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as made:
        for folder in sorted({name.rpartition("/")[0] for name in files} - {""}):
            info = tarfile.TarInfo(folder)
            info.type = tarfile.DIRTYPE
            made.addfile(info)
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text), 0o755 if text.startswith("#!") else 0o644
            made.addfile(info, io.BytesIO(text.encode()))
    return file.getvalue()


async def with_code(world: World, task: str, command: str, files: dict[str, str] = FILES) -> SessionSpec:
    """Return a session that has an archive of these files as its code, which is stored."""
    return replace(spec(task, command), code=await world.blobs.put(archive(files)))


async def outcome(world: World, executor: Executor, session: SessionSpec) -> tuple[str, str]:
    """Run a session and return its outcome with what it said."""
    await executor.launch(session)
    end = await world.reports.ended(session.task)
    log = folders.log_file(world.data, session.session)
    return end.outcome, log.read_text() if log.exists() else end.message


async def test_a_task_starts_in_its_code(world: World) -> None:
    """The working directory holds the files, programs can be run, and all of it can be written."""
    executor = await world.open()
    command = "cat main.py src/part; ./run.sh; echo more >>src/part; mkdir new; rm main.py; cat src/part"

    ended = await outcome(world, executor, await with_code(world, "a", command))

    assert ended == ("succeeded", "print('main')\none\nran\none\nmore\n")


async def test_tasks_and_attempts_share_nothing(world: World) -> None:
    """What one attempt writes to its copy is seen by no other task, and by no other attempt."""
    executor = await world.open()
    command = "ls; touch mine; echo changed >src/part; cat src/part"
    first = await with_code(world, "a", command)
    again = replace(first, attempt=2, session=first.session[:-1] + "2")

    said = [await outcome(world, executor, each) for each in (first, await with_code(world, "b", command))]
    await executor.launch(again)
    await world.reports.ended("a", 2)

    said.append(("succeeded", folders.log_file(world.data, again.session).read_text()))
    assert said == [("succeeded", "main.py\nrun.sh\nsrc\nchanged\n")] * 3


async def test_the_copy_goes_with_the_attempt(world: World) -> None:
    """Once an attempt has ended, whatever it left in its copy is deleted, read-only folders included."""
    executor = await world.open()
    session = await with_code(world, "a", "mkdir -p cache/ro; touch cache/ro/x; chmod -R a-w cache src")

    assert (await outcome(world, executor, session))[0] == "succeeded"
    await executor.close()

    left = sorted(path.name for path in folders.session_folder(world.data, session.session).iterdir())
    assert not [name for name in left if name.startswith(code_archive.WORK)]


async def test_code_that_is_not_stored(world: World) -> None:
    """A task whose archive is missing fails, and says so; nothing runs."""
    executor = await world.open()
    session = replace(spec("a", "touch ran"), code="5" * 64)

    await executor.launch(session)
    end = await world.reports.ended("a")

    assert (end.outcome, end.started_at) == ("failed", None)
    assert "the code can't be unpacked: blob 5555" in end.message
    assert "Apply the pipeline again" in end.message


async def test_code_that_can_not_be_unpacked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is an error of that task which names the cause, and leaves nothing half done."""
    executor = await world.open()
    session = await with_code(world, "a", "true")
    write = code_archive._write

    def full(opened: Any, entry: Any, path: Path, *, for_all: bool) -> None:
        if entry.name != "main.py":
            raise OSError(28, "No space left on device", str(path))
        write(opened, entry, path, for_all=for_all)

    with monkeypatch.context() as patched:
        patched.setattr(code_archive, "_write", full)
        await executor.launch(session)
        end = await world.reports.ended("a")

    assert (end.outcome, end.started_at) == ("failed", None)
    assert "the code can't be unpacked: [Errno 28] No space left on device" in end.message
    await executor.close()
    assert not list(folders.session_folder(world.data, session.session).glob(f"{code_archive.WORK}*"))


async def test_hostile_code_is_refused(world: World) -> None:
    """An archive that leads outside is never unpacked."""
    executor = await world.open()
    session = await with_code(world, "a", "true", {"../evil": "x"})

    await executor.launch(session)
    end = await world.reports.ended("a")

    assert (end.outcome, "can't be the name of an entry" in end.message) == ("failed", True)
    assert not list(world.data.rglob("evil"))


async def test_a_stop_before_the_copy_is_there(world: World) -> None:
    """A session stopped while its code is on the way never runs, and leaves no copy."""
    executor = await world.open()
    session = await with_code(world, "a", "touch ran")

    await executor.launch(session)
    await executor.stop(session)
    end = await world.reports.ended("a")

    assert (end.outcome, end.started_at) == ("cancelled", None)


async def test_the_next_executor_finds_the_copy(world: World) -> None:
    """A session that was copied and not begun before a restart is begun in that copy by the next executor."""
    await (await world.open()).close()
    session = await with_code(world, "a", "cat src/part")
    folder = folders.session_folder(world.data, session.session)
    await code_archive.Copies(world.blobs).place(session, folder)
    world.blobs.blobs.clear()

    assert await outcome(world, await world.open(), session) == ("succeeded", "one\n")


async def test_a_copy_from_before_a_reboot_is_made_anew(world: World) -> None:
    """What was unpacked before the machine went down may have lost its bytes."""
    session = await with_code(world, "a", "cat src/part")
    folder = folders.session_folder(world.data, session.session)
    await code_archive.Copies(world.blobs).place(session, folder)
    (folder / f"{code_archive.WORK}.boot").write_text("another start")
    (folder / code_archive.WORK / "src" / "part").write_text("")

    assert await outcome(world, await world.open(), session) == ("succeeded", "one\n")
