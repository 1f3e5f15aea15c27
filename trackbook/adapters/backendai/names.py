"""What sessions and folders of an installation are called on a cluster.

A name says who made the thing, so that nothing of another installation is ever touched.
"""

from __future__ import annotations

import re

LONGEST = 64
_PREFIX = "tb-"
_SESSION = re.compile(r"tb-[A-Za-z0-9]+-[0-9]+-[0-9]+")
_INSTALLATION = re.compile(r"[0-9a-f]{8}")
_PIPELINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_UNSAFE = re.compile(r"[^A-Za-z0-9]+")


def prefix(installation: str) -> str:
    """Return what every name of the installation (its id) begins with. Raises ValueError."""
    if not _INSTALLATION.fullmatch(installation):
        raise ValueError(f"{installation!r} can't be the id of an installation: it has 8 hexadecimal digits")
    return f"{_PREFIX}{installation}-"


def session(installation: str, session: str) -> str:
    """Return the cluster's name of the session `tb-<job>-<index>-<attempt>` of the log. Raises ValueError."""
    if not _SESSION.fullmatch(session):
        raise ValueError(f"{session!r} can't be the name of a session")
    return _fitting(prefix(installation) + session.removeprefix(_PREFIX))


def session_of(installation: str, name: str) -> str | None:
    """Return the log's name of a session of the cluster; None where it is not this installation's."""
    ours = prefix(installation)
    logged = _PREFIX + name.removeprefix(ours)
    return logged if name.startswith(ours) and _SESSION.fullmatch(logged) else None


def vfolder(installation: str, pipeline: str, label: str = "") -> str:
    """Return the name that the pipeline's folder is made under; `pipeline` is its id. Raises ValueError.

    It begins with what can be had of `label`, the pipeline's own name: ASCII letters and digits, as both versions
    take them. The rest makes it unique, and says whose it is.
    """
    if not _PIPELINE.fullmatch(pipeline):
        raise ValueError(f"{pipeline!r} can't be the id of a pipeline")
    rest = _fitting(prefix(installation) + pipeline)
    readable = _UNSAFE.sub("-", label).strip("-")[: LONGEST - len(rest) - 1].strip("-")
    return f"{readable}-{rest}" if readable else rest


def is_vfolder(installation: str, pipeline: str, name: str) -> bool:
    """Whether a folder of that name was made for the pipeline, under whatever label. Raises ValueError."""
    rest = vfolder(installation, pipeline)
    return name == rest or name.endswith(f"-{rest}")


def _fitting(name: str) -> str:
    if len(name) > LONGEST:
        raise ValueError(f"{name!r} is longer than the {LONGEST} characters that a cluster takes")
    return name
