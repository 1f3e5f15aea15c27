"""`trackbook backup` of a running server, and `trackbook restore` elsewhere."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import PATIENCE, CommandLine

from trackbook.events.commit import FORMAT

KEY = "a-secret-of-somebody"


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    """A command line whose data directory is its own."""
    return CommandLine(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[CommandLine, Path]:
    """An installation with a finished job, and its backup."""
    cli = CommandLine(tmp_path_factory.mktemp("made"))
    cli("run", cli.pipeline("short", only="echo done"), "--durability", "fast")
    file = cli.home / "backup.tar"
    cli("backup", str(file))
    return cli, file


def shown(cli: CommandLine) -> list[Any]:
    """What a user sees of an installation's histories."""
    jobs = cli.json("job", "list")
    return [
        cli.json("pipeline", "list"),
        jobs,
        [cli.json("job", "show", each["id"]) for each in jobs],
        cli.json("audit", "log", "-n", "1000"),
    ]


def elsewhere(cli: CommandLine, data: Path) -> CommandLine:
    """The same user with another data directory."""
    other = CommandLine(cli.home)
    other.data = data
    other.environment = cli.environment | {"TRACKBOOK_DATA": str(data)}
    return other


def to_stdout(cli: CommandLine, file: Path) -> subprocess.CompletedProcess[bytes]:
    """Run `backup -` with its output in a file."""
    command = [sys.executable, "-m", "trackbook", "backup", "-"]
    with file.open("wb") as target:
        return subprocess.run(
            command, stdout=target, stderr=subprocess.PIPE, env=cli.environment, check=False, timeout=PATIENCE
        )


def test_a_restored_fork_shows_the_same(cli: CommandLine) -> None:
    """Backed up while a job runs: pipelines, ended jobs, the audit log are the same, and the log is intact."""
    (cli.data).mkdir(parents=True)
    file, target = cli.home / "backup.tar", cli.home / "restored"
    with cli.up():
        cli("run", cli.pipeline("short", only="echo done"))
        before = shown(cli)
        running = json.loads(cli("run", cli.pipeline("waits", wait="sleep 1000"), "--detach", "--json"))["job"]
        out = cli("backup", str(file))
        assert "Not in it: output and files of tasks" in out
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        found = cli.json("restore", str(file), "--verify")
        assert found["ok"]
        assert found["defects"] == []
        assert not list(cli.home.glob(".*part"))

        restored = cli("restore", str(file), "--data", str(target))
        other = elsewhere(cli, target)
        assert f"trackbook up --fork --data {target}" in restored
        _, err = other.both("job", "list", code=1)
        assert "was restored from a backup (backup.tar of" in err
        with other.up("--fork"):
            then = shown(other)
            assert other.json("audit", "verify")["ok"]
            assert other.json("job", "show", running)["state"] == "cancelled"
        assert cli.json("job", "show", running)["state"] in ("pending", "running")
        cli("job", "cancel", running)

    ended = {each["id"] for each in before[1]}
    assert then[0][-1] == before[0][-1]
    assert [each for each in then[1] if each["id"] in ended] == before[1]
    assert [each for each in then[2] if each["id"] in ended] == before[2]
    assert then[3][-len(before[3]) :] == before[3]


def test_an_adopted_restore_goes_on(made: tuple[CommandLine, Path], tmp_path: Path) -> None:
    """The original is lost: the restored directory takes its place, under the same installation."""
    cli, file = made
    cli("restore", str(file), "--data", str(tmp_path / "new" / "data"))
    other = elsewhere(cli, tmp_path / "new" / "data")

    with other.up("--adopt"):
        assert shown(other) == shown(cli)
        other("run", other.pipeline("next", only="true"))
    assert len(other.json("job", "list")) == 2
    assert other.json("audit", "verify")["ok"]


