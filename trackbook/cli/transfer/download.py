"""Downloads for `files get`: a file, or everything in a folder."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path

from trackbook.cli.client.exchange import Json
from trackbook.cli.client.http_client import Client
from trackbook.cli.errors import CliError
from trackbook.cli.terminal.streams import say
from trackbook.cli.transfer.file_transfer import fetch, is_unchanged, make_executable
from trackbook.cli.transfer.folder_archive import Archive
from trackbook.cli.transfer.remote_path import RemotePath, file_or_entries, walk, with_stored_spelling


def received(
    client: Client, at: RemotePath, destination: Path | None, *, force: bool
) -> tuple[list[tuple[str, str, int]], int, Path]:
    """Download a file or folder into an existing folder, or to the path that it shall have.

    Without a destination it comes here under its name; at the root of a folder, what is in it goes into one.

    Returns of each file where it was, where it is, and its bytes; how many were there already; and where all is.
    Raises CliError before anything is fetched where something else is there.
    """
    file, entries = file_or_entries(client, at)
    into = destination is not None and at.path and destination.is_dir()
    top = Path(destination or "", at.name) if into or destination is None else destination
    at = with_stored_spelling(at, [file] if file else entries)
    wanted = [("", file)] if file else list(walk(client, at, entries))
    with ExitStack() as rest:
        archives = _archives(client, at, top, rest)
        packed: dict[Path, Archive] = {}
        for below, archive in archives.items():
            wanted = [(path, entry) for path, entry in wanted if not _is_below(path, below)]
            for entry in archive.entries:
                wanted.append(("/".join(filter(None, (below, entry["path"]))), entry))
                packed[top / wanted[-1][0]] = archive
        files = [(at.child(path), top / path, entry) for path, entry in wanted if entry["type"] == "file"]
        there = {path for _, path, entry in files if _same(packed.get(path), entry, path)}
        _refuse_existing([path for _, path, _ in files if path not in there], force=force)
        if file is None:
            for folder in (top, *(top / path for path, entry in wanted if entry["type"] == "folder")):
                _make(folder)
        for remote, path, entry in files:
            if path not in there and path in packed:
                packed[path].unpack(entry, path, force=force)
            elif path not in there:
                fetch(client, remote, entry, path, force=force)
            elif entry.get("executable"):
                with suppress(OSError):  # an earlier version left it so; it may be somebody else's by now
                    make_executable(path)
    return [(str(remote), str(path), entry["size"]) for remote, path, entry in files], len(there), top


def _same(archive: Archive | None, entry: Json, path: Path) -> bool:
    return archive.same(entry, path) if archive else is_unchanged(entry, path)


def _archives(client: Client, at: RemotePath, top: Path, rest: ExitStack) -> dict[str, Archive]:
    """Return the archives of those folders of which lists were cut, by their paths below the remote path.

    One that can't be had stays among the cut ones, whose listed files are fetched one by one.
    """
    found: dict[str, Archive] = {}
    for folder in list(at.cut):
        inside = folder.path[len(at.path) :].removeprefix("/") if at.path else folder.path
        if any(_is_below(inside, above) for above in found):
            at.cut.remove(folder)
            continue
        try:
            found[inside] = Archive(client, folder, top)
        except CliError as error:
            say(f"trackbook: {folder} can't be fetched as an archive: {error}")
        else:
            rest.callback(found[inside].close)
            at.cut.remove(folder)
    return found


def _is_below(path: str, folder: str) -> bool:
    return not folder or path.startswith(f"{folder}/")


def _refuse_existing(paths: list[Path], *, force: bool) -> None:
    for folder in (path for path in paths if path.is_dir()):
        raise CliError(f"{folder} is a folder, where a file is to be")
    there = [path for path in paths if path.exists() or path.is_symlink()]
    if there and not force:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise CliError(f"{there[0]}{more} {'are' if more else 'is'} there already", "--force overwrites.")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CliError(f"{folder} can't be made: {error.strerror}") from None
