"""What `files get` fetches: a file, or all that is in a folder."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from trackbook.cli.client import Client
from trackbook.cli.spots import Spot, look, walk
from trackbook.cli.transfer import fetch, make_executable, same
from trackbook.cli.trouble import Trouble


def received(
    client: Client, at: Spot, destination: Path | None, *, force: bool
) -> tuple[list[tuple[str, str, int]], int, Path]:
    """Fetch what is at a spot into a folder that is there, or to the path that it is to have.

    Without a destination it comes here under its name; at the root of a folder, what is in it goes into one.

    Returns of each file where it was, where it is, and its bytes; how many were there already; and where all is.
    Raises Trouble before anything is fetched where something else is there.
    """
    file, entries = look(client, at)
    into = destination is not None and at.path and destination.is_dir()
    top = Path(destination or "", at.name) if into or destination is None else destination
    wanted = [("", file)] if file else list(walk(client, at, entries))
    files = [(at.below(path), top / path, entry) for path, entry in wanted if entry["type"] == "file"]
    there = {path for _, path, entry in files if same(entry, path)}
    _refuse_existing([path for _, path, _ in files if path not in there], force=force)
    if file is None:
        for folder in (top, *(top / path for path, entry in wanted if entry["type"] == "folder")):
            _make(folder)
    for spot, path, entry in files:
        if path not in there:
            fetch(client, spot, entry, path, force=force)
        elif entry.get("executable"):
            with suppress(OSError):  # an earlier version left it so; it may be somebody else's by now
                make_executable(path)
    return [(str(spot), str(path), entry["size"]) for spot, path, entry in files], len(there), top


def _refuse_existing(paths: list[Path], *, force: bool) -> None:
    for folder in (path for path in paths if path.is_dir()):
        raise Trouble(f"{folder} is a folder, where a file is to be")
    there = [path for path in paths if path.exists() or path.is_symlink()]
    if there and not force:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise Trouble(f"{there[0]}{more} {'are' if more else 'is'} there already", "--force overwrites.")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Trouble(f"{folder} can't be made: {error.strerror}") from None
