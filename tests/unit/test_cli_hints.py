"""Commands that are printed can be pasted, whatever names and paths they hold."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trackbook.cli.main import app
from trackbook.cli.server.connection import Where


def test_options_of_another_command_are_quoted(tmp_path: Path) -> None:
    """Blanks and quotes in a path or an address stay part of it."""
    data, token = tmp_path / "my 'data'", tmp_path / "a token"

    assert shlex.split(Where(data=data).again()) == ["--data", str(data)]
    assert shlex.split(Where(url="http://x/?a&b", token_file=token).again()) == [
        "--url", "http://x/?a&b", "--token-file", str(token),
    ]  # fmt: skip


def test_an_example_in_a_folder_with_blanks_is_checked_by_the_printed_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`init` prints two commands that work as they are."""
    monkeypatch.chdir(tmp_path)
    out = CliRunner().invoke(app, ["init", "my first; project"]).stdout
    commands = [shlex.split(line.split(":", 1)[1]) for line in out.splitlines() if "trackbook" in line]

    assert [command[1:] for command in commands] == [
        ["validate", "my first; project/pipeline.yaml"], ["run", "my first; project/pipeline.yaml"],
    ]  # fmt: skip
