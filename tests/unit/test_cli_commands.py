"""Commands against a server that speaks from a script: what they ask, what they print, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_server import Answer, FakeServer, end_rows, event_row, frame, job_row, serving, task_row
from typer.testing import CliRunner, Result

from trackbook.cli import main
from trackbook.cli.errors import CliError, Rejected

JOB = "1f2e3d4c5b6a7988"
PIPELINE = {
    "id": "aaaabbbbccccdddd", "name": "train", "description": "", "version": 3, "state": "active", "tasks": 2,
    "created_at": "2026-01-31T12:00:00.000000Z", "updated_at": "2026-01-31T12:00:00.000000Z",
    "actor": "user:ann", "seq": 3, "problem": None,
}  # fmt: skip
Run = Callable[..., Result]


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """A server without a script yet."""
    with serving({}) as server:
        yield server


@pytest.fixture
def run(fake: FakeServer) -> Run:
    """Run a command against the server."""

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(main.app, [*arguments, "--url", fake.url])

    return invoke


def streamed(events: list[dict[str, Any]]) -> Answer:
    """Return a stream of these events."""
    return Answer(
        text="".join(frame(f"{event['seq']}.{event['index']}", event["type"], event) for event in events)
    )


def job_that_fails() -> dict[str, Any]:
    """Return scripts for a job whose second task fails."""
    error = {"message": "exit code 3", "exit_code": 3, "tail": "boom\n"}
    stream = [
        event_row("TaskStarted", 8, 0, 1, task="a", attempt=1),
        *end_rows("Succeeded", 9, 0, 2, task="a"),
        event_row("TaskStarted", 10, 0, 3, task="b", attempt=1),
        *end_rows("Failed", 11, 0, 4, task="b", error=error),
        event_row("JobFailed", 11, 2, 4, task="b", error=error),
    ]
    ended = job_row(
        state="failed", finished_at="2026-01-31T12:00:04.000000Z", error="task b failed: exit code 3",
        failed_task="b", exit_code=3, tail="boom\n", seq=11,
    )  # fmt: skip
    return {
        "POST /api/commands/pipeline/apply": {
            "command_id": "c", "status": "accepted", "seq": 6, "pipeline": "p", "name": "train", "version": 2,
            "changes": ["task b added"],
            "summary": {"tasks": 2, "skipped": 0, "dependencies": 1, "depth": 2, "width": 1,
                        "total": {"cpu": 3, "mem": 3 << 30}, "largest": {"cpu": 2, "mem": 2 << 30}, "images": []},
        },
        "POST /api/commands/job/check": {
            "command_id": "c", "status": "accepted", "ok": True, "findings": [],
            "warnings": [{"code": "not_acted_on", "message": "`retry` is not acted on yet",
                          "path": "tasks[0].retry", "line": 9, "column": 3}],
        },
        "POST /api/commands/job/start": {"command_id": "c", "status": "accepted", "seq": 7, "job": JOB,
                                         "pipeline": "p", "name": "train", "version": 2},
        f"GET /api/jobs/{JOB}": [job_row(), ended],
        f"GET /api/jobs/{JOB}/tasks": {
            "items": [task_row("a"), task_row("b", dependencies=["a"])], "next": None,
        },
        "GET /api/events": streamed(stream),
    }  # fmt: skip


def test_run_tells_the_whole_story_of_a_failure(fake: FakeServer, run: Run, tmp_path: Path) -> None:
    """Summary, warnings with their place, the cause with the last lines of output, and where to look."""
    file = tmp_path / "train.yaml"
    file.write_text("name: train\n")
    fake.scripts |= job_that_fails()
    result = run("run", str(file), "--param", "EPOCHS=3", "--param", "URL=http://x?a=b")

    assert result.exit_code == 1
    for line in (
        "Pipeline train: version 2",
        "  task b added",
        "  2 tasks, 2 in the longest chain",
        "  resources of all: cpu 3, mem 3 GiB",
        "  of the largest: cpu 2, mem 2 GiB",
        f"  warning: `retry` is not acted on yet ({file}:9:3, tasks[0].retry)",
        f"Job {JOB} of train@2 failed in 4.0 s: 1 succeeded, 1 failed.",
        "  b failed: exit code 3",
        "    │ boom",
        f"  trackbook job logs 1f2e3d4c b --url {fake.url}",
    ):
        assert line in result.stdout.splitlines()
    started = next(asked.body for asked in fake.asked if asked.path.endswith("job/start"))
    assert started["parameters"] == {"EPOCHS": "3", "URL": "http://x?a=b"}
    assert started["version"] == 2


def test_run_with_json_prints_the_job_and_nothing_else(fake: FakeServer, run: Run, tmp_path: Path) -> None:
    """A script reads stdout as it is."""
    file = tmp_path / "train.yaml"
    file.write_text("name: train\n")
    fake.scripts |= job_that_fails()
    result = run("run", str(file), "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["failed_task"] == "b"


FOUND = [
    {"what": "image", "found": "not there", "verdict": "fail", "hint": "Build it.", "task": "b",
     "executor": "backendai/main"},
    {"what": "quota", "found": "4 cpu at once", "verdict": "warn", "executor": "backendai/main"},
    {"what": "cluster", "found": "it answers", "verdict": "ok", "executor": "backendai/main"},
]  # fmt: skip
WARNED = [{"code": "input_elsewhere", "message": "/pipeline/input1 is empty"}]


def checked(*, ok: bool) -> dict[str, Any]:
    """Return the reply to a look before a run."""
    found = FOUND if not ok else FOUND[1:]
    reply = {"command_id": "c", "status": "accepted", "ok": ok, "findings": found, "warnings": WARNED}
    return reply | {"name": "train", "version": 2, "summary": {"tasks": 2}}


def test_run_starts_nothing_that_would_fail(fake: FakeServer, run: Run, tmp_path: Path) -> None:
    """What would fail is reported before, with what to do; nothing is started."""
    file = tmp_path / "train.yaml"
    file.write_text("name: train\n")
    fake.scripts |= job_that_fails() | {"POST /api/commands/job/check": checked(ok=False)}
    result = run("run", str(file), "--executor", "backendai/main")

    assert isinstance(result.exception, CliError)
    assert str(result.exception) == "nothing was started: 1 thing would fail"
    for line in (
        "  would fail: image: not there (task b, backendai/main)",
        "    Build it.",
        "  warning: quota: 4 cpu at once (backendai/main)",
        "  warning: /pipeline/input1 is empty",
    ):
        assert line in result.stdout.splitlines()
    assert "it answers" not in result.stdout
    assert fake.paths() == ["/api/commands/job/check"]
    looked = fake.asked[0].body
    assert (looked["yaml"], looked["offline"], looked["executor"]) == ("name: train\n", False, "backendai/main")


def test_run_unchecked_asks_no_executor(fake: FakeServer, run: Run, tmp_path: Path) -> None:
    """Who knows better runs it all the same; what the start warns of is reported then."""
    file = tmp_path / "train.yaml"
    file.write_text("name: train\n")
    scripts = job_that_fails()
    scripts["POST /api/commands/job/start"] |= {"warnings": WARNED}
    fake.scripts |= scripts
    result = run("run", str(file), "--unchecked")

    assert f"Job {JOB} of train@2 failed" in result.stdout
    assert "/pipeline/input1 is empty" in result.stderr
    assert [asked.body["offline"] for asked in fake.asked if asked.path.endswith("job/check")] == [True]


@pytest.mark.parametrize("command", [("run", "FILE"), ("job", "start", "train@2")])
@pytest.mark.parametrize("ok", [True, False])
def test_a_dry_run_only_tells(
    fake: FakeServer, run: Run, tmp_path: Path, command: tuple[str, ...], *, ok: bool
) -> None:
    """All that was found is reported, good or not; nothing is applied or started."""
    file = tmp_path / "train.yaml"
    file.write_text("name: train\n")
    fake.scripts |= {"POST /api/commands/job/check": checked(ok=ok)}
    arguments = [str(file) if word == "FILE" else word for word in command]
    result = run(*arguments, "--dry-run", "--param", "EPOCHS=3")
    as_json = run(*arguments, "--dry-run", "--json")

    assert result.exit_code == as_json.exit_code == (0 if ok else 1)
    assert "  good: cluster: it answers (backendai/main)" in result.stdout.splitlines()
    assert ("  would fail: image: not there (task b, backendai/main)" in result.stdout.splitlines()) is not ok
    assert json.loads(as_json.stdout)["ok"] is ok
    assert {asked.path for asked in fake.asked} == {"/api/commands/job/check"}
    assert fake.asked[0].body["parameters"] == {"EPOCHS": "3"}


def test_a_rejected_file_is_reported_with_its_name(fake: FakeServer, run: Run, tmp_path: Path) -> None:
    """The place of a refusal is one that an editor can jump to."""
    file = tmp_path / "train.yaml"
    file.write_text("name: train\n")
    error = {"code": "cycle", "message": "a → a", "line": 3, "column": 1}
    fake.scripts["POST /api/commands/job/check"] = Answer({"status": "rejected", "error": error}, 422)
    result = run("run", str(file))

    assert isinstance(result.exception, Rejected)
    assert f"  at {file}:3:1" in result.exception.lines()


@pytest.mark.parametrize(
    ("content", "reported"),
    [(None, "there is no file"), (b"name: \xff\xfe", "is not UTF-8 text")],
)
def test_a_file_that_cannot_be_read_is_reported(
    run: Run, tmp_path: Path, content: bytes | None, reported: str
) -> None:
    """Nothing is sent, and the message names the file and why."""
    file = tmp_path / "train.yaml"
    if content is not None:
        file.write_bytes(content)
    result = run("run", str(file))

    assert isinstance(result.exception, CliError)
    assert reported in str(result.exception)
    assert str(file) in str(result.exception)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "x.yaml", "--param", "EPOCHS"),
        ("run", "x.yaml", "--durability", "sometimes"),
        ("run",),
        ("pipeline", "restore", "train"),
        ("pipeline", "rename", "train@2", "other"),
        ("pipeline", "diff", "train@1", "other@2"),
        ("job", "show", JOB, "--at", "yesterday"),
        ("audit", "log", "--since", "lately"),
        ("job", "list", "--state", "finished"),
        ("job", "no-such-command"),
    ],
)
def test_bad_usage_is_exit_code_2(fake: FakeServer, run: Run, arguments: tuple[str, ...]) -> None:
    """Scripts tell a typing error from a failure."""
    assert run(*arguments).exit_code == 2
    assert fake.asked == []


@pytest.mark.parametrize(
    ("at", "path"),
    [("7", "7"), ("7.0", "7.0"), (f"job/{JOB}/7/2", "7.2")],
)
def test_a_job_is_shown_as_it_stood(fake: FakeServer, run: Run, at: str, path: str) -> None:
    """An event is named by version, by version and index, or by its id."""
    moment = {
        "version": 7,
        "index": 2,
        "at": "2026-01-31T12:00:00.000000Z",
        "job": job_row(),
        "tasks": [task_row("a")],
    }
    fake.scripts[f"GET /api/jobs/{JOB}/at/{path}"] = moment
    result = run("job", "show", JOB, "--at", at)

    assert result.exit_code == 0, result.output
    assert "event 7.2" in result.stdout
    assert json.loads(run("job", "show", JOB, "--at", at, "--json").stdout) == moment


def test_a_job_is_shown_as_it_was_at_a_time(fake: FakeServer, run: Run) -> None:
    """The last version that was committed by then is shown; before its first there was no job."""
    moment = {"version": 4, "index": 1, "at": "2026-01-31T12:00:00.000000Z", "job": job_row(), "tasks": []}
    commits = [{"items": [{"version": 4}], "next": None}, {"items": [], "next": None}]
    fake.scripts |= {
        f"GET /api/jobs/{JOB}": lambda _: job_row(),
        "GET /api/audit": commits,
        f"GET /api/jobs/{JOB}/at/4": moment,
    }
    assert "event 4.1" in run("job", "show", JOB, "--at", "2026-01-31T12:00:01Z").stdout
    early = run("job", "show", JOB, "--at", "2026-01-30T12:00:00Z")

    assert "did not exist" in str(early.exception)
    assert "until=2026-01-31T12%3A00%3A01.000001Z" in fake.asked[1].query


def test_run_of_a_stored_pipeline_says_how_it_is_started(fake: FakeServer, run: Run) -> None:
    """Where there is no such file, the command that was probably meant is named, ready to be pasted."""
    fake.scripts["GET /api/pipelines/train%20all"] = lambda _: PIPELINE
    known, unknown = run("run", "train all@2"), run("run", "other")

    for result in (known, unknown):
        assert isinstance(result.exception, CliError)
        assert "there is no file" in str(result.exception)
    assert isinstance(known.exception, CliError)
    assert f"trackbook job start 'train all@2' --url {fake.url}" in known.exception.hint
    assert "POST" not in {asked.method for asked in fake.asked}


def test_states_combine(fake: FakeServer, run: Run) -> None:
    """Repeated or separated by commas; a near miss is named."""
    fake.scripts["GET /api/jobs"] = lambda _: {"items": [job_row()], "next": None}
    run("job", "list", "--state", "failed", "--state", "running,cancelled")
    wrong = run("job", "list", "--state", "failed,runing")

    assert "state=failed&state=running&state=cancelled" in fake.asked[-1].query
    assert wrong.exit_code == 2
    assert "Did you mean 'running'?" in wrong.stderr


@pytest.mark.parametrize(
    ("command", "path"),
    [
        (("job", "list"), "/api/jobs"), (("pipeline", "list"), "/api/pipelines"),
        (("pipeline", "versions", "train"), "/api/pipelines/train/versions"), (("audit", "log"), "/api/audit"),
    ],
)  # fmt: skip
def test_a_list_that_is_cut_says_how_many_there_are(
    fake: FakeServer, run: Run, command: tuple[str, ...], path: str
) -> None:
    """`2 of 47 jobs`, on stderr; a list that is shown whole is not counted."""
    row = job_row() | PIPELINE | {
        "actors": [], "types": [], "kind": "job", "aggregate_id": JOB, "at": PIPELINE["created_at"],
        "changes": [],
        "tasks": job_row()["tasks"],
    }  # fmt: skip

    def answer(asked: Any) -> dict[str, Any]:
        limit = int(asked.query.partition("limit=")[2].partition("&")[0])
        found = {"items": [row] * min(limit, 3), "next": "c" if limit < 3 else None}
        return found | ({"total": 3} if "total=true" in asked.query else {})

    fake.scripts[f"GET {path}"] = answer
    short = run(*command, "--limit", "2")
    whole = run(*command, "--limit", "3")

    assert len(short.stdout.splitlines()) == 3
    assert short.stderr.startswith("2 of 3 ")
    assert "--limit" not in whole.stderr
    assert len(json.loads(run(*command, "--limit", "2", "--json").stdout)) == 2


def test_a_warning_is_shown_with_its_task(fake: FakeServer, run: Run) -> None:
    """What is wrong with a success is noted where a failure would be."""
    words = "result.json is not used: NaN is no JSON number"
    task = task_row("train", state="succeeded", finished_at="2026-01-31T12:00:01.000000Z", warning=words)
    fake.scripts |= {
        f"GET /api/jobs/{JOB}": job_row(),
        f"GET /api/jobs/{JOB}/tasks": {"items": [task], "next": None},
    }
    assert words in " ".join(run("job", "show", JOB).stdout.split())


def test_a_service_is_shown_with_its_address(fake: FakeServer, run: Run) -> None:
    """It is what the task was run for; nothing else says where it answers."""
    served = task_row(
        "serve",
        state="succeeded",
        finished_at="2026-01-31T12:00:01.000000Z",
        service={"url": "http://proxy/app/"},
    )
    fake.scripts |= {
        f"GET /api/jobs/{JOB}": job_row(),
        f"GET /api/jobs/{JOB}/tasks": {
            "items": [served, task_row("far", executor="backendai/main")],
            "next": None,
        },
    }
    result = run("job", "show", JOB)

    assert result.exit_code == 0, result.output
    assert "serves http://proxy/app/" in result.stdout
    assert "local; far on backendai/main" in result.stdout


def test_a_session_is_shown_with_its_link(fake: FakeServer, run: Run) -> None:
    """There is one for each task that runs or has failed, ten at most; what succeeded needs none."""
    link = "https://web.example.org/session?sessionDetail="
    tasks = [task_row(f"t{number}", state="running", link=f"{link}{number}") for number in range(12)]
    done = task_row("done", state="succeeded", link=f"{link}done", finished_at="2026-01-31T12:00:01.000000Z")
    fake.scripts |= {
        f"GET /api/jobs/{JOB}": job_row(),
        f"GET /api/jobs/{JOB}/tasks": {"items": [done, *tasks], "next": None},
    }
    result = run("job", "show", JOB)

    assert result.exit_code == 0, result.output
    assert f"t9: session at {link}9" in result.stdout
    assert "2 more links" in result.stdout
    assert f"{link}10" not in result.stdout
    assert f"{link}done" not in result.stdout


def test_versions_differ_in_words(fake: FakeServer, run: Run) -> None:
    """NAME@1 NAME@3 and --from --to ask the same; the last two versions are compared by default."""
    changes = [
        {"type": "TaskRemoved", "task": "a", "text": "task a removed"},
        {"type": "TaskChanged", "task": "b", "text": "task b: command x → y", "hunks": ["-x", "+y"]},
    ]
    fake.scripts |= {"GET /api/pipelines/train": PIPELINE, "GET /api/pipelines/train/diff": {"changes": changes}}
    first = run("pipeline", "diff", "train@1", "train@3")
    run("pipeline", "diff", "train", "--from", "1", "--to", "3")
    run("pipeline", "diff", "train")

    assert first.stdout.splitlines() == [
        "train@1 → train@3:", "  task a removed", "  task b: command x → y", "    -x", "    +y",
    ]  # fmt: skip
    queries = [asked.query for asked in fake.asked if asked.path.endswith("/diff")]
    assert queries == ["from=1&to=3", "from=1&to=3", "from=2&to=3"]


def test_a_broken_log_is_exit_code_1_with_the_first_defects(fake: FakeServer, run: Run) -> None:
    """The defect is named by sequence, aggregate and version."""
    report = {
        "ok": False, "aggregates": 3, "commits": 9, "events": 20, "witnessed": 3,
        "defects": [{"seq": 5, "aggregate": "job/x", "version": 2, "problem": "the hash does not match"}],
    }  # fmt: skip
    fake.scripts["GET /api/audit/verify"] = lambda _: report
    result = run("audit", "verify")

    assert result.exit_code == 1
    assert "at sequence 5: job/x version 2: the hash does not match" in result.stdout
    fake.scripts["GET /api/audit/verify"] = report | {"ok": True, "defects": []}
    assert run("audit", "verify", "--json").exit_code == 0


def test_a_divergence_is_exit_code_1_with_what_was_expected(fake: FakeServer, run: Run) -> None:
    """Sequence, expected and actual are named; an identical replay is exit code 0."""
    found: dict[str, Any] = {"job": JOB, "commits": 4, "events": 14, "divergence": None}
    fake.scripts[f"GET /api/jobs/{JOB}/replay"] = lambda _: found
    same = run("replay", "job", JOB)
    found["divergence"] = {"seq": 9, "version": 3, "index": 1, "expected": {"type": "TaskFailed"}, "actual": None}
    other = run("replay", "job", JOB)

    assert (same.exit_code, same.stdout) == (0, "4 commits, 14 events, identical\n")
    assert other.exit_code == 1
    assert "sequence: 9 (event 3.1)" in other.stdout
    assert 'expected: {"type": "TaskFailed"}' in other.stdout
    assert "actual:   nothing" in other.stdout


def test_events_are_followed_to_the_end_of_the_job(fake: FakeServer, run: Run) -> None:
    """All of the job's events are shown once, across a broken connection, until the last one."""
    happened = [
        event_row("JobCreated", 7, 0, 0),
        event_row("TaskStarted", 8, 0, 1, task="a", attempt=1),
        event_row("JobSucceeded", 9, 0, 2),
    ]
    fake.scripts |= {
        f"GET /api/jobs/{JOB}": job_row(seq=8),
        "GET /api/events": [streamed(happened[:1]), streamed(happened[1:])],
    }
    result = run("job", "events", JOB, "--follow", "--json")

    assert result.exit_code == 0, result.output
    assert [json.loads(line)["type"] for line in result.stdout.splitlines()] == [
        "JobCreated", "TaskStarted", "JobSucceeded",
    ]  # fmt: skip
    assert fake.asked[-1].headers["Last-Event-ID"] == "7.0"


