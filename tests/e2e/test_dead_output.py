"""A server whose stderr is closed, full or gone runs jobs, restarts its broker and stops as any other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import PATIENCE, CommandLine

_UP = ("up", "--http", "127.0.0.1:0", "--durability", "fast", "--log-level", "debug")
_NO_HANGUP = (
    "import os, signal, sys\n"
    "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    "os.execv(sys.executable, [sys.executable, '-m', 'trackbook', *sys.argv[1:]])"
)

Server = subprocess.Popen[bytes]


def _start(cli: CommandLine, *command: str, out: int = subprocess.DEVNULL, err: Any = None) -> Server:
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=cli.environment, cwd=cli.home,
        start_new_session=True,
    )  # fmt: skip


def _closed(cli: CommandLine) -> Server:
    return _start(cli, "sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-m", "trackbook", *_UP)


def _full(cli: CommandLine) -> Server:
    with Path("/dev/full").open("wb") as full:
        return _start(cli, sys.executable, "-m", "trackbook", *_UP, err=full)


def _without_reader(cli: CommandLine) -> Server:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return _start(cli, sys.executable, "-m", "trackbook", *_UP, err=writing)
    finally:
        os.close(writing)


def _hung_up(cli: CommandLine) -> Server:
    """Log out of the terminal, as after `nohup` or `disown`, once the server runs."""
    master, terminal = os.openpty()
    server = _start(cli, sys.executable, "-c", _NO_HANGUP, *_UP, out=terminal, err=terminal)
    os.close(terminal)
    said = b""
    while b"Trackbook serves" not in said:
        said += os.read(master, 4096)
    os.close(master)
    return server


def _broker_of(cli: CommandLine) -> int:
    return int(json.loads((cli.data / "broker" / "owner.json").read_bytes())["server"])


def _wait_until(happened: Callable[[], bool], server: Server) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert server.poll() is None, f"the server ended with exit code {server.returncode}"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _serves(cli: CommandLine) -> bool:
    try:
        return bool(cli.server_url())
    except (OSError, ValueError):
        return False


@pytest.mark.parametrize("start", [_closed, _full, _without_reader, _hung_up])
def test_a_server_without_stderr_works(tmp_path: Path, start: Callable[[CommandLine], Server]) -> None:
    """A job runs, a broker that is killed is restarted, SIGTERM ends it with exit code 0, and the log is kept."""
    cli = CommandLine(tmp_path)
    file = cli.pipeline("p", one="true")
    with start(cli) as server:
        try:
            _wait_until(lambda: _serves(cli), server)
            broker = _broker_of(cli)
            os.kill(broker, signal.SIGKILL)
            _wait_until(lambda: _broker_of(cli) != broker, server)

            cli("run", file)
            server.send_signal(signal.SIGTERM)

            assert server.wait(PATIENCE) == 0
        finally:
            server.kill()
    assert "broker.died" in (cli.data / "trackbook.log").read_text()
    assert not (cli.data / "server.json").exists()


def test_what_goes_to_stdout_is_not_lost(tmp_path: Path) -> None:
    """A command that can't say anything on stderr prints its result, and its exit code tells how it went."""
    cli = CommandLine(tmp_path)
    file = cli.pipeline("p", one="true")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "trackbook", "run", file],
            stdout=subprocess.PIPE, stderr=full, env=cli.environment, cwd=cli.home, check=False, timeout=PATIENCE,
        )  # fmt: skip
        refused = subprocess.run(
            [sys.executable, "-m", "trackbook", "run", "missing.yaml"],
            stdout=subprocess.PIPE, stderr=full, env=cli.environment, cwd=cli.home, check=False, timeout=PATIENCE,
        )  # fmt: skip

    assert (done.returncode, b"succeeded" in done.stdout) == (0, True), done.stdout
    assert refused.returncode == 1
