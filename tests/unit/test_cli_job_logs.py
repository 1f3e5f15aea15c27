"""`job logs` without a task: all of a job's output, each line with its task."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cli_server import Answer, FakeServer, event_row, frame, job_row, serving, task_row
from typer.testing import CliRunner, Result

from trackbook.cli import main
from trackbook.cli.errors import CliError, Rejected
from trackbook.cli.watch.task_output import AT_ONCE

JOB = "1f2e3d4c5b6a7988"
NOON = "2026-01-31T12:00:00.000000Z"
Run = Callable[..., Result]


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """A server without a script yet."""
    with serving({}) as server:
        yield server


@pytest.fixture
def run(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `job logs` against the server."""
    monkeypatch.setenv("TZ", "UTC")

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(main.app, ["job", "logs", JOB, *arguments, "--url", fake.url])

    return invoke


def output_scripts(outputs: dict[str, str | None], **job: Any) -> dict[str, Any]:
    """Return scripts for a job that ended with these outputs, None for a task that has none."""
    tasks = [
        task_row(name, index=index, state="succeeded", session=f"s{index}", started_at=NOON, finished_at=NOON)
        for index, name in enumerate(outputs)
    ]
    ended = {"state": "succeeded", "finished_at": NOON} | job
    missing = Answer({"error": {"code": "log_not_found", "message": "no output"}}, 404)
    found: dict[str, Any] = {
        f"GET /api/jobs/{JOB}": lambda _: job_row(**ended),
        f"GET /api/jobs/{JOB}/tasks": lambda _: {"items": tasks, "next": None},
    }
    for task in tasks:
        path, text = f"GET /api/jobs/{JOB}/tasks/{task['name']}", outputs[task["name"]]
        found[path] = lambda _, task=task: task
        found[f"{path}/logs"] = lambda asked, text=text: (
            missing if text is None else Answer(text="" if "offset" in asked.query else text)
        )
    return found


@pytest.mark.parametrize("follow", [False, True])
def test_all_tasks_are_printed_with_their_names(fake: FakeServer, run: Run, follow: bool) -> None:
    """A task without output is passed over, and a last line without an end gets one."""
    fake.scripts |= output_scripts({"a": "one\ntwo", "b": "three\n"} | ({} if follow else {"c": None}))
    result = run(*["--follow"] * follow)

    assert result.exit_code == 0, result.output
    assert sorted(result.stdout.splitlines()) == ["a | one", "a | two", "b | three"]
    assert result.stdout.endswith("\n")
    assert [line for line in result.stdout.splitlines() if line[0] == "a"] == ["a | one", "a | two"]


def test_the_only_task_is_printed_as_it_is(fake: FakeServer, run: Run) -> None:
    """There is nothing to tell apart."""
    fake.scripts |= output_scripts({"a": "one\ntwo\n"})

    assert run().stdout == "one\ntwo\n"
    assert run("a", "--raw").stdout == "one\ntwo\n"


def test_timestamps_say_what_is_known(fake: FakeServer, run: Run) -> None:
    """Of a line that was there before, the start of its task is shown with a plus sign."""
    fake.scripts |= output_scripts({"a": "one\n", "b": "two\n"})

    assert run("--timestamps").stdout == "2026-01-31 12:00:00+ a | one\n2026-01-31 12:00:00+ b | two\n"
    assert run("b", "--timestamps").stdout == "2026-01-31 12:00:00+ two\n"


def test_json_has_a_text_for_each_task(fake: FakeServer, run: Run) -> None:
    """Followed, it is one object a line."""
    fake.scripts |= output_scripts({"a": "one\n", "b": "two\n"})
    followed = [json.loads(line) for line in run("--json", "--follow").stdout.splitlines()]

    assert json.loads(run("--json").stdout) == {
        "job": JOB, "tasks": [{"task": "a", "text": "one\n"}, {"task": "b", "text": "two\n"}],
    }  # fmt: skip
    assert sorted((line["task"], line["line"]) for line in followed) == [("a", "one"), ("b", "two")]


def test_raw_output_of_several_tasks_is_bad_usage(fake: FakeServer, run: Run) -> None:
    """Bytes as they are have no prefix that says whose they are."""
    fake.scripts |= output_scripts({"a": "one\n", "b": "two\n"})
    result = run("--raw")

    assert result.exit_code == 2
    assert "name one of a, b" in result.stderr


@pytest.mark.parametrize("follow", [False, True])
def test_only_a_missing_output_is_passed_over(fake: FakeServer, run: Run, follow: bool) -> None:
    """What else is refused ends the command with an error, also on a thread."""
    fake.scripts |= output_scripts({"a": "one\n", "b": "two\n"})
    refused = {"error": {"code": "executor_unknown", "message": "there is no such executor"}}
    fake.scripts[f"GET /api/jobs/{JOB}/tasks/b/logs"] = lambda _: Answer(refused, 404)
    result = run(*["--follow"] * follow)

    assert isinstance(result.exception, Rejected)
    assert result.exit_code == 1


def test_tasks_beyond_the_bound_are_followed_as_well(fake: FakeServer, run: Run) -> None:
    """More tasks than are followed at once: all are printed."""
    names = [f"t{number}" for number in range(3 * AT_ONCE)]
    fake.scripts |= output_scripts(dict.fromkeys(names, "done\n"))

    assert sorted(run("-f").stdout.splitlines()) == sorted(f"{name} | done" for name in names)


def test_tasks_are_followed_from_their_launch_on(fake: FakeServer, run: Run) -> None:
    """Events after the state that was read begin the following and end the command."""
    scripts = output_scripts({"a": "one\n", "b": "two\n"}, state="running", finished_at=None)
    tasks = [
        task_row("a", state="succeeded", session="s0", started_at=NOON),
        task_row("b", index=1, state="pending"),
    ]
    scripts[f"GET /api/jobs/{JOB}/tasks"] = {"items": tasks, "next": None}
    events = [event_row("TaskLaunchRequested", 8, 0, 1, task="b"), event_row("JobSucceeded", 9, 0, 2)]
    stream = "".join(frame(f"{event['seq']}.0", event["type"], event) for event in events)
    fake.scripts |= scripts | {"GET /api/events": [Answer(text=stream)]}
    result = run("--follow", "--timestamps")

    assert sorted(line[19:] for line in result.stdout.splitlines()) == ["  a | one", "  b | two"]
    [asked] = [asked for asked in fake.asked if asked.path == "/api/events"]
    assert asked.headers["Last-Event-ID"] == "7.0"


@pytest.mark.parametrize("task", [(), ("a",)])
def test_a_job_with_an_unreadable_event_is_not_followed_for_ever(
    fake: FakeServer, run: Run, task: tuple[str, ...]
) -> None:
    """What is kept is printed; then the command ends and says why."""
    problem = "the commit at sequence 8 could not be projected"
    scripts = output_scripts({"a": "one\n", "b": "two\n"}, state="running", finished_at=None, problem=problem)
    scripts[f"GET /api/jobs/{JOB}/tasks/a"] = lambda _: task_row("a", state="running", session="s0")
    fake.scripts |= scripts
    result = run(*task, "--follow")

    assert isinstance(result.exception, CliError)
    assert problem in str(result.exception)
