"""Looking before a run, and executors that are misconfigured, as a person meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import EXAMPLES, CommandLine

DEMO = str(EXAMPLES / "demo.yaml")


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    """The command line of somebody who never used it."""
    return CommandLine(tmp_path)


def test_a_dry_run_leaves_nothing_behind(cli: CommandLine) -> None:
    """It says what would be, and afterwards there is no pipeline and no job."""
    out = cli("run", DEMO, "--dry-run")

    assert "Pipeline demo: would be created, version 1" in out
    assert "It would succeed" in out
    assert cli.json("pipeline", "list") == cli.json("job", "list") == []


def test_an_unknown_executor_is_refused_before_anything(cli: CommandLine) -> None:
    """With what there is, and nothing was run."""
    _, reported = cli.both("run", DEMO, "--executor", "backendai/main", code=1)

    assert "there is no executor 'backendai/main'" in reported
    assert "executors.toml" in reported
    assert cli.json("job", "list") == []


@pytest.mark.parametrize("command", [("run", DEMO), ("run", DEMO, "--dry-run"), ("up",), ("job", "list")])
def test_a_misconfiguration_is_reported_in_a_line(cli: CommandLine, command: tuple[str, ...]) -> None:
    """Whatever the command: exit 1, what is wrong and what to do, no trace of a stack."""
    cli.data.mkdir(parents=True, mode=0o700)
    (cli.data / "broker").mkdir()
    file = cli.data / "executors.toml"
    file.write_text('[backendai.main]\nsecret_key = "s3cr3t"\n')
    file.chmod(0o644)
    _, open_to_all = cli.both(*command, code=1)
    file.chmod(0o600)
    _, incomplete = cli.both(*command, code=1)
    _, slip = cli.both(*command, code=1, TRACKBOOK_BACKENDAI_ENDPIONT="http://s3cr3t")

    assert f"chmod 600 {file}" in open_to_all
    assert "endpoint and access_key must be set" in incomplete
    assert "Did you mean 'TRACKBOOK_BACKENDAI_ENDPOINT'?" in slip
    for reported in (open_to_all, incomplete, slip):
        assert "Traceback" not in reported
        assert "s3cr3t" not in reported


def test_doctor_tells_of_executors(cli: CommandLine) -> None:
    """Which there are and where that was said, how each fares, and what was left over on them."""
    cli.data.mkdir(parents=True, mode=0o700)
    file = cli.data / "executors.toml"
    file.write_text(
        'default = "backendai/main"\n[backendai.main]\nendpoint = "http://127.0.0.1:9"\naccess_key = "a"\n'
        'secret_key = "s3cr3t"\n'
    )
    file.chmod(0o600)
    out = cli("doctor", "--json", code=1)
    found = {finding["what"]: finding for finding in json.loads(out)}
    file.chmod(0o640)
    refused = {finding["what"]: finding for finding in json.loads(cli("doctor", "--json", code=1))}

    assert f"backendai/main ({file}); what names none runs on backendai/main" in found["executors"]["found"]
    assert found["backendai/main endpoint"]["verdict"] == "fail"
    assert "whether the manager runs" in found["backendai/main endpoint"]["hint"]
    assert "s3cr3t" not in out
    assert f"chmod 600 {file}" in refused["executors"]["found"]


def test_doctor_looks_for_what_was_left_over(cli: CommandLine) -> None:
    """By itself only where a server runs; where it is asked to end it, without one as well."""
    cli("run", DEMO)
    plain = [finding["what"] for finding in json.loads(cli("doctor", "--json"))]
    swept = {finding["what"]: finding for finding in json.loads(cli("doctor", "--sweep", "--json"))}

    assert "left over" not in plain
    assert swept["left over"]["verdict"] == "ok"
