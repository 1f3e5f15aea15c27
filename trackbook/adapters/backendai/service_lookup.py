"""What a service is made of, as the cluster names it; what isn't there is refused in words."""

from __future__ import annotations

from typing import Any

from trackbook.adapters.backendai import facts, service_api, service_plan
from trackbook.adapters.backendai.link import Link
from trackbook.engine.ports import SessionSpec

_ARCHITECTURE = "x86_64"


class Refusal(ValueError):
    """The service can't be had, however often it is asked for."""


class Lookup:
    """Looks for folders, images and scaling groups on one cluster; each call raises ClusterError too."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._client = link.client

    async def model(self, name: str) -> str:
        """Return the id of the model's folder. Raises Refusal where there is none that can be served."""
        found = await service_api.folders(self._client)
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
        found = {each.name: each.id for each in await service_api.folders(self._client)}
        told: dict[str, Any] = {}
        for folder, inner, place in service_plan.mounts(spec):
            if folder not in found:
                raise Refusal(f"there is no folder {folder!r} on the cluster that the key may use")
            if found[folder] in told:
                raise Refusal(f"a service can mount the folder {folder!r} once only")
            told[found[folder]] = {"mount_destination": place} | ({"subpath": inner} if inner else {})
        return told

    async def image(self, spec: SessionSpec) -> tuple[str, str]:
        """Return the image with its architecture, as the cluster has it; the manager refuses unknown ones."""
        image = service_plan.image(spec, self._link.cluster)
        for known in await facts.images(self._client):
            if known.canonical == image and known.architecture:
                return image, known.architecture
        return image, _ARCHITECTURE

    async def first_group(self, project: str) -> str:
        """Return the scaling group where none is named, which 26.8 wants to be. Raises Refusal."""
        groups = await facts.scaling_groups(self._client, project)
        if not groups:
            raise Refusal(f"there is no scaling group for the project {project!r}")
        return groups[0]
