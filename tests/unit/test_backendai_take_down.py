"""Services of a job that has ended are taken down, replicas that don't want to end included."""

from __future__ import annotations

from typing import Any

import pytest

from trackbook.adapters.backendai.api.cluster_connection import ClusterConnection
from trackbook.adapters.backendai.api.session_calls import Session, Version
from trackbook.adapters.backendai.config import Cluster
from trackbook.adapters.backendai.service import cleanup as service_cleanup
from trackbook.adapters.backendai.service.plan import JOB, OWNER
from trackbook.adapters.backendai.session import terminator

HOME = "0123abcd"


class Manager:
    """A manager with one service, whose replica ends by force alone."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.asked: list[tuple[str, str, bool]] = []

    async def query(self, text: str, **_: Any) -> dict[str, Any]:
        """Answer for the service, and for the list of it."""
        item = {
            "endpoint_id": "s",
            "lifecycle_stage": self.stage,
            "environ": {OWNER: f"{HOME}/p/ephemeral/", JOB: "j"},
            "routings": [{"routing_id": "r", "session": "k", "status": "TERMINATING"}],
        }
        return {"endpoint": item, "endpoint_list": {"items": [item], "total_count": 1}}

    async def request(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        """Take note of it; a forced end is the end of all."""
        forced = bool((more.get("query") or {}).get("forced"))
        self.asked.append((method, path, forced))
        self.stage = "DESTROYED" if forced else "DESTROYING"
        return {}

    async def read(self, key: str) -> list[Session]:
        """Return the replica's session."""
        return [Session(key, "replica", "TERMINATED" if self.stage == "DESTROYED" else "TERMINATING")]


@pytest.mark.parametrize("stage", ["CREATED", "DESTROYING"])
async def test_a_replica_that_does_not_end_is_forced_to(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for taking a service down leaves some for that, whoever has begun with it."""
    settings = {"endpoint": "http://h", "access_key": "a", "secret_key": "s", "stop_timeout": 1}
    connection = ClusterConnection(Cluster.from_mapping("main", settings), HOME)
    await connection.close()
    for module in (terminator, service_cleanup):
        monkeypatch.setattr(module, "_FIRST_PAUSE", 0.05)
        monkeypatch.setattr(module, "_LONGEST_PAUSE", 0.1)
    manager = Manager(stage)
    monkeypatch.setattr(connection, "client", manager)
    monkeypatch.setattr(connection, "by_id", manager)
    monkeypatch.setattr(connection, "_version", Version("23.09.10", "v7.20230615"))

    await service_cleanup.Services(connection).release("j")

    deleted = [path for method, path, forced in manager.asked if not forced and "/services/" in path]
    assert deleted == (["/services/s"] if stage == "CREATED" else [])
    assert manager.asked[-1] == ("DELETE", "/session/k", True)
