"""A clock that is set while a task runs: its run time is right all the same, and the jump is shown."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cli_server import job_row, serving, task_row
from histories.made import History
from histories.served import caught_up, projected
from structlog.testing import capture_logs
from typer.testing import CliRunner

from trackbook.adapters.execution.reporter import Reporter
from trackbook.cli import main
from trackbook.engine import job
from trackbook.engine.job import Report, ReportTaskEnded
from trackbook.engine.ports import SessionSpec
from trackbook.events.clock_jump import clock_jump
from trackbook.events.job import TaskShape
from trackbook.projections.views import JobView, TaskView

HOUR = 3600.0


@pytest.mark.parametrize(
    ("elapsed", "run_time", "jump"),
    [
        (None, None, None),  # it has not ended
        (5.0, 5.0, None),
        (5.9, 5.0, None),  # slewed by NTP
        (5.0, None, None),  # nobody measured it, and nothing speaks against it
        (-0.5, None, None),  # two good clocks
        (-HOUR, None, -HOUR),
        (5.0 - HOUR, 5.0, -HOUR),
        (5.0 + HOUR, 5.0, HOUR),
    ],
)
def test_a_jump_is_what_the_wall_clock_says_too_much(
    elapsed: float | None, run_time: float | None, jump: float | None
) -> None:
    """A difference of more than a second is a jump; without a measurement only an end before its start is one."""
    assert clock_jump(elapsed, run_time) == jump


async def ended(tmp_path: Path, elapsed: float, run_time: float | None) -> tuple[JobView, TaskView]:
    """Return a job of one task that ended so long after its start, by the wall clock, and the task."""
    history = History()
    await history.start("j", "p1", [TaskShape("a")])
    began = history.now
    end = began + timedelta(seconds=elapsed)
    await history.tell("j", job.ReportTaskEnded("a", 1, "succeeded", end, began, 0, run_time=run_time))
    async with projected(history, tmp_path / "r.db") as read:
        await caught_up(read, history)
        return await read.job("j"), (await read.tasks("j", 10)).items[0]


async def test_a_measured_run_time_is_shown_whatever_the_clock_did(tmp_path: Path) -> None:
    """A task that ran for five seconds ran for five seconds, and the hour that the clock went back is shown."""
    _, task = await ended(tmp_path, 5 - HOUR, 5.0)
    assert (task.run_time, task.clock_jump) == (5.0, -HOUR)


async def test_an_end_before_its_start_has_no_run_time_where_nobody_measured_it(tmp_path: Path) -> None:
    """What is not known is not shown as 0 seconds."""
    _, task = await ended(tmp_path, -HOUR, None)
    assert (task.run_time, task.clock_jump) == (None, -HOUR)


async def test_times_that_agree_show_no_jump(tmp_path: Path) -> None:
    """As a rule there is nothing to show."""
    found, task = await ended(tmp_path, 5.0, 5.01)
    assert (task.run_time, task.clock_jump, found.clock_jump) == (5.01, None, None)


@pytest.mark.parametrize(("run_time", "warnings"), [(5.0, 1), (None, 1)])
async def test_a_jump_is_logged_once(run_time: float | None, warnings: int) -> None:
    """Whoever runs the executor reads in its log which session the jump met."""

    async def sink(_job: str, _report: Report) -> None:
        return None

    history, reporter = History(), Reporter()
    reporter.sink = sink
    spec = SessionSpec("tb-j-0-1", "j", "p1", "p", "a", 0, 1, "true")
    report = ReportTaskEnded(
        "a", 1, "succeeded", history.now - timedelta(hours=1), history.now, 0, run_time=run_time
    )
    with capture_logs() as logs:
        reporter.send_end(spec, report)
        reporter.send_end(spec, report)
    await reporter.close(wait=60)
    assert [entry["session"] for entry in logs if "clock" in entry["event"]] == ["tb-j-0-1"] * warnings


def test_job_show_names_the_jump() -> None:
    """The task's line has the measured time, and a line below says what the clock did."""
    row = job_row(state="succeeded", finished_at="2026-01-31T12:00:04.000000Z", run_time=4.0)
    task = task_row("a", state="succeeded", run_time=5.0, clock_jump=-HOUR)
    path = f"/api/jobs/{row['id']}"
    with serving({f"GET {path}": row, f"GET {path}/tasks": {"items": [task], "next": None}}) as fake:
        result = CliRunner().invoke(main.app, ["job", "show", row["id"], "--url", fake.url])
    assert "a: the clock was set back by 1 h 00 min while it ran" in result.stdout
    assert "it ran 5.0 s" in result.stdout
