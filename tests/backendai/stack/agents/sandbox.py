"""What stands in for a container: a root of its own over the host's, a process namespace, folders bound into it.

Nothing is made on the host: the root is an overlay whose upper layer is memory, so a session may write and mount
where it likes. All of a sandbox is in files of its folder: it outlives its agent as a container does, and one
that comes back finds it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

SUPERVISOR = r"""
set -eu
folder=$1; shift
layers=$folder/layers
mount -t tmpfs sandbox "$layers"
mkdir "$layers/upper" "$layers/index" "$layers/root"
mount -t overlay -o "lowerdir=/,upperdir=$layers/upper,workdir=$layers/index" sandbox "$layers/root"
cd "$layers/root"
mount --rbind /dev dev
mount --rbind /sys sys
mount -t proc proc proc
mkdir -p home/work
mount --bind "$folder/work" home/work
while [ "$1" != -- ]; do
  mkdir -p ".$2"
  mount --bind "$1" ".$2"
  if [ "$3" = ro ]; then mount -o remount,ro,bind ".$2"; fi
  shift 3
done
shift
trap 'kill -TERM -1 2>/dev/null || :' TERM
chroot . env -C /home/work "$@" &
child=$!
set +e
while :; do
  wait "$child"
  code=$?
  kill -0 "$child" 2>/dev/null || break
done
echo "$code" >"$folder/exit.new"
mv "$folder/exit.new" "$folder/exit"
while :; do sleep 3600 & wait $!; done
"""
"""Process 1 of a sandbox: mounts, runs the command, leaves its exit code, and stays, as a container's does."""

HELD = 1.0
"""Seconds from a command's start to the earliest report of its end."""


def as_read(environ: dict[str, str]) -> dict[str, str]:
    """Return what of the variables a container's runner reads: the agent leaves it a file of lines `name=value`.

    It stops at the first line without a `=`, as ai.backend.kernel.base does.
    """
    found = {}
    for line in "".join(f"{name}={value}\n" for name, value in environ.items()).splitlines():
        name, equals, value = line.partition("=")
        if not equals:
            break
        found[name] = value
    return found


def birth(pid: int) -> str:
    """Return what tells a process from a later one of the same number; empty when it doesn't run."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


class Sandbox:
    """One session's kernel; its folder tells all of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.details: dict[str, Any] = json.loads((folder / "sandbox.json").read_text())
        self.work = folder / "work"
        self.log = folder / "container.log"

    @classmethod
    def create(cls, folder: Path, details: dict[str, Any]) -> Sandbox:
        """Make a sandbox of id, kernel, session, environ, and binds as (source, target, "ro" | "rw")."""
        for source, _, _ in details["binds"]:
            if not Path(source).exists():  # what a container engine says, and when
                raise FileNotFoundError(f"bind source path does not exist: {source}")
        for name in ("work", "layers"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "container.log").touch()
        (folder / "sandbox.json").write_text(json.dumps(details))
        return cls(folder)

    @classmethod
    def all(cls, parent: Path) -> list[Sandbox]:
        """Return the sandboxes that are there, ended ones included."""
        found = []
        for path in parent.glob("*/sandbox.json"):
            with suppress(OSError, ValueError):
                found.append(cls(path.parent))
        return found

    @property
    def id(self) -> str:
        """The container's id."""
        return str(self.details["id"])

    @property
    def exists(self) -> bool:
        """Whether it has neither vanished nor been removed."""
        return (self.folder / "sandbox.json").exists()

    @property
    def running(self) -> bool:
        """Whether its first process lives, or is yet to start."""
        return self.exists and (not (self.folder / "pid").exists() or self._pid() is not None)

    @property
    def exit_code(self) -> int | None:
        """The command's exit code once it has ended, negative for a signal."""
        try:
            code = int((self.folder / "exit").read_text())
        except (OSError, ValueError):
            return None
        return code if code <= 128 else 128 - code

    async def run(self, argv: list[str]) -> None:
        """Start the command; its output goes to the log."""
        inside = {
            "PATH": os.environ["PATH"],
            "HOME": "/home/work",
            "LANG": "C.UTF-8",
            **as_read(self.details["environ"]),
        }
        binds = [word for bind in self.details["binds"] for word in bind]
        namespaces = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
        (self.folder / "exit").unlink(missing_ok=True)
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(*namespaces, "bash", "-c", SUPERVISOR, "sandbox", str(self.folder), *binds, "--", *argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=inside,
                start_new_session=True,
            )
        (self.folder / "pid").write_text(f"{process.pid} {birth(process.pid)}")

    async def wait(self, seconds: float) -> int | None:
        """Return the exit code as soon as there is one, or None at the end of the time.

        It is held back until HELD has passed, as the way through a real container takes: 23.09 loses results that
        come before it has written that the session runs. SIM_INSTANT=1 in the session's environment lets it.
        """
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while self.exit_code is None and (passed := loop.time() - begun) < seconds:  # noqa: ASYNC110 - it is a file
            await asyncio.sleep(min(0.1, max(0.02, passed / 10)))
        code = self.exit_code
        if code is not None and "SIM_INSTANT" not in self.details["environ"]:
            await asyncio.sleep((self.folder / "pid").stat().st_mtime + HELD - time.time())
        return code

    async def stop(self) -> None:
        """End all of the sandbox at once: agents of both versions send a batch session's processes no signal."""
        self.kill()

    def kill(self) -> None:
        """End all of its processes at once: with the first one of a namespace all others go."""
        if pid := self._pid():
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def vanish(self) -> None:
        """End it without a trace, as a machine's failure does."""
        (self.folder / "sandbox.json").unlink(missing_ok=True)
        self.remove()

    def remove(self) -> None:
        """Remove what it wrote."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _pid(self) -> int | None:
        try:
            pid, _, born = (self.folder / "pid").read_text().partition(" ")
        except OSError:
            return None
        return int(pid) if born and birth(int(pid)) == born else None


async def faults_before(environ: dict[str, str]) -> None:
    """Do what the session's own environment asks for, before its container starts.

    SIM_START_DELAY=<s> delays it, SIM_START_FAIL=1 lets it fail.
    """
    await asyncio.sleep(float(environ.get("SIM_START_DELAY", "0")))
    if environ.get("SIM_START_FAIL"):
        raise RuntimeError("simulated failure to create the container")


def faults_after(environ: dict[str, str], sandbox: Sandbox) -> None:
    """Do what the session's own environment asks for later: SIM_VANISH_AFTER=<s> lets the container vanish."""
    if after := environ.get("SIM_VANISH_AFTER"):
        asyncio.get_running_loop().call_later(float(after), sandbox.vanish)


async def chunks(log: Path) -> Any:
    """Yield the output, as agents hand it on."""
    with suppress(OSError), log.open("rb") as file:
        while data := file.read(65536):
            yield data
