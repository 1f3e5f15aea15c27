"""What a cluster has, and what the key may use of it; each call raises ClusterError.

Seen to work on 23.09.10 and 26.8.3 alike, for an ordinary user too.
"""

from __future__ import annotations

import math
from typing import Any

from msgspec import Struct

from trackbook.adapters.backendai.api.client import Client
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.session_calls import json_object


class Image(Struct, frozen=True):
    """An image that the cluster knows; `limits` is slot -> (least, most), '' where there is none."""

    canonical: str
    architecture: str
    installed: bool
    limits: dict[str, tuple[str, str]]
    labels: dict[str, str]


class Policy(Struct, frozen=True):
    """What the key may use. `slots` is slot -> limit; one that isn't there has none."""

    name: str
    slots: dict[str, str]
    concurrent_sessions: int
    containers_per_session: int
    session_lifetime: int
    hosts: dict[str, list[str]]


class Key(Struct, frozen=True):
    """The keypair and its user. `rate_limit` is requests in 15 minutes."""

    active: bool
    admin: bool
    policy: str
    sessions: int
    rate_limit: int
    user: str
    email: str
    role: str
    domain: str
    projects: dict[str, str]
    """Name -> id of the projects that the user belongs to."""


class Usage(Struct, frozen=True):
    """What is left: slot -> amount, `Infinity` and `NaN` as the manager writes them left out (no limit)."""

    key_limits: dict[str, float]
    key_left: dict[str, float]
    project_left: dict[str, float]
    group_left: dict[str, dict[str, float]]
    """For each scaling group."""


async def slots(client: Client) -> dict[str, str]:
    """Return the kinds of resources that the cluster has, with their units (`count`, `bytes`, `unique`)."""
    found: dict[str, str] = await client.get("/config/resource-slots")
    return found


async def scaling_groups(client: Client, project: str) -> list[str]:
    """Return the scaling groups that the key may use for the project."""
    answer = await client.get("/scaling-groups", {"group": project})
    return [group["name"] for group in answer["scaling_groups"]]


async def images(client: Client) -> list[Image]:
    """Return the images that the key may use."""
    fields = "name registry tag architecture installed labels{key value} resource_limits{key min max}"
    try:
        data = await client.query(f"query{{images{{{fields} project}}}}")
    except ClusterError as error:
        if error.slug != "graphql":
            raise
        data = await client.query(f"query{{images{{{fields}}}}}")  # before `project` came, `name` had it in it
    return [_image(item) for item in data["images"] or []]


async def policy(client: Client) -> Policy:
    """Return the limits of the key."""
    data = await client.query(
        "query{keypair_resource_policy{name total_resource_slots max_concurrent_sessions"
        " max_containers_per_session max_session_lifetime allowed_vfolder_hosts}}"
    )
    item = data["keypair_resource_policy"]
    return Policy(
        item["name"],
        json_object(item["total_resource_slots"]),
        item["max_concurrent_sessions"] or 0,
        item["max_containers_per_session"] or 0,
        item["max_session_lifetime"] or 0,
        json_object(item["allowed_vfolder_hosts"]),
    )


async def key(client: Client) -> Key:
    """Return what the manager knows of the key and its user."""
    data = await client.query(
        "query{keypair{is_active is_admin resource_policy concurrency_used rate_limit}"
        " user{username email role domain_name groups{id name}}}"
    )
    pair, user = data["keypair"], data["user"]
    return Key(
        bool(pair["is_active"]),
        bool(pair["is_admin"]),
        pair["resource_policy"] or "",
        pair["concurrency_used"] or 0,
        pair["rate_limit"] or 0,
        user["username"] or "",
        user["email"] or "",
        user["role"] or "",
        user["domain_name"] or "",
        {group["name"]: str(group["id"]) for group in user["groups"] or []},
    )


async def usage(client: Client, project: str, scaling_group: str = "") -> Usage:
    """Return what the key, the project and each scaling group have left. Raises ClusterError for unknown ones."""
    body = {"group": project} | ({"scaling_group": scaling_group} if scaling_group else {})
    answer = await client.request("POST", "/resource/check-presets", body=body, changes=False)
    groups = answer.get("scaling_groups") or {}
    return Usage(
        _amounts(answer.get("keypair_limits")),
        _amounts(answer.get("keypair_remaining")),
        _amounts(answer.get("group_remaining")),
        {name: _amounts(group.get("remaining")) for name, group in groups.items()},
    )


def _image(item: dict[str, Any]) -> Image:
    project = item.get("project") or ""
    name = item["name"] if not project or item["name"].startswith(f"{project}/") else f"{project}/{item['name']}"
    return Image(
        f"{item['registry']}/{name}:{item['tag']}",
        item["architecture"] or "",
        bool(item["installed"]),
        {
            limit["key"]: (str(limit["min"] or ""), str(limit["max"] or ""))
            for limit in item["resource_limits"] or []
        },
        {label["key"]: label["value"] for label in item["labels"] or []},
    )


def _amounts(value: Any) -> dict[str, float]:
    read = {slot: float(amount) for slot, amount in (value or {}).items()}
    return {slot: amount for slot, amount in read.items() if math.isfinite(amount)}
