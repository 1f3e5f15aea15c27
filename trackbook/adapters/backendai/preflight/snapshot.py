"""A snapshot of a cluster for the checks, read in one go; a part that can't be read is left out.

Seen to work on 23.09.10 and 26.8.3 alike, for an ordinary user too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar

from msgspec import Struct, field

from trackbook.adapters.backendai.api import inventory
from trackbook.adapters.backendai.api.client import Client
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.inventory import Image, Key, Policy, Usage
from trackbook.adapters.backendai.api.session_calls import Version, json_object
from trackbook.adapters.backendai.api.storage import Folder, Storage
from trackbook.engine import amounts

T = TypeVar("T")
_AGENTS = 1000


class Agent(Struct, frozen=True):
    """A machine of the cluster that lives and takes sessions; `slots` is all that it has, memory in bytes."""

    group: str
    architecture: str
    slots: dict[str, float]
    used: dict[str, float]


class Limits(Struct, frozen=True):
    """What a domain or a project allows; `hosts` are the storage volumes with what may be done there."""

    active: bool
    slots: dict[str, float]
    hosts: dict[str, list[str]]
    registries: list[str] = field(default_factory=list)


class Rules(Struct, frozen=True):
    """The limits beside those of the key; None where there is no such domain or project.

    `folders` is how many folders a user may have, 0 for no limit.
    """

    domain: Limits | None
    project: Limits | None
    folders: int


class Volumes(Struct, frozen=True):
    """The storage volumes that the key may use, and which one is taken where none is named."""

    default: str
    allowed: list[str]


class Snapshot(Struct, frozen=True):
    """A cluster as the key sees it for one project; None is what could not be read, `problems` says why."""

    version: Version
    key: Key
    policy: Policy | None
    slots: dict[str, str] | None
    images: list[Image] | None
    groups: list[str] | None
    usage: Usage | None
    rules: Rules | None
    agents: list[Agent] | None
    volumes: Volumes | None
    folders: list[Folder] | None
    problems: list[str]


async def read_snapshot(client: Client, version: Version, project: str) -> Snapshot:
    """Read it all at once. Raises ClusterError where the key is not taken."""
    key = await inventory.key(client)  # alone: nothing else could be read without it
    problems: list[str] = []
    (policy, slots, images, groups), (usage, rules, agents, volumes, folders) = await asyncio.gather(
        asyncio.gather(
            _try_read(inventory.policy(client), "the limits of the key", problems),
            _try_read(inventory.slots(client), "the kinds of resources", problems),
            _try_read(inventory.images(client), "the images", problems),
            _try_read(inventory.scaling_groups(client, project), "the scaling groups", problems),
        ),
        asyncio.gather(
            _try_read(inventory.usage(client, project), "what is left of the limits", problems, refusals=False),
            _try_read(rules_of(client, key.domain, project), "the limits of domain and project", problems),
            _try_read(agents_of(client), "the agents", problems, refusals=False),  # hidden from users at times
            _try_read(volumes_of(client), "the storage volumes", problems),
            _try_read(Storage(client).folders(), "the virtual folders", problems),
        ),
    )
    return Snapshot(version, key, policy, slots, images, groups, usage, rules, agents, volumes, folders, problems)


async def _try_read(reading: Awaitable[T], what: str, problems: list[str], *, refusals: bool = True) -> T | None:
    """Return what is read, None where it can't be; note why, without `refusals` only if something broke."""
    try:
        return await reading
    except ClusterError as error:
        if refusals or (not 400 <= error.status < 500 and error.slug != "graphql"):
            problems.append(f"{what} can't be read, and was not checked: {error.message}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # an answer of another shape than we know
        problems.append(f"{what} can't be read, and was not checked: the answer has another form ({error!r})")
    return None


async def rules_of(client: Client, domain: str, project: str) -> Rules:
    """Return the limits of the domain and the project."""
    fields = "is_active total_resource_slots allowed_vfolder_hosts"
    data = await client.query(
        "query($domain:String,$project:String!){user_resource_policy{max_vfolder_count}"
        f" domain(name:$domain){{{fields} allowed_docker_registries}}"
        f" groups_by_name(name:$project,domain_name:$domain){{{fields}}}}}",
        domain=domain,
        project=project,
    )
    projects = data["groups_by_name"] or []
    return Rules(
        _limits(data["domain"]),
        _limits(projects[0] if projects else None),
        await _most_folders(client, data["user_resource_policy"]),
    )


async def _most_folders(client: Client, policy: dict[str, Any] | None) -> int:
    """Return how many folders the user may have, 0 for no limit; on 23.09 the key's policy says it."""
    if most := (policy or {}).get("max_vfolder_count"):
        return int(most)
    with contextlib.suppress(ClusterError):  # newer managers have no such field
        data = await client.query("query{keypair_resource_policy{max_vfolder_count}}")
        return int((data["keypair_resource_policy"] or {}).get("max_vfolder_count") or 0)
    return 0


async def agents_of(client: Client) -> list[Agent]:
    """Return the agents that take sessions; some clusters hide them from users (ClusterError)."""
    text = (
        'query($limit:Int!,$offset:Int!){agent_summary_list(limit:$limit,offset:$offset,status:"ALIVE"){items{'
        "scaling_group schedulable architecture available_slots occupied_slots} total_count}}"
    )
    found: list[dict[str, Any]] = []
    while True:
        page = (await client.query(text, limit=_AGENTS, offset=len(found)))["agent_summary_list"]
        found += page["items"]
        if len(found) >= page["total_count"] or not page["items"]:
            break
    return [
        Agent(
            item["scaling_group"] or "",
            item["architecture"] or "",
            numbers(json_object(item["available_slots"])),
            numbers(json_object(item["occupied_slots"])),
        )
        for item in found
        if item["schedulable"]
    ]


async def volumes_of(client: Client) -> Volumes:
    """Return the storage volumes that the key may use; the manager asks the storage proxies for them."""
    answer = await client.get("/folders/_/hosts")
    return Volumes(answer.get("default") or "", list(answer.get("allowed") or []))


async def aliases(client: Client, images: Iterable[str]) -> dict[str, str]:
    """Return the full names of images that are named by an alias; those that there are not are left out."""
    found = {}
    for image in images:
        try:
            data = await client.query("query($r:String!){image(reference:$r){registry name tag}}", r=image)
        except ClusterError as error:
            if error.slug != "graphql":
                raise
            continue
        if item := data["image"]:
            found[image] = f"{item['registry']}/{item['name']}:{item['tag']}"
    return found


def numbers(slots: dict[str, Any]) -> dict[str, float]:
    """Return amounts as numbers, memory in bytes; one that is no number (`Infinity`: no limit) is left out."""
    read = {slot: amounts.size(amount) for slot, amount in slots.items()}
    parts = {slot: amounts.amount(amount) for slot, amount in slots.items()}
    return {
        slot: float(number)
        for slot in slots
        if (number := parts[slot] if parts[slot] is not None else read[slot]) is not None
    }


def _limits(item: dict[str, Any] | None) -> Limits | None:
    if item is None:
        return None
    return Limits(
        bool(item["is_active"]),
        numbers(json_object(item["total_resource_slots"])),
        json_object(item["allowed_vfolder_hosts"]),
        list(item.get("allowed_docker_registries") or []),
    )
