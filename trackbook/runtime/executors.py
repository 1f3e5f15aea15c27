"""Which executors there are: the local one, containers, and clusters by name, from a file and the environment."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trackbook.adapters.local.backend import LocalBackend
from trackbook.adapters.local.executor import LocalExecutor
from trackbook.engine.definition import Task
from trackbook.engine.errors import Refused, Warned
from trackbook.engine.ports import Backend

LOCAL = "local"
CONTAINER = "container"
CLUSTERS = "backendai"
FILE = "executors.toml"
_PREFIX = "TRACKBOOK_BACKENDAI_"


class ExecutorsMisconfigured(ValueError):
    """The configuration of executors can't be used; says what was found, where, and what to do."""


class Backends(Mapping[str, Backend]):
    """The configured executors by name; `default` is the one that runs what names none."""

    def __init__(self, backends: Mapping[str, Backend], default: str = LOCAL) -> None:
        self._backends = dict(backends)
        self.default = default

    def __getitem__(self, name: str) -> Backend:
        return self._backends[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._backends)

    def __len__(self) -> int:
        return len(self._backends)

    def judge(
        self, tasks: Sequence[Task], asked: str | None, pipeline: str = ""
    ) -> tuple[str, list[Refused], list[Warned]]:
        """Return the job's executor, what keeps the tasks from running, and what is left aside.

        `asked`, when given, counts for all tasks; else each task's own, the pipeline's, or the default.
        """
        job = asked or pipeline or self.default
        running = [task for task in tasks if not task.skip]
        refused: list[Refused] = []
        warned: list[Warned] = []
        by_executor: dict[str, list[Task]] = {}
        for task in running:
            by_executor.setdefault(asked or task.executor or job, []).append(task)
        for name, its in by_executor.items():
            if name not in self._backends:
                refused.append(
                    self._unknown(name, "executor" if name == job else f"tasks[{its[0].index}].executor")
                )
                continue
            for found in self._backends[name].judge(its):
                (refused if isinstance(found, Refused) else warned).append(found)  # type: ignore[arg-type]
        warned += _apart({task.name: name for name, its in by_executor.items() for task in its}, running)
        return job, refused, warned

    def _unknown(self, name: str, path: str) -> Refused:
        hint = f"Known: {', '.join(sorted(self._backends))}. Clusters are named in {FILE} of the data directory."
        return Refused("unknown_executor", f"there is no executor {name!r}", path, hint=hint)

    async def close(self) -> None:
        """Close every backend's connections."""
        for backend in self._backends.values():
            await backend.close()


def _apart(executors: Mapping[str, str], tasks: Sequence[Task]) -> Iterator[Warned]:
    """Yield the inputs that a task can't see, since its dependency's outputs are on another executor."""
    for task in tasks:
        for number, dependency in enumerate(task.dependencies, 1):
            here, there = executors[task.name], executors.get(dependency, executors[task.name])
            if _store(here) != _store(there):
                message = (
                    f"/pipeline/input{number} of task {task.name!r} is empty: it runs on {here!r}, while the "
                    f"outputs of {dependency!r} are on {there!r}"
                )
                yield Warned("input_elsewhere", message, f"tasks[{task.index}].dependencies[{number - 1}]")


def _store(executor: str) -> str:
    return LOCAL if executor == CONTAINER else executor


def configured(data: Path, local: Callable[[], LocalExecutor], installation: str) -> Backends:  # noqa: ARG001
    """Return the executors that the file and the environment name; raises ExecutorsMisconfigured.

    `installation` is the id under which sessions are named outside (see adapters/nats/streams.py).
    """
    path = Path(os.environ.get("TRACKBOOK_EXECUTORS") or data / FILE)
    given = _read(path)
    backends: dict[str, Backend] = {LOCAL: LocalBackend(LOCAL, data, local)}
    default = os.environ.get("TRACKBOOK_EXECUTOR") or str(given.get("default") or LOCAL)
    if default not in backends:
        raise ExecutorsMisconfigured(
            f"the default executor is {default!r}, which there is not: {', '.join(sorted(backends))}"
        )
    return Backends(backends, default)


def _read(path: Path) -> dict[str, Any]:
    """Return what the file says, nothing where there is none; it holds keys, so nobody else may read it."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if "TRACKBOOK_EXECUTORS" in os.environ:
            raise ExecutorsMisconfigured(f"TRACKBOOK_EXECUTORS names {path}, which is not there") from None
        return {}
    if stat.S_IMODE(mode) & 0o077:
        raise ExecutorsMisconfigured(
            f"{path} may hold keys and can be read by others (mode {stat.S_IMODE(mode):04o}): chmod 600 {path}"
        )
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ExecutorsMisconfigured(f"{path} is not TOML: {error}") from None


def _clusters(given: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the settings of each cluster; the environment's are those of `main`, over the file's."""
    listed = given.get(CLUSTERS) or {}
    if not isinstance(listed, dict) or not all(isinstance(each, dict) for each in listed.values()):
        raise ExecutorsMisconfigured(f"clusters are tables of the form [{CLUSTERS}.NAME]")
    found = {name: dict(settings) for name, settings in listed.items()}
    ours = {
        name.removeprefix(_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(_PREFIX) and value
    }
    usual = {key: environment.get(f"BACKEND_{key.upper()}") for key in ("endpoint", "access_key", "secret_key")}
    if ours or (all(usual.values()) and "main" not in found):
        found["main"] = {key: value for key, value in usual.items() if value} | found.get("main", {}) | ours
    return found
