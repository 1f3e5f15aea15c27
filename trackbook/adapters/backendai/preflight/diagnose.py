"""Diagnose a cluster for `trackbook doctor`: what works, what does not, and what to do about it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx

from trackbook.adapters.backendai import names
from trackbook.adapters.backendai.api.client import Client
from trackbook.adapters.backendai.api.cluster_connection import ClusterConnection
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.proxies import proxy_for
from trackbook.adapters.backendai.api.session_calls import Version
from trackbook.adapters.backendai.api.storage import Storage
from trackbook.adapters.backendai.config import Cluster
from trackbook.adapters.backendai.preflight import snapshot
from trackbook.adapters.backendai.preflight.findings import amounts_text, there_are, word_list
from trackbook.adapters.backendai.preflight.snapshot import Snapshot
from trackbook.engine.ports import Finding

KNOWN = ((23, 9), (26, 8))
"""The releases that this adapter is tested with; those between are like one or the other."""

_SKEW_WARNED, _SKEW_TAKEN = 60, 900
"""Seconds: the difference of clocks that is reported, and the one that a manager refuses."""

_NO_STORAGE = "Files can't be read or written: look whether the storage proxy runs, and whether we can reach it."
_BY_PROXY = ("unreachable", "timeout", "broken", "proxy", "not-json")
"""What may be a proxy's fault as well as the manager's."""
_STREAM = 10.0
"""Seconds for the event stream to open."""


async def diagnose(connection: ClusterConnection) -> list[Finding]:
    """Look at all that sessions need of the cluster; each line says what to do where something is wrong."""
    cluster, client = connection.cluster, connection.client
    try:
        version = await connection.version()
    except ClusterError as error:
        return [await _why_unreachable(cluster, error)]
    found = [Finding("endpoint", cluster.endpoint), *_proxies(cluster), *_clock(client), _version(version)]
    try:
        seen = await snapshot.read_snapshot(client, version, cluster.project)
    except ClusterError as error:
        return [*found, error_finding(cluster, error)]
    found += _from_snapshot(cluster, seen)
    found += await asyncio.gather(_storage(connection, seen), _stream(client))
    return found


# Reaching it ------------------------------------------------------------------------------------------------


def error_finding(cluster: Cluster, error: ClusterError) -> Finding:
    """Return what it means that the cluster does not answer, or not to us."""
    words = error.message.lower()
    if error.is_clock:
        return Finding("clock", error.message, "fail", "Set this machine's clock, by NTP say, or the cluster's.")
    if error.status == 401 or error.slug == "auth-failed":
        if "not found" in words:
            hint = f"Look at `access_key` of the cluster {cluster.name!r}: the manager knows no such key."
        elif "mismatch" in words:
            hint = f"Look at `secret_key` of the cluster {cluster.name!r}: it does not fit the access key."
        else:
            hint = "The key may have been made inactive: ask the cluster's operator."
        return Finding("key", error.message, "fail", hint)
    if error.status == 403:
        return Finding("key", error.message, "fail", "The key may not do this: ask the cluster's operator.")
    hint = {
        "unreachable": f"Look at `endpoint` ({cluster.endpoint}), and whether the manager runs.",
        "timeout": "Something listens there and does not answer: look at the manager, or a proxy between.",
        "not-a-manager": f"Look at `endpoint` ({cluster.endpoint}): it is the manager's API, not its web page.",
        "not-json": f"Look at `endpoint` ({cluster.endpoint}): it is the manager's API, not its web page.",
    }.get(error.slug, "Ask the cluster's operator.")
    return Finding("endpoint", error.message, "fail", hint)


async def _why_unreachable(cluster: Cluster, error: ClusterError) -> Finding:
    """Tell proxies, names that don't resolve, closed ports and certificates apart."""
    proxy = proxy_for(httpx.URL(cluster.endpoint))
    if proxy and (error.slug in _BY_PROXY or error.slug.startswith("http-")):
        hint = f"Look at the variable {proxy.variable}; hosts in NO_PROXY are reached without a proxy."
        return Finding("proxy", error.message, "fail", hint)
    host = urlsplit(cluster.endpoint).hostname or ""
    if error.slug == "unreachable" and not await _resolves(host):
        return Finding(
            "endpoint",
            f"the name {host} can't be resolved",
            "fail",
            f"Look at `endpoint` ({cluster.endpoint}), and at this machine's DNS.",
        )
    if "CERTIFICATE_VERIFY_FAILED" in error.message:
        hint = "Use a certificate that this machine trusts (SSL_CERT_FILE names another authority's)."
        return Finding("endpoint", f"its certificate is not trusted: {error.message}", "fail", hint)
    if "SSL" in error.message or "TLS" in error.message:
        hint = f"Look at `endpoint` ({cluster.endpoint}): does it speak http, not https?"
        return Finding("endpoint", f"there is no TLS: {error.message}", "fail", hint)
    if error.status == 404:
        hint = f"Look at `endpoint` ({cluster.endpoint}): it is the address of the manager's API, without a path."
        return Finding("endpoint", f"there is no manager: {error.message}", "fail", hint)
    return error_finding(cluster, error)


