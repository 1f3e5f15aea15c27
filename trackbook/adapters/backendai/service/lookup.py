"""Look up what a service refers to on the cluster; what is missing is refused."""

from __future__ import annotations

from typing import Any

from trackbook.adapters.backendai.api import inventory, service_calls
from trackbook.adapters.backendai.api.cluster_connection import ClusterConnection
from trackbook.adapters.backendai.service import plan
from trackbook.engine.ports import SessionSpec

_ARCHITECTURE = "x86_64"


class Refusal(ValueError):
    """The service can't be had, however often it is asked for."""


class Lookup:
    """Looks for folders, images and scaling groups on one cluster; each call raises ClusterError too."""

    def __init__(self, connection: ClusterConnection) -> None:
        self._connection = connection
        self._client = connection.client

    async def model(self, name: str) -> str:
        """Return the id of the model's folder. Raises Refusal where there is none that can be served."""
        found = await service_calls.folders(self._client)
        named = [each for each in found if name in (each.name, each.id, each.id.replace("-", ""))]
        if not named:
            raise Refusal(f"there is no folder {name!r} on the cluster that the key may use")
        models = [each for each in named if each.usage == "model"]
        if not models:
            raise Refusal(
                f"the folder {name!r} is for {named[0].usage} use: a service needs one "
                "made for models (usage mode `model`)"
            )
        return models[0].id

    async def mounts(self, spec: SessionSpec) -> dict[str, Any]:
        """Return what the task mounts, by the folders' ids. Raises Refusal."""
        found = {each.name: each.id for each in await service_calls.folders(self._client)}
        found_mounts: dict[str, Any] = {}
        for folder, inner, place in plan.mounts(spec):
            if folder not in found:
                raise Refusal(f"there is no folder {folder!r} on the cluster that the key may use")
            if found[folder] in found_mounts:
                raise Refusal(f"a service can mount the folder {folder!r} once only")
            found_mounts[found[folder]] = {"mount_destination": place} | ({"subpath": inner} if inner else {})
        return found_mounts

    async def image(self, spec: SessionSpec) -> tuple[str, str]:
        """Return the image with its architecture, as the cluster has it; the manager refuses unknown ones."""
        image = plan.image(spec, self._connection.cluster)
        for known in await inventory.images(self._client):
            if known.canonical == image and known.architecture:
                return image, known.architecture
        return image, _ARCHITECTURE

    async def first_group(self, project: str) -> str:
        """Return the scaling group where none is named, which 26.8 wants to be. Raises Refusal."""
        groups = await inventory.scaling_groups(self._client, project)
        if not groups:
            raise Refusal(f"there is no scaling group for the project {project!r}")
        return groups[0]
