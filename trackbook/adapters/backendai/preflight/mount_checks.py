"""Check the virtual folders that sessions mount: the user's and the pipeline's."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from trackbook.adapters.backendai.config import Cluster
from trackbook.adapters.backendai.preflight.findings import Findings, there_are
from trackbook.adapters.backendai.preflight.snapshot import Limits, Snapshot
from trackbook.engine.mounts import Mount, overlap, parse
from trackbook.engine.names import did_you_mean
from trackbook.engine.ports import FolderState, SessionSpec

_RESERVED = frozenset((".terminfo", ".jupyter", ".tmux.conf", ".ssh"))
_STARTUP_FILE = re.compile(r"\.[a-z0-9]+(rc|_profile)")


def mounts(findings: Findings, seen: Snapshot, spec: SessionSpec) -> None:
    """Look whether the folders that the task names are there, may be used, and don't meet in one place."""
    by_name = {each.name: each for each in seen.folders or [] if not each.trashed and not each.going}
    before: list[tuple[str, Mount]] = []
    for text in spec.mounts:
        try:
            mount = parse(text)
        except ValueError:  # reported with the session
            continue
        _place(findings, text, mount, before, spec.task)
        before.append((text, mount))
        if seen.folders is None:
            continue
        name = mount.folder
        if name not in by_name:
            _missing(findings, seen, name, spec)
        elif by_name[name].permission == "ro":
            findings.add("mounts", f"the folder {name!r} can't be written to", "warn", "", spec.task)
        if name in by_name and not _may(seen, by_name[name].host, "mount-in-session"):
            words = f"folders on {by_name[name].host} may not be mounted"
            findings.add("mounts", words, "fail", "Ask the cluster's operator.", spec.task)


def _place(findings: Findings, text: str, mount: Mount, before: Sequence[tuple[str, Mount]], task: str) -> None:
    """Look whether a mount meets one before it, or what the cluster keeps for itself."""
    for other, there in before:
        if overlap(mount.path, there.path):
            words = f"{text!r} and {other!r} are mounted at one another's place"
            findings.add("mounts", words, "fail", "Give them aliases: FOLDER:ALIAS.", task)
        if overlap(mount.source, there.source):
            words = f"{text!r} and {other!r} have files in common, which a cluster mounts once"
            findings.add("mounts", words, "fail", "Mount the folder once, or parts of it apart.", task)
    if _is_reserved(mount):
        words = f"{text!r}: the cluster keeps {mount.path} for itself"
        findings.add("mounts", words, "fail", "Choose another alias: FOLDER:ALIAS.", task)


def _is_reserved(mount: Mount) -> bool:
    """Whether managers refuse to mount anything there; seen in the sources of 23.09 and 26.8 alike."""
    return mount.below_work in _RESERVED or bool(_STARTUP_FILE.fullmatch(mount.below_work))


def model_folder(findings: Findings, seen: Snapshot, model: str, spec: SessionSpec) -> None:
    """Look whether the folder of a model, named or by its id, is there."""
    if not any(model in (each.name, each.id) and not each.trashed for each in seen.folders or []):
        _missing(findings, seen, model, spec)


def _missing(findings: Findings, seen: Snapshot, name: str, spec: SessionSpec) -> None:
    found = seen.folders or []
    trashed = any(each.name == name and each.trashed for each in found)
    words = f"the folder {name!r} is {'in the trash' if trashed else 'not there, or not yours to use'}"
    known = [each.name for each in found if not each.trashed and not each.going]
    findings.add("mounts", words, "fail", did_you_mean(name, known), spec.task)


def pipeline_folder(
    findings: Findings, seen: Snapshot, cluster: Cluster, spec: SessionSpec, folder: FolderState | None
) -> None:
    """The pipeline's own folder: there, or to be made."""
    if folder is None:
        return
    if folder.state == "present":
        findings.add("folder", f"the pipeline's folder is {folder.name}", "ok")
    elif folder.state == "missing":
        findings.add(
            "folder",
            f"the pipeline's folder {folder.name} was removed on the cluster",
            "fail",
            f"`trackbook files create {shlex.quote(spec.pipeline_name)}` makes it again, empty.",
        )
    elif seen.volumes is not None:
        host = cluster.vfolder_host or seen.volumes.default
        own = sum(each.owned and not each.project for each in seen.folders or [])
        most = seen.rules.folders if seen.rules else 0
        if host not in seen.volumes.allowed:
            words = (
                f"the storage volume {host!r} is not one that the key may use" if host else "no volume is there"
            )
            findings.add("folder", words, "fail", there_are(host, seen.volumes.allowed))
        elif not (_may(seen, host, "create-vfolder") and _may(seen, host, "mount-in-session")):
            words = f"the key may not make folders on {host}, or not mount them"
            findings.add("folder", words, "fail", "Ask the cluster's operator, or set `vfolder_host`.")
        elif most and own >= most:
            words = f"the pipeline's folder can't be made: the user has {own} folders, and {most} are allowed"
            findings.add("folder", words, "fail", "Delete one, or ask the cluster's operator.")
        else:
            findings.add("folder", f"the pipeline's folder will be made on {host}", "ok")


def _may(seen: Snapshot, host: str, what: str) -> bool:
    """Whether the key, its project or its domain allows something on a volume; yes where that isn't known."""
    parts: list[Limits | None] = [seen.rules.domain, seen.rules.project] if seen.rules else []
    rights = [each.hosts for each in parts if each] + ([seen.policy.hosts] if seen.policy else [])
    return not rights or any(what in each.get(host, ()) for each in rights)
