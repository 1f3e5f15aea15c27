"""What the Backend.AI executor adds between a session's end and its successor's, and many sessions at once.

    python -m bench.backendai --chain 20 --many 200

Speaks to the manager that BACKEND_ENDPOINT, BACKEND_ACCESS_KEY and BACKEND_SECRET_KEY name. Prints, in
milliseconds, how long it takes from the command's end (its record's time), and from when the manager tells of it,
to the request that makes the successor; what manager and storage proxy take of that; and what is left, is ours.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import secrets
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from msgspec import Struct

from trackbook.adapters.backendai import names
from trackbook.adapters.backendai.api import session_calls
from trackbook.adapters.backendai.api.events import Hint
from trackbook.adapters.backendai.config import Cluster
from trackbook.adapters.backendai.executor import BackendAIExecutor
from trackbook.engine.job import Report, ReportTaskEnded
from trackbook.engine.ports import SessionSpec

IMAGE = "sim-registry/stable/python:3.9-ubuntu20.04"
MAKES = ("POST /session", "POST /v2/sessions/enqueue")
_NEEDED = ("request-download", "/download", "/mkdir", "/folders")
"""What the successor waits for; reads of sessions go on beside that."""
ENDS = ("session_success", "session_failure")


class Asked(Struct):
    """A request, by the clock of time.time()."""

    what: str
    began: float
    ended: float = 0.0


class Bench:
    """An executor whose requests and hints are noted as they pass."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.installation = secrets.token_hex(4)
        self.executor = BackendAIExecutor(cluster, folder, self.installation)
        self.connection = self.executor._connection
        self.asked: list[Asked] = []
        self.heard: dict[str, float] = {}
        self.ended: dict[str, ReportTaskEnded] = {}
        self.next: dict[str, SessionSpec] = {}
        self.all_ended = asyncio.Event()
        self.expected = 0
        self._handle_hint = self.executor._watch._handle_hint
        self.executor._watch._handle_hint = self._hear  # type: ignore[method-assign]
        self.connection.client.http.event_hooks = {"request": [self._begin], "response": [self._end]}

    async def _begin(self, request: httpx.Request) -> None:
        request.extensions["asked"] = Asked(f"{request.method} {request.url.path}", time.time())
        self.asked.append(request.extensions["asked"])

    async def _end(self, response: httpx.Response) -> None:
        response.request.extensions["asked"].ended = time.time()

    def _hear(self, hint: Hint) -> None:
        if hint.kind in ENDS:
            self.heard.setdefault(hint.session_name, time.time())
        self._handle_hint(hint)

    async def report(self, _: str, report: Report) -> None:
        """Take a report; launch what follows, as an engine does."""
        if isinstance(report, ReportTaskEnded) and report.task not in self.ended:
            self.ended[report.task] = report
            if report.task in self.next:
                await self.executor.launch(self.next[report.task])
            if len(self.ended) == self.expected:
                self.all_ended.set()

    async def run(self, begin: list[SessionSpec], expected: int) -> None:
        """Launch these, and wait until so many have ended."""
        self.expected = expected
        await self.executor.start(self.report)
        for spec in begin:
            await self.executor.launch(spec)
        await self.all_ended.wait()
        await self.executor.close(cancel=True)


def spec(index: int, command: str = "true") -> SessionSpec:
    """Return a session of the bench's job."""
    resources: dict[str, int | float] = {"cpu": 1, "mem": 128 * 2**20}
    return SessionSpec(
        f"tb-bench-{index}-1", "bench", "bench", "bench", f"t{index}", index, 1, command, resources=resources
    )


