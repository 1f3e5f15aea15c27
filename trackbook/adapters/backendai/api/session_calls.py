"""The manager's calls about sessions, typed; each raises ClusterError. Verified on 23.09.10 and 26.8.3."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct, field

from trackbook.adapters.backendai.api.client import Client, part
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.engine.mounts import WORK

FINAL = frozenset({"TERMINATED", "CANCELLED"})
"""The states after which a session never changes; any other, known or not, isn't final. ERROR isn't either."""
_PAGE = 500
_NAMES = 200
"""Names asked for at once: 200 of 64 characters are 13 kB of filter, which both managers take."""


class Version(Struct, frozen=True):
    """A manager's version, and what it can therefore do."""

    manager: str
    api: str

    @property
    def number(self) -> tuple[int, int]:
        """Year and month of the release, (0, 0) where the text can't be read."""
        match = re.match(r"(\d+)\.(\d+)", self.manager)
        return (int(match[1]), int(match[2])) if match else (0, 0)

    @property
    def mount_options(self) -> bool:
        """Whether mounts can be read-only; 23.09 answers 500 to `mount_options`, 26.8 takes it."""
        return self.number >= (24, 3)


class Container(Struct, frozen=True):
    """One container of a session; the batch command runs in that of role `main`."""

    id: str
    role: str
    index: int
    status: str
    status_info: str
    agent: str
    status_data: dict[str, Any]


class Session(Struct, frozen=True):
    """A session as the manager has it. `history` has the time of each state it was in; it is in no order.

    `containers` is filled by reads by id alone.
    """

    id: str
    name: str
    status: str
    status_info: str = ""
    result: str = ""
    tag: str = ""
    status_data: dict[str, Any] = field(default_factory=dict)
    history: dict[str, str] = field(default_factory=dict)
    created_at: datetime | None = None
    terminated_at: datetime | None = None
    containers: list[Container] = field(default_factory=list)

    @property
    def final(self) -> bool:
        """Whether the session has ended for good, as far as the manager says."""
        return self.status in FINAL


class NewSession(Struct, frozen=True, kw_only=True):
    """A batch session to be made. `resources` has numbers of units, memory in bytes.

    `mounts` maps a folder, or a part of one (`vf/runs/1`), to the path where it is seen; those of `read_only`
    can't be written to: leave it empty where the version has no `mount_options`.
    """

    name: str
    image: str
    command: str
    tag: str = ""
    project: str = "default"
    domain: str = "default"
    scaling_group: str = ""
    resources: dict[str, int | float | str] = field(default_factory=dict)
    shmem: int | None = None
    variables: dict[str, str] = field(default_factory=dict)
    mounts: dict[str, str] = field(default_factory=dict)
    read_only: list[str] = field(default_factory=list)
    cluster_mode: str = "single-node"
    cluster_size: int = 1
    bootstrap: str = ""


# Sessions ---------------------------------------------------------------------------------------------------

_FIELDS = "id name status status_info status_data status_history result tag created_at terminated_at"
_CONTAINERS = "containers{id cluster_role cluster_idx status status_info status_data agent}"


async def version(client: Client, timeout: float = 10.0) -> Version:
    """Ask what the manager is. Unsigned requests are answered too, so this says nothing about the key."""
    answer = await client.get("/", timeout=timeout)
    if not isinstance(answer, dict) or "manager" not in answer:
        message = f"it is no manager: there is something else at {client.cluster.endpoint}"
        raise ClusterError(client.cluster.name, "operator", "not-a-manager", message)
    return Version(str(answer["manager"]), str(answer.get("version", "")))


async def create_session(client: Client, new: NewSession, timeout: float = 30.0) -> str:
    """Enqueue a batch session and return its id.

    A live session of the name is a ClusterError `session-already-exists` with `existing_session`. After the kind
    `unknown` the session may be there: look up its name, ended sessions included.
    """
    config: dict[str, Any] = {
        "resources": {slot: str(amount) for slot, amount in new.resources.items()},
        "environ": new.variables,
        "mounts": list(new.mounts),
        "mount_map": _mount_map(new.mounts),
    }
    if new.shmem is not None:
        config["resource_opts"] = {"shmem": str(new.shmem)}
    if new.scaling_group:
        config["scaling_group"] = new.scaling_group
    if new.read_only:
        config["mount_options"] = {folder: {"permission": "ro"} for folder in new.read_only}
    body = {
        "name": new.name,
        "image": new.image,
        "type": "batch",
        "startupCommand": new.command,
        "enqueueOnly": True,
        "reuseIfExists": False,
        "tag": new.tag or None,
        "group": new.project,
        "domain": new.domain,
        "cluster_size": new.cluster_size,
        "cluster_mode": new.cluster_mode,
        "config": config,
    }
    if new.bootstrap:
        body["bootstrap_script"] = new.bootstrap
    answer = await client.request("POST", "/session", body=body, timeout=timeout)
    return str(answer["sessionId"])


