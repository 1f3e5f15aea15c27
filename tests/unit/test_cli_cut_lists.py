"""Folders of which an executor's storage does not list all."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cli_server import Answer, serving
from typer.testing import CliRunner, Result

from trackbook.cli.main import app

FILES = "/api/pipelines/train/files"


def _entry(name: str) -> dict[str, Any]:
    return {"name": name, "path": name, "type": "file", "size": 1, "modified_at": None}


def test_storage_that_can_not_set_modes_is_reported(tmp_path: Path) -> None:
    """Where the answer says that the file is not executable, so does `put`, once."""
    program = tmp_path / "program"
    program.write_text("x")
    program.chmod(0o755)
    put = Answer(_entry("program") | {"executable": False}, status=201)
    nothing = Answer({"error": {"code": "no_such_file", "message": "there is no program"}}, status=404)
    with serving({f"GET {FILES}": nothing, f"PUT {FILES}/content": put}) as fake:
        done = CliRunner().invoke(app, ["files", "put", str(program), "train:program", "--url", fake.url])

    assert (done.exit_code, done.stderr.count("train:program is not executable there")) == (0, 1)


def _archive(*members: str) -> Answer:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in members:
            archive.writestr(name, f"what {name} holds")
    return Answer(raw=made.getvalue())


def _got(target: Path, archive: Answer, *words: str) -> Result:
    scripts = {
        f"GET {FILES}": {"items": [_entry("a"), _entry("b")], "next": None, "may_be_cut": True},
        f"GET {FILES}/content": Answer(text="x"),
        f"GET {FILES}/archive": archive,
    }
    with serving(scripts) as fake:
        return CliRunner().invoke(app, ["files", "get", "train", str(target), "--url", fake.url, *words])


def test_a_folder_whose_list_is_cut_is_fetched_as_an_archive(tmp_path: Path) -> None:
    """All of it, with exit code 0; what an earlier download left is known by its checksum."""
    target = tmp_path / "train"
    first = _got(target, _archive("a", "b", "c", "deep/d", "empty/"))
    again = _got(target, _archive("a", "b", "c", "deep/d", "empty/"))
    (target / "c").write_text("changed")
    refused = _got(target, _archive("a", "b", "c", "deep/d", "empty/"))

    assert (first.exit_code, again.exit_code) == (0, 0), first.output
    assert "4 of them were there already" in again.stdout
    assert "is there already" in str(refused.exception)
    assert sorted(path.relative_to(target).as_posix() for path in target.rglob("*")) == [
        "a", "b", "c", "deep", "deep/d", "empty",
    ]  # fmt: skip
    assert (target / "deep" / "d").read_text() == "what deep/d holds"


@pytest.mark.parametrize(
    "archive",
    [
        _archive("../out"),
        _archive("/out"),
        _archive("a/../../out"),
        Answer(raw=b"PK nothing"),
        _archive("b//c"),
    ],
    ids=["above", "absolute", "by-way", "no-archive", "double"],
)
def test_an_archive_that_can_not_be_trusted_is_not_unpacked(archive: Answer, tmp_path: Path) -> None:
    """What leads out of the folder is refused as a whole; the listed files are fetched and `get` exits with 1."""
    got = _got(tmp_path / "deep" / "train", archive)

    assert got.exit_code == 1
    assert "can't be fetched as an archive" in got.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] != []
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a", "b"]


@pytest.mark.parametrize("cut", [False, True])
def test_a_list_that_may_be_cut_is_reported(cut: bool, tmp_path: Path) -> None:
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
