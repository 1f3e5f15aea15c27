"""`trackbook down`, and the server that `run --detach` starts."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from command_line import CommandLine, finish, wait_for_line

FAST = ("--durability", "fast")


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    """The command line of somebody who never used it."""
    return CommandLine(tmp_path)


def test_a_server_that_was_started_is_named_and_stopped(cli: CommandLine) -> None:
    """`--detach` says that it started a server; `down` ends it, and succeeds again where none runs."""
    out = cli("run", cli.pipeline("p", a="true"), "--detach", *FAST)
    pid = cli.server_pid()
    second = cli.json("run", cli.pipeline("q", a="true"), "--detach")

    assert f"A server was started for it (process {pid}). Stop it: trackbook down" in out
    assert second["server_started"] is False
    assert cli.json("down") == {"stopped": True, "pid": pid, "data": str(cli.data)}
    assert not (cli.data / "server.json").exists()
    assert cli("down") == f"No server is running on {cli.data}.\n"


@pytest.mark.parametrize("text", ["name: p\ntasks: [{name: a, command: 'true', dependencies: [b]}]\n", "x: ["])
def test_a_refused_run_leaves_no_server_behind(cli: CommandLine, text: str) -> None:
    """The server that was started for it is stopped again."""
    file = cli.home / "bad.yaml"
    file.write_text(text)
    cli("run", str(file), "--detach", *FAST, code=1)

    assert "No server is running" in cli("down")


def test_a_command_is_no_server(cli: CommandLine) -> None:
    """A `run` that has the system in its own process is not ended by `down`."""
    gate = cli.home / "gate"
    file = cli.pipeline("gated", a=f"until [ -e {gate} ]; do sleep 0.02; done")
    with cli.begin("run", file, *FAST) as process:
        wait_for_line(process, " a running")
        _, err = cli.both("down", code=1)
        gate.touch()
        finish(process)

    assert "it is no server" in err
    assert process.returncode == 0


def test_a_server_that_does_not_end_is_an_error(cli: CommandLine) -> None:
    """The wait has a bound; what to do then is said."""
    with cli.up() as server:
        server.send_signal(signal.SIGSTOP)
        try:
            _, err = cli.both("down", "--timeout", "0.2", code=1)
        finally:
            server.send_signal(signal.SIGCONT)
        while (cli.data / "server.json").exists():
            time.sleep(0.02)

    assert "has not ended within 0.2 s" in err
    assert f"kill -9 {server.pid}" in err
