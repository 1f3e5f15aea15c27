"""From a session's specification to what its launcher does, and to the environment of its command."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from trackbook.adapters.execution import folders, variables
from trackbook.adapters.execution.shell_command import shell_argument
from trackbook.adapters.local import attempt_state
from trackbook.adapters.local.box.roots import PIPELINE, WORK
from trackbook.engine.mounts import parse
from trackbook.engine.ports import SessionSpec

PATH = variables.PATH
NO_ABSOLUTE = "processes of this machine can be given folders below /home/work alone"
_LONGEST_ARGUMENT = 100_000
"""The kernel takes at most 128 KiB in one argument; a longer command is run from a file."""


class Planner:
    """Makes launchers' plans. What the spawner can give is set once it is known."""

    def __init__(self, data: Path, grace: float, log_limit: int, durable: bool, passed: Sequence[str]) -> None:
        self._data = data
        self._limits = {"grace": grace, "log_limit": log_limit, "durable": durable}
        self._passed = {name: os.environ[name] for name in passed if name in os.environ}
        self.shell = shutil.which("bash", path=PATH) or "/bin/sh"
        self.private_root = False
        self.own_work = False

    def plan(self, spec: SessionSpec) -> dict[str, Any]:
        """Return the plan, of plain values only. Raises ValueError for what no process can be given."""
        folder = folders.session_folder(self._data, spec.session)
        binds = self._binds(spec)
        mounts = [self._mount(text) for text in spec.mounts]
        return self._limits | {
            "binds": binds,
            "mounts": mounts,
            "make": [source for source, *_ in [*binds, *mounts] if source],
            "work": str(folder / "work"),
            "private_root": self.private_root,
            "own_work": self.own_work,
            "arguments": [self.shell, *self._command(spec, folder)],
            "environment": self._environment(spec, folder, binds),
        }

    def warnings(self, problem: str) -> list[str]:
        """Return what tasks will miss on this machine; `problem` is why there is no private root, or ''."""
        found = []
        if problem:
            found.append(
                "tasks don't see /pipeline/… here, only the variables $PIPELINE_OUTPUTS, $PIPELINE_INPUT1 …, "
                f"and inputs are not write-protected: no mount namespace ({problem})"
            )
        if not self.shell.endswith("bash"):
            found.append(f"commands are run by {self.shell}: there is no bash")
        return found

    def _binds(self, spec: SessionSpec) -> list[tuple[str, str, bool]]:
        """Return (source, name below /pipeline, read only)."""
        read = [
            ("" if source.skipped else str(folders.outputs(self._data, spec, source)), name, True)
            for name, source in folders.sources(spec).items()
        ]
        return [
            (str(folders.outputs(self._data, spec)), "outputs", False),
            (str(folders.vfroot(self._data, spec.pipeline)), "vfroot", False),
            *read,
        ]

    def _mount(self, text: str) -> tuple[str, str]:
        mount = parse(text)
        if not mount.below_work:
            raise ValueError(f"{text!r}: {NO_ABSOLUTE}")
        return str(folders.mount_source(self._data, mount)), mount.below_work

    def _command(self, spec: SessionSpec, folder: Path) -> list[str]:
        if "\0" in spec.command:
            raise ValueError("the command has a NUL character")
        if len(spec.command.encode()) < _LONGEST_ARGUMENT:
            return ["-c", shell_argument(spec.command)]
        attempt_state.write(folder / "command", spec.command.encode())
        return [str(folder / "command")]

    def _environment(self, spec: SessionSpec, folder: Path, binds: list[tuple[str, str, bool]]) -> dict[str, str]:
        work = WORK if self.private_root and self.own_work else str(folder / "work")
        basics = self._basics(work) | virtual_environment(spec.virtual_env)
        environment = basics | self._passed | spec.variables | variables.of(spec)
        for source, name, _ in binds:
            place = f"{PIPELINE}/{name}" if self.private_root else source or str(self._empty())
            environment[f"PIPELINE_{name.upper()}"] = place
        variables.check(environment)
        return environment

    def _basics(self, work: str) -> dict[str, str]:
        user = user_name(os.geteuid())
        basics = {"PATH": PATH, "HOME": work, "LANG": "C.UTF-8", "SHELL": self.shell}
        return basics | {"USER": user, "LOGNAME": user, "TMPDIR": "/tmp"}  # noqa: S108 - said, not used, here

    def _empty(self) -> Path:
        """Return the folder that stands for a skipped dependency's outputs where no root of its own is had."""
        empty = self._data / "sessions" / ".empty"
        empty.mkdir(parents=True, exist_ok=True)
        empty.chmod(0o555)
        return empty


def virtual_environment(folder: str) -> dict[str, str]:
    """Return the variables that activate a Python virtual environment, none where there is none."""
    path = Path(folder)
    if not folder or not path.is_absolute() or ":" in folder or not (path / "bin").is_dir():
        return {}
    return {"VIRTUAL_ENV": folder, "PATH": f"{folder}/bin:{PATH}"}


@lru_cache(maxsize=8)
def user_name(uid: int) -> str:
    """Return the name of a user, its number where it has none; looked up once, since that reads files."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
