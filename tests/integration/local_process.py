"""A local executor in a process of its own, so that tests can kill it: requests on stdin, reports on stdout."""

from __future__ import annotations

import argparse
import asyncio
import os
import pwd
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog

from trackbook.adapters.local.box import calls
from trackbook.adapters.local.executor import LocalExecutor
from trackbook.engine.job import Report, ReportTaskEnded, ReportTaskStarted
from trackbook.engine.ports import SessionSpec

_ROOT = Path(__file__).parents[2]


class ExecutorProcess:
    """The test's end. `ready` is what the executor said of itself when it had started."""

    def __init__(self, data: Path, *options: str, environment: Mapping[str, str] | None = None) -> None:
        self._arguments = [__file__, str(data), *options]
        self._environment = {**os.environ, "PYTHONPATH": str(_ROOT), **(environment or {})}
        self.ready: dict[str, Any] = {}
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> ExecutorProcess:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process and self._process.returncode is None:
            self.ask("close", None)
            await self._wait()

    async def start(self) -> None:
        """Start it (again)."""
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *self._arguments, stdin=pipe, stdout=pipe, env=self._environment
        )
        self.ready = msgspec.json.decode(await self._line())

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process
        return self._process.pid

    def ask(self, verb: str, spec: SessionSpec | None) -> None:
        """Send a request: launch, stop, close."""
        assert self._process
        assert self._process.stdin
        self._process.stdin.write(msgspec.json.encode([verb, spec]) + b"\n")

    async def _line(self) -> bytes:
        assert self._process
        assert self._process.stdout
        async with asyncio.timeout(60):
            return await self._process.stdout.readline()

    async def report(self) -> Report:
        """Return the next report."""
        return msgspec.json.decode(await self._line(), type=ReportTaskStarted | ReportTaskEnded)

    async def report_or_none(self) -> Report | None:
        """Return the next report, None when the executor is gone."""
        line = await self._line()
        return msgspec.json.decode(line, type=ReportTaskStarted | ReportTaskEnded) if line else None

    async def spawner(self) -> int:
        """Ask for the process id of the spawner that runs now; for when no report is due."""
        self.ask("spawner", None)
        return int(await self._line())

    async def ended(self, task: str) -> ReportTaskEnded:
        """Return the next report of the task's end."""
        while True:
            report = await self.report()
            if isinstance(report, ReportTaskEnded) and report.task == task:
                return report

    async def kill(self) -> None:
        """Kill it by SIGKILL."""
        assert self._process
        self._process.kill()
        await self._wait()

    async def died(self) -> int:
        """Wait until it is gone, of itself."""
        assert self._process
        async with asyncio.timeout(60):
            await (
                self._process.wait()
            )  # its stdin stays open meanwhile: the end of that would be a request to close
        return await self._wait()

    async def _wait(self) -> int:
        assert self._process
        async with asyncio.timeout(60):
            await self._process.communicate()
        assert self._process.returncode is not None
        return self._process.returncode


def become(user: str) -> None:
    """Become an ordinary user who can still reach the interpreter and the code, wherever they are."""
    needed = {Path(sys.base_prefix), Path(sys.prefix), _ROOT}
    walls = {wall: [path for path in needed if wall in path.parents] for path in needed for wall in _walls(path)}
    calls.unshare(calls.CLONE_NEWNS)
    calls.mount("", "/", "", calls.MS_REC | calls.MS_SLAVE)
    handles = {path: os.open(path, os.O_PATH) for path in needed}
    for wall, paths in walls.items():
        calls.mount("test", str(wall), "tmpfs", 0, "mode=755")
        for path in paths:
            path.mkdir(parents=True)
            calls.bind(f"/proc/self/fd/{handles[path]}", str(path))
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def isolate(data: Path, *, home: bool, small: bool) -> None:
    """Give the process a machine with a /home/work, or with a data directory of half a megabyte."""
    calls.unshare(calls.CLONE_NEWNS)
    calls.mount("", "/", "", calls.MS_REC | calls.MS_SLAVE)
    if home:
        calls.mount("test", "/home", "tmpfs", 0, "mode=755")
        Path("/home/work/mine").mkdir(parents=True)
        Path("/home/work/mine/file").write_text("of the machine\n")
    if small:
        data.mkdir(exist_ok=True)
        calls.mount("test", str(data), "tmpfs", 0, "size=512k")


def _walls(path: Path) -> list[Path]:
    """Return the outermost folder above the path that others may not enter, if any."""
    return [parent for parent in reversed(path.parents) if not parent.stat().st_mode & 0o001][:1]


async def main() -> None:
    """Serve until asked to close, or stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--user")
    parser.add_argument("--home", action="store_true")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    if options.home or options.small:
        isolate(options.data, home=options.home, small=options.small)
    if options.user:
        become(options.user)

    async def tell(_: str, report: Report) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.buffer.flush()

    executor = LocalExecutor(options.data, limit=8, grace=0.5)
    await executor.start(tell)
    ready = {
        "private_root": executor.private_root,
        "warnings": executor.warnings,
        "spawner": executor.spawner_pid,
    }
    sys.stdout.buffer.write(msgspec.json.encode(ready) + b"\n")
    sys.stdout.buffer.flush()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        verb, spec = msgspec.json.decode(line, type=tuple[str, SessionSpec | None])
        if verb == "spawner":
            sys.stdout.buffer.write(b"%d\n" % executor.spawner_pid)
            sys.stdout.buffer.flush()
            continue
        if spec is None:
            break
        await (executor.launch(spec) if verb == "launch" else executor.stop(spec))
    await executor.close()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is for reports
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(main())
