"""The code of pipelines on real managers: the contract of executors that take code, and what clusters add."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from test_executor_code import (
    FILES,
    outcome,
    test_a_stop_before_the_copy_is_there,  # noqa: F401
    test_a_task_starts_in_its_code,  # noqa: F401
    test_code_that_is_not_stored,  # noqa: F401
    test_hostile_code_is_refused,  # noqa: F401
    test_tasks_and_attempts_share_nothing,  # noqa: F401
    with_code,
)

from backendai.cluster import Cluster
from backendai.worlds import ClusterWorld
from trackbook.adapters.backendai.api.client import Client
from trackbook.adapters.backendai.api.storage import Storage
from trackbook.adapters.execution import folders


@pytest.fixture
async def world(stack: Cluster, tmp_path: Path) -> AsyncIterator[ClusterWorld]:
    """Give a world on the manager."""
    made = ClusterWorld(stack, tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def mounted(world: ClusterWorld) -> AsyncIterator[str]:
    """Give the name of a folder of the user's own, with a file in it."""
    storage = Storage(Client(world.settings))
    name = f"beside-code-{secrets.token_hex(3)}"
    folder = await storage.ensure(name)
    await storage.write_small(name, "data", b"mounted\n")
    yield name
    await storage.remove(folder)
    await storage.client.close()


async def test_mounts_are_found_beside_the_code(world: ClusterWorld, mounted: str) -> None:
    """A mount lies in the working directory, among the code's files, and the code is not unpacked into it."""
    executor = await world.open()
    session = await with_code(world, "a", "pwd; cat sets/data main.py; ls sets")

    ended = await outcome(world, executor, replace(session, mounts=[f"{mounted}:sets"]))

    assert ended == ("succeeded", "/home/work\nmounted\nprint('main')\ndata\n")


async def test_code_in_the_place_of_a_mount(world: ClusterWorld, mounted: str) -> None:
    """The task fails, and nothing is written to the mounted folder."""
    executor = await world.open()
    session = replace(await with_code(world, "a", "true"), mounts=[f"{mounted}:src"])

    await executor.launch(session)
    end = await world.reports.ended("a")

    assert (end.outcome, end.fault) == ("failed", "permanent")
    assert "the code has 'src', where a mount is to be found" in end.message


async def test_a_large_archive(world: ClusterWorld) -> None:
    """One of several pieces arrives whole, and is not uploaded by the next executor again."""
    files = {"large": "0123456789abcdef" * (9 * 2**16), **FILES}
    session = await with_code(world, "a", "wc -c <large", files)
    assert await outcome(world, await world.open(), session) == ("succeeded", f"{len(files['large'])}\n")
    world.blobs.blobs.clear()

    ended = await outcome(world, await world.open(), replace(session, task="b", index=98, session="tb-j1-98-1"))

    assert ended == ("succeeded", f"{len(files['large'])}\n")


async def test_a_damaged_archive_is_never_used(world: ClusterWorld) -> None:
    """An attempt that finds one fails and says so; the next attempt has it whole."""
    executor = await world.open()
    first = await with_code(world, "a", "cat src/part", {**FILES, "own": world.installation})
    second = replace(first, attempt=2, session="tb-j1-97-2")
    third = replace(first, attempt=3, session="tb-j1-97-3")
    await executor.launch(first)
    assert (await world.reports.ended("a")).outcome == "succeeded"
    for path in world.cluster.volume.glob(f"**/.trackbook/code/{first.code}.tar"):
        path.write_bytes(path.read_bytes()[:1024])

    await executor.launch(second)
    end = await world.reports.ended("a", 2)
    await executor.launch(third)

    assert (end.outcome, end.fault, end.exit_code) == ("failed", "infrastructure", None)
    assert f"the code can't be unpacked: the archive /pipeline/.code/{first.code}.tar is damaged" in end.message
    assert "the command is not run" in folders.log_file(world.data, second.session).read_text()
    assert (await world.reports.ended("a", 3)).outcome == "succeeded"
