"""`trackbook run` as a newcomer has it: an empty HOME, no server, the examples, Ctrl-C, a server that dies."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from command_line import EXAMPLES, CommandLine, finish, wait_for_line


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    """The command line of somebody who never used it."""
    return CommandLine(tmp_path)


def job_id(output: str) -> str:
    """Return the id of the job that `run` tells of."""
    found = re.search(r"^Job ([0-9a-f]{16})", output, re.MULTILINE)
    assert found, output
    return found[1]


def test_the_demo_tells_its_story_and_the_log_has_it(cli: CommandLine) -> None:
    """One command runs a pipeline to its end; afterwards, without a server, everything can be looked at."""
    out, err = cli.both("run", str(EXAMPLES / "demo.yaml"))
    job = job_id(out)

    assert err == ""
    lines = out.splitlines()
    assert "Pipeline demo: created, version 1" in lines
    order = [line.split()[1] for line in lines if line.endswith(" running")]
    assert order[0] == "prepare"
    assert set(order[1:3]) == {"train-line", "train-constant"}
    assert order[3:] == ["evaluate", "notify"]
    assert re.search(rf"^Job {job} of demo@1 succeeded in .* s: 5 succeeded\.$", out, re.MULTILINE)
    assert f"job {job}: the model 'line' won with accuracy" in out
    assert f"  trackbook job show {job[:8]}" in lines

    shown = cli.json("job", "show", job[:8])
    assert shown["state"] == "succeeded"
    assert [task["state"] for task in shown["task_instances"]] == ["succeeded"] * 5
    assert cli("audit", "verify").strip().endswith("intact")
    assert cli("replay", "job", job).strip().endswith("identical")
    assert not (cli.data / "server.json").exists()


def test_a_failing_pipeline_is_exit_code_1_with_the_cause(cli: CommandLine) -> None:
    """The exit code, the last lines of the output, and what was stopped for it are reported."""
    out = cli("run", str(EXAMPLES / "failing.yaml"), code=1)

    assert "  check failed: the command ended with exit code 3" in out
    assert "    │ the answer is 41 and should be 42" in out
    assert "1 succeeded, 1 failed, 2 cancelled" in out
    assert not re.search(r" publish (running|succeeded)", out)
    job = cli.json("job", "show", job_id(out))
    assert (job["state"], job["failed_task"], job["exit_code"]) == ("failed", "check", 3)


def test_fan_out_and_fan_in(cli: CommandLine) -> None:
    """Four tasks read one folder, and one reads four."""
    out = cli("run", str(EXAMPLES / "fan-out.yaml"))

    assert "6 succeeded" in out
    assert "    │ all of it adds up to 500500" in out


@contextmanager
def webhook(status: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Take notices at an address, and answer with a status."""
    taken: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hook", taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_finished_training_is_asked_to_a_webhook(cli: CommandLine) -> None:
    """The address comes from the executor's environment and stands nowhere in the log."""
    with webhook(200) as (url, taken):
        out = cli(
            "run",
            str(EXAMPLES / "train-and-notify.yaml"),
            TRACKBOOK_PASS_ENV="NOTIFY_WEBHOOK_URL",
            NOTIFY_WEBHOOK_URL=url,
        )
        job = job_id(out)

    assert [notice["job"] for notice in taken] == [job]
    assert 0.8 < taken[0]["accuracy"] <= 1
    assert url not in cli("job", "events", job)
    assert url not in cli("pipeline", "yaml", "train-and-notify")


def test_without_a_webhook_the_notice_says_so_politely(cli: CommandLine) -> None:
    """No address is no failure, and one that is not passed on does not reach the task."""
    out = cli("run", str(EXAMPLES / "train-and-notify.yaml"), NOTIFY_WEBHOOK_URL="http://127.0.0.1:1/never")

    assert "Nobody was notified: set NOTIFY_WEBHOOK_URL" in out
    assert "2 succeeded" in out


