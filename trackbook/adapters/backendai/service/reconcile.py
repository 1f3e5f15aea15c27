"""Reconcile a serving task with its service: create it, adopt one begun before, or update an earlier run's."""

from __future__ import annotations

import json
from typing import Any

from trackbook.adapters.backendai.api import service_calls
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.service_calls import Service
from trackbook.adapters.backendai.api.session_calls import Version
from trackbook.adapters.backendai.service import attempt_state, plan, rolling_update
from trackbook.adapters.backendai.service.lookup import Lookup, Refusal
from trackbook.adapters.backendai.service.plan import SESSION, Wanted
from trackbook.adapters.backendai.session.context import ExecutorContext
from trackbook.engine.ports import SessionSpec
from trackbook.failpoints import failpoint


class NotYet(Exception):
    """Something has to end first; says what."""


class ServiceReconciler:
    """Reconciles the service of one attempt; `state` says what this attempt has done, and is kept on disk."""

    def __init__(self, spec: SessionSpec, wanted: Wanted, context: ExecutorContext) -> None:
        self.spec = spec
        self.wanted = wanted
        self._connection = context.connection
        self._client = context.connection.client
        self._lookup = Lookup(context.connection)
        self._terminator = context.terminator
        self._folder = context.attempt_states.log(spec).parent
        self.name = plan.name(spec, wanted, self._connection.installation)
        self.state = attempt_state.load(self._folder)

    async def begin(self) -> str:
        """Return the id of the service, made or changed by now. Raises ClusterError, Refusal, NotYet."""
        version = await self._connection.version()
        self._check(version)
        found = await self.find(version)
        if found is None:
            return await self._make(version)
        if found.going:
            self._end_replicas(found)
            raise NotYet(f"the previous service {self.name} is still being removed")
        if self._is_ours(found):
            return self._use(found.id)
        self._insist_on_pipeline(found)
        return await self._change(version, found)

    async def find(self, version: Version) -> Service | None:
        """Return the live service of the name; of two that this attempt made by mistake one is deleted."""
        named = [
            each for each in await service_calls.list_services(self._client, version) if each.name == self.name
        ]
        mine = sorted((each for each in named if each.tag == self.spec.session and not each.going), key=_age)
        for double in mine[1:]:
            await service_calls.delete(self._client, double.id)
        if mine:
            return mine[0]
        rest = [each for each in named if not each.going] or named
        if self.state.id:
            rest = [each for each in rest if each.id == self.state.id] or rest
        return min(rest, key=_age, default=None)

    # What is there ------------------------------------------------------------------------------------------

    def _check(self, version: Version) -> None:
        faults = plan.lacking(version, self.wanted, bool(self.spec.mounts))
        if faults:
            raise Refusal("; ".join(fault.message for fault in faults))

    def _is_ours(self, found: Service) -> bool:
        """Whether this attempt made the service, or has changed it already."""
        if found.tag == self.spec.session:
            self.state.made = True
            return True
        state = self.state
        done = state.id == found.id and (state.made or state.changed or bool(state.revision))
        return done or found.variables.get(SESSION) == self.spec.session

    def _insist_on_pipeline(self, found: Service) -> None:
        """Raise Refusal where the service is not this pipeline's."""
        if plan.read_owner(found.variables)[:2] != (self._connection.installation, self.spec.pipeline):
            raise Refusal(
                f"there is a service {self.name!r} on the cluster already, which this pipeline did not make; "
                "give the task another `service.name`"
            )

    def _use(self, id: str) -> str:  # noqa: A002
        self.state.id = id
        self._save()
        return id

    def _save(self) -> None:
        attempt_state.save(self._folder, self.state)

    # Making -------------------------------------------------------------------------------------------------

    async def _make(self, version: Version) -> str:
        model = await self._lookup.model(self.wanted.model)
        body = await self._body(version, model)
        self.state = attempt_state.ServiceState(made=True)
        self._save()
        failpoint("executor.launch.before_spawn")
        id = await service_calls.create(self._client, body)  # noqa: A001
        failpoint("executor.launch.spawned")
        self._use(id)
        if self.wanted.surge is not None or self.wanted.unavailable is not None:
            await self._limit(id)
        return id

    async def _body(self, version: Version, model: str) -> dict[str, Any]:
        spec, wanted, cluster = self.spec, self.wanted, self._connection.cluster
        project = spec.project or cluster.project
        config: dict[str, Any] = {
            "model": model,
            "model_mount_destination": wanted.mount,
            "environ": plan.environment(spec, wanted, self._connection.installation, version),
            "resources": plan.resources(spec),
            "resource_opts": plan.options(spec),
        }
        group = spec.scaling_group or cluster.scaling_group
        if service_calls.has_variants(version):
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
        return body | ({"runtime_variant": wanted.variant} if service_calls.has_variants(version) else {})

    # Changing -----------------------------------------------------------------------------------------------

    async def _change(self, version: Version, found: Service) -> str:
        """Bring a service of an earlier run up to date: in place where the version can, else by another one."""
        model = await self._lookup.model(self.wanted.model)
        wanted = self.wanted
        group = self.spec.scaling_group or self._connection.cluster.scaling_group or found.group
        if not service_calls.has_revisions(version):
            home = self._connection.installation
            if group != found.group or not rolling_update.is_possible(
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
            plan.owner(self.spec, wanted, "").split("/")[3],
        )
        has = (found.model, found.mount, found.variant, found.group, plan.read_owner(found.variables)[3])
        if asked != has:
            return await self._replace(version, found)
        if not await self._has_rolled_out(found):
            await self._roll(found)
        return self._use(found.id)

    async def _renew(self, found: Service) -> None:
        image, architecture = await self._lookup.image(self.spec)
        before = self.state.previous_service if self.state.id == found.id else None
        if before is None:
            before = rolling_update.previous_service(found)
            self.state = attempt_state.ServiceState(id=found.id, previous_service=before)
            self._save()
        failpoint("executor.launch.before_spawn")
        changes = rolling_update.changes(self.spec, self.wanted, image, architecture, before)
        await service_calls.modify(self._client, found.id, changes)
        failpoint("executor.launch.spawned")
        self.state.changed = True
        self._save()

    async def advance(self, service: Service) -> bool:
        """Continue a change that the manager does not make; returns whether it is done. Raises ClusterError."""
        replicas = self.wanted.replicas
        return await rolling_update.advance(self._client, self._terminator, self.state, service, replicas)

    async def _has_rolled_out(self, found: Service) -> bool:
        """Whether our revision is there already, made before a crash or a lost answer."""
        if self.state.id != found.id or self.state.before is None:
            return False
        new = [
            each
            for each in await service_calls.revisions(self._client, found.id)
            if each not in self.state.before
        ]
        if new:
            self.state.revision = new[0]
            self._save()
        return bool(new)

    async def _roll(self, found: Service) -> None:
        client, id, wanted = self._client, found.id, self.wanted  # noqa: A001
        before = await service_calls.revisions(client, id)
        running = (await service_calls.rollout(client, id)).current
        self.state = attempt_state.ServiceState(id=id, before=before, previous=running)
        self._save()
        if wanted.surge is not None or wanted.unavailable is not None:
            await self._limit(id)
        if wanted.public != found.public:
            await service_calls.set_public(client, id, wanted.public)
        failpoint("executor.launch.before_spawn")
        await service_calls.modify(client, id, await self._changes())
        failpoint("executor.launch.spawned")
        new = [each for each in await service_calls.revisions(client, id) if each not in before]
        self.state.revision = new[0] if new else ""
        self._save()

    async def _changes(self) -> dict[str, Any]:
        spec = self.spec
        image, architecture = await self._lookup.image(self.spec)
        return {
            "image": {"name": image, "registry": image.partition("/")[0], "architecture": architecture},
            "environ": json.dumps(
                plan.environment(
                    spec, self.wanted, self._connection.installation, await self._connection.version()
                )
            ),
            "resource_slots": json.dumps(plan.resources(spec)),
            "resource_opts": json.dumps(plan.options(spec)),
            "cluster_mode": spec.cluster_mode,
            "cluster_size": spec.cluster_size,
            "replicas": self.wanted.replicas,
        } | ({"model_definition_path": self.wanted.definition} if self.wanted.definition else {})

    async def _limit(self, id: str) -> None:  # noqa: A002
        surge, unavailable = self.wanted.surge, self.wanted.unavailable
        await service_calls.set_policy(self._client, id, 1 if surge is None else surge, unavailable or 0)

    async def _replace(self, version: Version, found: Service) -> str:
        """Take the former service down, so that one of the same name can take its place."""
        await self._body(
            version, await self._lookup.model(self.wanted.model)
        )  # what can't be made must not cost the one that serves
        await service_calls.delete(self._client, found.id)
        self._end_replicas(found)
        raise NotYet(
            f"the previous service {self.name} is being removed: this version can't change a service in place"
        )

    def _end_replicas(self, service: Service) -> None:
        """End the replicas of a service that is taken down: 23.09 leaves those being made to themselves."""
        for route in service.routes:
            if route.session:
                self._terminator.end_replica(route.session)

    async def roll_back(self, service: Service) -> None:
        """Have the service run again what it ran before this attempt changed it. Raises ClusterError, NotYet."""
        await rolling_update.restore_previous(self._client, self._terminator, self.state, service)
        if self.state.revision and self.state.previous:
            try:
                await service_calls.activate(self._client, self.state.id, self.state.previous)
            except ClusterError as error:
                raise NotYet(f"the service could not be set back: {error}") from None


def _age(service: Service) -> tuple[str, str]:
    return (service.created_at.isoformat() if service.created_at else "", service.id)
