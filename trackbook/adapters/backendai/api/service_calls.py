"""The manager's calls about model services, typed; each raises ClusterError. Verified on 23.09.10 and 26.8.3.

23.09 has the stage CREATED and routes that are HEALTHY; 26.8 READY, and routes RUNNING with a health beside that.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from msgspec import Struct, field

from trackbook.adapters.backendai.api.client import Client, part
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.session_calls import Version, json_object

_PAGE = 100
_MISSING = "no such endpoint"
_WELL = frozenset(("HEALTHY", "NOT_CHECKED"))
"""NOT_CHECKED is the health of a replica whose definition has no health check."""


def has_revisions(version: Version) -> bool:
    """Whether a service is changed in place, by a revision that is rolled out. Seen on 26.8."""
    return version.number >= (26, 0)


def has_variants(version: Version) -> bool:
    """Whether runtime variants, the definition's place and mounts can be given; 24.03's source has them first."""
    return version.number >= (24, 3)


class Route(Struct, frozen=True):
    """The way to one replica. `session` is '' until it has one; `error` is why it could not start."""

    id: str
    session: str
    status: str
    healthy: bool
    error: str = ""


class Service(Struct, frozen=True):
    """A model service as the manager has it; `url` is '' until the app proxy gave one."""

    id: str
    name: str
    stage: str
    url: str = ""
    tag: str = ""
    replicas: int = 0
    retries: int = 0
    public: bool = False
    model: str = ""
    mount: str = ""
    variant: str = ""
    group: str = ""
    image: str = ""
    slots: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    cluster_mode: str = ""
    cluster_size: int = 1
    variables: dict[str, str] = field(default_factory=dict)
    routes: list[Route] = field(default_factory=list)
    created_at: datetime | None = None

    @property
    def is_gone(self) -> bool:
        """Whether it is no more."""
        return self.stage == "DESTROYED"

    @property
    def going(self) -> bool:
        """Whether it is being taken down."""
        return self.stage == "DESTROYING"


class Rollout(Struct, frozen=True):
    """Which revision a service runs, '' for none yet, and what it is doing."""

    stage: str
    current: str
    step: str = ""


class ModelFolder(Struct, frozen=True):
    """A folder that a service can be made of if its usage is `model`."""

    id: str
    name: str
    usage: str


_FIELDS = (
    "endpoint_id name url lifecycle_stage retries desired_session_count tag environ open_to_public created_at"
    " model model_mount_destiation resource_group resource_slots resource_opts cluster_mode cluster_size"
    " image_object{name registry tag}"
)
_ROUTES = "routing_id session status error_data"


def _fields(version: Version) -> str:
    health = " health_status" if has_revisions(version) else ""
    variant = " runtime_variant{name}" if has_variants(version) else ""
    return f"{_FIELDS}{variant} routings{{{_ROUTES}{health}}}"


async def list_services(client: Client, version: Version) -> list[Service]:
    """Return all services that the key may see, those being taken down too."""
    text = (
        "query($limit:Int!,$offset:Int!){endpoint_list(limit:$limit,offset:$offset)"
        f"{{items{{{_fields(version)}}} total_count}}}}"
    )
    found: dict[str, Service] = {}
    offset = 0
    while True:
        page = (await client.query(text, limit=_PAGE, offset=offset))["endpoint_list"]
        found |= {item["endpoint_id"]: _service(item) for item in page["items"]}
        offset += len(page["items"])  # a server may give less than it is asked for
        if offset >= page["total_count"] or not page["items"]:
            return [service for service in found.values() if not service.is_gone]


async def read(client: Client, version: Version, id: str) -> Service | None:  # noqa: A002
    """Return the service of that id, None where there is none any more."""
    text = f"query($id:UUID!){{endpoint(endpoint_id:$id){{{_fields(version)}}}}}"
    try:
        item = (await client.query(text, id=id)).get("endpoint")
    except ClusterError as error:
        if _MISSING in error.message.lower():
            return None
        raise
    found = _service(item) if item else None
    return None if found is None or found.is_gone else found


async def create(client: Client, body: dict[str, Any], timeout: float = 60.0) -> str:
    """Make a service and return its id. After the kind `unknown` it may be there: look for its name and tag.

    26.8 makes a second one of the same name where 23.09 refuses.
    """
    answer = await client.request("POST", "/services", body=body, timeout=timeout)
    return str(answer["endpoint_id"])


async def modify(client: Client, id: str, changes: dict[str, Any], timeout: float = 60.0) -> None:  # noqa: A002
    """Change a service; 26.8 rolls the change out as a new revision."""
    text = (
        "mutation($id:UUID!,$props:ModifyEndpointInput!){modify_endpoint(endpoint_id:$id,props:$props){ok msg}}"
    )
    body = {"query": text, "variables": {"id": id, "props": changes}}
    answer = await client.request("POST", "/admin/gql", body=body, timeout=timeout)
    problems = [str(problem.get("message")) for problem in answer.get("errors") or []]
    done = ((answer.get("data") or {}).get("modify_endpoint")) or {}
    if problems or not done.get("ok"):
        words = "; ".join(problems) or str(done.get("msg") or "it does not say why")
        message = f"the service could not be changed: {words}"
        raise ClusterError(client.cluster.name, "permanent", "graphql", message, status=200)


async def delete(client: Client, id: str) -> None:  # noqa: A002
    """Ask for the end of a service; one that is not there is well."""
    try:
        await client.request("DELETE", f"/services/{part(id)}")
    except ClusterError as error:
        if not error.missing:
            raise


async def set_policy(client: Client, id: str, surge: int, unavailable: int) -> None:  # noqa: A002
    """Say how many replicas more, or fewer, there may be while a revision is rolled out. 26.8 alone."""
    limits = {"max_surge": surge, "max_unavailable": unavailable}
    body = {"strategy": "ROLLING", "rolling_update": limits}
    await client.request("PUT", f"/deployments/{part(id)}/policy", body=body)


async def set_public(client: Client, id: str, public: bool) -> None:  # noqa: A002
    """Say whether the service answers those who bring no token. 26.8 alone; 23.09 takes it at the making."""
    await client.request("PUT", f"/v2/deployments/{part(id)}", body={"open_to_public": public})


async def rollout(client: Client, id: str) -> Rollout:  # noqa: A002
    """Return which revision the service runs. 26.8 alone."""
    answer = (await client.get(f"/deployments/{part(id)}"))["deployment"]
    current = (answer.get("current_revision") or {}).get("id") or ""
    return Rollout(str(answer.get("status") or "").upper(), current, answer.get("sub_step") or "")


async def revisions(client: Client, id: str) -> list[str]:  # noqa: A002
    """Return the ids of the service's revisions, oldest first. 26.8 alone."""
    body = {"limit": 1000}
    answer = await client.request("POST", f"/deployments/{part(id)}/revisions/search", body=body, changes=False)
    return [item["id"] for item in sorted(answer["revisions"], key=lambda item: str(item.get("created_at")))]


