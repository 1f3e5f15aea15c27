"""From a session's specification to the container that runs it."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

from trackbook.adapters.container import attempt_state
from trackbook.adapters.container.client import Facts
from trackbook.adapters.container.config import Engine
from trackbook.adapters.execution import folders, variables
from trackbook.adapters.execution.shell_command import shell_argument
from trackbook.engine.mounts import parse
from trackbook.engine.ports import SessionSpec

PIPELINE = "/pipeline"
WORK = "/home/work"
_BOX = f"{PIPELINE}/.session"
GPUS = "cuda.device"
SLOTS = ("cpu", "mem", GPUS)
"""Resources that a container can be given."""
REFUSES = 125
"""The exit code of a container that found its attempt taken, as `docker run` has it for what did not run."""
_LONGEST_ARGUMENT = 100_000
"""The kernel takes at most 128 KiB in one argument; a longer command is run from a file."""
RUN = """\
_tb_signalled= _tb_stopped= _tb_command=
_tb_stop() {
  _tb_signalled=1
  [ -z "$_tb_stopped" ] || return 0
  _tb_stopped=1
  if [ $$ = 1 ] || [ "$PPID" = 1 ]; then
    kill -TERM -1
  elif [ "$_tb_command" ]; then
    kill -TERM "$_tb_command"
  fi
}
exec 3>&2 2>/dev/null
[ -z "$BASH_VERSION" ] || set -m
trap _tb_stop TERM INT HUP
"$0" "$@" </dev/null 2>&3 3>&- &
_tb_command=$!
[ -z "$_tb_stopped" ] || kill -TERM "$_tb_command"
wait "$_tb_command"
_tb_code=$?
while [ "$_tb_signalled" ]; do
  _tb_signalled=
  wait "$_tb_command"
  _tb_again=$?
  [ $_tb_again = 127 ] || _tb_code=$_tb_again
done
[ $$ = 1 ] || [ "$PPID" = 1 ] || exit $_tb_code
while [ "$_tb_stopped" ] && kill -0 -1; do
  sleep 0.1 || sleep 1 || break
done
exit $_tb_code
"""
"""Runs the command. The first SIGTERM is sent on to all that runs in the container then, and to nothing later.

An engine sends it to the first process alone, and a container ends with that. So this one stays until nothing
else is left, whatever becomes of the command: trainings may be saving their work. The engine kills it after the
grace. Process 1, and its child, can signal "all" (-1): in any other place that may be the machine's processes.
Only job control lets a background command have SIGINT, and only bash has it without a terminal.
"""
_BEGIN = f"""\
if ! (set -C; : >{_BOX}/{attempt_state.CLAIM}) 2>/dev/null; then
  : >{_BOX}/{attempt_state.REFUSED}
  echo "trackbook: this attempt was taken before, or can't be; the command is not run" >&2
  exit {REFUSES}
fi
if command -v bash >/dev/null 2>&1; then exec bash -p -c {shlex.quote(RUN)} bash "$@"; fi
exec /bin/sh -c {shlex.quote(RUN)} /bin/sh "$@"
"""
"""Claims the attempt by an exclusive create: engines start an ended container again on request.

