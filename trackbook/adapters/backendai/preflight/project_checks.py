"""Check a run's sessions before it starts: take one snapshot of the cluster a project, then check against it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from trackbook.adapters.backendai.api.cluster_connection import ClusterConnection
from trackbook.adapters.backendai.api.errors import ClusterError
from trackbook.adapters.backendai.api.storage import Storage
from trackbook.adapters.backendai.preflight import session_checks, snapshot
from trackbook.adapters.backendai.preflight.diagnose import error_finding
from trackbook.adapters.backendai.preflight.findings import ORDER
from trackbook.engine.mounts import parse
from trackbook.engine.ports import ExecutorUnavailable, Finding, Folders, FolderState, SessionSpec


async def check(connection: ClusterConnection, folders: Folders, specs: Sequence[SessionSpec]) -> list[Finding]:
    """Return what would fail of these sessions; that the cluster can't be asked is a finding, too."""
    by_project: dict[str, list[SessionSpec]] = {}
    for spec in specs:
        by_project.setdefault(spec.project or connection.cluster.project, []).append(spec)
    found: list[Finding] = []
    try:
        for its in by_project.values():
            found += await _of_project(connection, folders, its)
    except ClusterError as error:
        return [error_finding(connection.cluster, error)]
    return sorted(dict.fromkeys(found), key=lambda each: ORDER.index(each.verdict))


async def _of_project(
    connection: ClusterConnection, folders: Folders, specs: Sequence[SessionSpec]
) -> list[Finding]:
    project = specs[0].project or connection.cluster.project
    seen = await snapshot.read_snapshot(connection.client, await connection.version(), project)
    known = {image.canonical for image in seen.images or []}
    named = {spec.image or connection.cluster.image for spec in specs} - {""}
    aliases = await snapshot.aliases(connection.client, sorted(named - known)) if seen.images is not None else {}
    found = session_checks.check(
        seen,
        connection.cluster,
        connection.installation,
        specs,
        aliases=aliases,
        folder=await _folder(folders, specs[0].pipeline),
    )
    return found + await _missing_parts(Storage(connection.client), specs)


async def _missing_parts(storage: Storage, specs: Sequence[SessionSpec]) -> list[Finding]:
    """Look for the parts of folders that are mounted: a session whose part is missing never starts."""
    tasks: dict[tuple[str, str], str] = {}
    for spec in specs:
        for text in spec.mounts:
            with suppress(ValueError):  # the checks tell
                mount = parse(text)
                if mount.subpath:
                    tasks.setdefault((mount.folder, mount.subpath), spec.task)
    found = []
    for (folder, subpath), task in tasks.items():
        try:
            there = await storage.find(folder, subpath)
        except ClusterError:  # the folder itself can't be looked at, which the checks tell
            continue
        if there is None:
            words = f"the folder {folder!r} has no {subpath!r} in it"
            found.append(Finding("mounts", words, "fail", "Make it before the run, or mount another part.", task))
    return found


async def _folder(folders: Folders, pipeline: str) -> FolderState | None:
    try:
        return await folders.state(pipeline)
    except ExecutorUnavailable:  # the snapshot says why
        return None
