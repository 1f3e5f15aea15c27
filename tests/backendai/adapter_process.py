"""A process with an executor, for tests that kill it: launches and stops as instructed, and keeps the ends."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import msgspec

from trackbook.adapters.backendai.config import Cluster
from trackbook.adapters.backendai.executor import BackendAIExecutor
from trackbook.engine.job import Report, ReportTaskEnded
from trackbook.engine.ports import SessionSpec


class Instructions(msgspec.Struct):
    """What the process is to do."""

    cluster: Cluster
    data: str
    installation: str
    specs: list[SessionSpec]
    stops: list[str] = []


async def main(reported: Instructions, ends: Path) -> None:
    """Run until all have ended; each end is a line of the file, written before it counts as taken."""
    left = {spec.task for spec in reported.specs}
    done = asyncio.Event()

    async def sink(_: str, report: Report) -> None:
        if isinstance(report, ReportTaskEnded):
            with ends.open("ab") as file:
                file.write(msgspec.json.encode(report) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            left.discard(report.task)
            if not left:
                done.set()

    executor = BackendAIExecutor(reported.cluster, Path(reported.data), reported.installation)
    await executor.start(sink)
    for spec in reported.specs:
        await executor.launch(spec)
    for spec in reported.specs:
        if spec.task in reported.stops:
            await executor.stop(spec)
    await done.wait()
    await executor.close()


if __name__ == "__main__":
    asyncio.run(main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Instructions), Path(sys.argv[2])))
