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

    replica = "TERMINATING"

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.asked: list[tuple[str, str, bool]] = []
        self.looks = 0

    async def query(self, text: str, **_: Any) -> dict[str, Any]:
        """Answer for the service, and for the list of it."""
        item = {
            "endpoint_id": "s",
            "lifecycle_stage": self.stage,
            "environ": {OWNER: f"{HOME}/p/ephemeral/", JOB: "j"},
            "routings": [{"routing_id": "r", "session": "k", "status": "PROVISIONING"}],
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
        return [Session(key, "replica", "TERMINATED" if self.stage == "DESTROYED" else self.replica)]


class ForgetfulManager(Manager):
    """A 23.09: of a session that is cancelled before the scheduler's third look, it never notes the end."""

    replica = "PENDING"

    async def request(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        """Cancel a session at once; a service goes once it knows of that."""
        self.asked.append((method, path, False))
        self.stage = "DESTROYING"
        if "/session/" in path:
            self.replica = "CANCELLED"
            if self.looks >= 3:
                self.stage = "DESTROYED"
        return {}

    async def read(self, key: str) -> list[Session]:
        """Return the replica's session, which the scheduler looks at meanwhile."""
        self.looks += 1
        seen = {"scheduler": {"retries": 1}} if self.looks >= 3 else {}
        return [Session(key, "replica", self.replica, status_data=seen)]


class StuckManager(Manager):
    """A manager that says DESTROYING for good: it missed the end of the replica."""

    replica = "CANCELLED"

    async def request(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        """Do no more than to begin."""
        self.asked.append((method, path, False))
        self.stage = "DESTROYING"
        return {}


async def release(manager: Manager, monkeypatch: pytest.MonkeyPatch, stop_timeout: float = 1) -> None:
    """Take down the services of a job that has ended."""
    settings = {"endpoint": "http://h", "access_key": "a", "secret_key": "s", "stop_timeout": stop_timeout}
    connection = ClusterConnection(Cluster.from_mapping("main", settings), HOME)
    await connection.close()
    for module in (terminator, service_cleanup):
        monkeypatch.setattr(module, "_FIRST_PAUSE", 0.05)
        monkeypatch.setattr(module, "_LONGEST_PAUSE", 0.1)
    monkeypatch.setattr(connection, "client", manager)
    monkeypatch.setattr(connection, "by_id", manager)
    monkeypatch.setattr(connection, "_version", Version("23.09.10", "v7.20230615"))
    await service_cleanup.Services(connection).release("j")


@pytest.mark.parametrize("stage", ["CREATED", "DESTROYING"])
async def test_a_replica_that_does_not_end_is_forced_to(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for taking a service down leaves some for that, whoever has begun with it."""
    manager = Manager(stage)
    await release(manager, monkeypatch)
    deleted = [path for method, path, forced in manager.asked if not forced and "/services/" in path]
    assert deleted == (["/services/s"] if stage == "CREATED" else [])
    assert manager.asked[-1] == ("DELETE", "/session/k", True)


async def test_a_replica_is_ended_once_the_scheduler_has_looked_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 23.09 keeps the service for good otherwise."""
    manager = ForgetfulManager("CREATED")
    await release(manager, monkeypatch, stop_timeout=60)
    assert manager.stage == "DESTROYED"
    assert [path for _, path, _ in manager.asked] == ["/services/s", "/session/k"]


async def test_a_service_that_is_never_removed_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once nothing of it runs for a while, it counts as gone."""
    manager = StuckManager("CREATED")
    await release(manager, monkeypatch)
    assert manager.stage == "DESTROYING"
