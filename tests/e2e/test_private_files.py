"""What a data directory holds is its owner's alone, whichever command comes first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import CommandLine


def _up(cli: CommandLine) -> None:
    with cli.up():
        pass


def _detached(cli: CommandLine) -> None:
    cli("run", "--detach", "--durability", "fast", cli.pipeline("p", a="true"))
    os.kill(cli.server_pid(), signal.SIGTERM)
    while (cli.data / "server.json").exists():
        time.sleep(0.05)


FIRST: dict[str, Callable[[CommandLine], object]] = {
    "run": lambda cli: cli("run", "--durability", "fast", cli.pipeline("p", a="true")),
    "dry": lambda cli: cli("run", "--dry-run", cli.pipeline("p", a="true")),
    "detached": _detached,
    "up": _up,
    "apply": lambda cli: cli("pipeline", "apply", cli.pipeline("p", a="true")),
    "doctor": lambda cli: cli("doctor"),
}


def others_can_get_at(data: Path) -> list[str]:
    """Return which of the directory, the folder of the broker and its own files let others in.

    Folders of tasks have the modes that tasks give them: the directory around them keeps others out.
    """
    if not data.exists():
        return []
    own = [data, *(path for path in data.iterdir() if path.is_file() or path.name == "broker")]
    return [f"{path} {path.stat().st_mode:o}" for path in own if path.stat().st_mode & 0o077]


@pytest.mark.parametrize("first", FIRST)
def test_a_data_directory_is_closed_to_others(tmp_path: Path, first: str) -> None:
    """Under the usual umask the directory is 0700 and its files 0600 after any first command."""
    before = os.umask(0o022)
    try:
        cli = CommandLine(tmp_path)
        FIRST[first](cli)
    finally:
        os.umask(before)

    assert cli.data.exists() or first == "doctor"
    assert others_can_get_at(cli.data) == []


def test_a_directory_that_an_earlier_version_left_open_is_closed(tmp_path: Path) -> None:
    """The next start closes what was open, and leaves a folder alone that holds other things."""
    program = (
        "import sys; from pathlib import Path\n"
        "from trackbook.runtime.data_directory.directory import hold_directory\n"
        "with hold_directory(Path(sys.argv[1]), frozenset({'web', 'engine'})): pass"
    )
    old, project = tmp_path / "old", tmp_path / "project"
    for folder, name in ((old, "lock-engine"), (project, "train.py")):
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)
        (folder / name).touch(0o644)

        subprocess.run([sys.executable, "-c", program, str(folder)], check=True)

    assert others_can_get_at(old) == []
    assert project.stat().st_mode & 0o777 == 0o755
    assert (project / "lock").stat().st_mode & 0o777 == 0o600
