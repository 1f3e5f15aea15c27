"""The processes of one data directory, as /proc shows them; nothing here asks the system under test."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process at the moment of the look."""

    pid: int
    parent: int
    command: str
    mark: str

    @property
    def is_server(self) -> bool:
        """Whether it is nats-server, or about to become it."""
        return "nats.conf" in self.command

    @property
    def is_sandbox(self) -> bool:
        """Whether it is a spawner or a launcher (which is a fork of one)."""
        return "box/spawner.py" in self.command


def of(data: Path) -> list[Process]:
    """Return the living processes that have the data directory in their command line or environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            mark = (folder / "environ").read_bytes().decode(errors="replace")
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if (
            state not in "ZX"
            and (f"{data}/" in command or f"{data}/" in mark)
            and int(folder.name) != os.getpid()
        ):
            found.append(Process(int(folder.name), int(parent), command, mark))
    return found


def server(data: Path, _executor: int) -> list[int]:
    """Return the broker of the data directory, from its first moment on."""
    return [process.pid for process in of(data) if process.is_server]


def spawner(data: Path, executor: int) -> list[int]:
    """Return the spawner of an executor's process, from its first moment on."""
    return [process.pid for process in of(data) if process.is_sandbox and process.parent == executor]


def launchers(data: Path, executor: int) -> list[int]:
    """Return the launchers, those without a session yet and those that outlived their spawner included."""
    return [process.pid for process in of(data) if process.is_sandbox and process.parent != executor]


def kill(pid: int, expected: str) -> bool:
    """Kill a process that was seen a moment ago; False if it is gone (its number may be another's by now)."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if expected not in Path(f"/proc/{pid}/cmdline").read_text():
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True
