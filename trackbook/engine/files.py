"""Paths in a pipeline's folder, as users give them."""

from __future__ import annotations

import stat

from trackbook.engine.ports import UnsafePath

LONGEST_PATH, LONGEST_NAME = 4096, 255
"""Bytes; what a file system takes."""
OURS = ".trackbook"
"""The folder at the root of a pipeline's folder that holds what Trackbook itself keeps there; never shown."""


def below_root(path: str) -> str:
    """Return a clean path of a folder in the pipeline's folder; raises UnsafePath for that folder itself."""
    path = clean(path)
    if not path:
        raise UnsafePath("the pipeline's folder holds what is Trackbook's own too: name a folder in it")
    return path


def runnable(mode: int) -> int:
    """Return a file's mode with which everyone who may read the file may also run it."""
    return stat.S_IMODE(mode) | (mode & 0o444) >> 2


def clean(path: str) -> str:
    """Return the path with one `/` between its parts and without `.`; '' is the folder itself.

    Raises UnsafePath for one that leads out, or that no file system takes.
    """
    if path.startswith("/"):
        raise UnsafePath(f"{path!r} begins with '/': paths are relative to the pipeline's folder")
    if "\0" in path:
        raise UnsafePath(f"{path!r} has a NUL character")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UnsafePath(f"{path!r} leads out of the pipeline's folder, or may: it has '..'")
    if parts[:1] == [OURS]:
        raise UnsafePath(f"{OURS} belongs to Trackbook itself")
    try:
        lengths = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        raise UnsafePath(f"{path!r} is not Unicode text") from None
    if max(lengths, default=0) > LONGEST_NAME or sum(lengths) + len(lengths) > LONGEST_PATH:
        raise UnsafePath(f"a name has at most {LONGEST_NAME} bytes, a path {LONGEST_PATH}: {path[:60]!r}…")
    return "/".join(parts)
