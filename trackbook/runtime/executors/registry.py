"""The configured executors: the local one, containers, and clusters by name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import structlog

from trackbook.adapters.execution.data_folders import DataFolders
from trackbook.adapters.execution.kind import Host
from trackbook.engine.definition import Task
from trackbook.engine.errors import Refused, Warned
from trackbook.engine.names import printable
from trackbook.engine.ports import Backend
from trackbook.runtime.executors.configuration import (
    CLUSTERS,
    CONTAINER,
    FILE,
    LOCAL,
    Configuration,
    ExecutorsMisconfigured,
    configuration,
    unknown_name,
)
from trackbook.runtime.executors.kinds import KindUnusable, load

log = structlog.get_logger(__name__)
_REPORTED_SINGLY = 20
"""Inputs that stay empty are reported one by one up to this number."""


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

    def replace(self, backends: Mapping[str, Backend], default: str) -> None:
        """Have these from now on, as the configuration changed."""
        self._backends = dict(backends)
        self.default = default

    def validate(
        self, tasks: Sequence[Task], asked: str | None, pipeline: str = ""
    ) -> tuple[str, list[Refused], list[Warned]]:
        """Return the job's executor, what keeps the tasks from running, and what is left aside.

        `asked`, when given, counts for all tasks; else each task's own, the pipeline's, or the default.
        """
        job = asked or pipeline or self.default
        running = [task for task in tasks if not task.skip]
        refused: list[Refused] = []
        warned: list[Warned] = []
        if job not in self._backends:
            refused.append(self.unknown(job, "executor"))
        by_executor: dict[str, list[Task]] = {}
        for task in running:
            by_executor.setdefault(asked or task.executor or job, []).append(task)
        for name, its in by_executor.items():
            if name in self._backends:
                for found in self._backends[name].validate(its):
                    (refused if isinstance(found, Refused) else warned).append(found)  # type: ignore[arg-type]
            elif name != job:
                refused.append(self.unknown(name, f"tasks[{its[0].index}].executor"))
        if len({self.store(name) for name in by_executor}) > 1:
            executors = {task.name: name for name, its in by_executor.items() for task in its}
            warned += _merge_warnings(list(self._split_inputs(executors, running)))
        return job, refused, warned

    def store(self, name: str) -> str:
        """Return the executor whose folders this one has: all that use the data directory have the local's."""
        if name not in self._backends or LOCAL not in self._backends:
            return name
        folders = self._backends[name].folders
        shared = isinstance(folders, DataFolders) and folders.shares(self._backends[LOCAL].folders)
        return LOCAL if shared else name

    def _split_inputs(self, executors: Mapping[str, str], tasks: Sequence[Task]) -> Iterator[Warned]:
        """Yield the inputs that a task can't see, since its dependency's outputs are on another executor."""
        for task in tasks:
            for number, dependency in enumerate(task.dependencies, 1):
                here, there = executors[task.name], executors.get(dependency, executors[task.name])
                if self.store(here) != self.store(there):
                    message = (
                        f"/pipeline/input{number} of task {task.name!r} is empty: it runs on {here!r}, while the "
                        f"outputs of {dependency!r} are on {there!r}"
                    )
                    yield Warned("input_elsewhere", message, f"tasks[{task.index}].dependencies[{number - 1}]")

    def unknown(self, name: str, path: str) -> Refused:
        """Return the refusal of an executor that does not exist."""
        hint = f"{unknown_name(name, self._backends)} Clusters are named in {FILE} of the data directory."
        return Refused("unknown_executor", f"there is no executor {printable(name)[:64]!r}", path, hint=hint)

    async def close(self) -> None:
        """Close every backend's connections, whatever becomes of one."""
        closed = await asyncio.gather(*(each.close() for each in self.values()), return_exceptions=True)
        for name, problem in zip(self, closed, strict=True):
            if problem is not None:
                log.warning("executor.not_closed", executor=name, error=repr(problem))


def _merge_warnings(apart: list[Warned]) -> list[Warned]:
    """Return the first of them, and how many there are beside."""
    if len(apart) <= _REPORTED_SINGLY:
        return apart
    more = f"the same goes for {len(apart) - _REPORTED_SINGLY:,} more inputs of tasks on other executors"
    return [*apart[:_REPORTED_SINGLY], Warned("input_elsewhere", more)]


def make_backends(host: Host, found: Configuration | None = None) -> Backends:
    """Return the executors that the file and the environment name; raises ExecutorsMisconfigured."""
    found = found or configuration(host.data)
    settings: dict[str, Mapping[str, Any]] = {LOCAL: {}}
    settings |= {f"{CLUSTERS}/{name}": each for name, each in found.clusters.items()}
    settings |= {CONTAINER: found.container} | found.others
    backends = {name: _open(name, each, found.sources.get(name, name), host) for name, each in settings.items()}
    if found.default not in backends:
        raise ExecutorsMisconfigured(
            f"the default executor ({found.default_source}) is {printable(found.default)[:64]!r}, which there is"
            f" not. {unknown_name(found.default, backends)}"
        )
    return Backends(backends, found.default)


def _open(name: str, settings: Mapping[str, Any], source: str, host: Host) -> Backend:
    """Return one executor, made by its kind."""
    kind = name.partition("/")[0]
    try:
        return load(kind)(name, settings, host)
    except ValueError as error:
        where = "" if kind == CLUSTERS else f"[{name.replace('/', '.')}]: "
        raise ExecutorsMisconfigured(f"{where}{error} ({source})") from None
    except KindUnusable as error:
        raise ExecutorsMisconfigured(f"{error} ({source})") from None
