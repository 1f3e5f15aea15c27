"""Commands against a running server: pipelines through all their versions, jobs, and the tools of the log."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import EXAMPLES, CommandLine, finish, wait_for_line


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """One server for all of these; each test has pipelines of its own."""
    command_line = CommandLine(tmp_path_factory.mktemp("home"))
    with command_line.up():
        yield command_line


def test_a_pipeline_lives_through_its_versions(cli: CommandLine) -> None:
    """Each edit session is one version, described in words; each can be shown, compared and restored."""
    file = cli.pipeline("life", a="echo a", b="echo b")
    assert "created, version 1" in cli("pipeline", "apply", file)
    assert "unchanged, version 1" in cli("pipeline", "apply", file)
    edited = cli(
        "pipeline", "edit", "life", "--add-task", "c: echo c", "--add-dep", "c:b", "--set-var", "X=1",
        "--set", "a.resources.cpu=2", "--description", "a life",
    )  # fmt: skip
    assert "version 2" in edited
    assert "task c added" in edited
    assert "version 3" in cli("pipeline", "edit", "life", "--remove-dep", "c:b", "--remove-task", "b")

    assert [version["version"] for version in cli.json("pipeline", "versions", "life")] == [3, 2, 1]
    assert list(cli.json("pipeline", "show", "life@1")["content"]["tasks"]) == ["a", "b"]
    assert list(cli.json("pipeline", "show", "life")["content"]["tasks"]) == ["a", "c"]
    assert "cpu: 2" in cli("pipeline", "yaml", "life@2")
    assert "cpu: 2" not in cli("pipeline", "yaml", "life@1")
    differences = cli("pipeline", "diff", "life@1", "life@3").splitlines()
    assert "  task b removed" in differences
    assert "  task c added" in differences
    assert cli("pipeline", "diff", "life", "--from", "3", "--to", "3").strip().endswith("no difference")

    assert "version 4" in cli("pipeline", "restore", "life@1")
    assert cli("pipeline", "yaml", "life@4") == cli("pipeline", "yaml", "life@1")
    assert cli.json("pipeline", "versions", "life")[0]["restored"] == 1
    assert "version 5" in cli("pipeline", "rename", "life", "afterlife")
    found = cli.json("pipeline", "show", "afterlife")
    assert cli.json("pipeline", "show", found["id"][:6])["name"] == "afterlife"
    _, err = cli.both("pipeline", "show", "life", code=1)
    assert "there is no pipeline 'life'" in err

    assert found["id"] in cli("pipeline", "delete", "afterlife", "--yes")
    assert "afterlife" not in cli("pipeline", "list")
    assert "afterlife" in cli("pipeline", "list", "--all")
    assert "echo a" in cli("pipeline", "yaml", f"{found['id']}@1")


def test_what_is_exported_is_applied_unchanged(cli: CommandLine) -> None:
    """The YAML that comes out leads to the version it came from."""
    cli("pipeline", "apply", str(EXAMPLES / "fan-out.yaml"))
    file = cli.home / "exported.yaml"
    file.write_text(cli("pipeline", "yaml", "fan-out"))

    assert "unchanged, version 1" in cli("pipeline", "apply", str(file))


def test_a_refusal_shows_every_fault_with_its_place(cli: CommandLine) -> None:
    """Line and column lead to the fault; nothing is stored."""
    file = cli.home / "bad.yaml"
    file.write_text(
        "name: bad\n"
        "tasks:\n"
        "- name: a\n"
        "  command: x\n"
        "  dependencies: [b]\n"
        "- name: b\n"
        "  command: x\n"
        "  dependencies: [a, nobody]\n"
    )
    _, err = cli.both("pipeline", "apply", str(file), code=1)

    assert f"at {file}:8:" in err
    assert "nobody" in err
    assert "bad" not in cli("pipeline", "list")


def test_a_job_is_started_watched_and_looked_at(cli: CommandLine) -> None:
    """Parameters reach the tasks; logs, events and any moment of the job are shown, by a beginning of its id."""
    cli("pipeline", "apply", cli.pipeline("seen", a="echo given $GIVEN; echo second", b="true"))
    out = cli("job", "start", "seen@1", "--param", "GIVEN=gift", "--watch")
    job = cli.json("job", "list", "--pipeline", "seen")[0]["id"]

    assert f"Job {job} of seen@1 succeeded" in out
    assert cli("job", "logs", job[:8], "a") == "given gift\nsecond\n"
    assert cli("job", "logs", job[:8], "a", "--tail", "1") == "second\n"
    assert cli("job", "logs", job) == "a | given gift\na | second\n"

    events = cli.json("job", "events", job)
    assert events[0]["type"] == "JobCreated"
    assert events[-1]["type"] == "JobSucceeded"
    followed = [json.loads(line) for line in cli("job", "events", job, "--follow", "--json").splitlines()]
    assert followed == events
    assert len(cli("job", "events", job).splitlines()) == len(events)

    last = cli.json("job", "show", job, "--at", events[-1]["id"])
    assert last["job"]["state"] == "succeeded"
    assert last["tasks"] == cli.json("job", "show", job)["task_instances"]
    first = cli.json("job", "show", job, "--at", "1.0")
    assert [task["state"] for task in first["tasks"]] == ["ready", "pending"]
    assert "has no version 99" in cli.both("job", "show", job, "--at", "99", code=1)[1]


def test_a_job_is_cancelled_with_a_reason(cli: CommandLine) -> None:
    """The reason is in the event; a watcher sees the end as a failure of the command."""
    cli("pipeline", "apply", cli.pipeline("stopped", a="sleep 600"))
    job = cli.json("job", "start", "stopped")["job"]
    with cli.begin("job", "watch", job) as watcher:
        wait_for_line(watcher, " a running")
        assert "is cancelled" in cli("job", "cancel", job, "--reason", "wrong data", "--wait")
        finish(watcher)

    assert watcher.returncode == 1
    assert cli.json("job", "show", job)["reason"] == "wrong data"
    assert "has cancelled already" in cli.both("job", "cancel", job, code=1)[1]


def test_ctrl_c_ends_the_watching_and_not_the_job(cli: CommandLine) -> None:
    """Whoever only watches leaves no trace."""
    cli("pipeline", "apply", cli.pipeline("watched", a="sleep 600"))
    job = cli.json("job", "start", "watched")["job"]
    with cli.begin("job", "watch", job) as watcher:
        wait_for_line(watcher, " a running")
        watcher.send_signal(2)
        finish(watcher)

    assert watcher.returncode == 130
    assert cli.json("job", "show", job)["state"] == "running"
    cli("job", "cancel", job, "--wait")


def test_the_log_is_read_checked_and_its_models_are_made_anew(cli: CommandLine) -> None:
    """Who did what is listed by actor, pipeline, job and time; the log is intact; a rebuild changes nothing."""
    cli("run", cli.pipeline("booked", a="true"))
    job = cli.json("job", "list", "--pipeline", "booked")[0]
    log = cli.json("audit", "log", "--pipeline", "booked")

    assert {entry["kind"] for entry in log} == {"name", "pipeline", "job"}
    everything = cli.json("audit", "log", "--limit", "1000")
    assert log == [entry for entry in everything if entry["pipeline"] == job["pipeline"]]
    assert {entry["aggregate_id"] for entry in cli.json("audit", "log", "--job", job["id"])} == {job["id"]}
    assert cli.json("audit", "log", "--actor", "user:nobody-here") == []
    assert cli.json("audit", "log", "--since", "2999-01-01") == []
    found = cli.json("audit", "verify")
    assert found["ok"]
    assert found["witnessed"] == found["aggregates"]
    assert cli.json("replay", "job", job["id"])["divergence"] is None
    assert "rebuilt from" in cli("projection", "rebuild")
    assert cli.json("job", "show", job["id"]) == cli.json("job", "show", job["id"][:8])


def test_the_server_is_found_by_its_address_too(cli: CommandLine, tmp_path: Path) -> None:
    """TRACKBOOK_URL leads to it from anywhere; --url goes before it; a wrong one is reported with what to do."""
    elsewhere = CommandLine(tmp_path)
    url, token = cli.server_url(), cli.server_headers()["Authorization"].removeprefix("Bearer ")
    (tmp_path / "token").write_text(f"{token}\n")

    shown = elsewhere("pipeline", "list", TRACKBOOK_URL=url, TRACKBOOK_TOKEN=token)
    assert shown == cli("pipeline", "list")
    by_option = ("--url", url, "--token-file", str(tmp_path / "token"))
    given = elsewhere("pipeline", "list", *by_option, TRACKBOOK_URL="http://127.0.0.1:1", TRACKBOOK_TOKEN="other")
    assert given == shown
    assert cli("pipeline", "list", "--url", url) == shown  # its own token is found
    _, err = elsewhere.both("pipeline", "list", "--url", url, code=1)
    assert "[unauthorized]" in err
    assert "--token-file" in err
    _, err = elsewhere.both("pipeline", "list", "--url", url, "--token-file", "nowhere", code=1)
    assert "can't be read" in err
    _, err = elsewhere.both("pipeline", "list", TRACKBOOK_URL=url, TRACKBOOK_TOKEN=f"{token}\x01", code=1)
    assert "TRACKBOOK_TOKEN holds no token" in err
    assert token not in err
    _, err = elsewhere.both("pipeline", "list", code=1, TRACKBOOK_URL="http://127.0.0.1:1")
    assert "there is no server at http://127.0.0.1:1" in err
    assert "trackbook up" in err


def test_the_shell_completes_commands_and_names(cli: CommandLine) -> None:
    """After TAB the shell offers what is there."""
    cli("pipeline", "apply", cli.pipeline("completed", a="true"))

    def offered(words: str) -> list[str]:
        word = str(words.count(" "))
        return cli(_TRACKBOOK_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=word).split()

    assert "versions" in offered("trackbook pipeline v")
    assert offered("trackbook pipeline show compl") == ["completed"]
    assert "_TRACKBOOK_COMPLETE" in cli("--show-completion", "bash")


def test_a_command_imports_only_what_it_needs() -> None:
    """Starting must stay quick: what a server needs is not imported to talk to one."""
    imports = "trackbook.cli.main, trackbook.cli.watch.follower, trackbook.cli.watch.line_view"
    program = f"import sys, {imports}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    heavy = {"asyncio", "faststream", "httpx", "litestar", "nats", "rich", "sqlalchemy", "structlog", "yaml"}
    assert not heavy & set(found.stdout.split())
