"""What works without a server: a first pipeline from the package, and a look at a pipeline's file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import CommandLine

WRONG = """\
name: p
tasks:
- name: a
  command: 'true'
  needs: [b]
- {name: b, command: 'true', dependencies: [c]}
"""


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    """The command line of somebody who never used it, in an empty folder without a clone."""
    return CommandLine(tmp_path)


def test_init_writes_a_pipeline_that_is_in_order_and_runs(cli: CommandLine) -> None:
    """The example comes with the package; it validates without a warning, and succeeds."""
    out = cli("init", "first")
    validated = cli.json("validate", "first/pipeline.yaml")
    ran = cli("run", "first/pipeline.yaml")

    assert "trackbook run first/pipeline.yaml" in out
    assert (validated["ok"], validated["warnings"], validated["summary"]["tasks"]) == (True, [], 3)
    assert "3 succeeded" in ran
    assert "The total is 210." in ran


def test_init_overwrites_nothing(cli: CommandLine) -> None:
    """A file that is there stays as it is."""
    file = cli.home / "pipeline.yaml"
    file.write_text("mine")

    _, reported = cli.both("init", code=1)

    assert "pipeline.yaml exists already" in reported
    assert file.read_text() == "mine"


def test_validate_needs_and_starts_no_server(cli: CommandLine) -> None:
    """All problems are listed with their places, in words and as JSON; no data directory is made."""
    file = cli.home / "wrong.yaml"
    file.write_text(WRONG)

    _, reported = cli.both("validate", "wrong.yaml", code=1)
    error = json.loads(cli("validate", "wrong.yaml", "--json", code=1))["error"]

    assert "wrong.yaml:5:10, tasks[0].needs" in reported
    assert "wrong.yaml:6:45, tasks[1].dependencies[0]" in reported
    assert (error["code"], [each["code"] for each in error["others"]]) == (
        "unsupported_key", ["unknown_dependency"],
    )  # fmt: skip
    assert not cli.data.exists()


def test_validate_tells_warnings(cli: CommandLine) -> None:
    """What has no effect is reported, and is no failure."""
    file = cli.home / "odd.yaml"
    file.write_text("name: odd\nowner: ann\ntasks:\n- {name: a, command: 'true'}\n")

    out = cli("validate", "odd.yaml")

    assert "odd.yaml is valid: pipeline odd" in out
    assert "'owner' is not a key that is known here" in out


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        (("job", "events", "1f2e", "--type", "TaskFaild"), "TaskFailed"),
        (("audit", "log", "--type", "JobFaild"), "JobFailed"),
        (("audit", "log", "--kind", "pipelin"), "pipeline"),
    ],
)
def test_a_type_or_kind_that_does_not_exist_is_bad_usage(
    cli: CommandLine, command: tuple[str, ...], meant: str
) -> None:
    """An empty list would say that nothing of it ever happened."""
    _, reported = cli.both(*command, code=2)

    assert f"Did you mean '{meant}'?" in reported
