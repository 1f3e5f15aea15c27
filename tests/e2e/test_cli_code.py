"""`code: FOLDER`: the command line packs it, versions hold its hash, and tasks start in a copy of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from command_line import CommandLine

TRAIN = """\
name: train
code: {code}
tasks:
- name: train
  command: cat src/part; ls; echo mine >src/part
- name: again
  command: cat src/part
  dependencies: [train]
"""


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    """A server, and a project with its pipeline beside the code."""
    command_line = CommandLine(tmp_path)
    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    (project / "src" / "part").write_text("one\n")
    (project / ".gitignore").write_text("*.log\n")
    (project / "noise.log").write_text("noise")
    (project / "train.yaml").write_text(TRAIN.format(code="."))
    with command_line.up():
        yield command_line


def log(cli: CommandLine, task: str) -> str:
    """Return what a task of the latest job wrote."""
    job = cli.json("job", "list")[0]["id"]
    return cli("job", "logs", job, task)


def test_tasks_run_in_a_copy_of_the_folder(cli: CommandLine) -> None:
    """Given a project; when it is run, changed and run again; then each version runs its own code, untouched."""
    file = str(cli.home / "project" / "train.yaml")

    first = cli("run", file)
    said, other = log(cli, "train"), log(cli, "again")
    again = cli("pipeline", "apply", file)
    (cli.home / "project" / "src" / "part").write_text("two\n")
    changed = cli("pipeline", "apply", file)
    cli("job", "start", "train@1", "--watch")
    old = log(cli, "again")
    cli("job", "start", "train", "--watch")

    assert "Code .: 2 files" in first
    assert (said, other) == ("one\nsrc\n", "one\n")
    assert "unchanged, version 1" in again
    assert "Code" not in again
    assert "version 2\n  code: " in changed
    assert (old, log(cli, "again")) == ("one\n", "two\n")
    assert cli("pipeline", "diff", "train@1", "train@2").count("code: ") == 1


def test_an_exported_version_runs_what_it_ran(cli: CommandLine) -> None:
    """Given an exported file; when it is applied elsewhere; then its archive is used, and nothing is packed."""
    cli("pipeline", "apply", str(cli.home / "project" / "train.yaml"))
    exported = cli.home / "exported.yaml"
    exported.write_text(cli("pipeline", "yaml", "train"))
    (cli.home / "project" / "src" / "part").write_text("two\n")

    assert "unchanged, version 1" in cli("pipeline", "apply", str(exported))
    cli("pipeline", "apply", str(cli.home / "project" / "train.yaml"))
    restored = cli("pipeline", "restore", "train@1")
    assert "version 3" in restored
    cli("pipeline", "edit", "train", "--set", "again.command=cat src/part; pwd")
    cli("job", "start", "train", "--watch")
    assert log(cli, "again").startswith("one\n")


def test_what_is_refused_uploads_nothing(cli: CommandLine) -> None:
    """Given a bad file, a folder that is not there, or a look alone; when it is applied; then nothing is sent."""
    project = cli.home / "project"
    bad = project / "bad.yaml"
    bad.write_text(TRAIN.format(code=".").replace("[train]", "[nobody]"))
    missing = project / "missing.yaml"
    missing.write_text(TRAIN.format(code="nowhere"))
    good = str(project / "train.yaml")

    out, err = cli.both("pipeline", "apply", str(bad), code=1)
    _, nowhere = cli.both("run", str(missing), code=1)
    dry = cli("run", good, "--dry-run") + cli("pipeline", "apply", good, "--dry-run") + cli("validate", good)

    assert "unknown_dependency" in err
    assert "there is no folder" in nowhere
    assert "nowhere" in nowhere
    assert "Code" not in out + dry
    assert cli.json("pipeline", "list") == []


def test_other_clients_give_the_hash_of_what_they_uploaded(cli: CommandLine) -> None:
    """Given a client of HTTP; when it names no archive, or an unknown one; then the answer says what to do."""
    definition = {"name": "p", "code": ".", "tasks": [{"name": "a", "command": "true"}]}

    with httpx.Client(base_url=cli.server_url(), headers=cli.server_headers(), timeout=60) as client:
        alone = client.post("/api/commands/pipeline/apply", json={"definition": definition}).json()["error"]
        asked = {"definition": definition, "code_sha256": "a" * 64}
        unknown = client.post("/api/commands/pipeline/apply", json=asked).json()["error"]

    assert (alone["code"], alone["path"]) == ("code_not_packed", "code")
    assert "PUT /api/code" in alone["hint"]
    assert (unknown["code"], unknown["path"]) == ("code_unknown", "code_sha256")
