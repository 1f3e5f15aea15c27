"""Finding the server that a command talks to, or starting one: in this process, or detached from it."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from trackbook.cli.client.address import Address, token_in, token_of
from trackbook.cli.client.http_client import Client
from trackbook.cli.errors import CliError
from trackbook.cli.terminal.streams import say
from trackbook.runtime.data_directory.directory import DataDirectoryHeld, default_data, server_record

HOST, PORT = "127.0.0.1", 9500
_START_WITHIN = 60.0
_LOOK_EVERY = 0.02
_TURNS, _TURN_EVERY = 50, 0.1


@dataclass(frozen=True)
class Where:
    """What the user said about the server: its address and token, or the data directory that it holds.

    An option goes before the environment, an address before a directory.
    """

    url: str | None = None
    data: Path | None = None
    token_file: Path | None = None

    @property
    def directory(self) -> Path:
        """The data directory, the user's own by default."""
        return self.data or default_data()

    @property
    def given_url(self) -> str | None:
        """The address that was given, if one was."""
        return self.url or (None if self.data else os.environ.get("TRACKBOOK_URL") or None)

    def find(self) -> Address | None:
        """Return the address of the server and its token, None where none runs; raises CliError for a bad token.

        A token is given, or is that of the server which the data directory names: it goes to no other address.
        """
        record = server_record(self.directory)
        url = self.given_url or (record.url if record else "")
        if not url:
            return None
        return Address(url, self._given_token() or (record.token if record and record.url == url else ""))

    def _given_token(self) -> str:
        if self.token_file is not None:
            return token_of(self.token_file)
        meant = self.given_url and self.given_url == (os.environ.get("TRACKBOOK_URL") or self.given_url)
        given = os.environ.get("TRACKBOOK_TOKEN") if meant else None
        return token_in(given, "TRACKBOOK_TOKEN") if given else ""

    def find_ready(self) -> Address | None:
        """Return the server's address, once it listens if it is only just starting."""
        deadline = time.monotonic() + _START_WITHIN
        while not (found := self.find()) and server_record(self.directory) and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY)
        return found

    def again(self) -> str:
        """Return the options with which another command reaches the same place."""
        if self.url:
            token = f" --token-file {shlex.quote(str(self.token_file))}" if self.token_file else ""
            return f" --url {shlex.quote(self.url)}{token}"
        return f" --data {shlex.quote(str(self.data))}" if self.data else ""


@contextmanager
def server(where: Where, *, creates: bool = False) -> Iterator[Client]:
    """Yield a client of the running server, or of one in this process for the time of the command.

    Raises CliError where there is neither a server nor data, unless the command `creates` something.
    """
    with ExitStack() as stack:
        find: Callable[[], Address | None] = where.find
        if not where.find_ready():
            own = _own(where, stack, creates=creates)
            find = where.find if own is None else lambda: own
        yield stack.enter_context(Client(find))


def _own(where: Where, stack: ExitStack, *, creates: bool) -> Address | None:
    """Return the address of a server in this process; None if another command was quicker: its server will do."""
    directory = where.directory
    if not (creates or (directory / "broker").exists()):
        raise CliError(
            f"no server is running, and there is nothing in {directory} yet",
            "Run a pipeline (`trackbook run FILE.yaml`) or start a server (`trackbook up`).",
        )
    say(f"trackbook: no server is running; using {directory} directly")
    return own_server(where, stack, reading=True)


def own_server(
    where: Where, stack: ExitStack, durability: str = "always", *, reading: bool = False
) -> Address | None:
    """Start a server in this process, stopped with `stack`, and return its address.

    Waits for its turn while another command only looks; None if somebody else serves by then.
    """
    for attempt in range(_TURNS):
        try:
            return stack.enter_context(embedded(where.directory, durability, reading=reading))
        except DataDirectoryHeld:
            if where.find_ready():
                break
            if attempt == _TURNS - 1:
                raise
            time.sleep(_TURN_EVERY)
    return None


def is_server_running(where: Where) -> bool:
    """Whether a server runs the jobs: one in this process for the time of a command only looks at them."""
    return where.find_ready() is not None


def running_server(where: Where) -> Client:
    """Return a client of the server that runs; raises CliError where none does."""
    if where.find_ready():
        return Client(where.find)
    raise CliError(
        f"no server is running on {where.directory}",
        "Start one with `trackbook up`, or run a pipeline with `trackbook run FILE.yaml`.",
    )


@contextmanager
def embedded(data: Path, durability: str = "always", *, reading: bool = False) -> Iterator[Address]:
    """Run the whole system in this process, on a thread with a loop of its own, and yield its address.

    So the command's own thread may block, and Ctrl-C reaches it and not the system. With `reading`, the system
    answers questions and commands and takes up no jobs.
    """
    from trackbook.cli.server.embedded_server import Host

    host = Host(data, durability, reading=reading)
    address = host.start()
    try:
        yield address
    finally:
        host.stop()