def test_stdout_takes_a_backup(made: tuple[CommandLine, Path], tmp_path: Path) -> None:
    """`-` writes it there, and the summary to stderr; what was cut on its way is found."""
    cli, _ = made
    file = tmp_path / "backup.tar"
    done = to_stdout(cli, file)
    assert done.returncode == 0
    assert b"Backed up" in done.stderr
    cli("restore", str(file), "--verify")

    file.write_bytes(file.read_bytes()[:-600])
    for command in (["--verify"], ["--data", str(tmp_path / "new")]):
        _, err = cli.both("restore", str(file), *command, code=1)
        assert "is cut off" in err or "does not end" in err
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_restored_is_refused(made: tuple[CommandLine, Path], tmp_path: Path) -> None:
    """A damaged or newer backup and a directory that holds something: the reason, and nothing was made."""
    cli, file = made
    data = file.read_bytes()
    damaged, newer, target = tmp_path / "damaged.tar", tmp_path / "newer.tar", tmp_path / "target"
    at = data.index(b"S2sTwO") + 10
    damaged.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
    newer.write_bytes(data.replace(f'"format":{FORMAT},'.encode(), f'"format":{FORMAT + 1},'.encode(), 1))
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")

    for backup, place, said in (
        (damaged, target, "events/000001 is damaged"),
        (newer, target, f"format {FORMAT + 1}"),
        (file, full, "is not empty: it has mine.txt"),
        (file, full / "mine.txt", "is not a directory"),
    ):
        _, err = cli.both("restore", str(backup), "--data", str(place), code=1)
        assert said in err
        assert "Traceback" not in err
    _, err = cli.both("restore", str(damaged), "--verify", code=1)
    assert "events/000001 is damaged" in err
    cli("restore", str(file), code=2)
    cli("restore", str(tmp_path / "absent"), "--verify", code=1)
    assert not target.exists()
    assert [each.name for each in full.iterdir()] == ["mine.txt"]


def test_a_killed_restore_leaves_nothing_that_looks_whole(made: tuple[CommandLine, Path], tmp_path: Path) -> None:
    """Killed while its broker runs, it has made no data directory; the next restore tidies up and succeeds."""
    cli, file = made
    target = tmp_path / "target"
    with cli.begin("restore", str(file), "--data", str(target)) as process:
        deadline = time.monotonic() + PATIENCE
        while not list(tmp_path.glob(".target.restoring-*/broker/store")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=PATIENCE)

    assert not target.exists()
    assert len(list(tmp_path.glob(".target.restoring-*"))) == 1
    cli("restore", str(file), "--data", str(target))
    assert [each.name for each in tmp_path.iterdir()] == ["target"]


def test_a_backup_holds_no_secret(cli: CommandLine) -> None:
    """The configuration of executors is in it, without the keys; the restore says which to fill in."""
    cli("run", cli.pipeline("short", only="true"), "--durability", "fast")
    settings = f'[backendai.a]\nendpoint = "http://127.0.0.1:1"\naccess_key = "k"\nsecret_key = "{KEY}"\n'
    (cli.data / "executors.toml").write_text(settings)
    (cli.data / "executors.toml").chmod(0o600)
    file, target = cli.home / "backup.tar", cli.home / "restored"

    assert "Left out: secret_key of executors.toml" in cli("backup", str(file))
    assert "secret_key of executors.toml" in cli("restore", str(file), "--data", str(target))

    assert KEY.encode() not in file.read_bytes()
    assert 'secret_key = ""' in (target / "executors.toml").read_text()
    assert 'access_key = "k"' in (target / "executors.toml").read_text()


def test_a_full_disk_is_said_in_words(made: tuple[CommandLine, Path]) -> None:
    """The file that could not be written is named, and nothing of it is left."""
    cli, file = made
    done = to_stdout(cli, Path("/dev/full"))
    assert done.returncode == 1
    assert b"No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr
    _, err = cli.both("backup", str(file), code=1)
    assert "is there already" in err
    _, err = cli.both("backup", "/absent/backup.tar", code=1)
    assert "/absent/backup.tar can't be written: No such file or directory" in err
