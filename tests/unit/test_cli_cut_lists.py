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
