"""Watching a job: what its events change, in which words, and that seeing them again changes nothing."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import Any

import pytest
from cli_server import end_rows, event_row, job_row, task_row
from rich.console import Console

from trackbook.cli.watch.line_view import PlainView
from trackbook.cli.watch.live_view import LiveView
from trackbook.cli.watch.progress import Progress, progress_of

ERROR = {"message": "exit code 3", "exit_code": 3, "tail": "boom"}
STORY = [
    event_row("TaskLaunchRequested", 8, 0, 1, job="pending", task="a", attempt=1, session="s"),
    event_row("TaskStarted", 9, 0, 2, job="pending", task="a", attempt=1, at="2026-01-31T12:00:02.000000Z"),
    event_row("JobStarted", 9, 1, 2, at="2026-01-31T12:00:02.000000Z"),
    *end_rows("Succeeded", 10, 0, 5.2, task="a"),
    event_row("TaskLaunchRequested", 10, 2, 5.2, task="b", attempt=1, session="s"),
    event_row("TaskStarted", 11, 0, 6, task="b", attempt=1, at="2026-01-31T12:00:06.000000Z"),
    *end_rows("Failed", 12, 0, 7, task="b", error=ERROR),
    event_row("JobFailing", 12, 2, 7, tasks={"c": "cancelled"}, task="b"),
    event_row("JobFailed", 12, 3, 7, task="b", error=ERROR),
]


def fresh(*names: str) -> Progress:
    """Return a job before its first launch."""
    return progress_of(job_row(), [task_row(name) for name in names or ("a", "b", "c")], from_start=True)


def take(progress: Progress, events: Iterable[dict[str, Any]]) -> list[str]:
    """Take the events and return what changed, in short."""
    changes = []
    for event in events:
        changes += [
            f"{change.task.name if change.task else 'job'} {change.state}"
            for change in progress.take(f"{event['seq']}.{event['index']}", event)
        ]
    return changes


def test_events_lead_to_the_job_as_it_ended() -> None:
    """The states, counts and times are those that the events tell."""
    progress = fresh()
    changes = take(progress, STORY)

    assert changes == [
        "a launching", "a running", "job running", "a succeeded", "b launching", "b running", "b failed",
        "job failing", "job failed",
    ]  # fmt: skip
    assert progress.ended
    assert {name: task.state for name, task in progress.tasks.items()} == {
        "a": "succeeded", "b": "failed", "c": "cancelled",
    }  # fmt: skip
    assert +progress.counts == {"succeeded": 1, "failed": 1, "cancelled": 1}
    assert progress.done == 3
    assert not progress.running
    assert [task.name for task in progress.failed] == ["b"]
    assert progress.last == "12.3"
    assert progress.tasks["a"].run_time(progress.tasks["a"].finished) == pytest.approx(3.2)  # type: ignore[arg-type]


def test_events_seen_again_change_nothing() -> None:
    """A reconnection may show events twice, from any place on."""
    for begin in range(len(STORY)):
        progress = fresh()
        take(progress, STORY)
        before = json.dumps(progress.__dict__, default=lambda value: getattr(value, "__dict__", str(value)))

        assert take(progress, STORY[begin:]) == []
        assert (
            json.dumps(progress.__dict__, default=lambda value: getattr(value, "__dict__", str(value))) == before
        )


def test_a_job_read_in_the_middle_goes_on_from_there() -> None:
    """A watcher that comes late reads the state, and takes what follows."""
    rows = [
        task_row("a", state="succeeded", attempt=1, started_at="2026-01-31T12:00:02.000000Z",
                 finished_at="2026-01-31T12:00:05.200000Z"),
        task_row("b", state="running", attempt=1, started_at="2026-01-31T12:00:06.000000Z"),
        task_row("c"),
    ]  # fmt: skip
    progress = progress_of(job_row(seq=11), rows)

    assert progress.last == "11.0"
    assert list(progress.running) == ["b"]
    assert take(progress, STORY) == ["b failed", "job failing", "job failed"]


def test_a_new_attempt_runs_after_a_failed_one() -> None:
    """What was known of the attempt before is forgotten."""
    progress = fresh("a")
    take(progress, end_rows("Failed", 8, task="a", error=ERROR))

    changes = take(progress, [
        event_row("TaskLaunchRequested", 9, task="a", attempt=2, session="s"),
        event_row("TaskStarted", 10, task="a", attempt=2),
    ])  # fmt: skip
    assert changes == ["a launching", "a running"]
    assert (progress.tasks["a"].attempt, progress.tasks["a"].error) == (2, "")


def test_any_event_tells_the_states() -> None:
    """States and events of a later release, which this one has no word for, are shown as they are reported."""
    progress = fresh()
    event = event_row("JobHeldBack", 8, job="paused", tasks={"a": "held"})

    assert take(progress, [event]) == ["job paused"]
    assert progress.tasks["a"].state == "held"


def test_what_is_not_known_is_left_alone() -> None:
    """An event that changes no state, and one of a commit that can't be projected, change nothing."""
    assert take(fresh(), [event_row("TaskAdmired", job="pending", task="a")]) == []
    assert take(fresh(), [event_row("TaskStarted", task="a") | {"states": None}]) == []


