"""A start that waits says for what, ends at a signal, and gives up: real processes, and a broker that stalls."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from command_line import CommandLine, finish, wait_for_line

from trackbook.adapters.nats import broker as broker_module
from trackbook.adapters.nats.broker import EmbeddedBroker
from trackbook.adapters.nats.broker_files import Owner
from trackbook.adapters.nats.server_process import find_server
from trackbook.http.system import running
from trackbook.runtime.aggregate_store import AggregateStore
from trackbook.runtime.process.start_phase import StartLimits, StartTimedOut
from trackbook.runtime.system import Config

_SIGNALS = [signal.SIGTERM, signal.SIGINT]
_UP = ("up", "--http", "127.0.0.1:0", "--durability", "fast")
_TAKES_SIGINT = (
    "import os, signal, sys\n"
    "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "os.execv(sys.executable, [sys.executable, '-m', 'trackbook', *sys.argv[1:]])"
)
"""A shell that runs tests in the background has SIGINT ignored, which children inherit."""


@contextmanager
def mute() -> Iterator[str]:
    """A broker's address where connections are taken and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"nats://127.0.0.1:{listener.getsockname()[1]}"


class Stalling:
    """A way to a broker on which nothing passes any more once a client has asked for what holds `marker`."""

    def __init__(self, broker: EmbeddedBroker, marker: bytes) -> None:
        access = broker.engine
        self._port, self._marker = int(access.url.rpartition(":")[2]), marker
        self._access = {"TRACKBOOK_NATS_USER": access.user, "TRACKBOOK_NATS_PASSWORD": access.password}
        self._stalled = threading.Event()
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"nats://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def environment(self, prefix: str) -> dict[str, str]:
        """Return the settings of a process that goes this way."""
        return self._access | {"TRACKBOOK_NATS_URL": self.url, "TRACKBOOK_PREFIX": prefix}

    def _accept(self) -> None:
        try:
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                self._ends += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()
        except OSError:
            return  # closed

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if self._marker in data:
                    self._stalled.set()
                if not self._stalled.is_set():
                    sink.sendall(data)
        except OSError:
            return

    def close(self) -> None:
        """Close everything."""
        for end in (self._listener, *self._ends):
            end.close()


@pytest.fixture
def stalling(broker: EmbeddedBroker) -> Iterator[Callable[[bytes], Stalling]]:
    """Makes ways to a real broker that stall."""
    made: list[Stalling] = []

    def make(marker: bytes) -> Stalling:
        made.append(Stalling(broker, marker))
        return made[-1]

    yield make
    for each in made:
        each.close()


