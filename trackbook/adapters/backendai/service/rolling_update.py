"""Update a service whose manager rolls nothing out (23.09): replace its replicas one by one.

The manager changes what new replicas are made of, and leaves those that run alone. So there is one replica more
for a while, and each old one is ended once a new one is healthy; the service answers meanwhile, at its address.
"""

from __future__ import annotations

import json
from typing import Any

from trackbook.adapters.backendai.api import service_calls
from trackbook.adapters.backendai.api.client import Client
from trackbook.adapters.backendai.api.service_calls import Service
from trackbook.adapters.backendai.api.session_calls import Version
from trackbook.adapters.backendai.service import plan
from trackbook.adapters.backendai.service.attempt_state import PreviousService, ServiceState
from trackbook.adapters.backendai.service.plan import OWNER, Wanted
from trackbook.adapters.backendai.session.terminator import Terminator
from trackbook.adapters.execution import variables
from trackbook.engine.ports import SessionSpec

_LEAVING = frozenset(("TERMINATING", "TERMINATED", "FAILED_TO_START"))


def is_possible(
    spec: SessionSpec, wanted: Wanted, model: str, installation: str, version: Version, found: Service
) -> bool:
    """Whether the service differs in nothing that 23.09 can't change: variables, model and its place, openness.

    The variables that name the job stay those of the run that made the service, so an ephemeral one, which is
    known by them, is made again.
    """
    names = set(variables.of(spec))
    new = plan.environment(spec, wanted, installation, version)
    return (
        not wanted.ephemeral
        and _without(new, names) == _without(found.variables, names)
        and new[OWNER] == found.variables.get(OWNER)
        and (found.model, found.mount, found.public) == (model, wanted.mount, wanted.public)
    )


def _without(given: dict[str, str], names: set[str]) -> dict[str, str]:
    return {name: value for name, value in given.items() if name not in names}


def previous_service(found: Service) -> PreviousService:
    """Return what has to be set back should the change fail."""
    return PreviousService(
        image=found.image,
        replicas=found.replicas,
        slots=found.slots,
        options=found.options,
        cluster_mode=found.cluster_mode,
        cluster_size=found.cluster_size,
        sessions=[route.session for route in found.routes if route.session],
    )


def changes(
    spec: SessionSpec, wanted: Wanted, image: str, architecture: str, before: PreviousService
) -> dict[str, Any]:
    """Return the request that begins the change."""
    return {
        "image": {"name": image, "architecture": architecture},
        "resource_slots": json.dumps(plan.resources(spec)),
        "resource_opts": json.dumps(plan.options(spec)),
        "cluster_mode": spec.cluster_mode.upper().replace("-", "_"),
        "cluster_size": spec.cluster_size,
        "desired_session_count": max(wanted.replicas, before.replicas) + 1,
    }


async def advance(
    client: Client, terminator: Terminator, state: ServiceState, service: Service, replicas: int
) -> bool:
    """Go one step on; return whether all replicas are new and as many as wanted. Raises ClusterError."""
    if state.previous_service is None:
        return True
    here = [route for route in service.routes if route.status not in _LEAVING]
    old = [route for route in here if route.session in state.previous_service.sessions]
    if old:
        healthy = [route for route in here if route.healthy]
        if len(healthy) > replicas and len(old) < len(here):
            terminator.end_replica(old[0].session)
        return False
    if service.replicas != replicas:
        await service_calls.modify(client, service.id, {"desired_session_count": replicas})
        return False
    return len(here) == replicas


def is_stuck(state: ServiceState, service: Service) -> bool:
    """Whether new replicas are there, and none of them is well."""
    new = [
        route
        for route in service.routes
        if route.session not in (state.previous_service.sessions if state.previous_service else ())
    ]
    return bool(state.previous_service and new) and all(route.status == "UNHEALTHY" for route in new)


async def restore_previous(client: Client, terminator: Terminator, state: ServiceState, service: Service) -> None:
    """Have the service be what it was, and end the replicas that were made of the change. Raises ClusterError."""
    before = state.previous_service
    if before is None:
        return
    body = {
        "image": {"name": before.image},
        "resource_slots": json.dumps(before.slots),
        "resource_opts": json.dumps(before.options),
        "cluster_mode": before.cluster_mode,
        "cluster_size": before.cluster_size,
        "desired_session_count": before.replicas,
    }
    await service_calls.modify(client, service.id, body)
    for route in service.routes:
        if route.session and route.session not in before.sessions:
            terminator.end_replica(route.session)
