"""Idle connections take no descriptor that a task needs, and fill no log."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from command_line import PATIENCE, CommandLine

_LIMITED = 'ulimit -n 256; exec "$@"'
_MANY = 300


def _until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _ready(url: str) -> Any:
    with urlopen(f"{url}/health/ready", timeout=PATIENCE) as answer:
        return json.load(answer)


def _open(url: str, sends: bytes = b"") -> list[socket.socket]:
    address = urlsplit(url)
    found = []
    for _ in range(_MANY):
        connection = socket.create_connection((address.hostname, address.port), timeout=PATIENCE)
        connection.sendall(sends)
        found.append(connection)
    return found


@pytest.mark.parametrize("sends", [b"", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "], ids=["idle", "slow"])
def test_idle_and_half_sent_requests_keep_nobody_from_working(tmp_path: Path, sends: bytes) -> None:
    """With 256 descriptors and 300 such connections jobs succeed, health tells, and all is well after them."""
    cli = CommandLine(tmp_path)
    go = tmp_path / "go"
    file = cli.pipeline("p", waits=f"while [ ! -e {go} ]; do sleep 0.05; done")
    log = tmp_path / "log"
    up = (sys.executable, "-m", "trackbook", "up", "--http", "127.0.0.1:0", "--durability", "fast")
    with log.open("wb") as output, subprocess.Popen(
        ["sh", "-c", _LIMITED, "sh", *up], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        env=cli.environment, cwd=cli.home,
    ) as server:  # fmt: skip
        try:
            _until(lambda: b"Trackbook serves" in log.read_bytes())
            url = cli.server_url()
            job = json.loads(cli("run", file, "--detach", "--json"))["job"]

            connections = _open(url, sends)
            warned = _ready(url)
            go.touch()
            cli("job", "watch", job)
            cli("run", cli.pipeline("q", again="true"))
            for connection in connections:
                connection.close()
            _until(lambda: "warnings" not in _ready(url))

            assert warned["status"] == "degraded"
            assert "HTTP closed idle connections" in warned["warnings"][0]
            assert log.stat().st_size < 16 * 1024, log.read_text()[:4000]
            assert log.read_text().count("connections_limited") == 1
        finally:
            server.terminate()
            assert server.wait(PATIENCE) == 0
