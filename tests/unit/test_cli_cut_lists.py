"""Folders of which an executor's storage does not list all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_server import Answer, serving
from typer.testing import CliRunner

from trackbook.cli.main import app

FILES = "/api/pipelines/train/files"


def _entry(name: str) -> dict[str, Any]:
    return {"name": name, "path": name, "type": "file", "size": 1, "modified_at": None}


def test_storage_that_can_not_set_modes_is_told(tmp_path: Path) -> None:
    """Where the answer says that the file is not executable, so does `put`, once."""
    program = tmp_path / "program"
    program.write_text("x")
    program.chmod(0o755)
    put = Answer(_entry("program") | {"executable": False}, status=201)
    nothing = Answer({"error": {"code": "no_such_file", "message": "there is no program"}}, status=404)
    with serving({f"GET {FILES}": nothing, f"PUT {FILES}/content": put}) as fake:
        done = CliRunner().invoke(app, ["files", "put", str(program), "train:program", "--url", fake.url])

    assert (done.exit_code, done.stderr.count("train:program is not executable there")) == (0, 1)


@pytest.mark.parametrize("cut", [False, True])
def test_a_list_that_may_be_cut_is_told(cut: bool, tmp_path: Path) -> None:
    """`list` warns that there may be more; `get` fetches what is listed, says so, and exits with 1."""
    scripts = {
        f"GET {FILES}": {"items": [_entry("a"), _entry("b")], "next": None, "may_be_cut": cut},
        f"GET {FILES}/content": Answer(text="x"),
    }
    with serving(scripts) as fake:
        where = ["--url", fake.url]
        listed = CliRunner().invoke(app, ["files", "list", "train", *where])
        got = CliRunner().invoke(app, ["files", "get", "train", str(tmp_path / "train"), *where])

    assert (listed.exit_code, listed.stdout) == (0, "a\nb\n")
    assert ("may be incomplete" in listed.stderr) == cut
    assert sorted(path.name for path in (tmp_path / "train").iterdir()) == ["a", "b"]
    assert (got.exit_code != 0) == cut
    assert ("may be incomplete" in str(got.exception)) == cut
