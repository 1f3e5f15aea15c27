"""Something else in the place of a file of the data directory: the start says what, where and what to do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import PATIENCE, CommandLine

from trackbook.runtime.data_directory.file_types import FILES, FOLDERS

_ORDINARY = ("setpriv", "--inh-caps=-all", "--bounding-set=-dac_override,-dac_read_search")
"""Root without the right to use the files of others, whatever their modes."""
_OTHERS = ("broker/store/", "broker/ports/", "sessions/", "pipelines/", "executors/", "vfolders/")
"""Folders whose files are those of the broker, of sessions and of executors."""


def _start(cli: CommandLine, *before: str) -> tuple[int, str]:
    command = (*before, sys.executable, "-m", "trackbook", "up", "--http", "127.0.0.1:0", "--durability", "fast")
    done = subprocess.run(
        command, env=cli.environment, cwd=cli.home, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert "Traceback" not in done.stderr + done.stdout
    return done.returncode, done.stderr


def _put(path: Path, kind: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if kind == "a directory":
        path.mkdir()
    elif kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/null")
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as made:
            folder = os.open(path.parent, os.O_PATH)  # a socket's path may have a hundred bytes
            made.bind(f"/proc/self/fd/{folder}/{path.name}")
            os.close(folder)
    else:
        path.write_bytes(b"")


def _refused(cli: CommandLine, name: str, kind: str) -> None:
    code, err = _start(cli)
    assert code == 1
    assert f"trackbook: {cli.data / name}: it is {kind}, and a " in err
    assert "Move it away" in err


@pytest.mark.parametrize("name", FILES)
def test_a_directory_in_the_place_of_a_file_is_named(tmp_path: Path, name: str) -> None:
    """The start of each release opens these files; none of them ends it in a traceback, or in other words."""
    cli = CommandLine(tmp_path)
    _put(cli.data / name, "a directory")

    _refused(cli, name, "a directory")


@pytest.mark.parametrize("kind", ["a named pipe", "a device", "a socket"])
def test_what_is_no_file_holds_no_start(tmp_path: Path, kind: str) -> None:
    """A pipe that nobody writes is not waited for; each file is looked at before any is opened."""
    cli = CommandLine(tmp_path)
    for name in ("server.json", "engine.db", "witness.log", "executors.toml", "broker/store.lock"):
        _put(cli.data / name, kind)
        _refused(cli, name, kind)
        (cli.data / name).unlink()


@pytest.mark.parametrize("name", FOLDERS)
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path, name: str) -> None:
    """It is no folder that Trackbook could fill."""
    cli = CommandLine(tmp_path)
    _put(cli.data / name, "a file")

    _refused(cli, name, "a file")


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    """Whose it is and what its mode forbids, whichever part of the start would have met it."""
    cli = CommandLine(tmp_path)
    with cli.up():
        pass
    for name in ("lock-engine", "identity.json", "initialised", "engine.db-wal", "readmodel.db", "witness.log"):
        path = cli.data / name
        made = not path.exists()
        if made:
            path.touch()
        path.chmod(0)

        code, err = _start(cli, *_ORDINARY) if os.geteuid() == 0 else _start(cli)

        assert code == 1, (name, err)
        assert f"{path}: Permission denied\n  You own {path}" in err
        path.chmod(0o600)
        if made:
            path.unlink()


def test_the_list_of_files_is_complete(tmp_path: Path) -> None:
    """What a server leaves in its data directory, and has there while it runs, is all looked at."""
    cli = CommandLine(tmp_path)
    with cli.up():
        cli("pipeline", "create", "p")
        running = _found(cli.data)
    assert running | _found(cli.data) <= set(FILES)


def _found(data: Path) -> set[str]:
    names = (str(path.relative_to(data)) for path in data.rglob("*") if path.is_file())
    return {name for name in names if not name.startswith(_OTHERS)}


def test_a_witness_elsewhere_is_a_file(tmp_path: Path) -> None:
    """What --witness names is looked at as well."""
    cli = CommandLine(tmp_path)
    there = tmp_path / "witness"
    os.mkfifo(there)

    _, err = cli.both("up", "--http", "127.0.0.1:0", "--witness", str(there), code=1)

    assert f"{there}: it is a named pipe" in err
    assert "--witness" in err