def _mount_map(mounts: Mapping[str, str]) -> dict[str, str]:
    """Return where each folder is mounted, in a form that 23.09 takes.

    It refuses a place below /home/work that has the name of one of the folders, even of the same folder. It
    compares text, so a `.` in the path lets it through, and the path is the same.
    """
    return {
        source: f"{WORK}/./{place}" if (place := path.removeprefix(f"{WORK}/")) in mounts else path
        for source, path in mounts.items()
    }


async def sessions_named(client: Client, names: Iterable[str]) -> list[Session]:
    """Return every session of those names, ended ones too, newest first; one request for 200 names."""
    wanted = sorted(set(names))
    found = []
    for start in range(0, len(wanted), _NAMES):
        found += await _list(client, f"name in {json.dumps(wanted[start : start + _NAMES])}")
    return found


async def sessions_with_prefix(client: Client, prefix: str, *, ended: bool = False) -> list[Session]:
    """Return the sessions whose names begin so, newest first; live ones alone unless `ended`."""
    pattern = prefix.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    condition = f"name like {json.dumps(pattern)}"
    if not ended:
        condition = f"({condition})" + "".join(f' & (status != "{status}")' for status in sorted(FINAL))
    return await _list(client, condition)


async def sessions_with_ids(client: Client, ids: Iterable[str], *, containers: bool = False) -> list[Session]:
    """Return the sessions of those ids, ended ones too; ids that the manager doesn't know are left out."""
    wanted = sorted(set(ids))
    found = []
    for start in range(0, len(wanted), _NAMES):
        found += await _list(client, f"id in {json.dumps(wanted[start : start + _NAMES])}", containers=containers)
    return found


async def _list(client: Client, condition: str, *, containers: bool = False) -> list[Session]:
    """Return all pages; a session that moves from one to another in between stands once."""
    fields = f"{_FIELDS} {_CONTAINERS}" if containers else _FIELDS
    text = (
        "query($limit:Int!,$offset:Int!,$filter:String){"
        'compute_session_list(limit:$limit,offset:$offset,filter:$filter,order:"-created_at")'
        f"{{items{{{fields}}} total_count}}}}"
    )
    found: dict[str, Session] = {}
    offset = 0
    while True:
        data = await client.query(text, limit=_PAGE, offset=offset, filter=condition)
        page = data["compute_session_list"]
        found |= {item["id"]: _session(item) for item in page["items"]}
        offset += len(page["items"])  # a server may give less than it is asked for
        if offset >= page["total_count"] or not page["items"]:
            return list(found.values())


async def destroy(client: Client, session: str, *, forced: bool = False, timeout: float = 10.0) -> None:
    """Ask for the end of the session of that id; one that has ended, or is not there, is well.

    403 says on 23.09 that it is starting or ending: read it again. `forced` may not answer at all.
    """
    try:
        await client.request(
            "DELETE", f"/session/{part(session)}", query={"forced": forced or None}, timeout=timeout
        )
    except ClusterError as error:
        if not error.missing:
            raise


async def logs(client: Client, session: str, timeout: float = 15.0) -> str:
    """Return what the session of that id has written so far; 500 or silence where its agent can't be asked."""
    answer = await client.get(f"/session/{part(session)}/logs", timeout=timeout)
    return str((answer.get("result") or {}).get("logs") or "")


# Reading answers --------------------------------------------------------------------------------------------


def _session(item: dict[str, Any]) -> Session:
    return Session(
        id=str(item["id"]),
        name=item["name"] or "",
        status=item["status"] or "",
        status_info=item["status_info"] or "",
        result=item["result"] or "",
        tag=item["tag"] or "",
        status_data=json_object(item["status_data"]),
        history=json_object(item["status_history"]),
        created_at=_time(item["created_at"]),
        terminated_at=_time(item["terminated_at"]),
        containers=[_container(container) for container in item.get("containers") or []],
    )


def _container(item: dict[str, Any]) -> Container:
    return Container(
        str(item["id"]),
        item["cluster_role"] or "",
        item["cluster_idx"] or 0,
        item["status"] or "",
        item["status_info"] or "",
        item["agent"] or "",
        json_object(item["status_data"]),
    )


def json_object(value: Any) -> dict[str, Any]:
    """Return a JSON object that may be wrapped in a string, {} for nothing."""
    read = json.loads(value) if isinstance(value, str) and value else value
    return read if isinstance(read, dict) else {}


def _time(value: Any) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) and value else None
