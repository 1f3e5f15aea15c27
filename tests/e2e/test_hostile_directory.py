"""Commands that are given in a directory whose files are named like modules of Python."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from command_line import CommandLine
from conditions import wait_until

from trackbook.cli.commands.down import environment

TRACKBOOK = Path(sys.executable).with_name("trackbook")
NAMES = ("queue", "asyncio", "json", "sqlalchemy", "uvicorn", "typing", "socket", "sitecustomize", "trackbook")


def hostile(folder: Path) -> Path:
    """Make a directory with modules that leave a mark where they are imported, and fail."""
    folder.mkdir()
    for name in NAMES:
        mark = folder / f"{name}.ran"
        (folder / f"{name}.py").write_text(f"open({str(mark)!r}, 'w').close()\nraise SystemExit('{name} ran')\n")
    return folder


def test_a_detached_server_runs_nothing_of_the_callers_directory(tmp_path: Path) -> None:
    """`run --detach` starts a server that imports none of them, and the server and its tasks work."""
    there = hostile(tmp_path / "there")
    cli = CommandLine(tmp_path)
    made = tmp_path / "made"
    file = cli.pipeline("p", a=f"{sys.executable} -c 'print(1)' && touch {made}")
    done = subprocess.run(
        [TRACKBOOK, "run", file, "--detach", "--json", "--durability", "fast"],
        cwd=there, env=cli.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    try:
        wait_until(made.exists)
        job = json.loads(done.stdout)["job"]
        wait_until(lambda: cli.json("job", "show", job)["state"] == "succeeded")
        assert sorted(there.glob("*.ran")) == []
    finally:
        os.kill(cli.server_pid(), signal.SIGTERM)


def test_relative_entries_of_pythonpath_are_not_passed_on() -> None:
    """They would be the caller's directory in the server; absolute ones stay."""
    assert environment({"PYTHONPATH": ":/a:.:b::/c", "X": "1"}) == {"PYTHONPATH": "/a:/c", "X": "1"}
    assert environment({"PYTHONPATH": "."}) == {}
    assert environment({"X": "1"}) == {"X": "1"}