async def activate(client: Client, id: str, revision: str) -> None:  # noqa: A002
    """Roll out a revision that is there already. 26.8 alone."""
    await client.request("POST", f"/deployments/{part(id)}/revisions/{part(revision)}/activate")


async def folders(client: Client) -> list[ModelFolder]:
    """Return the folders that the key may see, with what they are for."""
    return [
        ModelFolder(with_dashes(str(item["id"])), item["name"], item.get("usage_mode") or "general")
        for item in await client.get("/folders")
    ]


async def proxy(client: Client, group: str, project: str) -> str:
    """Return which interface the app proxy of a scaling group has: `v2` serves models, `v1` is none at all."""
    answer = await client.get(f"/scaling-groups/{part(group)}/wsproxy-version", {"group": project})
    return str(answer.get("wsproxy_version") or "")


def with_dashes(id: str) -> str:  # noqa: A002
    """Return a folder's id as services have it."""
    plain = id.replace("-", "").lower()
    return "-".join((plain[:8], plain[8:12], plain[12:16], plain[16:20], plain[20:]))


def _service(item: dict[str, Any]) -> Service:
    created = item.get("created_at")
    return Service(
        id=str(item["endpoint_id"]),
        name=item.get("name") or "",
        stage=str(item.get("lifecycle_stage") or "").rpartition(".")[2].upper(),
        url=item.get("url") or "",
        tag=item.get("tag") or "",
        replicas=item.get("desired_session_count") or 0,
        retries=item.get("retries") or 0,
        public=bool(item.get("open_to_public")),
        model=str(item.get("model") or ""),
        mount=item.get("model_mount_destiation") or "",
        variant=str((item.get("runtime_variant") or {}).get("name") or ""),
        group=item.get("resource_group") or "",
        image=_image(item.get("image_object") or {}),
        slots=json_object(item.get("resource_slots")),
        options=json_object(item.get("resource_opts")),
        cluster_mode=item.get("cluster_mode") or "",
        cluster_size=item.get("cluster_size") or 1,
        variables={str(name): str(value) for name, value in json_object(item.get("environ")).items()},
        routes=[_route(route) for route in item.get("routings") or []],
        created_at=datetime.fromisoformat(created) if created else None,
    )


def _image(item: dict[str, Any]) -> str:
    """Return the canonical name, as 23.09 tells it."""
    return f"{item['registry']}/{item['name']}:{item['tag']}" if item.get("name") else ""


def _route(item: dict[str, Any]) -> Route:
    status = str(item.get("status") or "").upper()
    health = str(item.get("health_status") or "").upper()
    if health == "UNHEALTHY" and status == "RUNNING":
        status = health
    healthy = status == "HEALTHY" or (status == "RUNNING" and health in _WELL)
    return Route(
        str(item["routing_id"]), str(item.get("session") or ""), status, healthy, _why(item.get("error_data"))
    )


def _why(data: Any) -> str:
    decoded = json.loads(data) if isinstance(data, str) and data else data
    errors = decoded.get("errors") if isinstance(decoded, dict) else None
    words = [" ".join(str(each.get("repr") or each.get("name") or "").split()) for each in errors or []]
    return "; ".join(dict.fromkeys(word for word in words if word))[:500]
