"""The files of an embedded broker: its configuration, credentials, and who runs it."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from trackbook.private_files import write_private

RESERVE = 32 << 20  # bytes that the store leaves free, so that it refuses before the disk is full
T = TypeVar("T")


class Owner(Struct):
    """Who runs the server of a store: process ids of the server and its supervisor, and when each was started."""

    server: int
    supervisor: int
    since: str
    server_since: str = ""


class Credentials(Struct):
    """The random passwords of an installation's two users, and where replies to clients are sent."""

    engine: str
    client: str
    inbox: str = ""


def credentials(path: Path) -> Credentials:
    """Return the installation's passwords, made at the first call."""
    known = read(path, Credentials)
    if known is None or not known.inbox:
        known = known or Credentials(secrets.token_urlsafe(24), secrets.token_urlsafe(24))
        known.inbox = f"_INBOX_{secrets.token_hex(12)}"
        write_private(path, msgspec.json.encode(known), synced=True)
    return known


def config(home: Path, *, prefix: str, port: int, sync: bool, passwords: Credentials) -> str:
    """Return the server's configuration, for any free port if `port` is -1."""
    cmd, live = f'"{prefix}.cmd.>"', f'"{prefix}.live.>"'
    return f"""\
listen: "127.0.0.1:{port}"
server_name: {prefix}
ports_file_dir: {_quoted(home / "ports")}
log_file: {_quoted(home / "nats.log")}
logfile_size_limit: 4MB
logfile_max_num: 3
max_payload: 8MB
jetstream {{
  store_dir: {_quoted(home / "store")}
  max_memory_store: 64MB
  max_file_store: {_room(home)}
  {"sync_interval: always" if sync else ""}
}}
# Two accounts, since permissions alone don't stop a client: the reply subject of a request isn't checked, and an
# acknowledgement sent to it could become an event. Across accounts a reply never reaches a subject of the engine.
accounts {{
  ENGINE {{
    jetstream: enabled
    users: [{{user: engine, password: "{passwords.engine}"}}]
    exports: [{{service: {cmd}}}, {{stream: {live}}}]
  }}
  CLIENT {{
    users: [{{user: client, password: "{passwords.client}", permissions: {{
      publish: {{allow: [{cmd}]}}
      subscribe: {{allow: ["{passwords.inbox}.>", {live}]}}
    }}}}]
    imports: [{{service: {{account: ENGINE, subject: {cmd}}}}}, {{stream: {{account: ENGINE, subject: {live}}}}}]
  }}
}}
"""


def _quoted(path: Path) -> str:
    return msgspec.json.encode(str(path)).decode()


def _room(home: Path) -> int:
    """Return the bytes that the store may take: what it has and what is free, less the reserve."""
    store = home / "store"
    used = sum(path.stat().st_size for path in store.rglob("*") if path.is_file()) if store.exists() else 0
    return max(used + shutil.disk_usage(home).free - RESERVE, 1 << 20)


def known_port(path: Path) -> int:
    """Return the port of the last run, which clients may have noted; 0 if there is none."""
    try:
        return int(str(msgspec.json.decode(path.read_bytes())["url"]).rsplit(":", 1)[1])
    except (OSError, msgspec.DecodeError, KeyError, ValueError, IndexError):
        return 0


def port_in(folder: Path) -> int:
    """Return the port from the server's ports file, 0 while there is none."""
    for path in folder.glob("*.ports"):
        with contextlib.suppress(msgspec.DecodeError):  # it is being written
            return int(msgspec.json.decode(path.read_bytes())["nats"][0].rsplit(":", 1)[1])
    return 0


def since(pid: int) -> str:
    """Return when a process was started, in the kernel's ticks; '' for none. Tells a reused process id apart."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def read(path: Path, kind: type[T]) -> T | None:
    """Return what a file holds, None if it isn't there or isn't that."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None
