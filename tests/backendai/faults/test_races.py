"""Sessions that are asked for twice, answers that are lost, and clocks that disagree."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from backendai.cluster import Cluster
from backendai.faults.conftest import Sites, only_long
from backendai.faults.tasks import pipeline, task
from backendai.faults.wire import Request, Wire
from backendai.worlds import ClusterWorld
from trackbook.engine.ports import SessionSpec

COUNTS = "echo $BACKENDAI_SESSION_ID >> /pipeline/vfroot/ran; sleep 1"


def _makes(request: Request) -> bool:
    return request.method == "POST" and request.path in ("/session", "/v2/sessions/enqueue")


async def test_answers_to_creates_are_lost(sites: Sites, stack: Cluster) -> None:
    """What became of a request is looked up where its answer is lost: no session is made twice."""
    async with Wire(stack.endpoint) as wire, sites(endpoint=wire.endpoint) as site:
        lost: list[Request] = []

        def loses(request: Request) -> bool:
            if not _makes(request) or len(lost) >= 3 or request in lost:
                return False
            lost.append(request)
            return True

        wire.loses = loses
        tasks = [task("a"), task("b"), task("c", "a", "b"), task("d", "a", "b")]
        job = await site.begin(pipeline("unanswered", tasks))
        await site.ended(job, "succeeded")
        assert len(lost) == 3


async def test_two_adapters_make_the_same_session(stack: Cluster, tmp_path: Path) -> None:
    """Asked for by two at once, one session runs the command once, and both report its end."""
    assert stack.own
    first = ClusterWorld(stack, tmp_path / "first")
    second = ClusterWorld(stack, tmp_path / "second")
    second.installation = first.installation
    job = uuid4().hex[:16]
    specs = [
        SessionSpec(
            session=f"tb-{job}-{index}-1", job=job, pipeline=job, pipeline_name="p", task=f"t{index}",
            index=index, attempt=1, command=COUNTS, resources={"cpu": 1, "mem": 2**27},
        )
        for index in range(4)
    ]  # fmt: skip
    try:
        executors = [await first.open(), await second.open()]
        await executors[0].launch(specs[0])  # makes the folder, of which 26.8 would make two
        await first.reports.ended(specs[0].task)
        await asyncio.gather(*(executor.launch(spec) for spec in specs for executor in executors))
        for world in (first, second):
            for spec in specs:
                end = await world.reports.ended(spec.task)
                assert end.outcome == "succeeded", end
    finally:
        await first.close()
        await second.close()
    (ran,) = [path for path in stack.volume.glob("**/vfroot/ran") if _is_of(path, job)]
    assert len(ran.read_text().split()) == len(specs)


def _is_of(ran: Path, job: str) -> bool:
    return (ran.parents[1] / "jobs" / job).exists()


SKEWED = """\
import sys
from datetime import timedelta
from trackbook.adapters.backendai.api.client import Client, utc_now
off = timedelta(minutes=float(sys.argv.pop(1)))
Client.__init__.__kwdefaults__["clock"] = lambda: utc_now() + off
from trackbook.cli.main import main
main()
"""


@pytest.mark.parametrize("minutes", [pytest.param(-20, marks=only_long), 20])
async def test_our_clock_is_wrong(stack: Cluster, tmp_path: Path, minutes: int) -> None:
    """Where our clock is off by more than the manager takes, we go by the manager's."""
    key = stack.keys[stack.key]
    document = pipeline(f"skewed{minutes}", [task("a"), task("b", "a")])
    (tmp_path / "p.yaml").write_text(json.dumps(document))
    environment = {
        "HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "TRACKBOOK_BACKENDAI_ENDPOINT": stack.endpoint,
        "TRACKBOOK_BACKENDAI_ACCESS_KEY": key.access, "TRACKBOOK_BACKENDAI_SECRET_KEY": key.secret,
        "TRACKBOOK_BACKENDAI_IMAGE": stack.image,
    }  # fmt: skip
    arguments = ["run", str(tmp_path / "p.yaml"), "--executor", "backendai/main", "--json"]
    run = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", SKEWED, str(minutes), *arguments],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
    assert '"succeeded"' in run.stdout
