"""Paths whose accents are encoded differently: macOS decomposes them in names, most keyboards don't."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from trackbook.engine.names import forms, normal
from trackbook.engine.ports import CutListing, FileEntry, FolderMissing, Folders, NoSuchFile
from trackbook.projections.read.paging import ReadError


async def with_stored_spelling(folders: Folders, pipeline: str, path: str) -> str:
    """Return a clean path as its names are spelled on the storage, as given from the first that isn't there.

    An exact name goes first. Raises ReadError where two names match that differ in their spelling alone.
    """
    if path.isascii():
        return path
    found: list[str] = []
    parts = path.split("/")
    for part in parts:
        name = part if part.isascii() else await _name(folders, pipeline, "/".join(found), part)
        if name is None:
            break
        found.append(name)
    return "/".join([*found, *parts[len(found) :]])


async def _name(folders: Folders, pipeline: str, above: str, given: str) -> str | None:
    """Return the name in a folder that is meant by one, None where none is."""
    try:
        entries: Sequence[FileEntry] = await folders.entries(pipeline, above)
    except (NoSuchFile, FolderMissing):
        return None
    names = {entry.name for entry in entries if normal(entry.name) == normal(given)}
    if isinstance(entries, CutListing):
        for form in forms(given):
            with suppress(NoSuchFile):
                names.add((await folders.stat(pipeline, f"{above}/{form}" if above else form)).name)
    if given in names or not names:
        return given if names else None
    if len(names) > 1:
        spelled = " and ".join(ascii(name) for name in sorted(names))
        where = f"the folder {above!r}" if above else "the folder"
        raise ReadError(
            "ambiguous_path",
            f"{where} has several names that look like {given!r}: {spelled}",
            "Name one of them exactly as it is spelled, or rename one.",
        )
    return names.pop()
