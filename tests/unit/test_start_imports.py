"""What a start does not import before it needs it: each of these takes a part of a second, every time."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from cli_server import FakeServer, serving

from trackbook.adapters.local.box import spawner
from trackbook.cli import main
from trackbook.cli.command_table import ENTRIES, CommandGroup, summary_of

SERVER = {
    "aiodocker", "aiohttp", "aiosqlite", "asyncio", "faststream", "httpx", "litestar", "nats", "pydantic",
    "sqlalchemy", "sqlite3", "structlog", "uvicorn", "yaml",
}  # fmt: skip
"""What only a server needs."""
HEAVY = SERVER | {"msgspec", "rich.console", "rich.markdown", "rich.syntax", "rich.traceback"}
"""What no command needs that talks to a server and prints a table."""
HTTP = {"email.parser", "http.client", "json", "socket", "ssl"}

CALL = """
import sys
from trackbook.cli.main import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """A server without jobs."""
    with serving({"GET /api/jobs": {"items": [], "next": None}}) as server:
        yield server


def imported(*arguments: str) -> set[str]:
    """Return the modules that a command has imported when it ends."""
    called = subprocess.run(
        [sys.executable, "-c", CALL, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    return set(called.stderr.splitlines()[-1].split())


def test_the_list_of_commands_imports_none_of_them() -> None:
    """`trackbook --help` reads the table of commands and nothing else; so does a call without a command."""
    found = imported("--help")

    assert found & (HEAVY | HTTP) == set()
    assert found & {f"trackbook.cli.commands.{entry.module}" for entry in ENTRIES.values()} == set()


@pytest.mark.parametrize("words", ["job list", *ENTRIES])
def test_the_help_of_a_command_imports_nothing_heavy(words: str) -> None:
    """A command imports what does its work when it does it."""
    assert imported(*words.split(), "--help") & HEAVY == set()


def test_a_command_imports_no_other(fake: FakeServer) -> None:
    """`job list` asks a server and prints a table, and that is all that it imports."""
    found = imported("job", "list", "--url", fake.url)

    assert found & HEAVY == set()
    commands = {name for name, entry in ENTRIES.items() if f"trackbook.cli.commands.{entry.module}" in found}
    assert commands == {"job"}


def test_the_garbage_collector_runs_while_a_command_works(fake: FakeServer) -> None:
    """It is off for the imports alone: a command that lasts must not grow."""
    program = (
        "import gc, sys; from trackbook.cli import entry; from trackbook.cli.client.http_client import Client\n"
        "ask = Client.get\n"
        "def get(*given, **query):\n    print('on' if gc.isenabled() else 'off', file=sys.stderr)\n"
        "    return ask(*given, **query)\n"
        "Client.get = get; entry.main()"
    )
    command = [sys.executable, "-c", program, "job", "list", "--url", fake.url]
    called = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)

    assert called.stderr.split() == ["on"]


def test_the_list_of_commands_says_what_each_says_itself() -> None:
    """The table that is printed without importing the commands is the one that importing them would give."""
    whole: Any = typer.main.get_command(main.app)

    assert {name: entry.summary for name, entry in ENTRIES.items()} == {
        name: summary_of(command) for name, command in whole.commands.items()
    }
    assert all(command.name == name for name, command in whole.commands.items())


def test_no_command_is_missing_in_the_list() -> None:
    """What a module of the command line registers can be called."""
    registered = set[str]()
    for module in {entry.module for entry in ENTRIES.values()}:
        app = __import__(f"trackbook.cli.commands.{module}", fromlist=["app"]).app
        group = typer.main.get_group(app)
        registered |= {group.name} if group.name else set(group.commands)

    assert registered == set(ENTRIES)


def test_long_summaries_are_wrapped_and_not_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    """The lists of commands hold whole sentences, in 80 columns."""
    whole: Any = typer.main.get_command(main.app)
    for command in (whole, *(each for each in whole.commands.values() if isinstance(each, CommandGroup))):
        command.main(["--help"], prog_name="trackbook", standalone_mode=False)
        shown = capsys.readouterr().out

        assert max(map(len, shown.splitlines())) <= 80
        text = " ".join(shown.split())
        assert all(f"{name} {summary}" in text for name, summary in command.summaries())


START = """
import asyncio, sys
from pathlib import Path
from trackbook.cli.server.foreground import serve_until
from trackbook.runtime.system import Config

async def main():
    stop = asyncio.Event()
    def started(system):
        print(*sys.modules)
        stop.set()
    roles = frozenset(sys.argv[3:])
    config = Config(
        data=Path(sys.argv[1]), http="127.0.0.1:0", durability="fast", for_command=bool(sys.argv[2]), roles=roles
    )
    await serve_until(stop, config, started)

asyncio.run(main())
"""
NEVER = {"aiodocker", "aiohttp", "httpx", "rich", "sqlalchemy.orm"}
"""What no start imports before a cluster, a container or a terminal asks for it."""
ENGINE, HTTP_SERVER = {"faststream", "trackbook.runtime.jobs", "yaml"}, {"litestar", "sqlalchemy"}


@pytest.mark.parametrize(
    ("roles", "not_needed"),
    [
        ("broker", ENGINE | HTTP_SERVER),
        ("broker engine", HTTP_SERVER),
        ("broker engine executor", HTTP_SERVER),
        ("broker engine executor web", set()),
    ],
)
def test_a_start_imports_what_its_roles_need(tmp_path: Path, roles: str, not_needed: set[str]) -> None:
    """A process that runs some roles imports nothing for the others."""
    found = imported_by_start(tmp_path, "", *roles.split())

    assert found & (NEVER | not_needed) == set()
    assert "trackbook.adapters.nats.broker" in found


def test_a_run_imports_no_ingress(tmp_path: Path) -> None:
    """A command that runs the whole system for a moment does not pay for commands over NATS."""
    found = imported_by_start(tmp_path, "for a command", "broker", "engine", "executor", "web")

    assert found & (NEVER | {"faststream", "pydantic"}) == set()


def imported_by_start(data: Path, *arguments: str) -> set[str]:
    """Return the modules that a server has imported when it has started."""
    command = [sys.executable, "-c", START, str(data), *arguments]
    started = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return set(started.stdout.split())


@pytest.mark.parametrize(
    ("module", "not_needed"),
    [
        # nats-server starts while what the other roles need is imported
        ("trackbook.runtime.app", ENGINE | HTTP_SERVER),
        # sessions for an engine elsewhere
        ("trackbook.runtime.executor_role", HTTP_SERVER | ENGINE - {"yaml"}),
    ],
)
def test_a_part_of_a_server_imports_nothing_for_the_others(module: str, not_needed: set[str]) -> None:
    """A broker needs no engine, and a worker neither an engine nor a database nor HTTP."""
    program = f"import sys, trackbook.runtime.process.lean_imports, {module}; print(*sys.modules)"
    called = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )

    assert set(called.stdout.split()) & (NEVER | not_needed) == set()


def times_of_imports(*arguments: str, **streams: Any) -> set[str]:
    """Return what a Python imports that is started as the spawner of sessions is."""
    command = [sys.executable, "-I", "-S", "-B", "-X", "frozen_modules=on", "-X", "importtime", *arguments]
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=60, **streams)
    return {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines() if "|" in line}


def test_a_launcher_imports_next_to_nothing() -> None:
    """Every session keeps a fork of the spawner alive, whose modules are named here one by one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()  # the executor is gone: the spawner ends at once
    with theirs:
        found = times_of_imports(spawner.__file__, "1", stdin=theirs)
    found -= times_of_imports("-c", "import os")

    assert "trackbook.adapters.local.box.launcher" in found
    assert {name for name in found if not name.startswith("trackbook.adapters.local.box.")} <= {
        "__future__", "_ctypes", "_socket", "_struct", "ctypes", "ctypes._endian", "fcntl", "gc", "select",
        "struct", "trackbook.adapters.execution", "trackbook.adapters.execution.bounded_log", "types",
    }  # fmt: skip