@pytest.mark.parametrize("type_", ["TaskFailed", "TaskStarted"])
def test_events_of_one_type_are_followed_to_the_end_of_the_job(fake: FakeServer, run: Run, type_: str) -> None:
    """The job's last event ends it, whether or not it is of that type."""
    happened = [event_row("TaskStarted", 8, 0, 1, task="a", attempt=1), event_row("JobSucceeded", 9, 0, 2)]
    fake.scripts |= {f"GET /api/jobs/{JOB}": job_row(seq=8), "GET /api/events": [streamed(happened)]}
    result = run("job", "events", JOB, "--follow", "--json", "--type", type_)

    assert result.exit_code == 0, result.output
    assert [json.loads(line)["type"] for line in result.stdout.splitlines()] == ["TaskStarted"] * (
        type_ == "TaskStarted"
    )


@pytest.mark.parametrize("command", ["events", "watch"])
def test_a_job_with_an_unreadable_event_is_not_followed_for_ever(
    fake: FakeServer, run: Run, command: str
) -> None:
    """Where none of the job's later events can be read, following ends and says why."""
    unreadable = {"seq": 8, "aggregate": f"job/{JOB}", "reason": "unknown type"}
    fake.scripts |= {
        f"GET /api/jobs/{JOB}": lambda _: job_row(
            seq=7, problem="the commit at sequence 8 could not be projected"
        ),
        f"GET /api/jobs/{JOB}/tasks": {"items": [], "next": None},
        "GET /api/events": [Answer(text=frame("8.0", "quarantined", unreadable))],
    }
    result = run("job", command, JOB, *["--follow"] * (command == "events"))

    assert isinstance(result.exception, CliError)
    assert "the commit at sequence 8" in str(result.exception)


