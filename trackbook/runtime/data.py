"""The data directory: where things are, who holds it, and how a client finds the server."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from trackbook.errors import UserError
from trackbook.events.commit import FORMAT
from trackbook.events.storage_format import FormatMark, current, parse, refuse_newer
from trackbook.private_files import private_file, private_folder, write_private


class ServerRecord(Struct):
    """`server.json`: the process that holds the data directory; its HTTP address and token once it listens.

    `for_command` says that the process is a command such as `run` and no server: it ends by itself.
    """

    pid: int
    url: str = ""
    token: str = ""
    for_command: bool = False


class DataDirectoryHeld(UserError):
    """Another process has this data directory in use."""


def default_data() -> Path:
    """Return the user's own data directory (`TRACKBOOK_DATA`, else by the XDG base directory specification)."""
    if given := os.environ.get("TRACKBOOK_DATA"):
        return Path(given)
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "trackbook"


@contextmanager
def held(data: Path, roles: frozenset[str]) -> Iterator[None]:
    """Hold these roles on the data directory for this process; raises DataDirectoryHeld saying who has one.

    The role `web` holds `lock` and leaves `server.json` for clients; every other holds `lock-ROLE`.
    """
    private_folder(data)
    with ExitStack() as stack:
        for role in sorted(roles, reverse=True):
            path = private_file(data / ("lock" if role == "web" else f"lock-{role}"))
            lock = stack.enter_context(path.open("a+"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataDirectoryHeld(_who(data, role)) from None
        if "web" in roles:
            record_server(data, ServerRecord(os.getpid()))
            stack.callback((data / "server.json").unlink, missing_ok=True)
        yield


def _who(data: Path, role: str) -> str:
    record = server_record(data)
    who = f"process {record.pid}" if record else f"a process with the role {role}"
    at = f", which serves {record.url}" if record and record.url else ""
    return f"{data} is in use by {who}{at}. Stop it, or give another directory with --data."


def is_initialised(data: Path) -> bool:
    """Whether this installation made its streams before: then one that is missing was lost."""
    return (data / "initialised").exists()


def mark_initialised(data: Path) -> None:
    """Note for ever that the streams were made, and in which storage format; on disk when it returns."""
    if not is_initialised(data) or _format(data).format < FORMAT:
        write_private(data / "initialised", msgspec.json.encode(current()), synced=True)


def refuse_newer_data(data: Path) -> None:
    """Raise NewerFormat where a newer release wrote in the data directory what this one can't read."""
    refuse_newer(f"the data directory {data}", _format(data))


def _format(data: Path) -> FormatMark:
    try:
        return parse((data / "initialised").read_bytes())
    except FileNotFoundError:
        return FormatMark()


def record_server(data: Path, record: ServerRecord) -> None:
    """Write `server.json`, for its owner alone, whole or not at all."""
    write_private(data / "server.json", msgspec.json.encode(record))


def server_record(data: Path) -> ServerRecord | None:
    """Return who serves this data directory, None if nobody does."""
    try:
        record = msgspec.json.decode((data / "server.json").read_bytes(), type=ServerRecord)
        with (data / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return record
    except (OSError, msgspec.MsgspecError):
        return None
    return None
