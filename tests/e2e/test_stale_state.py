"""What is shown of a job that nobody runs any more."""

from __future__ import annotations

import re
from pathlib import Path

from command_line import CommandLine, finish, wait_for_line


def test_a_job_whose_run_was_killed_is_shown_as_of_its_last_event(tmp_path: Path) -> None:
    """It is not said to run: the time of its last event is named until a server has continued it."""
    cli = CommandLine(tmp_path)
    gate = cli.home / "gate"
    file = cli.pipeline("gated", a=f"until [ -e {gate} ]; do sleep 0.02; done")
    with cli.begin("run", file, "--durability", "fast") as process:
        wait_for_line(process, " a running")
        process.kill()
        finish(process)
    gate.touch()
    [job] = cli.json("job", "list")
    last = cli.json("job", "events", job["id"])[-1]
    shown = cli("job", "show", job["id"])

    assert (job["state"], job["as_of"]) == ("running", last["at"])
    assert cli.json("job", "show", job["id"])["as_of"] == last["at"]
    assert re.search(r"running \(as of \d\d:\d\d:\d\d\)", cli("job", "list"))
    assert re.search(r"state: +running \(as of \d\d:\d\d:\d\d\); no server is running\n", shown)
    with cli.up():
        cli("job", "watch", job["id"])
        assert "as of" not in cli("job", "list")
    [job] = cli.json("job", "list")
    assert (job["state"], job["as_of"]) == ("succeeded", None)