def _proxies(cluster: Cluster) -> Iterator[Finding]:
    if proxy := proxy_for(httpx.URL(cluster.endpoint)):
        yield Finding("proxy", f"requests go through {proxy.words}")


async def _resolves(host: str) -> bool:
    try:
        async with asyncio.timeout(_STREAM):
            await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError):
        return False
    return True


def _clock(client: Client) -> Iterator[Finding]:
    if client.skew is None:
        return
    seconds = abs(client.skew)
    words = f"the cluster's clock is {seconds:.0f} s {'ahead of' if client.skew > 0 else 'behind'} ours"
    hint = "Set this machine's clock, by NTP say, or the cluster's."
    if seconds > _SKEW_TAKEN:
        more = f", and it takes {_SKEW_TAKEN // 60} minutes: requests are dated by its clock"
        yield Finding("clock", words + more, "fail", hint)
    elif seconds > _SKEW_WARNED:
        yield Finding("clock", words, "warn", hint)
    else:
        yield Finding("clock", words if seconds else "the same as ours")


def _version(version: Version) -> Finding:
    words = f"{version.manager}, API {version.api}"
    tested = " and ".join(f"{year}.{month:02}" for year, month in KNOWN)
    if version.number in KNOWN:
        return Finding("manager", words)
    if KNOWN[0] < version.number < KNOWN[-1]:
        return Finding("manager", f"{words}, between the ones this was tested with ({tested})")
    return Finding("manager", words, "warn", f"This was tested with {tested}; tell us how it goes.")


# What it has ------------------------------------------------------------------------------------------------


def _from_snapshot(cluster: Cluster, seen: Snapshot) -> Iterator[Finding]:
    key = seen.key
    who = f"of {key.email or key.user}, {key.role or 'user'}, policy {key.policy or '?'}"
    if key.active:
        yield Finding("key", who)
    else:
        yield Finding("key", f"{who}: it is not active", "fail", "Ask the cluster's operator.")
    if cluster.domain == key.domain:
        yield Finding("domain", cluster.domain)
    else:
        hint = f"Set domain = {key.domain!r} for the cluster {cluster.name!r}."
        yield Finding("domain", f"the key belongs to {key.domain!r}, not to {cluster.domain!r}", "fail", hint)
    yield _project(cluster, seen)
    yield from _groups(cluster, seen)
    yield from _images(cluster, seen)
    if seen.slots is not None:
        agents = "" if seen.agents is None else f"; {_agents(seen)}"
        verdict = "warn" if seen.agents == [] else "ok"
        hint = "Sessions wait until one is there." if seen.agents == [] else ""
        yield Finding("resources", f"{word_list(sorted(seen.slots))}{agents}", verdict, hint)  # type: ignore[arg-type]
    for problem in seen.problems:
        yield Finding("cluster", problem, "warn", "Sessions may work all the same.")


def _project(cluster: Cluster, seen: Snapshot) -> Finding:
    mine = sorted(seen.key.projects)
    known = there_are(cluster.project, mine, "of the key's user")
    if seen.rules is not None and seen.rules.project is None:
        return Finding("project", f"there is no project {cluster.project!r}", "fail", known)
    if seen.rules and seen.rules.project and not seen.rules.project.active:
        return Finding("project", f"{cluster.project!r} is not active", "fail", known)
    if cluster.project not in mine and not seen.key.admin:
        return Finding("project", f"the key's user is not in {cluster.project!r}", "fail", known)
    return Finding("project", cluster.project)


