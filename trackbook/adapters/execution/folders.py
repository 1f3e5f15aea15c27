"""Paths below the data directory."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from trackbook.engine.mounts import Mount
from trackbook.engine.ports import SessionInput, SessionSpec

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_SESSION = re.compile(r"[A-Za-z0-9-]{1,64}")
_SLUG_LENGTH = 48


def slug(name: str) -> str:
    """Return a name that any file system takes; not unique by itself."""
    return _UNSAFE.sub("-", name)[:_SLUG_LENGTH].strip("-.") or "task"


@lru_cache(maxsize=1024)
def session_folder(data: Path, session: str) -> Path:
    """Return the folder of a session, with spec.json, claim, exit, log and work/. Raises ValueError.

    It is kept, since it is needed seven times for each attempt, and joining paths is slow.
    """
    if not _SESSION.fullmatch(session):
        raise ValueError(f"{session!r} can't be the name of a session")
    return data / "sessions" / session


def log_file(data: Path, session: str) -> Path:
    """Return the file that has a session's output, standard output and error together."""
    return session_folder(data, session) / "log"


def vfroot(data: Path, pipeline: str) -> Path:
    """Return the folder that all tasks of a pipeline share, across its jobs."""
    return data / "pipelines" / part(pipeline) / "vfroot"


def outputs_path(job: str, index: int, task: str, attempt: int) -> str:
    """Return the outputs folder of an attempt, in the pipeline's folder. Raises ValueError.

    The index keeps names of tasks apart that have the same slug.
    """
    return f"jobs/{part(job)}/{index}-{slug(task)}/{attempt}/outputs"


def outputs(data: Path, spec: SessionSpec, source: SessionInput | None = None) -> Path:
    """Return the outputs folder of the session's attempt, or of one whose outputs it reads."""
    of = source or spec
    path = outputs_path(of.job, of.index, of.task, of.attempt)
    return data / "pipelines" / part(spec.pipeline) / path


def sources(spec: SessionSpec) -> dict[str, SessionInput]:
    """Return the attempts whose outputs the session reads, each by its place: `input1` …, `previous`."""
    found = {f"input{number}": source for number, source in enumerate(spec.inputs, 1)}
    return found | ({"previous": spec.previous} if spec.previous else {})


def vfolder(data: Path, name: str) -> Path:
    """Return the local folder that stands for a vfolder. Raises ValueError for a name that isn't one."""
    return data / "vfolders" / part(name)


def mount_source(data: Path, mount: Mount) -> Path:
    """Return the local folder that a task mounts. Raises ValueError for one that leads out of its vfolder."""
    folder = vfolder(data, mount.folder)
    path = folder / mount.subpath
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"the mount {mount.source!r} leads out of its folder, by a link")
    return path


def part(name: str) -> str:
    """Return the name if it can be one part of a path and nothing else. Raises ValueError."""
    if not name or name in {".", ".."} or "/" in name or "\0" in name or len(name.encode()) > 255:
        raise ValueError(f"{name!r} can't be the name of a folder")
    return name
