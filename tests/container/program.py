"""An executor in a process of its own, so that tests can kill it: launches all that has not ended yet."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from trackbook.adapters.container.config import Engine
from trackbook.adapters.container.executor import ContainerExecutor
from trackbook.engine.job import Report, ReportTaskEnded
from trackbook.engine.ports import SessionSpec

ROOT = Path(__file__).parents[2]


class Orders(Struct):
    """What to launch, where."""

    data: str
    installation: str
    engine: Engine
    specs: list[SessionSpec]
    reports: str


async def start(orders: Orders, place: Path, **environment: str) -> asyncio.subprocess.Process:
    """Start such a process."""
    place.write_bytes(msgspec.json.encode(orders))
    paths = f"{ROOT}:{ROOT}/tests"
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "container.program", str(place)),
        env={**os.environ, "PYTHONPATH": paths, **environment},
    )


def ends(orders: Orders) -> dict[str, list[ReportTaskEnded]]:
    """Return the ends that were reported, by task."""
    found: dict[str, list[ReportTaskEnded]] = {}
    path = Path(orders.reports)
    for line in path.read_bytes().splitlines() if path.exists() else ():
        report = msgspec.json.decode(line, type=Report)
        if isinstance(report, ReportTaskEnded):
            found.setdefault(report.task, []).append(report)
    return found


async def run(orders: Orders) -> None:
    """Launch everything that has not ended, and return when it has."""
    executor = ContainerExecutor(Path(orders.data), orders.engine, orders.installation, limit=4)
    left = {spec.task for spec in orders.specs} - set(ends(orders))
    done = asyncio.Event()
    file = os.open(orders.reports, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    async def take(_: str, report: Report) -> None:
        os.write(file, msgspec.json.encode(report) + b"\n")
        if isinstance(report, ReportTaskEnded):
            left.discard(report.task)
        if not left:
            done.set()

    await executor.start(take)
    for spec in orders.specs:
        if spec.task in left:
            await executor.launch(spec)
    if left:
        await done.wait()
    await executor.close()


if __name__ == "__main__":
    asyncio.run(run(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Orders)))
