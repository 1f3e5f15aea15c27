"""The data directory: where things are, who holds it, and how a client finds the server.

Every command imports this, so it imports little.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from trackbook.errors import UserError
from trackbook.private_files import private_file, private_folder, require_file, write_private
from trackbook.runtime.data_directory.file_types import require_usable


class ServerRecord(NamedTuple):
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
def hold_directory(data: Path, roles: frozenset[str]) -> Iterator[None]:
    """Hold these roles on the data directory for this process; raises DataDirectoryHeld saying who has one.

    Raises NotAFile, OSError for files that nothing could start on. The role `web` holds `lock` and leaves
    `server.json` for clients; every other holds `lock-ROLE`.
    """
    require_usable(private_folder(data))
    with ExitStack() as stack:
        for role in sorted(roles, reverse=True):
            path = private_file(data / ("lock" if role == "web" else f"lock-{role}"))
            lock = stack.enter_context(path.open("a+"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataDirectoryHeld(_holder_text(data, role)) from None
        if "web" in roles:
            record_server(data, ServerRecord(os.getpid()))
            stack.callback((data / "server.json").unlink, missing_ok=True)
        yield


def _holder_text(data: Path, role: str) -> str:
    record = server_record(data)
    who = f"process {record.pid}" if record else f"a process with the role {role}"
    at = f", which serves {record.url}" if record and record.url else ""
    return f"{data} is in use by {who}{at}. Stop it, or give another directory with --data."


def record_server(data: Path, record: ServerRecord) -> None:
    """Write `server.json`, for its owner alone, whole or not at all.

    It has no blanks: scripts cut the token out of it.
    """
    write_private(data / "server.json", json.dumps(record._asdict(), separators=(",", ":")).encode())


def server_record(data: Path) -> ServerRecord | None:
    """Return who serves this data directory, None if nobody does."""
    try:
        require_file(data / "server.json")
        require_file(data / "lock")
        record = _parse((data / "server.json").read_bytes())
        with (data / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return record
    except (OSError, TypeError, ValueError):
        return None
    return None


def _parse(text: bytes) -> ServerRecord:
    """Return the record in a file's bytes; raises TypeError or ValueError."""
    found = json.loads(text)
    given = {name: found[name] for name in ServerRecord._fields if name in found}
    types = {"pid": int, "url": str, "token": str, "for_command": bool}
    if "pid" not in given or not all(isinstance(value, types[name]) for name, value in given.items()):
        raise ValueError("not the record of a server")
    return ServerRecord(**given)