def begin(cli: CommandLine, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start a command that heeds SIGINT, wherever the tests run."""
    return subprocess.Popen(
        [sys.executable, "-c", _TAKES_SIGINT, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=cli.environment | environment,
        cwd=cli.home,
    )


def assert_nothing_left(data: Path) -> None:
    """Nobody holds the data directory or the store of its broker, and no server is named."""
    assert not (data / "server.json").exists()
    for path in [*data.glob("lock*"), data / "broker" / "store.lock"]:
        if path.exists():
            with path.open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def stopped_server(folder: Path) -> str:
    """Return a nats-server that is stopped (SIGSTOP) before it does anything."""
    script = folder / "stopped-nats-server"
    script.write_text(f'#!/bin/sh\nkill -STOP $$\nexec {find_server()} "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.mark.parametrize("number", _SIGNALS)
def test_a_signal_ends_a_start_that_waits_for_a_mute_broker(tmp_path: Path, number: signal.Signals) -> None:
    """The wait is named, the signal ends it as it ends a server, and nothing is left."""
    cli = CommandLine(tmp_path)
    with mute() as url, begin(cli, *_UP, TRACKBOOK_NATS_URL=url) as process:
        wait_for_line(process, f"the broker's answer at {url.removeprefix('nats://')}", process.stderr)

        process.send_signal(number)
        _, err = finish(process)

    assert (process.returncode, "Stopping" in err) == (0, True), err
    assert_nothing_left(cli.data)


def test_a_signal_ends_a_start_whose_nats_server_is_stopped(tmp_path: Path) -> None:
    """The child that does not react is killed in the end, and its store is free."""
    cli = CommandLine(tmp_path)
    with begin(cli, *_UP, TRACKBOOK_NATS_SERVER=stopped_server(tmp_path)) as process:
        assert "start.waiting" in wait_for_line(process, "nats-server to start", process.stderr)

        process.send_signal(signal.SIGTERM)
        _, err = finish(process)

    assert process.returncode == 0, err
    assert_nothing_left(cli.data)


def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    """Also while a child that does not react is waited for; the next start works."""
    cli = CommandLine(tmp_path)
    with begin(cli, *_UP, TRACKBOOK_NATS_SERVER=stopped_server(tmp_path)) as process:
        wait_for_line(process, "start.waiting", process.stderr)
        process.send_signal(signal.SIGINT)
        wait_for_line(process, "Stopping", process.stderr)

        process.send_signal(signal.SIGTERM)
        finish(process)

    assert process.returncode == -signal.SIGTERM
    with cli.up():
        assert cli.server_url()


@pytest.mark.parametrize(
    ("marker", "what"),
    [(b"$JS.API.STREAM.INFO", "about the log's streams"), (b"$JS.API.DIRECT.GET", "the log to be read")],
)
def test_a_signal_ends_a_start_whose_broker_falls_silent(
    tmp_path: Path, stalling: Callable[[bytes], Stalling], marker: bytes, what: str
) -> None:
    """Wherever in the start a broker stops answering, a signal ends it."""
    cli = CommandLine(tmp_path)
    way = stalling(marker).environment(f"waits{marker.decode().rpartition('.')[2].lower()}")
    with begin(cli, *_UP, **way) as process:
        assert "start.waiting" in wait_for_line(process, what, process.stderr)

        process.send_signal(signal.SIGTERM)
        _, err = finish(process)

    assert process.returncode == 0, err
    assert_nothing_left(cli.data)


@pytest.mark.parametrize("number", _SIGNALS)
def test_a_signal_ends_a_command_whose_own_system_waits(tmp_path: Path, number: signal.Signals) -> None:
    """`run` without a server says what its system waits for, and a signal ends both as Ctrl-C does."""
    cli = CommandLine(tmp_path)
    file = cli.pipeline("p", a="true")
    with mute() as url, begin(cli, "run", file, TRACKBOOK_NATS_URL=url) as process:
        wait_for_line(process, "waiting for the broker's answer", process.stderr)

        process.send_signal(number)
        _, err = finish(process)

    assert process.returncode == 130, err
    assert_nothing_left(cli.data)


@pytest.mark.parametrize("number", _SIGNALS)
def test_a_signal_ends_the_server_that_a_command_waits_for(tmp_path: Path, number: signal.Signals) -> None:
    """`run --detach` that is interrupted while its server starts leaves no server."""
    cli = CommandLine(tmp_path)
    file = cli.pipeline("p", a="true")
    with mute() as url, begin(cli, "run", file, "--detach", TRACKBOOK_NATS_URL=url) as process:
        wait_for_line(process, "waiting for the server", process.stderr)

        process.send_signal(number)
        _, err = finish(process)

    assert process.returncode == 130, err
    assert_nothing_left(cli.data)


async def test_a_start_gives_up_when_its_broker_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with an error that names the wait and the broker's log, and what was started is ended."""
    monkeypatch.setattr(broker_module, "STOP_PATIENCE", 0.1)
    catch_up = AggregateStore.catch_up

    async def stopped_before(aggregates: AggregateStore, *given: Any) -> None:
        owner = msgspec.json.decode((tmp_path / "broker" / "owner.json").read_bytes(), type=Owner)
        os.kill(owner.server, signal.SIGSTOP)
        await catch_up(aggregates, *given)

    monkeypatch.setattr(AggregateStore, "catch_up", stopped_before)
    config = Config(data=tmp_path, http="127.0.0.1:0", durability="fast", start_limits=StartLimits(within=3.0))

    with pytest.raises(StartTimedOut, match="the log to be read") as found:
        async with running(config):
            raise AssertionError("it started")

    assert "nats.log" in found.value.hint
    assert_nothing_left(tmp_path)
