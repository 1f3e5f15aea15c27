"""How far the rollout of a model service is, from what was observed; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msgspec import Struct

from trackbook.adapters.backendai.api.service_calls import Rollout, Service
from trackbook.adapters.backendai.api.session_calls import Session
from trackbook.adapters.backendai.session import observation

MOST_STARTS = 3
"""So many replicas may end before one was healthy; 26.8 would make new ones for ever."""
_ACTIVE = frozenset(("PROVISIONING", "HEALTHY", "RUNNING", "UNHEALTHY"))
_RETRIES = 5
"""23.09 starts no replica more after so many that could not start."""


class Progress(Struct, frozen=True):
    """The status to report, and whether that is the end: `ready`, or `failed` with the reason."""

    status: str
    message: str = ""
    ready: bool = False
    failed: str = ""


def progress(
    service: Service | None,
    rollout: Rollout | None,
    revision: str,
    replicas: int,
    sessions: Mapping[str, Session],
) -> Progress:
    """Return how far the service is.

    `rollout` is what 26.8 says of revisions, of which `revision` is to run ('' for any); None on older ones.
    `sessions` are all that replicas of this attempt were seen to have, by id.
    """
    failed = failure(service, rollout, revision, replicas, sessions)
    if failed or service is None:
        whys = reasons(service, sessions)
        return Progress("ERROR", failed=": ".join([failed, "; ".join(whys)]) if whys else failed)
    healthy = sum(route.healthy for route in service.routes)
    words = f"{min(healthy, replicas)} of {replicas} replicas healthy"
    if healthy >= replicas and _in_place(rollout, revision):
        if service.url:
            return Progress("RUNNING", words, ready=True)
        return Progress("PREPARING", f"{words}; the app proxy has given no address yet")
    status = "PREPARING" if any(route.status in _ACTIVE for route in service.routes) else "PENDING"
    return Progress(status, "; ".join([words, *_doing(service, sessions), *reasons(service, sessions)])[:500])


def failure(
    service: Service | None,
    rollout: Rollout | None,
    revision: str,
    replicas: int,
    sessions: Mapping[str, Session],
) -> str:
    """Return in words why the service won't become healthy, '' while it may."""
    if service is None or service.going:
        return "the cluster gave the service up, or somebody deleted it"
    if rollout and revision and rollout.stage == "READY" and rollout.current != revision:
        return (
            "the cluster runs what the service was before: the change failed, or another run made one of its own"
        )
    if service.retries > _RETRIES:
        return "no replica could be started, and the cluster tries no more"
    active = [route for route in service.routes if route.status in _ACTIVE]
    if rollout is None and len(active) >= replicas and all(route.status == "UNHEALTHY" for route in active):
        return "the model answers its health check in no replica"
    ended = sum(session.final for session in sessions.values())
    if ended >= MOST_STARTS * replicas and not any(route.healthy for route in service.routes):
        return f"{ended} replicas ended before one was healthy"
    return ""


def _in_place(rollout: Rollout | None, revision: str) -> bool:
    return rollout is None or (bool(rollout.current) and rollout.current == (revision or rollout.current))


def _doing(service: Service, sessions: Mapping[str, Session]) -> list[str]:
    """Return in words what the sessions of replicas that aren't healthy do."""
    counted: Counter[str] = Counter()
    for route in service.routes:
        session = sessions.get(route.session)
        if route.healthy or route.status in ("TERMINATING", "TERMINATED", "FAILED_TO_START"):
            continue
        if session is None:
            counted["a replica waits to be made"] += 1
        elif not session.final:
            status, why = observation.status_and_why(session)
            state = "its model is not healthy yet" if status == "RUNNING" else status
            counted[f"a replica is {status}, {state}" if status == "RUNNING" else _with(status, why)] += 1
    return [words if number == 1 else f"{number} times: {words}" for words, number in counted.items()]


def _with(status: str, why: str) -> str:
    return f"a replica is {status} ({why})" if why else f"a replica is {status}"


def reasons(service: Service | None, sessions: Mapping[str, Session]) -> list[str]:
    """Return why replicas ended or could not start, each reason once."""
    found = [route.error for route in service.routes if route.error] if service else []
    found += [
        observation.problem(session) or _info(session) or session.status
        for session in sessions.values()
        if session.final
    ]
    return list(dict.fromkeys(found))[:5]


def _info(session: Session) -> str:
    infos = [session.status_info, *(container.status_info for container in session.containers)]
    return ", ".join(dict.fromkeys(word for word in infos if word))
