"""From a session's specification to the session that a cluster is asked for; pure."""

from __future__ import annotations

import hashlib

import msgspec

from trackbook.adapters.backendai import names
from trackbook.adapters.backendai.api.session_calls import NewSession, Version
from trackbook.adapters.backendai.config import Cluster
from trackbook.adapters.backendai.session import exit_record, multiline_variables, unpacking, wrapper
from trackbook.adapters.execution import folders, variables
from trackbook.engine import mounts
from trackbook.engine.ports import SessionInput, SessionSpec

PIPELINE = "/pipeline"
_TAG = "tb1-"
"""What tags begin with; the number changes with how they are made."""


class NoImage(ValueError):
    """Neither the task nor the cluster's configuration names an image."""


def outputs(spec: SessionSpec, source: SessionInput | None = None) -> str:
    """Return the outputs folder of the attempt, or of one whose outputs it reads, in the pipeline's folder."""
    of = source or spec
    return folders.outputs_path(of.job, of.index, of.task, of.attempt)


def folders_for(spec: SessionSpec) -> list[str]:
    """Return the folders that have to be there before the session is made; mounts don't make them.

    An attempt that ran has its own already; a skipped task has none, nor an attempt that never began.
    """
    read = [outputs(spec, source) for source in folders.sources(spec).values()]
    code = [exit_record.ARCHIVES] if spec.code else []
    return ["vfroot", exit_record.folder(spec.job), *code, outputs(spec), *dict.fromkeys(read)]


def tag(spec: SessionSpec) -> str:
    """Return a digest of what the session runs, by which one that is found under its name is known as ours.

    It can be read by others, so the values of variables, which may be secrets, have no part in it.
    """
    identity = [
        spec.session,
        spec.pipeline,
        spec.task,
        spec.command,
        sorted(spec.variables),
        [(source.task, source.skipped) for source in spec.inputs],
        spec.mounts,
        spec.image,
        sorted(spec.resources.items()),
        spec.shmem,
        spec.cluster_mode,
        spec.cluster_size,
        *([spec.code] if spec.code else []),
    ]
    return _TAG + hashlib.sha256(msgspec.json.encode(identity)).hexdigest()[:32]


def is_ours(seen: str, spec: SessionSpec) -> bool:
    """Whether the tag of a session that was found by its name is that of this specification."""
    return not seen.startswith(_TAG) or seen == tag(spec)


def new_session(
    spec: SessionSpec,
    cluster: Cluster,
    installation: str,
    version: Version,
    startup_command: str,
    *,
    folder: str = "",
) -> NewSession:
    """Return the session to be made; `folder` is the pipeline's, where it has not its usual name.

    Raises ValueError for what no session can have.
    """
    folder = folder or names.vfolder(installation, spec.pipeline)
    image = spec.image or cluster.image
    if not image:
        raise NoImage(
            f"task {spec.task!r} names no image, and neither does the configuration of cluster {cluster.name!r}"
        )
    own = [mounts.parse(text) for text in spec.mounts]
    read_only = [f"{folder}/{outputs(spec, source)}" for source in folders.sources(spec).values()]
    if spec.code:
        read_only.append(f"{folder}/{exit_record.ARCHIVES}")
    return NewSession(
        name=names.session(installation, spec.session),
        image=image,
        command=startup_command,
        tag=tag(spec),
        project=spec.project or cluster.project,
        domain=cluster.domain,
        scaling_group=spec.scaling_group or cluster.scaling_group,
        resources=dict(spec.resources),
        shmem=spec.shmem,
        variables=multiline_variables.escape(
            {name: value for name, value in environment(spec).items() if value}
        ),  # see startup
        mounts=_pipeline_mounts(spec, folder) | {mount.source: mount.path for mount in own},
        read_only=list(dict.fromkeys(read_only)) if version.mount_options else [],
        cluster_mode=spec.cluster_mode,
        cluster_size=spec.cluster_size,
    )


def environment(spec: SessionSpec) -> dict[str, str]:
    """Return the variables that the command sees beside those of the cluster. Raises ValueError."""
    found = spec.variables | variables.of(spec)
    for name in ("outputs", "vfroot", *folders.sources(spec)):
        found[f"PIPELINE_{name.upper()}"] = f"{PIPELINE}/{name}"
    variables.check(found)
    return found


def startup(spec: SessionSpec) -> tuple[str, bytes]:
    """Return the start-up command, and what has to be uploaded as `.command` where the task's is too long.

    It sets the variables that are empty: a session with one of those is a 500 on 23.09.
    """
    command = spec.command or ":"
    empty = sorted(name for name, value in environment(spec).items() if not value)
    given = wrapper.startup(exit_record.name(spec), spec.attempt, command, empty=empty, code=spec.code)
    if wrapper.fits(given):
        return given, b""
    given = wrapper.startup(exit_record.name(spec), spec.attempt, "", empty=empty, code=spec.code)
    return given, command.encode()


def _pipeline_mounts(spec: SessionSpec, folder: str) -> dict[str, str]:
    read = {
        f"{folder}/{outputs(spec, source)}": f"{PIPELINE}/{name}"
        for name, source in folders.sources(spec).items()
    }
    found = read | {
        f"{folder}/{outputs(spec)}": f"{PIPELINE}/outputs",
        f"{folder}/vfroot": f"{PIPELINE}/vfroot",
        f"{folder}/{exit_record.folder(spec.job)}": wrapper.RECORDS,
    }
    if spec.code:
        found[f"{folder}/{exit_record.ARCHIVES}"] = unpacking.ARCHIVES
    return found
