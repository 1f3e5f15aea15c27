"""Mounts as sessions of a real manager see them, and as the dry run judges them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from backendai.cluster import Cluster
from backendai.worlds import ClusterWorld, settings, spec
from trackbook.adapters.backendai.api.client import Client
from trackbook.adapters.backendai.api.storage import Storage
from trackbook.adapters.backendai.backend import BackendAIBackend
from trackbook.engine.ports import SessionSpec

RUN = {
    "plain": (["A"], {"A": "A/here"}),
    "aliased": (["A:x", "B:y/z"], {"x": "A/here", "y/z": "B/here"}),
    "own name": (["A:A"], {"A": "A/here"}),
    "swapped": (["A:B", "B:A"], {"A": "B/here", "B": "A/here"}),
    "part": (["A/in/it"], {"A/in/it": "A/in/it/here"}),
    "aliased parts": (["A/in/it:x", "A/other:y"], {"x": "A/in/it/here", "y": "A/other/here"}),
    "mixed": (["A", "B/in/it:x", "C:B"], {"A": "A/here", "x": "B/in/it/here", "B": "C/here"}),
    "absolute": (["A:/mnt/a", "B:/home/work/b"], {"/mnt/a": "A/here", "b": "B/here"}),
}
"""Mounts of the folders A, B and C, and what is written where it is found: each folder says which it is."""
REFUSED = {
    "twice": ["A:x", "A:y"],
    "whole and part": ["A:x", "A/in/it:y"],
    "in one another": ["A:x", "B:x/y"],
    "kept by the cluster": ["A:.ssh"],
    "not there": ["nowhere-to-be-found"],
    "no such part": ["A/nowhere:x"],
}
PARTS = ("", "in/it/", "other/")


class Folders:
    """Three folders of the user's own, each with a file that says where it lies."""

    def __init__(self, cluster: Cluster) -> None:
        self._storage = Storage(Client(settings(cluster)))
        mark = secrets.token_hex(3)
        self.names = {letter: f"mounted-{letter.lower()}-{mark}" for letter in "ABC"}

    def named(self, text: str) -> str:
        """Return a text about A, B and C with the folders' names."""
        return "".join(self.names.get(letter, letter) for letter in text)

    async def make(self) -> None:
        """Make them."""
        for letter, name in self.names.items():
            await self._storage.ensure(name)
            for part in PARTS:
                await self._storage.write_small(name, f"{part}here", f"{letter}/{part}here\n".encode())

    async def remove(self) -> None:
        """Remove them."""
        mine = [each for each in await self._storage.folders() if each.name in self.names.values()]
        for folder in mine:
            await self._storage.remove(folder)
        await self._storage.client.close()


@pytest.fixture
async def world(stack: Cluster, tmp_path: Path) -> AsyncIterator[ClusterWorld]:
    """Give a world on the manager."""
    made = ClusterWorld(stack, tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def mounted(stack: Cluster) -> AsyncIterator[Folders]:
    """Give the folders."""
    made = Folders(stack)
    await made.make()
    yield made
    await made.remove()


def _task(name: str) -> str:
    """Return a short name for a case's task, from which its index is made."""
    return f"m{[*RUN, *REFUSED].index(name)}"


def _mounting(folders: Folders, name: str, texts: list[str], command: str) -> SessionSpec:
    return replace(spec(_task(name), command), mounts=[folders.named(text) for text in texts])


async def _failures(world: ClusterWorld, *wanted: SessionSpec) -> list[str]:
    """Return what the dry run says will fail."""
    backend = BackendAIBackend("main", world.settings, world.folder, world.installation)
    try:
        return [each.found for each in await backend.preflight(wanted) if each.verdict == "fail"]
    finally:
        await backend.close()


async def test_mounts_are_found_where_they_are_asked_for(mounted: Folders, world: ClusterWorld) -> None:
    """Each form runs, shows the right folder at its place, and the dry run finds nothing wrong with it."""
    executor = await world.open()
    wanted = {}
    for name, (texts, places) in RUN.items():
        looks = [f"cat '{mounted.named(place)}/here'" for place in places]
        wanted[name] = _mounting(mounted, name, texts, " && ".join(looks))
    for each in wanted.values():
        await executor.launch(each)

    for name, (_, places) in RUN.items():
        end = await world.reports.ended(_task(name))
        log = world.log(_task(name))
        assert (name, end.outcome, end.message) == (name, "succeeded", "")
        assert log.split() == list(places.values()), name
    assert await _failures(world, *wanted.values()) == []


async def test_what_the_dry_run_refuses_could_not_run(mounted: Folders, world: ClusterWorld) -> None:
    """The dry run names each mount that the manager refuses, or would leave out without a word."""
    executor = await world.open()
    for name, texts in REFUSED.items():
        wanted = _mounting(mounted, name, texts, "ls x y")
        assert await _failures(world, wanted), name
        await executor.launch(wanted)
    for name in REFUSED:
        assert (await world.reports.ended(_task(name))).outcome == "failed", name
