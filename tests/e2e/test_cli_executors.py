"""Executors that are configured while the server runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import CommandLine

CLUSTER = """\
default = "backendai/main"
[backendai.main]
endpoint = "http://127.0.0.1:9"
access_key = "a"
secret_key = "s3cr3t"
image = "registry/x:1"
"""


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    """A command line whose data directory is its own."""
    return CommandLine(tmp_path)


def _write(cli: CommandLine, text: str) -> None:
    file = cli.data / "executors.toml"
    file.touch(mode=0o600)
    file.write_text(text)


def test_a_server_that_is_older_than_the_file_runs_nothing_on_the_wrong_machine(cli: CommandLine) -> None:
    """The new default counts at once; `doctor` says what the server has loaded, and keeps of a broken file."""
    file = cli.pipeline("short", only="true")
    with cli.up():
        out = cli("run", file)
        _write(cli, CLUSTER)
        refused = cli.both("run", file, code=1)  # nobody listens there
        found = {each["what"]: each for each in json.loads(cli("doctor", "--json", code=1))}
        _write(cli, "[backendai")
        broken = json.loads(cli("doctor", "--json", code=1))

    assert " on local\n" in out
    assert "backendai/main" in "".join(refused)
    server = found["executors of the server"]
    assert server["verdict"] == "ok"
    assert server["found"].endswith("what names none runs on backendai/main")
    assert "backendai/main" in server["found"]
    reported = [each for each in broken if each["what"] == "server" and each["verdict"] == "warn"]
    assert "is not TOML" in reported[0]["found"]
    assert "stays in use" in reported[0]["found"]


def test_where_a_job_runs_is_shown_and_an_image_is_not_left_out_silently(cli: CommandLine) -> None:
    """A task that names an image and runs on this machine has none: the author is warned."""
    file = cli.home / "imaged.yaml"
    file.write_text("name: imaged\ntasks:\n- {name: a, command: 'true', environment: {image: 'x/y:1'}}\n")
    with cli.up():
        out, err = cli.both("run", str(file))
        job = out.partition("\nJob ")[2][:16]
        shown = cli("job", "show", job)

    assert f"Job {job} on local\n" in out
    assert "task 'a' asks for the image x/y:1, and runs as a process of this machine without it" in out + err
    assert "executor:   local\n" in shown