"""


def container_name(installation: str, session: str) -> str:
    """Return the name of the session's container; the log's sessions are called `tb-…`."""
    return f"tb-{installation}-{session.removeprefix('tb-')}"


class Planner:
    """Makes the containers' bodies (`ContainerCreate` of the Engine API) and the folders that they see."""

    def __init__(self, data: Path, engine: Engine, installation: str) -> None:
        self._data = data
        self._engine = engine
        self._installation = installation
        self.init = True
        """Whether containers get an init process, which takes care of orphans; not every engine has one."""

    def plan(self, spec: SessionSpec, facts: Facts) -> dict[str, Any]:
        """Make the folders and return the body. Raises ValueError for what no container can be given, OSError."""
        image = spec.image or self._engine.image
        if not image:
            raise ValueError("it names no image, and there is no default one (`image` below [container])")
        folder = folders.session_folder(self._data, spec.session)
        box = attempt_state.make_box(folder)
        binds = self._binds(spec, folder)
        body: dict[str, Any] = {
            "Image": image,
            "Entrypoint": ["/bin/sh", "-c", _BEGIN, "sh"],
            "Cmd": self._command(spec, box),
            "Env": [f"{name}={value}" for name, value in self._environment(spec, binds).items()],
            "WorkingDir": WORK,
            "StopSignal": "SIGTERM",
            "Labels": self._labels(spec),
            "HostConfig": {
                "Binds": [_bind(*each, selinux=facts.selinux) for each in [*binds, (box, _BOX, False)]],
                "NetworkMode": self._engine.network or "default",
                "Init": self.init,
                "SecurityOpt": ["no-new-privileges"],
                **_limits(spec, facts),
            },
        }
        if user := self._user(facts):
            body["User"] = user
        return body

    def _user(self, facts: Facts) -> str:
        """Return who commands run as: of a rootless engine, root inside is who runs it outside."""
        if self._engine.user:
            return "" if self._engine.user == "image" else self._engine.user
        return "0:0" if facts.rootless else f"{os.geteuid()}:{os.getegid()}"

    def _labels(self, spec: SessionSpec) -> dict[str, str]:
        return {
            "trackbook.installation": self._installation,
            "trackbook.session": spec.session,
            "trackbook.job": spec.job,
        }

    def _binds(self, spec: SessionSpec, folder: Path) -> list[tuple[Path, str, bool]]:
        """Return (source, place, read only), all of them made."""
        work = folder / "work"
        found = [
            (folders.outputs(self._data, spec), f"{PIPELINE}/outputs", False),
            (folders.vfroot(self._data, spec.pipeline), f"{PIPELINE}/vfroot", False),
            (work, WORK, False),
        ]
        for name, source in folders.sources(spec).items():
            path = self._empty() if source.skipped else folders.outputs(self._data, spec, source)
            found.append((path, f"{PIPELINE}/{name}", True))
        for mount in map(parse, spec.mounts):
            if mount.below_work:
                (work / mount.below_work).mkdir(parents=True, exist_ok=True)  # else the engine makes it, as root
            found.append((folders.mount_source(self._data, mount), mount.path, False))
        for path, _, _ in found:
            path.mkdir(parents=True, exist_ok=True)
        return found

    def _empty(self) -> Path:
        """Return the folder that stands for a skipped dependency's outputs."""
        return self._data / "sessions" / ".empty"

    @staticmethod
    def _command(spec: SessionSpec, box: Path) -> list[str]:
        if "\0" in spec.command:
            raise ValueError("the command has a NUL character")
        command = spec.command.encode()
        if len(command) < _LONGEST_ARGUMENT:
            return ["-c", shell_argument(spec.command)]
        (box / "command").write_bytes(command)
        return [f"{_BOX}/command"]

    @staticmethod
    def _environment(spec: SessionSpec, binds: list[tuple[Path, str, bool]]) -> dict[str, str]:
        environment = {"HOME": WORK} | spec.variables | variables.of(spec)
        for _, place, _ in binds:
            if place.startswith(f"{PIPELINE}/"):
                environment[f"PIPELINE_{place.removeprefix(f'{PIPELINE}/').upper()}"] = place
        variables.check(environment)
        return environment


def _bind(source: Path, place: str, read_only: bool, *, selinux: bool) -> str:
    if ":" in str(source):
        raise ValueError(f"{source} can't be bound: the engine takes ':' in a path for an end")
    options = ("ro" if read_only else "rw") + (",z" if selinux else "")
    return f"{source}:{place}:{options}"


def _limits(spec: SessionSpec, facts: Facts) -> dict[str, Any]:
    """Return the resources in the engine's words."""
    found: dict[str, Any] = {}
    if cores := spec.resources.get("cpu"):
        found["NanoCpus"] = int(cores * 10**9)
    if memory := int(spec.resources.get("mem") or 0):
        found |= {"Memory": memory, "MemorySwap": memory}
    if spec.shmem:
        found["ShmSize"] = spec.shmem
    if gpus := spec.resources.get(GPUS):
        if facts.name == "Podman":
            raise ValueError(f"Podman {facts.version} gives no GPUs through this API")
        if gpus != int(gpus):
            raise ValueError(f"{gpus:g} GPUs can't be given: containers get whole ones")
        found["DeviceRequests"] = [{"Count": int(gpus), "Capabilities": [["gpu"]]}]
    return found
