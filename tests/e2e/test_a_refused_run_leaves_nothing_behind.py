"""What `trackbook run` refuses, and what is aborted before it runs, creates nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import CommandLine

REFUSED = {
    "serving": "name: p\ntasks:\n- {name: a, type: serving}\n",
    "secret": "name: p\ntasks:\n- {name: a, command: 'echo ${{ secrets.X }}'}\n",
    "empty": "name: p\ntasks: []\n",
    "foreign": "name: p\ntasks:\n- {name: a, command: 'true', depends_on: []}\n",
}
FINE = "name: p\ntasks:\n- {name: a, command: 'true'}\n"


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    """The command line of somebody who never used it."""
    return CommandLine(tmp_path)


def test_what_is_refused_is_not_applied(cli: CommandLine) -> None:
    """There is no pipeline and no job afterwards, with or without --unchecked."""
    file = cli.home / "p.yaml"
    with cli.up():
        for text in REFUSED.values():
            file.write_text(text)
            cli("run", str(file), code=1)
        cli("run", str(file), "--unchecked", code=1)
        file.write_text(FINE)
        _, bad = cli.both("run", str(file), "--param", "1X=3", code=2)
        cli("run", str(file), "--executor", "nowhere", code=1)

        assert "1X" in bad
        assert cli.json("pipeline", "list") == cli.json("job", "list") == []


def test_a_run_that_nobody_confirms_applies_nothing(cli: CommandLine) -> None:
    """It shows what would be, and a `no` leaves things as they were."""
    file = cli.home / "p.yaml"
    file.write_text(FINE)

    done = subprocess.run(
        [sys.executable, "-m", "trackbook", "run", str(file), "--confirm"],
        input="n\n", capture_output=True, text=True, env=cli.environment, timeout=120, check=False,
    )  # fmt: skip

    assert (done.returncode, "would be created" in done.stdout) == (1, True)
    assert cli.json("pipeline", "list") == []
