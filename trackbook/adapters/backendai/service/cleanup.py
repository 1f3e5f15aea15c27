"""Remove services that outlive their task: those of an ended job, and those without an owner."""

from __future__ import annotations

import asyncio

import structlog

from trackbook.adapters.backendai.api import service_calls
from trackbook.adapters.backendai.api.cluster_connection import ClusterConnection
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.service_calls import Service
from trackbook.adapters.backendai.api.session_calls import Session, Version
from trackbook.adapters.backendai.service import plan
from trackbook.adapters.backendai.service.plan import JOB, SESSION
from trackbook.adapters.backendai.session.terminator import Terminator
from trackbook.adapters.execution.back_off import BackOff
from trackbook.engine.ports import UNKNOWN_JOB, ExecutorUnavailable, Finding, Live

_log = structlog.get_logger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.3, 5.0


class Services:
    """The services of this installation on one cluster."""

    def __init__(self, connection: ClusterConnection) -> None:
        self._connection = connection

    async def release(self, job: str) -> None:
        """Take down the ephemeral services of a job that has ended. Raises ExecutorUnavailable: ask again."""
        try:
            version = await self._connection.version()
            ours = [each for each in await self._ephemeral(version) if each.variables.get(JOB) == job]
            await self._end(version, ours)
        except (ClusterError, TimeoutError) as error:
            raise ExecutorUnavailable(
                str(error) or "the services of the job are still being taken down"
            ) from None

    async def sweep(self, live: Live, *, end: bool, unknown: bool = False) -> list[Finding]:
        """Find ephemeral services whose job has ended, take them down where `end`. Raises ClusterError.

        Those of jobs that the log doesn't know are only taken down where `unknown` is set as well.
        """
        version = await self._connection.version()
        found = [each for each in await self._ephemeral(version) if not each.going]
        if not found:
            return []
        owned = await live()
        orphans = [
            each
            for each in found
            if each.variables.get(SESSION) not in owned.sessions and not await self._changes(version, each)
        ]
        strangers = [each for each in orphans if not owned.knows_job(each.variables.get(JOB, ""))]
        orphans = [each for each in orphans if each not in strangers]
        if end and unknown:
            orphans, strangers = [*orphans, *strangers], []
        if end:
            await self._end(version, orphans)
        done = "taken down" if end else "still there"
        warnings = [
            Finding(
                f"service {each.name}", f"it belongs to job {each.variables.get(JOB, '')}", "warn", UNKNOWN_JOB
            )
            for each in strangers
        ]
        return warnings + [
            Finding(
                f"service {service.name}",
                f"it belongs to job {service.variables.get(JOB, '')}, which has ended: {done}",
                "ok" if end else "warn",
                "" if end else "`trackbook doctor --sweep` takes it down.",
            )
            for service in orphans
        ]

    async def _changes(self, version: Version, service: Service) -> bool:
        """Whether another run is changing it: its variables are still those of the run before."""
        if not service_calls.has_revisions(version) or service.stage != "DEPLOYING":
            return False
        return bool((await service_calls.rollout(self._connection.client, service.id)).current)

    async def _ephemeral(self, version: Version) -> list[Service]:
        """Return this installation's ephemeral services, those that are being taken down too."""
        return [
            service
            for service in await service_calls.list_services(self._connection.client, version)
            if _is_ephemeral(service, self._connection.installation)
        ]

    async def _end(self, version: Version, services: list[Service]) -> None:
        if not services:
            return
        terminator = Terminator(self._connection)
        try:
            # A replica that does not end in the first of three is forced to; a service may stay beyond them.
            async with asyncio.timeout(3 * self._connection.cluster.stop_timeout):
                await asyncio.gather(
                    *(take_down(self._connection, version, each, terminator) for each in services)
                )
        finally:
            await terminator.close(wait=0)


def _is_ephemeral(service: Service, installation: str) -> bool:
    home, _, kind, _ = plan.read_owner(service.variables)
    return (home, kind) == (installation, "ephemeral")


async def take_down(
    connection: ClusterConnection, version: Version, service: Service, terminator: Terminator
) -> None:
    """Delete a service and wait until it and its replicas are gone. Raises ClusterError.

    Replicas are ended besides: 23.09 leaves one that is being made, or waits for resources, to itself. A service
    of which nothing runs any more for `stop_timeout` seconds counts as gone: a 23.09 that missed the end of a
    replica says DESTROYING for good.
    """
    if not service.going:
        await service_calls.delete(connection.client, service.id)
    back_off, ending = BackOff(_FIRST_PAUSE, _LONGEST_PAUSE, 1.5), dict[str, asyncio.Task[Session | None]]()
    at = asyncio.get_running_loop().time
    idle_since = at()
    found: Service | None = service
    while found is not None and at() - idle_since < connection.cluster.stop_timeout:
        for route in found.routes:
            if route.session and route.session not in ending:
                ending[route.session] = terminator.end_replica(route.session)
        await back_off.pause()
        if not all(task.done() for task in ending.values()):
            idle_since = at()
        found = await service_calls.read(connection.client, version, service.id)
    if found is not None:
        _log.warning("a service whose replicas have ended is not removed by the cluster", service=service.name)
    for task in ending.values():
        await asyncio.shield(task)
