"""A virtual folder is deleted once no session mounts it any more."""

from __future__ import annotations

from typing import Any

import pytest

from trackbook.adapters.backendai.api import storage
from trackbook.adapters.backendai.api.cluster_connection import ClusterConnection
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.storage import Storage
from trackbook.adapters.backendai.config import Cluster

SETTINGS = {"endpoint": "http://h", "access_key": "a", "secret_key": "s"}
FOLDER = {"id": "f", "name": "out"}
MOUNTED = "Virtual folder deletion is not allowed: The vfolder(id: f) is mounted on sessions(ids: ['s'])."


class Manager:
    """A 26.8 with one folder, which a session mounts for so many questions yet."""

    def __init__(self, connection: ClusterConnection, mounted: int) -> None:
        self.cluster, self.mounted, self.there = connection.client.cluster, mounted, True

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
async def connection() -> ClusterConnection:
    """A way to a cluster, of which only the name is used."""
    connection = ClusterConnection(Cluster.from_mapping("main", SETTINGS), "0123abcd")
    await connection.close()
    return connection


@pytest.mark.parametrize("mounted", [0, 1, 5])
async def test_it_waits_for_the_session_that_ends(
    connection: ClusterConnection, mounted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that the manager still counts, although its command has ended, holds the deletion up."""
    monkeypatch.setattr(storage, "_UNMOUNTING", 0.0)
    manager = Manager(connection, mounted)
    monkeypatch.setattr(connection, "client", manager)
    place = Storage(connection.client)
    (folder,) = await place.folders()

    await place.remove(folder)

    assert not manager.there


async def test_a_folder_in_use_stays(connection: ClusterConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a session goes on to mount is refused in the manager's own words."""
    monkeypatch.setattr(storage, "_UNMOUNTING", 0.0)
    monkeypatch.setattr(storage, "_PATIENCE", 0.3)
    manager = Manager(connection, 10**9)
    monkeypatch.setattr(connection, "client", manager)
    place = Storage(connection.client)
    (folder,) = await place.folders()

    with pytest.raises(ClusterError, match="mounted on sessions"):
        await place.remove(folder)

    assert manager.there