def test_a_webhook_that_refuses_fails_the_notice(cli: CommandLine) -> None:
    """What could not be reported is a failure with a cause."""
    with webhook(500) as (url, _):
        out = cli(
            "run", str(EXAMPLES / "train-and-notify.yaml"), code=1,
            TRACKBOOK_PASS_ENV="NOTIFY_WEBHOOK_URL", NOTIFY_WEBHOOK_URL=url,
        )  # fmt: skip

    assert "    │ the webhook did not take the notice: HTTP Error 500" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_cancels_the_job(cli: CommandLine, number: signal.Signals) -> None:
    """The session is gone before the command ends with 130, and the log says who asked for it."""
    file = cli.pipeline("long", a="echo $$ > $PIPELINE_OUTPUTS/pid; exec sleep 600", b="true")
    with cli.begin("run", file) as process:
        wait_for_line(process, " a running")
        process.send_signal(number)
        out, _ = finish(process)

    assert process.returncode == 130
    assert "cancelled in" in out
    job = cli.json("job", "list")[0]
    assert (job["state"], job["reason"]) == ("cancelled", "interrupted at the terminal")
    assert not left_over(cli)


def left_over(cli: CommandLine) -> list[str]:
    """Return the processes that still have the data directory in their environment or command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            words = entry.joinpath("cmdline").read_bytes() + entry.joinpath("environ").read_bytes()
        except OSError:
            continue
        if str(cli.home).encode() in words:
            found.append(f"{entry.name}: {words[:80]!r}")
    return found


def test_nothing_is_left_running_after_a_run(cli: CommandLine) -> None:
    """Broker, launchers and sessions end with the command."""
    cli("run", cli.pipeline("short", a="true"))

    assert not left_over(cli)


def test_detach_leaves_a_server_that_runs_the_job(cli: CommandLine) -> None:
    """The command returns while the job runs; others watch it, and a second server is refused by name."""
    gate = cli.home / "gate"
    started = cli.json(
        "run", cli.pipeline("gated", a=f"until [ -e {gate} ]; do sleep 0.05; done; echo through"), "--detach"
    )
    try:
        _, err = cli.both("up", code=1)
        assert f"is in use by process {cli.server_pid()}, which serves {started['url']}" in err
        assert cli.json("job", "show", started["job"])["state"] in {"pending", "running"}

        with cli.begin("job", "logs", started["job"], "a", "--follow") as follower:
            gate.touch()
            assert finish(follower) == ("through\n", "")
        assert "succeeded" in cli("job", "watch", started["job"])
        assert started["url"] in cli("doctor")
    finally:
        os.kill(cli.server_pid(), signal.SIGTERM)


def test_a_second_run_uses_the_first_ones_server_which_stays_for_it(cli: CommandLine) -> None:
    """Two people at one data directory: the first run's system ends with the last job."""
    gate = cli.home / "gate"
    gated = cli.pipeline("gated", a=f"until [ -e {gate} ]; do sleep 0.05; done")
    with cli.begin("run", cli.pipeline("first", a=f"until [ -e {gate}.first ]; do sleep 0.05; done")) as first:
        wait_for_line(first, " a running")
        with cli.begin("run", gated) as second:
            wait_for_line(second, " a running")
            Path(f"{gate}.first").touch()
            wait_for_line(first, "staying for job", first.stderr)
            gate.touch()
            finish(second)
        finish(first)

    assert (first.returncode, second.returncode) == (0, 0)
    assert {job["state"] for job in cli.json("job", "list")} == {"succeeded"}


