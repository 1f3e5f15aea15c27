"""The processes of a stack, and the end of all that belongs to one: nothing may survive it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PREFIX = "trackbook-stack-"
MARK = "TRACKBOOK_STACK"
"""Every process of a stack has its state directory in this variable."""


def alive(pid: int) -> bool:
    """Whether a process runs, and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def birth(pid: int) -> str:
    """Return what tells a process from a later one of the same number; empty when it doesn't run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19] if alive(pid) else ""
    except OSError:
        return ""


def until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for a condition; raise TimeoutError, with the last error that the condition raised."""
    deadline = time.monotonic() + seconds
    last: Exception | None = None
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except (OSError, RuntimeError) as error:
            last = error
        time.sleep(0.05)
    raise TimeoutError(f"{what} not within {seconds:g} s: {last}")


class Processes:
    """Starts and ends services by name; their numbers are in files, so that another process can end them."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, argv: list[str | Path], cwd: Path, env: dict[str, str]) -> None:
        """Start a service in a process group of its own, its output in log/; nothing when it runs."""
        if self.pid(name):
            return
        with (self._state / f"log/{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(word) for word in argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **env, MARK: str(self._state)},
                cwd=cwd,
                start_new_session=True,
            )
        self._started[name] = process
        (self._state / f"pid/{name}").write_text(f"{process.pid} {birth(process.pid)}")

    def pid(self, name: str) -> int | None:
        """Return the number of a service that runs."""
        try:
            pid, _, born = (self._state / f"pid/{name}").read_text().partition(" ")
        except OSError:
            return None
        return int(pid) if born and birth(int(pid)) == born else None

    def stop(self, name: str, signum: int = signal.SIGTERM, patience: float = 20) -> None:
        """Ask a service to end, and end its whole group when it has, or does not in time."""
        if pid := self.pid(name):
            os.kill(pid, signum)
            try:
                until(lambda: not alive(pid), patience, name)
            except TimeoutError:
                print(f"{name} did not end within {patience:g} s; killed", file=sys.stderr)
            self._kill_group(pid)
        self._reap(name)

    def kill(self, name: str) -> None:
        """End a service and its children at once, as a crash does."""
        if pid := self.pid(name):
            self._kill_group(pid)
            until(lambda: not alive(pid), 10, f"end of {name}")
        self._reap(name)

    @staticmethod
    def _kill_group(pid: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)

    def _reap(self, name: str) -> None:
        if process := self._started.pop(name, None):
            process.wait()
        (self._state / f"pid/{name}").unlink(missing_ok=True)


def belonging(state: Path) -> list[int]:
    """Return the living processes of a stack: by where they stand, their mark, their command, or their mounts.

    A service that gives itself a title, as the manager does, writes it over its command and environment.
    """
    needle = str(state).encode()
    ours = Path("/proc/self/ns/mnt").readlink()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        try:
            mark = f"{MARK}={state}".encode() in (folder / "environ").read_bytes().split(b"\0")
            command = any(
                word == needle or word.startswith(needle + b"/")
                for word in (folder / "cmdline").read_bytes().split(b"\0")
            )
            apart = (folder / "ns/mnt").readlink() != ours
            stands = (
                (folder / "cwd").readlink().is_relative_to(state)
            )  # one that was removed has " (deleted)" behind
            belongs = (
                stands or mark or command or (apart and needle + b"/" in (folder / "mountinfo").read_bytes())
            )
        except OSError:
            continue
        if belongs and alive(int(folder.name)):
            found.append(int(folder.name))
    return found


def end(state: Path) -> None:
    """End all processes of a stack, and remove what it wrote."""

    def gone() -> bool:
        left = belonging(state)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    with suppress(TimeoutError):  # it alone has memory outside its processes, which it frees when it is asked
        until(lambda: not _asked(state), 5, "end of PostgreSQL")
    until(gone, 20, f"end of what belongs to {state}")
    shutil.rmtree(state, ignore_errors=True)


def _asked(state: Path) -> list[int]:
    """Ask a stack's PostgreSQL to end at once; return its processes."""
    found = []
    for pid in belonging(state):
        with suppress(OSError):
            if b"/bin/postgres\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGQUIT)
                found.append(pid)
    return found


def claim(folder: Path, pid: int) -> None:
    """Say whose stack this is; one whose owner is dead is ended by the next run."""
    (folder / "owner").write_text(f"{pid} {birth(pid)}")


def end_orphans(parent: Path) -> None:
    """End the stacks whose owners are dead, which is what a killed test run leaves behind."""
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            pid, _, born = (folder / "owner").read_text().partition(" ")
            orphan = not born or birth(int(pid)) != born
        except OSError:
            orphan = folder.exists() and time.time() - folder.stat().st_mtime > 60
        if orphan:
            end(folder)
