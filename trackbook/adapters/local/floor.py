"""What launching costs without an engine: `python -m trackbook.adapters.local.floor 1000 --parallel 2`.

Drives the executor's own spawner and launchers from a plain loop, as `xargs -P` would: no event loop, no reports,
no queue. Benchmarks set a fan-out beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import select
import sys
import tempfile
import time
from pathlib import Path

from trackbook.adapters.execution import folders
from trackbook.adapters.local import attempt_state
from trackbook.adapters.local.plan import Planner
from trackbook.adapters.local.spawner import Spawner
from trackbook.engine.ports import SessionSpec


class Floor:
    """Launches sessions of one command, so many at a time, below a data directory of its own."""

    def __init__(self, data: Path, command: str, *, durable: bool = True) -> None:
        self._data = data
        self._command = command
        self._planner = Planner(data, 5.0, 16 * 2**20, durable, ())
        self._open: dict[int, SessionSpec] = {}
        self._poll = select.poll()

    async def run(self, count: int, parallel: int) -> float:
        """Return the seconds from the first launch to the last end. Raises RuntimeError if a session fails."""
        self._spawner = Spawner(parallel, lambda: None)
        (self._data / "sessions").mkdir(parents=True, exist_ok=True)
        await self._spawner.start()
        self._planner.private_root = self._spawner.offer.private_root
        self._planner.own_work = self._spawner.offer.own_work
        try:
            return self._launch_all(count, parallel)
        finally:
            await self._spawner.close()

    def _launch_all(self, count: int, parallel: int) -> float:
        begun = time.perf_counter()
        for number in range(count):
            while len(self._open) >= parallel:
                self._wait()
            self._launch(number)
        while self._open:
            self._wait()
        return time.perf_counter() - begun

    def _launch(self, number: int) -> None:
        spec = SessionSpec(f"floor-{number}", "floor", "floor", "floor", f"t{number}", number, 1, self._command)
        folder = folders.session_folder(self._data, spec.session)
        folder.mkdir()
        listen = self._spawner.launch(folder, self._planner.plan(spec))
        self._poll.register(listen, select.POLLIN)
        self._open[listen] = spec

    def _wait(self) -> None:
        for file, _ in self._poll.poll():
            data = os.read(file, 65536)
            if data and not data.endswith(b"E\n"):
                continue
            self._poll.unregister(file)
            os.close(file)
            spec = self._open.pop(file)
            record = attempt_state.read_record(folders.session_folder(self._data, spec.session))
            if record is None or record.exit_code != 0:
                raise RuntimeError(f"{spec.session} failed: {record}")


def main() -> None:
    """Print the seconds and the milliseconds per session."""
    parser = argparse.ArgumentParser(description="Launch sessions without an engine and print the seconds.")
    parser.add_argument("count", type=int)
    parser.add_argument("--parallel", "-P", type=int, default=2)
    parser.add_argument("--command", default="/bin/true")
    parser.add_argument("--fast", action="store_true", help="without the claim's fsync")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as data:
        floor = Floor(Path(data), options.command, durable=not options.fast)
        seconds = asyncio.run(floor.run(options.count, options.parallel))
    sys.stdout.write(f"{seconds:.3f} s, {seconds / options.count * 1000:.2f} ms each\n")


if __name__ == "__main__":
    main()
