"""A virtual folder is deleted once no session mounts it any more."""

from __future__ import annotations

from typing import Any

import pytest

from trackbook.adapters.backendai import storage
from trackbook.adapters.backendai.config import Cluster
from trackbook.adapters.backendai.errors import ClusterError
from trackbook.adapters.backendai.link import Link
from trackbook.adapters.backendai.storage import Storage

SETTINGS = {"endpoint": "http://h", "access_key": "a", "secret_key": "s"}
FOLDER = {"id": "f", "name": "out"}
MOUNTED = "Virtual folder deletion is not allowed: The vfolder(id: f) is mounted on sessions(ids: ['s'])."


class Manager:
    """A 26.8 with one folder, which a session mounts for so many questions yet."""

    def __init__(self, link: Link, mounted: int) -> None:
        self.cluster, self.mounted, self.there = link.client.cluster, mounted, True

    async def get(self, path: str) -> list[dict[str, Any]]:
        """List the folders."""
        assert path == "/folders"
        return [FOLDER] if self.there else []

    async def request(self, method: str, path: str, **_: Any) -> None:
        """Delete the folder, or refuse to."""
        assert (method, path) == ("DELETE", "/folders/out")
        if self.mounted:
            self.mounted -= 1
            raise ClusterError("main", "permanent", "vfolder-deletion-not-allowed", MOUNTED, status=400)
        self.there = False


@pytest.fixture
async def link() -> Link:
    """A way to a cluster, of which only the name is used."""
    link = Link(Cluster.from_mapping("main", SETTINGS), "0123abcd")
    await link.close()
    return link


@pytest.mark.parametrize("mounted", [0, 1, 5])
async def test_it_waits_for_the_session_that_ends(
    link: Link, mounted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that the manager still counts, although its command has ended, holds the deletion up."""
    monkeypatch.setattr(storage, "_UNMOUNTING", 0.0)
    manager = Manager(link, mounted)
    monkeypatch.setattr(link, "client", manager)
    place = Storage(link.client)
    (folder,) = await place.folders()

    await place.remove(folder)

    assert not manager.there


async def test_a_folder_in_use_stays(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a session goes on to mount is refused in the manager's own words."""
    monkeypatch.setattr(storage, "_UNMOUNTING", 0.0)
    monkeypatch.setattr(storage, "_PATIENCE", 0.3)
    manager = Manager(link, 10**9)
    monkeypatch.setattr(link, "client", manager)
    place = Storage(link.client)
    (folder,) = await place.folders()

    with pytest.raises(ClusterError, match="mounted on sessions"):
        await place.remove(folder)

    assert manager.there
