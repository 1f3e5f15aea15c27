"""One's own programs in a task: the caller's virtual environment, and exit codes that explain themselves."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from office import CHAIN, opened

from trackbook.adapters.execution.exit_codes import describe
from trackbook.adapters.execution.exit_record import ExitRecord, now
from trackbook.adapters.execution.outcome import verdict
from trackbook.adapters.local import outcome
from trackbook.adapters.local.plan import PATH, Planner
from trackbook.cli import options
from trackbook.engine.ports import SessionSpec


def environment(data: Path, virtual_env: str, **variables: str) -> dict[str, str]:
    """Return what a local session's command gets."""
    spec = SessionSpec("s", "j", "p", "p", "t", 0, 1, "true", variables=variables, virtual_env=virtual_env)
    found: dict[str, str] = Planner(data, 5.0, 1, durable=False, passed=()).plan(spec)["environment"]
    return found


def test_a_local_task_gets_the_virtual_environment(tmp_path: Path) -> None:
    """Its programs come first on PATH."""
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    venv = str(tmp_path / "venv")

    found = environment(tmp_path, venv)

    assert (found["VIRTUAL_ENV"], found["PATH"]) == (venv, f"{venv}/bin:{PATH}")


def test_what_the_task_sets_itself_goes_before(tmp_path: Path) -> None:
    """A PATH of the pipeline's own stays as it is."""
    (tmp_path / "venv" / "bin").mkdir(parents=True)

    assert environment(tmp_path, str(tmp_path / "venv"), PATH="/mine")["PATH"] == "/mine"


@pytest.mark.parametrize("given", ["", "venv", "/no/such/folder", "/tmp:/usr"])
def test_what_is_no_virtual_environment_changes_nothing(tmp_path: Path, given: str) -> None:
    """A folder that is gone, isn't absolute, or would be two entries of PATH is left aside."""
    found = environment(tmp_path, given)

    assert ("VIRTUAL_ENV" in found, found["PATH"]) == (False, PATH)


def test_trackbooks_own_environment_is_never_passed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A task must not find what Trackbook happens to be installed with."""
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    own = options.caller_environment()
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path))
    other = options.caller_environment()
    monkeypatch.delenv("VIRTUAL_ENV")

    assert (own, other, options.caller_environment()) == ({}, {"virtual_env": str(tmp_path)}, {})


async def test_the_environment_is_recorded_with_the_jobs_start(tmp_path: Path) -> None:
    """Every attempt of the job gets the same one, whoever launches it."""
    office = await opened(tmp_path)
    await office.must("pipeline.apply", yaml=CHAIN)
    started = await office.must("job.start", pipeline="chain", virtual_env="/home/ann/venv")
    ended = await office.ended(started["job"])
    await office.close()

    assert ended.state.created is not None
    assert ended.state.created.virtual_env == "/home/ann/venv"
    assert (await office.sessions.spec(ended.state, "second")).virtual_env == "/home/ann/venv"


def test_exit_codes_126_and_127_explain_themselves(tmp_path: Path) -> None:
    """They name PATH and the working directory, here and in containers; others stay short."""
    record = ExitRecord(ended_at=now(), exit_code=127)
    spec = SessionSpec("s", "j", "p", "p", "t", 0, 1, "true")
    local = outcome.report(spec, record, tmp_path, tmp_path).message
    container = verdict(ExitRecord(ended_at=now(), exit_code=126)).message

    assert "exit code 127: a program was not found" in local
    assert PATH in local
    assert "/home/work" in local
    assert "chmod +x" in container
    assert "PATH: the image's own" in container
    assert describe(3) == "the command ended with exit code 3"
