"""Signals that end a server in good order, whatever the terminal or a service manager sends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import CommandLine, finish, wait_for_line

_RESET = (
    "import os, signal, sys\n"
    "for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGINT): signal.signal(number, signal.SIG_DFL)\n"
    "os.execv(sys.executable, [sys.executable, '-m', 'trackbook', *sys.argv[1:]])"
)
"""A shell that runs tests in the background has some of the signals ignored, which children inherit."""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_a_server_stops_in_good_order(tmp_path: Path, number: signal.Signals) -> None:
    """SIGHUP and SIGQUIT stop `up` as SIGTERM does: with exit code 0, and server.json is gone."""
    cli = CommandLine(tmp_path)
    command = [sys.executable, "-c", _RESET, "up", "--http", "127.0.0.1:0", "--durability", "fast"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=cli.environment, cwd=cli.home
    ) as server:
        wait_for_line(server, "Trackbook serves", server.stderr)

        server.send_signal(number)
        _, err = finish(server)

    assert (server.returncode, "Stopping" in err) == (0, True), err
    assert not (cli.data / "server.json").exists()
