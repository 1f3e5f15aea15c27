"""What a start does not import before it needs it: each of these takes a part of a second, every time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from cli_server import FakeServer, serving

from trackbook.cli import main
from trackbook.cli.commands import ENTRIES, CommandGroup, summary_of

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
    assert found & {f"trackbook.cli.{entry.module}" for entry in ENTRIES.values()} == set()


@pytest.mark.parametrize("words", ["job list", *ENTRIES])
def test_the_help_of_a_command_imports_nothing_heavy(words: str) -> None:
    """A command imports what does its work when it does it."""
    assert imported(*words.split(), "--help") & HEAVY == set()


def test_a_command_imports_no_other(fake: FakeServer) -> None:
    """`job list` asks a server and prints a table, and that is all that it imports."""
    found = imported("job", "list", "--url", fake.url)

    assert found & HEAVY == set()
    assert {name for name, entry in ENTRIES.items() if f"trackbook.cli.{entry.module}" in found} == {"job"}


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
        app = __import__(f"trackbook.cli.{module}", fromlist=["app"]).app
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


@pytest.mark.parametrize("name", ["aiodocker", "aiohttp", "sqlalchemy.orm"])
def test_a_start_does_not_import_it(name: str) -> None:
    """Neither the engine nor the executor of containers nor the read model brings it along."""
    program = (
        "import sys; import trackbook.runtime.app; import trackbook.adapters.container.backend; "
        f"import sqlalchemy.dialects.sqlite.aiosqlite; sys.exit({name!r} in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
