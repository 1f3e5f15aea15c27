"""Errors reach the user as words with what to do, and the exit code tells how the job ended."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import PATIENCE, CommandLine

_MODULE = (sys.executable, "-m", "trackbook")
_ORDINARY = ("setpriv", "--inh-caps=-all", "--bounding-set=-dac_override,-dac_read_search")
"""Root without the right to use the files of others, whatever their modes: its interpreter can still be read."""
_FULL = "can't be written to stdout: No space left on device"


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A data directory with the runs of a pipeline that succeeds and of one that fails."""
    cli = CommandLine(tmp_path_factory.mktemp("home"))
    cli("run", cli.pipeline("gut-é漢", t="true"))
    cli("run", cli.pipeline("bad", t="false"), code=1)
    return cli


def _onto_full(cli: CommandLine, *arguments: str) -> tuple[int, str]:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*_MODULE, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, env=cli.environment,
            cwd=cli.home, check=False, timeout=PATIENCE,
        )  # fmt: skip
    return done.returncode, done.stderr


def _plain(err: str) -> str:
    assert "Traceback" not in err, err
    return err


@pytest.mark.parametrize(
    "arguments",
    [("job", "list"), ("job", "list", "--json"), ("--help",), ("--version",), ("run", "gut-é漢.yaml")],
    ids=" ".join,
)
def test_output_that_cannot_be_written_is_an_error(cli: CommandLine, arguments: tuple[str, ...]) -> None:
    """Stdout on a full device is said once, and the exit code is 1."""
    code, err = _onto_full(cli, *arguments)

    assert (code, _plain(err).count(_FULL)) == (1, 1), err


def test_a_job_is_run_to_its_end_though_nobody_reads_about_it(cli: CommandLine) -> None:
    """What is printed counts less than the job."""
    before = len(cli.json("job", "list"))
    _onto_full(cli, "run", "gut-é漢.yaml")

    jobs = cli.json("job", "list")
    assert (len(jobs), jobs[0]["state"]) == (before + 1, "succeeded")


@pytest.mark.parametrize("stderr", ["/dev/full", None])
def test_bad_usage_exits_with_2_without_stderr(cli: CommandLine, stderr: str | None) -> None:
    """Nobody can read why, but a script sees that it was the call."""
    redirect = f"2>{stderr}" if stderr else "2>&-"
    for arguments in ("nothing", "job list --nothing", "run"):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {arguments} {redirect}', "sh", *_MODULE], env=cli.environment, cwd=cli.home,
            stdout=subprocess.PIPE, check=False, timeout=PATIENCE,
        )  # fmt: skip

        assert done.returncode == 2, arguments


@pytest.mark.parametrize(
    "locale",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}],
    ids=["ascii", "C"],
)
def test_what_a_terminal_cannot_encode_is_escaped(cli: CommandLine, locale: dict[str, str]) -> None:
    """Names show as escapes, are understood as they were typed, and JSON means the same."""
    out, err = cli.both("pipeline", "show", "gut-é漢", code=0, **locale)
    listed = json.loads(cli("pipeline", "list", "--json", code=0, **locale))

    assert "Traceback" not in err
    assert ("gut-\\xe9\\u6f22" in out, "gut-é漢" in {each["name"] for each in listed}) == (True, True)


def test_an_argument_that_is_no_text_is_refused(cli: CommandLine) -> None:
    """Bytes that are not UTF-8 name nothing."""
    name = os.fsdecode(b"a\xff\xfe")
    for arguments in (("pipeline", "show", name), ("run", "gut-é漢.yaml", "--param", f"A={name}")):
        _, err = cli.both(*arguments, code=1)

        assert "is not UTF-8 text" in _plain(err)


def test_a_taken_port_says_what_to_do(tmp_path: Path) -> None:
    """`up` names the address and another way, and makes no data directory that nobody would use."""
    cli = CommandLine(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"

        _, err = cli.both("up", "--http", address, code=1)

    assert (
        _plain(err).splitlines()[-1].startswith(f"trackbook: {address} can't be served: Address already in use")
    )
    assert "--http" in err
    assert not cli.data.exists()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="takes root to be two users")
@pytest.mark.parametrize("command", [("up",), ("job", "list"), ("run", "p.yaml"), ("run", "p.yaml", "--detach")])
def test_a_data_directory_of_somebody_else_says_whose(tmp_path: Path, command: tuple[str, ...]) -> None:
    """An ordinary user learns who owns it and which option names another."""
    theirs = tmp_path / "theirs"
    (theirs / "broker").mkdir(parents=True)
    theirs.chmod(0o700)
    os.chown(theirs, 65534, 65534)
    cli = CommandLine(tmp_path)
    cli.pipeline("p", t="true")

    done = subprocess.run(
        [*_ORDINARY, *_MODULE, *command, "--data", str(theirs)], env=cli.environment, cwd=tmp_path,
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip

    assert done.returncode == 1, done
    assert f"{theirs} belongs to " in _plain(done.stderr)
    assert "you are user root (uid 0)" in done.stderr
    assert "--data" in done.stderr