async def chain(cluster: Cluster, length: int) -> None:
    """Run one session after another, and print what lies between them."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(cluster, Path(folder))
        specs = [spec(index) for index in range(length)]
        bench.next = {before.task: after for before, after in itertools.pairwise(specs)}
        await bench.run(specs[:1], length)
    if bad := [end.message for end in bench.ended.values() if end.outcome != "succeeded"]:
        raise SystemExit(f"{len(bad)} sessions did not succeed: {bad[0]}")
    makes = [each for each in bench.asked if each.what in MAKES]
    rows = []
    for before, make in zip(specs, makes[1:], strict=False):
        ended = bench.ended[before.task].ended_at.timestamp()
        heard = bench.heard.get(names.session(bench.installation, before.session), ended)
        theirs = _covered([each for each in bench.asked if each is not make], heard, make.began)
        rows.append(((make.began - ended), (make.began - heard), theirs, make.began - heard - theirs))
    print(f"chain of {length} sessions, p50 / p90 of {len(rows)} steps in ms:")
    for name, values in zip(
        ("command's end -> create", "heard of -> create", "  of which theirs", "  ours"),
        zip(*rows, strict=True),
        strict=True,
    ):
        ordered = sorted(values)
        print(
            f"  {name:26} {statistics.median(ordered) * 1000:8.1f} {ordered[int(len(ordered) * 0.9)] * 1000:8.1f}"
        )


def _covered(asked: list[Asked], begin: float, end: float) -> float:
    """Return how much of a stretch of time a request was under way in."""
    total, at = 0.0, begin
    for each in sorted(asked, key=lambda each: each.began):
        if not each.ended or not any(word in each.what for word in _NEEDED):
            continue
        start, stop = max(each.began, at), min(each.ended, end)
        if stop > start:
            total += stop - start
            at = stop
    return total


async def many(cluster: Cluster, count: int) -> None:
    """Run many sessions at once, and print how long it took and what was asked."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(cluster, Path(folder))
        began = time.monotonic()
        await bench.run([spec(index, "sleep 2") for index in range(count)], count)
        took = time.monotonic() - began
    outcomes = Counter(end.outcome for end in bench.ended.values())
    kinds = Counter(_kind(each.what) for each in bench.asked)
    print(f"{count} sessions at once: {took:.1f} s, {dict(outcomes)}, {len(bench.asked)} requests")
    for kind, number in kinds.most_common():
        print(f"  {number:6} {kind}")


def _kind(what: str) -> str:
    return "/".join(part if len(part) < 24 and not part.startswith("tb-") else "…" for part in what.split("/"))


async def idle(cluster: Cluster, count: int, seconds: float) -> None:
    """Print what is asked of the cluster while so many sessions run and nothing happens."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(cluster, Path(folder))
        await bench.executor.start(bench.report)
        for index in range(count):
            await bench.executor.launch(spec(index, "sleep 1000"))
        running: list[Any] = []
        while len(running) < count:
            await asyncio.sleep(1)
            found = await session_calls.sessions_with_prefix(
                bench.connection.client, names.prefix(bench.installation)
            )
            running = [each for each in found if each.status == "RUNNING"]
        await asyncio.sleep(5)
        bench.asked.clear()
        await asyncio.sleep(seconds)
        kinds = Counter(_kind(each.what) for each in bench.asked)
        print(f"{count} sessions that run, in {seconds:.0f} s: {dict(kinds)}")
        await bench.executor.close(cancel=True)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.backendai", description=__doc__)
    parser.add_argument("--chain", type=int, default=20)
    parser.add_argument("--many", type=int, default=0)
    parser.add_argument("--idle", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--image", default=IMAGE)
    options = parser.parse_args()
    keys: dict[str, Any] = {
        key: os.environ[f"BACKEND_{key.upper()}"] for key in ("endpoint", "access_key", "secret_key")
    }
    cluster = Cluster(name="main", image=options.image, **keys)
    if options.chain:
        asyncio.run(chain(cluster, options.chain))
    if options.many:
        asyncio.run(many(cluster, options.many))
    if options.idle:
        asyncio.run(idle(cluster, options.idle, options.seconds))


if __name__ == "__main__":
    main()
