"""`command: python …` runs with the interpreter of the virtual environment in which `trackbook run` is called."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from command_line import CommandLine


def test_a_local_task_runs_with_the_callers_interpreter(tmp_path: Path) -> None:
    """And without one, `python` that isn't there explains itself."""
    cli = CommandLine(tmp_path)
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    file = tmp_path / "own.yaml"
    command = "python -c 'import sys; print(sys.prefix)'"
    file.write_text(json.dumps({"name": "own", "tasks": [{"name": "a", "command": command}]}))
    missing = tmp_path / "missing.yaml"
    missing.write_text(json.dumps({"name": "missing", "tasks": [{"name": "a", "command": "no-such-program"}]}))

    ran = cli("run", str(file), VIRTUAL_ENV=str(venv))
    failed = cli("run", str(missing), code=1)

    assert str(venv) in ran
    assert "exit code 127: a program was not found (PATH: /usr/local/sbin:" in failed
