"""A copied data directory: nothing starts on it unasked, and a fork leaves alone what runs."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import PATIENCE, CommandLine


def wait_until(condition: Callable[[], bool]) -> None:
    """Ask again until it is so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    """A command line whose data directory is its own."""
    return CommandLine(tmp_path)


def test_every_command_that_starts_a_server_refuses_a_copy(cli: CommandLine) -> None:
    """The message says what was found, where, and what to do; `doctor` says it too; the original works."""
    file = cli.pipeline("short", only="true")
    cli("run", file, "--durability", "fast")
    copy = cli.home / "copy"
    shutil.copytree(cli.data, copy)

    for command in (
        ("up", "--http", "127.0.0.1:0"),
        ("serve", "--role", "broker"),
        ("run", file),
        ("run", file, "--detach"),
        ("job", "list"),
    ):
        _, err = cli.both(*command, "--data", str(copy), code=1)
        assert f"{copy} looks like a copy of a data directory (last used as {cli.data}" in err
        assert f"trackbook up --adopt --data {copy}" in err
        assert f"trackbook up --fork --data {copy}" in err
        assert "Traceback" not in err
    found = json.loads(cli("doctor", "--json", "--data", str(copy), code=1))
    (about,) = [each for each in found if each["what"] == "data directory"]
    assert about["verdict"] == "fail"
    assert "--fork" in about["found"]
    assert len(cli.json("job", "list")) == 1


def test_an_adopted_directory_goes_on(cli: CommandLine) -> None:
    """It was restored or moved to another file system: said once, and everything is as it was."""
    cli("run", cli.pipeline("short", only="true"), "--durability", "fast")
    shutil.copytree(cli.data, cli.home / "moved")
    shutil.rmtree(cli.data)
    (cli.home / "moved").rename(cli.data)

    cli("job", "list", code=1)
    with cli.up("--adopt"):
        assert len(cli.json("job", "list")) == 1
    assert len(cli.json("job", "list")) == 1


def test_a_fork_leaves_what_runs_to_the_original(cli: CommandLine) -> None:
    """The copy cancels the job in its own log alone; the original's session runs on, and succeeds there."""
    file = cli.pipeline("waits", wait="until [ -e /pipeline/vfroot/go ]; do sleep 0.05; done")
    copy = CommandLine(cli.home)
    copy.data = cli.home / "copy"
    copy.environment = cli.environment | {"TRACKBOOK_DATA": str(copy.data)}
    with cli.up():
        job = json.loads(cli("run", file, "--detach", "--json"))["job"]
        wait_until(lambda: cli.json("job", "show", job)["state"] == "running")
    shutil.copytree(cli.data, copy.data)

    with cli.up():
        with copy.up("--fork"):
            theirs = copy.json("job", "show", job)
            assert theirs["state"] == "cancelled"
            assert "belongs to the original" in theirs["reason"]
        assert cli.json("job", "show", job)["state"] == "running"
        go = cli.home / "go"
        go.write_text("")
        cli("files", "put", str(go), "waits:vfroot/go")
        cli("job", "watch", job)
        assert cli.json("job", "show", job)["state"] == "succeeded"
