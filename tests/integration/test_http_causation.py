"""Events over HTTP name what caused them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from histories.made import History
from histories.served import site

from trackbook.engine import job
from trackbook.events.commit import Input
from trackbook.events.job import TaskShape

CHAIN = [TaskShape("a"), TaskShape("b", ["a"])]


async def test_reports_are_named_by_their_place(tmp_path: Path) -> None:
    """What follows from a report, which has no id, is caused by its place on the log; its job correlates it."""
    history = History()
    await history.start("j", "p1", CHAIN)
    state = history.jobs["j"]
    events = job.decide(state, job.ReportTaskStarted("a", 1, history.now))
    both: list[Input[Any]] = [Input("executor:local", {}), Input("executor:local", {})]
    await history.commit("job", "j", both, [*events, *events], [1, -1])
    async with site(history, tmp_path / "r.db") as served:
        found = (await served.get("/api/jobs/j/events"))["items"]

    assert [event["causation_id"] for event in found[:2]] == ["job/j/2/0", "job/j/2/input-1"]
    assert {event["correlation_id"] for event in found[:2]} == {"job/j"}
