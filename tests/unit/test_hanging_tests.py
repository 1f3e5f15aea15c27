"""A run of tests ends, and names what failed, whatever one of them does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_TESTS = Path(__file__).parents[1]
_PLUGINS = """
from summary import Summary
from teardown_limit import TeardownLimit

def pytest_configure(config):
    config.pluginmanager.register(Summary(config))
    config.pluginmanager.register(TeardownLimit())
"""
_HANGS = """
import threading
import pytest

@pytest.fixture
def never_gone():
    yield
    threading.Event().wait()

def test_fails(never_gone):
    assert 2 + 2 == 5

def test_passes():
    pass
"""


def test_a_teardown_that_hangs_after_a_failure_is_ended(tmp_path: Path) -> None:
    """pytest-timeout takes its timer back when a test fails; both failures are named when they happen."""
    (tmp_path / "conftest.py").write_text(_PLUGINS)
    (tmp_path / "test_hangs.py").write_text(_HANGS)
    options: list[str | Path] = ["-o", "timeout=1", "--rootdir", tmp_path, tmp_path / "test_hangs.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        env={**os.environ, "PYTHONPATH": str(_TESTS), "PYTEST_ADDOPTS": ""},
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "call of test_hangs.py::test_fails failed: " in done.stdout
    assert "teardown of test_hangs.py::test_fails failed: " in done.stdout
    assert "1 failed, 1 passed, 1 error" in done.stdout, done.stdout + done.stderr