def test_without_a_server_and_data_the_message_says_what_to_do(tmp_path: Path) -> None:
    """Nothing is made on disk by a command that only looks."""
    result = CliRunner().invoke(main.app, ["job", "list", "--data", str(tmp_path / "none")])

    assert isinstance(result.exception, CliError)
    assert "trackbook up" in result.exception.hint
    assert not (tmp_path / "none").exists()


def called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Run the real entry point; returns its exit code, stdout and stderr."""
    monkeypatch.setattr("sys.argv", ["trackbook", *arguments])
    with pytest.raises(SystemExit) as ended:
        main.main()
    reported = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, reported.out, reported.err


def test_errors_go_to_stderr_with_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Stdout stays clean for scripts."""
    code, out, err = called(monkeypatch, capsys, "job", "list", "--data", str(tmp_path / "none"))

    assert (code, out) == (1, "")
    assert err.startswith("trackbook: no server is running")


def test_errors_are_json_for_scripts(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With --json, the last line of stderr is an object: the server's refusal, or what the command line found."""
    refusal = {"code": "cycle", "message": "a depends on itself", "path": "tasks[0]", "line": 3, "column": 1}
    file = tmp_path / "p.yaml"
    file.write_text("name: p\n")
    fake.scripts |= {
        "POST /api/commands/pipeline/apply": Answer({"status": "rejected", "error": refusal}, 422),
        "GET /api/jobs/1f2e": Answer(
            {"error": {"code": "job_not_found", "message": "there is no job '1f2e'"}}, 404
        ),
    }
    cases: list[tuple[tuple[str, ...], int, dict[str, Any]]] = [
        (("pipeline", "apply", str(file), "--url", fake.url), 1, refusal | {"source": str(file)}),
        (("job", "show", "1f2e", "--url", fake.url), 1, {"code": "job_not_found"}),
        (("job", "list", "--data", str(tmp_path / "none")), 1, {"code": "failed"}),
        (("job", "list", "--url", "http://127.0.0.1:1"), 1, {"code": "unreachable"}),
        (("job", "list", "--limit", "0"), 2, {"code": "bad_usage"}),
        (("validate", str(tmp_path / "none.yaml")), 1, {"code": "failed"}),
    ]
    for arguments, exit_code, error in cases:
        code, out, err = called(monkeypatch, capsys, *arguments, "--json")
        found = json.loads(err.splitlines()[-1])["error"]

        assert (code, out) == (exit_code, "")
        assert found == found | error
        assert found["message"]


def test_every_command_explains_itself_with_an_example() -> None:
    """`--help` of each command shows how it is used."""
    from typer.main import get_command

    def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        for name, child in getattr(command, "commands", {}).items():
            yield from commands(child, (*path, name))
        if not hasattr(command, "commands"):
            yield path

    found = list(commands(get_command(main.app)))
    assert len(found) > 20
    for path in found:
        result = CliRunner().invoke(main.app, [*path, "--help"])
        assert result.exit_code == 0
        assert "Example" in result.stdout, path
        assert f"trackbook {' '.join(path)}" in result.stdout, path
