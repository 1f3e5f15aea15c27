"""Many sessions at once, what they cost while they run, and how soon one follows another."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Sequence

from summary import add_line

from backendai.cluster import Cluster
from backendai.faults.conftest import LONG, SECTION, Sites
from backendai.faults.tasks import chain, pipeline, task
from backendai.faults.wire import Wire

DOWNLOADS = "POST /folders/…/request-download"
AT_ONCE = 200 if LONG else 30
POLLS = 4
WAITS = "while ! [ -e /pipeline/vfroot/go ]; do sleep 2; done"
"""As little as can be, since there are many."""
CREATES = ("/session", "/v2/sessions/enqueue")
CHAIN = 40 if LONG else 8


async def test_many_sessions_at_once(sites: Sites, stack: Cluster) -> None:
    """All run and end well; while they run the cluster is asked as often as for one of them."""
    async with Wire(stack.endpoint) as wire, sites(endpoint=wire.endpoint) as site:
        names = [f"t{number:03}" for number in range(AT_ONCE)]
        began = time.monotonic()
        wide = [task(name, body=WAITS) for name in names]
        job = await site.begin(pipeline("wide", [*wide, task("last", *names[:3])]))
        await site.said("start", *names, within=400)
        started = time.monotonic()

        async def nearly_all_run() -> bool:
            found = await site.tasks(job)
            return [each["state"] for each in found.values()].count(
                "running"
            ) >= 0.9 * AT_ONCE  # a busy manager forgets some

        await site.until(nearly_all_run, "they were not seen to run")
        since, at = len(wire.requests), time.monotonic()

        async def polled() -> bool:
            return wire.kinds(since)["POST /admin/gql"] >= POLLS

        await site.until(polled, "the cluster was not asked")
        kinds, idle = wire.kinds(since), time.monotonic() - at
        reads = kinds[DOWNLOADS]  # heartbeats that the storage's list has not: at most two requests a session
        assert reads <= 2 * AT_ONCE, kinds
        # Otherwise one read of all sessions, and at times one of the job's records.
        assert kinds.total() - reads <= 2 * POLLS, kinds
        going = time.monotonic()
        await site.let_go()
        await site.ended(job, "succeeded", within=400)
        ended = time.monotonic()
        add_line(
            SECTION,
            f"{AT_ONCE} sessions at once on {stack.version}: all ran after {started - began:.1f} s, ended"
            f" {ended - going:.1f} s after they could; while all ran {kinds.total()} requests in {idle:.1f} s"
            f" at a poll every 2 s: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}",
        )


async def test_how_soon_a_session_follows(sites: Sites, stack: Cluster) -> None:
    """The next session is asked for when the manager says that the last one has ended; that is measured."""
    async with Wire(stack.endpoint) as wire, sites(endpoint=wire.endpoint) as site:
        names = [f"t{number:02}" for number in range(CHAIN)]
        job = await site.begin(pipeline("chain", chain(*names)))
        await site.ended(job, "succeeded")
        whole, own = zip(*_gaps(wire, job.id), strict=True)
        assert len(whole) >= CHAIN / 2
        add_line(
            SECTION,
            "from the manager's event that a session has ended to the request for the next one,"
            f" on {stack.version}: {_spread(whole)};"
            f" of that our own, without the manager's answers in between: {_spread(own)}",
        )


def _gaps(wire: Wire, job: str) -> Iterator[tuple[float, float]]:
    """Yield the milliseconds from each session's end to its successor's request: all, and those of them not spent
    waiting for the manager."""
    ends: dict[int, float] = {}
    for request in list(wire.requests):
        for at, data in request.heard:
            for name in re.findall(rb'event: session_success\r?\ndata: .*?"sessionName": ?"([^"]+)"', data):
                if job.encode() in name:
                    ends.setdefault(int(name.split(b"-")[3]), at)
    for request in wire.requests:
        if request.method != "POST" or request.path not in CREATES:
            continue
        body = json.loads(request.body)
        index = int((body.get("name") or body["session_name"]).split("-")[3])
        if ended := ends.get(index - 1):
            asked = [each for each in wire.requests if not each.is_events and ended <= each.came < request.came]
            waited = _covered([(each.came, min(each.answered or request.came, request.came)) for each in asked])
            yield 1000 * (request.came - ended), 1000 * (request.came - ended - waited)


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """Return how much time spans cover together, that overlap."""
    covered, until = 0.0, -math.inf
    for begin, end in sorted(spans):
        covered += max(0.0, end - max(begin, until))
        until = max(until, end)
    return covered


def _spread(values: Sequence[float]) -> str:
    ordered = sorted(values)
    return ", ".join(
        f"p{part} {ordered[min(len(ordered) - 1, math.ceil(len(ordered) * part / 100) - 1)]:.0f} ms"
        for part in (50, 95)
    )
