"""The stack itself: a batch session runs on the raw manager, and ends."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from backendai.cluster import Cluster
from backendai.stack.processes import until

ENDED = {"TERMINATED", "CANCELLED", "ERROR"}
LOOK = "query($id: UUID!) { compute_session(id: $id) { status status_info result } }"


class Raw:
    """Sessions by the plainest requests."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.client = cluster.client()

    def create(self, command: str, resources: dict[str, str] | None = None, **more: Any) -> str:
        """Create a batch session and return its id; keywords that the session's config has go there."""
        top: dict[str, Any] = {name: more.pop(name) for name in ("cluster_size", "cluster_mode") if name in more}
        body: dict[str, Any] = {
            "name": f"raw-{uuid.uuid4().hex[:12]}",
            "image": self._cluster.image,
            "type": "batch",
            "startupCommand": command,
            "enqueueOnly": True,
            "group": self._cluster.project,
            "domain": self._cluster.domain,
            **top,
            "config": {"resources": resources or {"cpu": "1", "mem": "128m"}, **more},
        }
        status, answer = self.client.call("POST", "/session", body)
        assert status == 201, answer
        return str(answer["sessionId"])

    def look(self, session: str) -> dict[str, Any]:
        """Return what the manager says of a session."""
        found: dict[str, Any] = self.client.gql(LOOK, id=session)["compute_session"]
        return found

    def reach(self, session: str, *statuses: str, seconds: float = 60) -> dict[str, Any]:
        """Wait until the session has one of the statuses."""
        until(lambda: self.look(session)["status"] in statuses, seconds, f"{statuses} of {session}")
        return self.look(session)

    def ended(self, session: str) -> tuple[str, str]:
        """Wait for the end; return the status and the result."""
        self.reach(session, *ENDED)
        until(lambda: self.look(session)["result"] != "UNDEFINED", 20, f"a result of {session}")
        found = self.look(session)
        return found["status"], found["result"]

    def logs(self, session: str) -> str:
        """Return the output of a session."""
        status, answer = self.client.call("GET", f"/session/{session}/logs")
        assert status == 200, answer
        return str(answer["result"]["logs"])


@pytest.fixture
def raw(stack: Cluster) -> Raw:
    """Give the raw requests."""
    return Raw(stack)


def test_runs_a_session_to_its_end(raw: Raw) -> None:
    """A command's output is in the log, and its failure is one."""
    good, bad = raw.create("echo hello from $BACKENDAI_CLUSTER_ROLE"), raw.create("exit 3")
    assert raw.ended(good) == ("TERMINATED", "SUCCESS")
    assert raw.ended(bad) == ("TERMINATED", "FAILURE")
    assert raw.logs(good) == "hello from main\n"


def test_says_its_version(stack: Cluster) -> None:
    """The manager is the release that was asked for."""
    status, answer = stack.client().call("GET", "/")
    assert (status, answer["manager"]) == (200, stack.version), json.dumps(answer)
