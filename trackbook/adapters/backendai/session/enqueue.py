"""Create a session by the API that the cluster's version has.

Where a session is made the old way (by version 1 of the API), 26.8 mounts each folder once, whatever is asked
for: of several parts of it, silently, only the first. The pipeline's folder is mounted in parts, so sessions are
made by the newer API there, which goes by ids.
"""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from trackbook.adapters.backendai.api import inventory, session_calls
from trackbook.adapters.backendai.api.cluster_connection import ClusterConnection
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.session_calls import NewSession
from trackbook.adapters.backendai.api.storage import Storage

_BY_IDS = (26, 8)
"""The first version known to need, and to have, the newer API."""
_ARCHITECTURE = "x86_64"
_TIMEOUT = 90.0
"""Seconds that a manager may take; one that is asked again while it is still at it has the more to do."""
_AT_ONCE = 8


class Enqueuer:
    """Makes sessions; the ids of what they name are kept, and asked for again where one is unknown."""

    def __init__(self, connection: ClusterConnection) -> None:
        self._connection = connection
        self._storage = Storage(connection.client)
        self.turn = asyncio.Semaphore(_AT_ONCE)
        """Who makes a session, with its folders, does that in turn: a manager is no quicker with more at once."""
        self._images: dict[str, str] = {}
        self._projects: dict[str, str] = {}
        self._folders: dict[str, str] = {}

    async def create(self, new: NewSession) -> str:
        """Enqueue the session and return its id. Raises ClusterError, as `api.create_session`."""
        if (await self._connection.version()).number < _BY_IDS:
            return await session_calls.create_session(self._connection.client, new, timeout=_TIMEOUT)
        try:
            return await self._create(new)
        except ClusterError as error:
            if error.slug != "object-not-found" or error.kind != "permanent":
                raise
        self._folders.clear()  # something may have been made again under its name
        self._images.clear()
        self._projects.clear()
        return await self._create(new)

    async def _create(self, new: NewSession) -> str:
        body = await self._body(new)
        answer = await self._connection.client.request(
            "POST", "/v2/sessions/enqueue", body=body, timeout=_TIMEOUT
        )
        return str(answer["session"]["id"])

    async def _body(self, new: NewSession) -> dict[str, Any]:
        body: dict[str, Any] = {
            "session_name": new.name,
            "session_type": "batch",
            "image_id": await self._image(new.image),
            "project_id": await self._project(new.project),
            "resource_entries": [
                {"resource_type": slot, "quantity": str(amount)} for slot, amount in new.resources.items()
            ],
            "mounts": [await self._mount(source, path, new) for source, path in new.mounts.items()],
            "environ": new.variables,
            "cluster_mode": new.cluster_mode,
            "cluster_size": new.cluster_size,
            "tag": new.tag,
            "batch": {"startup_command": new.command},
        }
        if new.shmem is not None:
            body["resource_opts"] = {"shmem": {"expr": str(new.shmem)}}
        if new.scaling_group:
            body["resource_group"] = new.scaling_group
        if new.bootstrap:
            body["bootstrap_script"] = new.bootstrap
        return body

    async def _mount(self, source: str, path: str, new: NewSession) -> dict[str, Any]:
        name, _, part = source.partition("/")
        mount: dict[str, Any] = {"vfolder_id": await self._folder(name), "mount_path": path}
        if part:
            mount["subpath"] = part
        if source in new.read_only:
            mount["permission"] = "ro"
        return mount

    async def _image(self, name: str) -> str:
        if name not in self._images:
            fields = "id name project registry tag architecture"
            found = (await self._connection.client.query(f"query{{images{{{fields}}}}}"))["images"] or []
            found.sort(key=lambda item: item["architecture"] == _ARCHITECTURE)
            self._images = {_canonical(item): item["id"] for item in found}
        return self._look_up(self._images, name, "No such environment image")

    async def _project(self, name: str) -> str:
        if name not in self._projects:
            self._projects = (await inventory.key(self._connection.client)).projects
        return self._look_up(self._projects, name, "The key may use no such project")

    async def _folder(self, name: str) -> str:
        if name not in self._folders:
            folders = await self._storage.folders()
            self._folders = {
                folder.name: str(UUID(folder.id))
                for folder in sorted(folders, key=lambda folder: folder.owned)
                if not folder.going and not folder.trashed
            }
        return self._look_up(self._folders, name, "No such virtual folder")

    def _look_up(self, ids: dict[str, str], name: str, otherwise: str) -> str:
        if name not in ids:
            raise ClusterError(
                self._connection.cluster.name, "permanent", "object-not-found", f"{otherwise}: {name}", status=404
            )
        return ids[name]


def _canonical(item: dict[str, Any]) -> str:
    project, name = item["project"] or "", item["name"]
    whole = name if not project or name.startswith(f"{project}/") else f"{project}/{name}"
    return f"{item['registry']}/{whole}:{item['tag']}"
