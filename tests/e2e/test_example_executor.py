"""The example of a package that adds an executor: installed, configured and run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from command_line import EXAMPLES, CommandLine


def test_an_installed_executor_runs_a_pipeline(tmp_path: Path) -> None:
    """Once its package is installed and its table is written, tasks run on it and find their inputs."""
    packages = tmp_path / "packages"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(packages), str(EXAMPLES / "executor")], check=True)
    cli = CommandLine(tmp_path)
    cli.data.mkdir(parents=True)
    (cli.data / "executors.toml").touch(0o600)
    (cli.data / "executors.toml").write_text("[nice]\nniceness = 7\n")
    file = tmp_path / "two.yaml"
    file.write_text(
        "name: two\ntasks:\n- {name: first, command: nice > $PIPELINE_OUTPUTS/priority}\n"
        "- {name: second, command: cat $PIPELINE_INPUT1/priority, dependencies: [first]}\n"
    )
    cli.environment["PYTHONPATH"] = str(packages)

    out = cli("run", str(file), "--executor", "nice")
    (job,) = cli.json("job", "list")

    assert " on nice\n" in out
    assert int(cli("job", "logs", job["id"], "second")) == os.getpriority(os.PRIO_PROCESS, 0) + 7
