"""The private root of an ordinary account, where root's files seem to be of nobody, and the switch to it."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from local_process import ExecutorProcess

from trackbook.adapters.execution.exit_record import ExitRecord
from trackbook.adapters.local import outcome
from trackbook.engine.ports import SessionSpec

OWNER = "stat -c %u /etc/passwd; exit 3"


def spec(command: str) -> SessionSpec:
    """Return a session of the test's job."""
    return SessionSpec(f"tb-j1-a-{os.getpid()}", "j1", "p1", "pipe", "a", 0, attempt=1, command=command)


@pytest.fixture
def data() -> Iterator[Path]:
    """Give a data directory of an ordinary account."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another account")
    nobody = pwd.getpwnam("nobody")
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    yield folder
    shutil.rmtree(folder)


async def test_without_it_roots_files_are_roots(data: Path) -> None:
    """Where it is switched off, a task sees files with the owners that they have, as ssh and sudo want it."""
    environment = {"TRACKBOOK_PRIVATE_ROOT": "off"}
    async with ExecutorProcess(data, "--user", "nobody", environment=environment) as executor:
        assert executor.ready["private_root"] is False
        assert any("TRACKBOOK_PRIVATE_ROOT" in warning for warning in executor.ready["warnings"])
        executor.ask("launch", spec(OWNER))
        assert (await executor.ended("a")).tail == "0\n"


async def test_a_refusal_names_the_switch(data: Path) -> None:
    """A task that fails since ssh refuses root's files reports what helps; others are not."""
    async with ExecutorProcess(data, "--user", "nobody") as executor:
        if not executor.ready["private_root"]:
            pytest.skip("this kernel gives an ordinary account no private root")
        words = "Bad owner or permissions on /etc/ssh/ssh_config.d/20-systemd-ssh-proxy.conf"
        executor.ask("launch", spec(f"echo '{words}'; exit 255"))
        assert "TRACKBOOK_PRIVATE_ROOT=off" in (await executor.ended("a")).message


def test_other_failures_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint is for what such owners cause, in a private root, of an ordinary account."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (tmp_path / "log").write_text("sudo: /etc/sudo.conf is owned by uid 65534, should be 0\n")
    record = ExitRecord(ended_at=datetime.now(UTC), exit_code=1, private_root=True)
    assert "TRACKBOOK_PRIVATE_ROOT" in outcome.report(spec(""), record, tmp_path, tmp_path).message
    record.private_root = False
    assert "TRACKBOOK_PRIVATE_ROOT" not in outcome.report(spec(""), record, tmp_path, tmp_path).message
    (tmp_path / "log").write_text("no such file\n")
    record.private_root = True
    assert outcome.report(spec(""), record, tmp_path, tmp_path).message == "the command ended with exit code 1"