def test_plain_lines_tell_the_story(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal each thing that happens is one line, with its time and what it cost."""
    monkeypatch.setenv("TZ", "UTC")
    progress = fresh()
    with PlainView(progress) as view:
        for event in STORY:
            for change in progress.take("", event):
                view.show(change)

    lines = [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "a running",
        "a succeeded in 3.2 s",
        "b running",
        "b failed after 1.0 s: exit code 3",
        "stopping what runs: task b failed",
    ]


WHY = "no agent has 4 cpu"
WAITING = [
    event_row("TaskLaunchRequested", 8, 0, 1, task="a", attempt=1, session="s"),
    event_row("TaskStatusReported", 8, 1, 2, task="a", attempt=1, status="SCHEDULED"),
    event_row("TaskStatusReported", 8, 2, 3, task="a", attempt=1, status="PENDING", message=WHY),
]


def test_why_a_session_waits_is_reported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The executor's own status with its reason: one line, and in the live view while it lasts."""
    monkeypatch.setenv("TZ", "UTC")
    progress = fresh()
    view = PlainView(progress)
    for event in [*WAITING, WAITING[-1]]:
        for change in progress.take(f"{event['seq']}.{event['index']}", event):
            view.show(change)
    lines = capsys.readouterr().out.splitlines()

    assert [line.partition(" ")[2] for line in lines] == [f"a PENDING: {WHY}"]
    assert f"PENDING: {WHY}" in drawn(progress)
    take(progress, STORY[1:5])
    assert WHY not in drawn(progress)


def test_whose_failure_it_is_stays_known() -> None:
    """It says what to do about it."""
    progress = fresh()
    error = {"message": "its node died", "fault": "infrastructure"}
    take(progress, [*STORY[:3], *end_rows("Failed", 12, 0, 7, task="a", error=error)])

    assert (progress.tasks["a"].error, progress.tasks["a"].fault) == ("its node died", "infrastructure")


def drawn(progress: Progress, height: int = 50) -> str:
    """Return the live view as it is drawn now."""
    screen = io.StringIO()
    console = Console(file=screen, width=100, height=height, force_terminal=True, color_system=None)
    console.print(LiveView(progress, console).render())
    return screen.getvalue()


def test_the_live_view_has_a_line_for_each_of_a_few_tasks() -> None:
    """State, run time and the cause of a failure are seen at a glance, with how far the job is."""
    progress = fresh()
    take(progress, STORY)
    screen = drawn(progress)

    assert [line.split()[:3] for line in screen.splitlines()[:3]] == [
        ["✓", "a", "succeeded"], ["✗", "b", "failed"], ["⊘", "c", "cancelled"],
    ]  # fmt: skip
    assert "3.2 s" in screen
    assert "exit code 3" in screen
    assert "3 of 3 tasks" in screen


@pytest.mark.parametrize(("tasks", "height"), [(200, 50), (25, 20)])
def test_the_live_view_of_many_tasks_shows_counts_and_what_matters(tasks: int, height: int) -> None:
    """A large graph, or a low terminal, is collapsed to counts, what runs, and what failed last."""
    names = [f"task-{number}" for number in range(tasks)]
    progress = fresh(*names)
    take(progress, [event_row("TaskStarted", 8, at, task=name, attempt=1) for at, name in enumerate(names[:13])])
    take(progress, end_rows("Succeeded", 9, task="task-0"))
    take(progress, end_rows("Failed", 10, task="task-1", error=ERROR))
    screen = drawn(progress, height)

    assert f"1 succeeded, 11 running, 1 failed, {tasks - 13} pending" in screen
    assert "✗  task-1 " in screen
    assert " task-2 " in screen
    assert "and 1 more" in screen
    assert f"2 of {tasks} tasks" in screen
    assert len(screen.splitlines()) <= 14


def test_the_live_view_shows_a_remark() -> None:
    """After Ctrl-C the person sees what is being done about it."""
    progress = fresh("a")
    screen = io.StringIO()
    view = LiveView(progress, Console(file=screen, width=80, height=40))
    view.note("cancelling the job")
    view.console.print(view.render())

    assert "cancelling the job" in screen.getvalue()
