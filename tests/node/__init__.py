"""Node.js for tests: another language's client, and AsyncAPI's own parser; both from npm, by their lock file."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
MODULES = FOLDER / "node_modules"
_PATIENCE = 180  # seconds for the install, and for a script


def node(script: Path, *arguments: str, given: str = "", patience: float = _PATIENCE) -> str:
    """Run a script beside the installed packages and return its output; skips the test where that can't be."""
    if trouble := missing():
        pytest.skip(trouble)
    ran = subprocess.run(
        ["node", str(script), *arguments],
        input=given,
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )
    assert ran.returncode == 0, f"{script.name} ended with {ran.returncode}:\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


@cache
def missing() -> str:
    """Install the packages unless they are there; return why they can't be had, '' if they can."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            return f"there is no {tool} here; install Node.js 18 or newer for these tests"
    lock = (FOLDER / "package-lock.json").read_bytes()
    stamp = MODULES / ".installed"
    with (FOLDER / ".gitignore").open() as guard:  # one install at a time, whoever else runs the tests
        fcntl.flock(guard, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == hashlib.sha256(lock).hexdigest():
            return ""
        # Without scripts: nothing here needs one, and one of the parser's packages reports to its makers.
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            ran = subprocess.run(
                command, cwd=FOLDER, capture_output=True, text=True, timeout=_PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            return f"npm ci did not end within {_PATIENCE} s; is there a network?"
        if ran.returncode != 0:
            return f"npm ci failed: {ran.stderr.strip()[-500:]}"
        stamp.write_text(hashlib.sha256(lock).hexdigest())
    return ""
