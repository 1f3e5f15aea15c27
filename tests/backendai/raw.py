"""Sessions by the plainest requests, for looking at managers without the adapter."""

from __future__ import annotations

import uuid
from typing import Any

from backendai.cluster import Cluster
from backendai.stack.processes import until

ENDED = ("TERMINATED", "CANCELLED", "ERROR")
LOOK = """query($id: UUID!) { compute_session(id: $id) {
  status status_info status_data result containers { status cluster_role agent } } }"""
PROJECT = "query { groups { id name } }"
IMAGES = "query { images { id name tag } }"


class Raw:
    """One account's sessions and folders."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.client = cluster.client()

    def create(self, command: str, *, size: int = 1, mode: str = "single-node", **config: Any) -> str:
        """Create a batch session and return its id; further keywords go into its config."""
        body: dict[str, Any] = {
            "name": f"raw-{uuid.uuid4().hex[:12]}",
            "image": self._cluster.image,
            "type": "batch",
            "startupCommand": command,
            "enqueueOnly": True,
            "reuseIfExists": False,
            "group": self._cluster.project,
            "domain": self._cluster.domain,
            "cluster_size": size,
            "cluster_mode": mode,
            "config": {"resources": {"cpu": "1", "mem": "128m"}, **config},
        }
        status, answer = self.client.call("POST", "/session", body)
        assert status == 201, answer
        return str(answer["sessionId"])

    def folder(self, *paths: str) -> tuple[str, str]:
        """Create a folder with the paths in it; return its name and id."""
        name = f"raw-{uuid.uuid4().hex[:12]}"
        status, made = self.client.call("POST", "/folders", {"name": name, "host": "local:volume1"})
        assert status == 201, made
        for path in paths:
            body = {"path": path, "parents": True, "exist_ok": True}
            status, answer = self.client.call("POST", f"/folders/{name}/mkdir", body)
            assert status in {200, 201}, answer
        return name, str(uuid.UUID(made["id"]))

    def mounting(self, command: str, folder: tuple[str, str], places: dict[str, str], *read_only: str) -> str:
        """Create a session with paths of one folder at places, as each version can have several of them."""
        name, identity = folder
        if not self._cluster.newer:
            places = {f"{name}/{path}": place for path, place in places.items()}
            return self.create(command, mounts=[*places], mount_map=places)
        images, projects = (self.client.gql(query) for query in (IMAGES, PROJECT))
        wanted = self._cluster.image.partition(":")[2]
        mounts = [
            {
                "vfolder_id": identity,
                "subpath": path,
                "mount_path": place,
                "permission": "ro" if path in read_only else "rw",
            }
            for path, place in places.items()
        ]
        body = {
            "session_name": f"raw-{uuid.uuid4().hex[:12]}",
            "session_type": "batch",
            "image_id": next(image["id"] for image in images["images"] if image["tag"] == wanted),
            "project_id": projects["groups"][0]["id"],
            "resource_entries": [
                {"resource_type": "cpu", "quantity": "1"},
                {"resource_type": "mem", "quantity": str(2**27)},
            ],
            "batch": {"startup_command": command},
            "mounts": mounts,
        }
        status, answer = self.client.call("POST", "/v2/sessions/enqueue", body)
        assert status == 201, answer
        return str(answer["session"]["id"])

    def look(self, session: str) -> dict[str, Any]:
        """Return what the manager says of a session."""
        found: dict[str, Any] = self.client.gql(LOOK, id=session)["compute_session"]
        return found

    def reach(self, session: str, *statuses: str, seconds: float = 90) -> dict[str, Any]:
        """Wait until the session has one of the statuses."""
        seen: list[dict[str, Any]] = []

        def reached() -> bool:
            seen[:] = [self.look(session)]
            return seen[0]["status"] in statuses

        try:
            until(reached, seconds, f"{statuses} of {session}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; seen: {seen}") from None
        return seen[0]

    def ended(self, session: str) -> tuple[str, str]:
        """Wait for the end; return the status and the result."""
        self.reach(session, *ENDED)
        until(lambda: self.look(session)["result"] != "UNDEFINED", 20, f"a result of {session}")
        found = self.look(session)
        return found["status"], found["result"]

    def logs(self, session: str) -> str:
        """Return the output of a session so far.

        A manager stores the output after it has ended the session: 23.09 answers 500 in between.
        """
        read: list[str] = []

        def answered() -> bool:
            status, answer = self.client.call("GET", f"/session/{session}/logs")
            if status >= 500:
                raise RuntimeError(answer)
            assert status == 200, answer
            read[:] = [str(answer["result"]["logs"])]
            return True

        until(answered, 20, f"the output of {session}")
        return read[0]

    def destroy(self, session: str) -> None:
        """Ask for the end of a session."""
        status, answer = self.client.call("DELETE", f"/session/{session}")
        assert status == 200, answer
