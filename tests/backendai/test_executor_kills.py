"""The adapter is killed, at its critical points and at any moment; the next one takes its sessions over."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from backendai.adapter_process import Instructions
from backendai.cluster import Cluster
from backendai.worlds import ClusterWorld, spec
from trackbook.engine.job import ReportTaskEnded

COUNT = "echo x >>/pipeline/vfroot/count-$TRACKBOOK_TASK"
TASKS = "abcd"
POINTS = (
    "executor.launch.before_spawn=kill",
    "executor.launch.before_spawn=kill@3",
    "executor.launch.spawned=kill",
    "executor.launch.spawned=kill@4",
    "executor.stop.before=kill",
    "executor.report.before=kill@5",
    "executor.report.after=kill@6",
)


class Killed:
    """Runs the adapter in processes that are killed, until one comes to the end."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.world = ClusterWorld(cluster, folder / "data")
        self.specs = [spec(task, f"{COUNT}; sleep 1; exit {code}") for code, task in enumerate(TASKS)]
        self._reported = folder / "reported.json"
        self._ends = folder / "ends"
        reported = Instructions(
            self.world.settings, str(folder / "data"), self.world.installation, self.specs, ["d"]
        )
        self._reported.write_bytes(msgspec.json.encode(reported))

    def begin(self, failpoints: str = "") -> subprocess.Popen[bytes]:
        """Start the adapter."""
        arguments = [sys.executable, "-m", "backendai.adapter_process", str(self._reported), str(self._ends)]
        tests = str(Path(__file__).parents[1])
        environment = os.environ | {"PYTHONPATH": tests, "TRACKBOOK_FAILPOINTS": failpoints}
        return subprocess.Popen(arguments, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    async def check(self) -> None:
        """Let the adapter come to the end; each task must have one end, which is right, and have run once."""
        last = self.begin()
        try:
            assert last.wait(timeout=120) == 0
        finally:
            last.kill()
        ends: dict[str, ReportTaskEnded] = {}
        for line in self._ends.read_bytes().splitlines():
            end = msgspec.json.decode(line, type=ReportTaskEnded)
            assert ends.setdefault(end.task, end) == end, "an end was reported that is not the first one"
        for code, task in enumerate("abc"):
            assert ends[task].exit_code == code
            assert await self.world.runs(task) == 1
        assert ends["d"].outcome == "cancelled" or ends["d"].exit_code == 3  # it may end before it is stopped
        assert await self.world.runs("d") <= 1
        await self.world.nothing_left()


@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_a_point(stack: Cluster, tmp_path: Path, point: str) -> None:
    """Killed between what it notes, what it asks for and what it reports, nothing is lost or done twice."""
    killed = Killed(stack, tmp_path)
    first = killed.begin(point)
    try:
        first.wait(timeout=60)
    finally:
        first.kill()
    await killed.check()


@pytest.mark.parametrize("seed", range(3))
async def test_killed_at_any_moment(stack: Cluster, tmp_path: Path, seed: int) -> None:
    """Killed again and again, it comes to the end all the same."""
    killed, dice = Killed(stack, tmp_path), random.Random(seed)
    for _ in range(4):
        process = killed.begin()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=dice.uniform(0.3, 4))
        process.kill()
        process.wait()
    await killed.check()