def test_a_run_shows_its_ending_though_its_server_has_ended(cli: CommandLine) -> None:
    """The server of the first run ends with the last job, before the second run has read how that went."""
    gate = cli.home / "gate"
    gated = cli.pipeline("gated", a=f"until [ -e {gate} ]; do sleep 0.05; done; echo through")
    with cli.begin("run", cli.pipeline("first", a=f"until [ -e {gate}.first ]; do sleep 0.05; done")) as first:
        wait_for_line(first, " a running")
        with cli.begin("run", gated) as second:
            wait_for_line(second, " a running")
            Path(f"{gate}.first").touch()
            wait_for_line(first, "staying for job", first.stderr)
            second.send_signal(signal.SIGSTOP)
            gate.touch()
            finish(first)
            second.send_signal(signal.SIGCONT)
            out, err = finish(second)

    assert (first.returncode, second.returncode) == (0, 0), err
    assert "succeeded in" in out
    assert "through" in out


def test_a_run_survives_its_server_killed_and_started_again(cli: CommandLine) -> None:
    """The watcher waits, finds the server at its new address, and goes on after the last event it saw."""
    gate = cli.home / "gate"
    file = cli.pipeline("gated", a=f"until [ -e {gate} ]; do sleep 0.05; done", b="echo after")
    with cli.up() as server, cli.begin("run", file) as process:
        wait_for_line(process, " a running")
        server.kill()
        finish(server)
        wait_for_line(process, "is unreachable", process.stderr)
        with cli.up():
            gate.touch()
            out, _ = finish(process)

    assert process.returncode == 0
    assert [line.split(" ", 1)[1].split(" in ")[0] for line in out.splitlines() if re.match(r"\d\d:", line)] == [
        "a succeeded", "b running", "b succeeded",
    ]  # fmt: skip


def test_up_leaves_tasks_running_and_takes_them_up_again(cli: CommandLine) -> None:
    """Stopping the server is not stopping the work, unless --cancel says so."""
    gate = cli.home / "gate"
    file = cli.pipeline("gated", a=f"echo once; until [ -e {gate} ]; do sleep 0.05; done")
    with cli.up():
        first = cli.json("run", file, "--detach")["job"]
        with cli.begin("job", "logs", first, "a", "--follow") as follower:
            wait_for_line(follower, "once")
            follower.terminate()
    with cli.up("--cancel"):
        gate.touch()
        assert "succeeded" in cli("job", "watch", first)
        gate.unlink()
        second = cli.json("run", file, "--detach")["job"]

    assert cli.json("job", "show", second)["state"] == "cancelled"
    assert cli("job", "logs", first) == "once\n"


def test_a_job_that_stands_still_is_reported_and_can_be_cancelled(cli: CommandLine) -> None:
    """Without a server its session runs on and nobody takes note: following is refused, ending it is not."""
    file = cli.pipeline("standing", a="sleep 600")
    with cli.up():
        job = cli.json("run", file, "--detach")["job"]
        with cli.begin("job", "watch", job) as watcher:
            wait_for_line(watcher, " a running")
            watcher.terminate()

    for command in (("watch", job), ("logs", job, "--follow"), ("events", job, "--follow")):
        assert "no server runs it" in cli.both("job", *command, code=1)[1]
    assert cli.json("job", "show", job)["state"] == "running"
    assert "is cancelled" in cli("job", "cancel", job)
    assert not left_over(cli)


def test_commands_without_a_server_take_turns(cli: CommandLine) -> None:
    """Several that look at one data directory at once all get their answer, and a run beside them runs."""
    file = cli.pipeline("short", a="true")
    cli("run", file)
    commands = [cli.begin("job", "list", "--json") for _ in range(3)] + [cli.begin("run", file)]
    ended = [(finish(process), process.returncode) for process in commands]

    assert [code for _, code in ended] == [0] * 4, ended


def test_a_fallback_without_private_roots_is_reported(cli: CommandLine) -> None:
    """Where it would matter, stderr says so; here the kernel gives namespaces, so nothing is."""
    _, err = cli.both("run", cli.pipeline("short", a="true"))
    doctor = {finding["what"]: finding for finding in json.loads(cli("doctor", "--json"))}

    assert (doctor["private root"]["verdict"] == "ok") == ("mount namespace" not in err)