def _groups(cluster: Cluster, seen: Snapshot) -> Iterator[Finding]:
    if seen.groups is None:
        return
    if not seen.groups:
        yield Finding("scaling groups", "the key may use none", "fail", "Ask the cluster's operator.")
    elif cluster.scaling_group and cluster.scaling_group not in seen.groups:
        hint = there_are(cluster.scaling_group, seen.groups)
        yield Finding("scaling groups", f"there is no {cluster.scaling_group!r}", "fail", hint)
    else:
        yield Finding("scaling groups", word_list(seen.groups))


def _images(cluster: Cluster, seen: Snapshot) -> Iterator[Finding]:
    if seen.images is None:
        return
    known = sorted({image.canonical for image in seen.images})
    if not known:
        yield Finding(
            "images", "the cluster has none that the key may use", "fail", "Ask the cluster's operator."
        )
    elif cluster.image and cluster.image not in known:
        hint = there_are(cluster.image, known)
        yield Finding("images", f"it does not have {cluster.image}, which tasks without one use", "warn", hint)
    else:
        yield Finding("images", f"{len(known):,}: {word_list(known, 3)}")


def _agents(seen: Snapshot) -> str:
    agents = seen.agents or []
    total: dict[str, float] = {}
    for agent in agents:
        for slot, amount in agent.slots.items():
            total[slot] = total.get(slot, 0) + amount
    return f"{len(agents)} agent{'' if len(agents) == 1 else 's'} with {amounts_text(total)}"


# The storage proxy and the events ---------------------------------------------------------------------------


async def _storage(connection: ClusterConnection, seen: Snapshot) -> Finding:
    """Look at the volumes, and try the storage proxy where there is a folder to try it with."""
    if seen.volumes is None:
        return Finding("storage", "the manager can't ask its storage proxies", "fail", _NO_STORAGE)
    if not seen.volumes.allowed:
        return Finding("storage", "the key may use no volume", "fail", "Ask the cluster's operator.")
    if connection.cluster.vfolder_host and connection.cluster.vfolder_host not in seen.volumes.allowed:
        hint = there_are(connection.cluster.vfolder_host, seen.volumes.allowed)
        return Finding("storage", f"there is no volume {connection.cluster.vfolder_host!r}", "fail", hint)
    ours = [each for each in seen.folders or [] if each.owned and not each.trashed and not each.going]
    prefix = names.prefix(connection.installation)
    ours.sort(key=lambda each: prefix not in each.name)
    words = f"volumes {word_list(seen.volumes.allowed)}"
    if not ours:
        return Finding("storage", f"{words}; there is no folder yet to try the storage proxy with")
    return await _proxy(connection.client, ours[0].name, words)


async def _proxy(client: Client, folder: str, words: str) -> Finding:
    """Ask for a file that isn't there: the manager's word leads to the storage proxy, which says so."""
    try:
        await Storage(client).read_small(folder, ".trackbook-looks-for-nothing")
    except ClusterError as error:
        if 400 <= error.status < 500:  # the folder has gone meanwhile, or may not be read
            return Finding("storage", f"{words}; the storage proxy could not be tried: {error.message}")
        return Finding("storage", f"the storage proxy: {error.message}", "fail", _NO_STORAGE)
    return Finding("storage", f"{words}; the storage proxy answers")


async def _stream(client: Client) -> Finding:
    hint = (
        "Without it ends of sessions are seen by asking, later: look for a proxy between that holds streams back."
    )
    try:
        async with asyncio.timeout(_STREAM), client.stream("/events/session", silence=_STREAM):
            return Finding("events", "the stream of events opens")
    except TimeoutError:
        return Finding("events", f"the stream of events did not open within {_STREAM:.0f} s", "warn", hint)
    except ClusterError as error:
        return Finding("events", f"the stream of events: {error.message}", "warn", hint)
    except httpx.HTTPError as error:
        return Finding("events", f"the stream of events broke: {error!r}", "warn", hint)
