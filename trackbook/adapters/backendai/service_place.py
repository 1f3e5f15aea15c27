"""Have the service: make a service, find the one begun before, or bring that of an earlier run up to date."""

from __future__ import annotations

import json
from typing import Any

from trackbook.adapters.backendai import service_api, service_note, service_plan, service_renew
from trackbook.adapters.backendai.api import Version
from trackbook.adapters.backendai.errors import ClusterError
from trackbook.adapters.backendai.parts import Parts
from trackbook.adapters.backendai.service_api import Service
from trackbook.adapters.backendai.service_lookup import Lookup, Refusal
from trackbook.adapters.backendai.service_plan import SESSION, Wanted
from trackbook.engine.ports import SessionSpec
from trackbook.failpoints import failpoint


class NotYet(Exception):
    """Something has to end first; says what."""


class ServicePlace:
    """The service of one attempt; `note` says what this attempt has done about it, and is kept on disk."""

    def __init__(self, spec: SessionSpec, wanted: Wanted, parts: Parts) -> None:
        self.spec = spec
        self.wanted = wanted
        self._link = parts.link
        self._client = parts.link.client
        self._lookup = Lookup(parts.link)
        self._undertaker = parts.undertaker
        self._folder = parts.notes.log(spec).parent
        self.name = service_plan.name(spec, wanted, self._link.installation)
        self.note = service_note.load(self._folder)

    async def begin(self) -> str:
        """Return the id of the service, made or changed by now. Raises ClusterError, Refusal, NotYet."""
        version = await self._link.version()
        self._check(version)
        found = await self.find(version)
        if found is None:
            return await self._make(version)
        if found.going:
            self._end_replicas(found)
            raise NotYet(f"the service {self.name} of before is still being taken down")
        if self._is_ours(found):
            return self._use(found.id)
        self._insist_on_pipeline(found)
        return await self._change(version, found)

    async def find(self, version: Version) -> Service | None:
        """Return the live service of the name; of two that this attempt made by mistake one is deleted."""
        named = [each for each in await service_api.listed(self._client, version) if each.name == self.name]
        mine = sorted((each for each in named if each.tag == self.spec.session and not each.going), key=_age)
        for double in mine[1:]:
            await service_api.delete(self._client, double.id)
        if mine:
            return mine[0]
        rest = [each for each in named if not each.going] or named
        if self.note.id:
            rest = [each for each in rest if each.id == self.note.id] or rest
        return min(rest, key=_age, default=None)

    # What is there ------------------------------------------------------------------------------------------

    def _check(self, version: Version) -> None:
        faults = service_plan.lacking(version, self.wanted, bool(self.spec.mounts))
        if faults:
            raise Refusal("; ".join(fault.message for fault in faults))

    def _is_ours(self, found: Service) -> bool:
        """Whether this attempt made the service, or has changed it already."""
        if found.tag == self.spec.session:
            self.note.made = True
            return True
        note = self.note
        done = note.id == found.id and (note.made or note.changed or bool(note.revision))
        return done or found.variables.get(SESSION) == self.spec.session

    def _insist_on_pipeline(self, found: Service) -> None:
        """Raise Refusal where the service is not this pipeline's."""
        if service_plan.owned(found.variables)[:2] != (self._link.installation, self.spec.pipeline):
            raise Refusal(
                f"there is a service {self.name!r} on the cluster already, which this pipeline did not make; "
                "give the task another `service.name`"
            )

    def _use(self, id: str) -> str:  # noqa: A002
        self.note.id = id
        self._save()
        return id

    def _save(self) -> None:
        service_note.save(self._folder, self.note)

    # Making -------------------------------------------------------------------------------------------------

    async def _make(self, version: Version) -> str:
        model = await self._lookup.model(self.wanted.model)
        body = await self._body(version, model)
        self.note = service_note.ServiceNote(made=True)
        self._save()
        failpoint("executor.launch.before_spawn")
        id = await service_api.create(self._client, body)  # noqa: A001
        failpoint("executor.launch.spawned")
        self._use(id)
        if self.wanted.surge is not None or self.wanted.unavailable is not None:
            await self._limit(id)
        return id

    async def _body(self, version: Version, model: str) -> dict[str, Any]:
        spec, wanted, cluster = self.spec, self.wanted, self._link.cluster
        project = spec.project or cluster.project
        config: dict[str, Any] = {
            "model": model,
            "model_mount_destination": wanted.mount,
            "environ": service_plan.environment(spec, wanted, self._link.installation, version),
            "resources": service_plan.resources(spec),
            "resource_opts": service_plan.options(spec),
        }
        group = spec.scaling_group or cluster.scaling_group
        if service_plan.has_variants(version):
            group = group or await self._lookup.first_group(project)
            if wanted.definition:
                config["model_definition_path"] = wanted.definition
            if spec.mounts:
                config["extra_mounts"] = await self._lookup.mounts(self.spec)
        if group:
            config["scaling_group"] = group
        image, architecture = await self._lookup.image(self.spec)
        body = {
            "name": self.name,
            "desired_session_count": wanted.replicas,
            "image": image,
            "architecture": architecture,
            "group": project,
            "domain": cluster.domain,
            "cluster_mode": spec.cluster_mode,
            "cluster_size": spec.cluster_size,
            "tag": spec.session,
            "open_to_public": wanted.public,
            "config": config,
        }
        return body | ({"runtime_variant": wanted.variant} if service_plan.has_variants(version) else {})

    # Changing -----------------------------------------------------------------------------------------------

    async def _change(self, version: Version, found: Service) -> str:
        """Bring a service of an earlier run up to date: in place where the version can, else by another one."""
        model = await self._lookup.model(self.wanted.model)
        wanted = self.wanted
        group = self.spec.scaling_group or self._link.cluster.scaling_group or found.group
        if not service_plan.has_revisions(version):
            home = self._link.installation
            if group != found.group or not service_renew.is_possible(
                self.spec, wanted, model, home, version, found
            ):
                return await self._replace(version, found)
            await self._renew(found)
            return found.id
        asked = (
            model,
            wanted.mount,
            wanted.variant,
            group,
            service_plan.owner(self.spec, wanted, "").split("/")[3],
        )
        has = (found.model, found.mount, found.variant, found.group, service_plan.owned(found.variables)[3])
        if asked != has:
            return await self._replace(version, found)
        if not await self._rolled(found):
            await self._roll(found)
        return self._use(found.id)

    async def _renew(self, found: Service) -> None:
        image, architecture = await self._lookup.image(self.spec)
        before = self.note.former if self.note.id == found.id else None
        if before is None:
            before = service_renew.former(found)
            self.note = service_note.ServiceNote(id=found.id, former=before)
            self._save()
        failpoint("executor.launch.before_spawn")
        changes = service_renew.changes(self.spec, self.wanted, image, architecture, before)
        await service_api.modify(self._client, found.id, changes)
        failpoint("executor.launch.spawned")
        self.note.changed = True
        self._save()

    async def renewed(self, service: Service) -> bool:
        """Go on with a change that the manager does not do itself; whether it is done. Raises ClusterError."""
        replicas = self.wanted.replicas
        return await service_renew.go_on(self._client, self._undertaker, self.note, service, replicas)

    async def _rolled(self, found: Service) -> bool:
        """Whether our revision is there already, made before a crash or a lost answer."""
        if self.note.id != found.id or self.note.before is None:
            return False
        new = [
            each for each in await service_api.revisions(self._client, found.id) if each not in self.note.before
        ]
        if new:
            self.note.revision = new[0]
            self._save()
        return bool(new)

    async def _roll(self, found: Service) -> None:
        client, id, wanted = self._client, found.id, self.wanted  # noqa: A001
        before = await service_api.revisions(client, id)
        running = (await service_api.rollout(client, id)).current
        self.note = service_note.ServiceNote(id=id, before=before, previous=running)
        self._save()
        if wanted.surge is not None or wanted.unavailable is not None:
            await self._limit(id)
        if wanted.public != found.public:
            await service_api.set_public(client, id, wanted.public)
        failpoint("executor.launch.before_spawn")
        await service_api.modify(client, id, await self._changes())
        failpoint("executor.launch.spawned")
        new = [each for each in await service_api.revisions(client, id) if each not in before]
        self.note.revision = new[0] if new else ""
        self._save()

    async def _changes(self) -> dict[str, Any]:
        spec = self.spec
        image, architecture = await self._lookup.image(self.spec)
        return {
            "image": {"name": image, "registry": image.partition("/")[0], "architecture": architecture},
            "environ": json.dumps(
                service_plan.environment(spec, self.wanted, self._link.installation, await self._link.version())
            ),
            "resource_slots": json.dumps(service_plan.resources(spec)),
            "resource_opts": json.dumps(service_plan.options(spec)),
            "cluster_mode": spec.cluster_mode,
            "cluster_size": spec.cluster_size,
            "replicas": self.wanted.replicas,
        } | ({"model_definition_path": self.wanted.definition} if self.wanted.definition else {})

    async def _limit(self, id: str) -> None:  # noqa: A002
        surge, unavailable = self.wanted.surge, self.wanted.unavailable
        await service_api.set_policy(self._client, id, 1 if surge is None else surge, unavailable or 0)

    async def _replace(self, version: Version, found: Service) -> str:
        """Take the former service down, so that one of the same name can take its place."""
        await self._body(
            version, await self._lookup.model(self.wanted.model)
        )  # what can't be made must not cost the one that serves
        await service_api.delete(self._client, found.id)
        self._end_replicas(found)
        raise NotYet(f"the service {self.name} of before is taken down: this version can't change it in place")

    def _end_replicas(self, service: Service) -> None:
        """End the replicas of a service that is taken down: 23.09 leaves those being made to themselves."""
        for route in service.routes:
            if route.session:
                self._undertaker.end(route.session)

    async def roll_back(self, service: Service) -> None:
        """Have the service run again what it ran before this attempt changed it. Raises ClusterError, NotYet."""
        await service_renew.set_back(self._client, self._undertaker, self.note, service)
        if self.note.revision and self.note.previous:
            try:
                await service_api.activate(self._client, self.note.id, self.note.previous)
            except ClusterError as error:
                raise NotYet(f"the service could not be set back: {error}") from None


def _age(service: Service) -> tuple[str, str]:
    return (service.created_at.isoformat() if service.created_at else "", service.id)
