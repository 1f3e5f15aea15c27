"""An engine that remembers in a file, and a worker with a local executor, as processes that tests can kill."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from trackbook.adapters.local.executor import LocalExecutor
from trackbook.adapters.nats.access import Access
from trackbook.adapters.nats.connection import connect
from trackbook.adapters.nats.executors import ExecutorWorker, RemoteExecutor
from trackbook.engine.job import Report, ReportTaskEnded
from trackbook.engine.ports import SessionSpec

_ROOT = Path(__file__).parents[2]
NAME = "far"


class Plan(msgspec.Struct):
    """What both processes are to do: where the broker and the files are, and the sessions."""

    access: Access
    folder: Path
    sessions: list[SessionSpec]

    @property
    def journal(self) -> Path:
        """The ends that the engine took, one session a line; what is not there is outstanding."""
        return self.folder / "journal"

    def ended(self) -> list[str]:
        """Return the sessions whose ends the engine has taken, as often as it took them."""
        return self.journal.read_text().split() if self.journal.exists() else []


class Kept:
    """A process that is started again whenever it dies; `environment` is for its first life only."""

    def __init__(self, role: str, plan: Path, environment: Mapping[str, str] | None = None) -> None:
        self._role, self._plan = role, plan
        self._environment = dict(environment or {})
        self._process: asyncio.subprocess.Process | None = None
        self.lives = 0
        self._keeper = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        while True:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                __file__,
                self._role,
                str(self._plan),
                env={**os.environ, "PYTHONPATH": str(_ROOT), **self._environment},
            )
            self.lives += 1
            self._environment = {}
            await self._process.wait()

    def kill(self) -> None:
        """End it with SIGKILL, wherever it is."""
        if self._process and self._process.returncode is None:
            self._process.kill()

    async def close(self) -> None:
        """End it for good."""
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        if self._process and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()


async def _engine(plan: Plan) -> None:
    connection = await connect(plan.access, name="engine")
    handing_on: set[asyncio.Task[None]] = set()

    async def take_up() -> None:
        for spec in plan.sessions:
            if spec.session not in plan.ended():
                handing_on.add(asyncio.create_task(executor.launch(spec)))

    async def report(job: str, report: Report) -> None:
        assert job == "j1"
        if isinstance(report, ReportTaskEnded):
            assert report.outcome == "succeeded", report
            with plan.journal.open("a") as journal:
                journal.write(f"{report.task}\n")
                journal.flush()
                os.fsync(journal.fileno())

    executor = RemoteExecutor(connection, "trackbook", NAME, take_up)
    await executor.start(report)
    await take_up()
    await _asked_to_end()
    for task in handing_on:
        task.cancel()
    await executor.close()
    await connection.close()


async def _worker(plan: Plan) -> None:
    local = LocalExecutor(plan.folder / "data", limit=8, grace=1, durable=False)
    worker = ExecutorWorker(local, plan.access, "trackbook", NAME)
    await worker.start()
    await _asked_to_end()
    await worker.close()


async def _asked_to_end() -> None:
    reported = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, reported.set)
    await reported.wait()


if __name__ == "__main__":
    _plan = msgspec.json.decode(
        Path(sys.argv[2]).read_bytes(), type=Plan, dec_hook=lambda kind, value: kind(value)
    )
    asyncio.run({"engine": _engine, "worker": _worker}[sys.argv[1]](_plan))
