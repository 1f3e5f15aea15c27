"""Following a job's output and events to their end, whatever happens to the log and to the server meanwhile."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from pathlib import Path

import pytest
from command_line import CommandLine, finish

GAP = re.compile(rb"\n\[trackbook: (\d+) bytes of output are left out here\]\n")
LINE = 64


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    """The command line of somebody who never used it."""
    return CommandLine(tmp_path)


def lines(count: int, start: int = 0, width: int = LINE) -> str:
    """Return a command that prints numbered lines of a known width."""
    number = f"%0{width - 1}d\\n"
    return f"awk 'BEGIN {{for (i = {start}; i < {start + count}; i++) printf \"{number}\", i}}'"


def check_output(output: bytes, total: int) -> None:
    """Every line is there once and in order, and the gaps say exactly how much isn't."""
    offset = 0
    for number, part in enumerate(GAP.split(output)):
        if number % 2:
            offset += int(part)
            continue
        stream = b"".join(b"%063d\n" % line for line in range(offset // LINE, (offset + len(part)) // LINE + 1))
        assert part == stream[offset % LINE :][: len(part)]
        offset += len(part)
    assert offset == total


def drained(process: object) -> tuple[threading.Thread, list[bytes]]:
    """Read a process's stdout on a thread."""
    got: list[bytes] = []
    stream = process.stdout.buffer  # type: ignore[attr-defined]

    def read() -> None:
        while chunk := stream.read1(65536):
            got.append(chunk)

    thread = threading.Thread(target=read)
    thread.start()
    return thread, got


class Followed:
    """A command that follows something; all that it prints is kept."""

    def __init__(self, cli: CommandLine, *arguments: str) -> None:
        self._process = cli.begin("job", *arguments, "--follow")
        self._thread, self._got = drained(self._process)

    def wait_for(self, text: str) -> None:
        """Wait until the text was printed."""
        while text.encode() not in b"".join(self._got):
            assert self._thread.is_alive(), b"".join(self._got)
            time.sleep(0.02)

    def ended(self) -> str:
        """Wait for its end, which must be a good one, and return what it printed."""
        self._thread.join()
        self._process.communicate()
        assert self._process.returncode == 0
        return b"".join(self._got).decode()


def test_output_is_followed_over_rotation(cli: CommandLine) -> None:
    """Of 40 MB that are rotated while they are followed, each kept byte comes once, and the gaps are counted."""
    gate = cli.home / "gate"
    count = 40 * 2**20 // LINE
    half = count // 2
    wait = f"until [ -e {gate} ]; do sleep 0.02; done"
    with cli.up():
        file = cli.pipeline("large", a=f"{lines(half)}; {wait}; {lines(count - half, half)}")
        job = cli.json("run", file, "--detach")["job"]
        with cli.begin("job", "logs", job, "a", "--follow") as follower:
            thread, got = drained(follower)
            gate.touch()
            thread.join()
            assert follower.wait() == 0
        shown = cli.begin("job", "logs", job, "a")
        thread, kept = drained(shown)
        thread.join()
        assert shown.wait() == 0
        shown.communicate()

    check_output(b"".join(got), count * LINE)
    check_output(b"".join(kept), count * LINE)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_output_is_followed_over_a_restart_of_the_server(cli: CommandLine, end: signal.Signals) -> None:
    """The server stops or is killed and comes back elsewhere: nothing is missing, nothing comes twice."""
    gate = cli.home / "gate"
    file = cli.pipeline(
        "gated", a=f"{lines(1000)}; until [ -e {gate} ]; do sleep 0.02; done; {lines(1000, 1000)}"
    )
    with cli.up() as server:
        job = cli.json("run", file, "--detach")["job"]
        follower, events = Followed(cli, "logs", job, "a"), Followed(cli, "events", job, "--json")
        follower.wait_for(f"{999:063d}")
        events.wait_for("TaskStarted")
        server.send_signal(end)
        finish(server)
    with cli.up():
        gate.touch()
        out, seen = follower.ended(), events.ended()

    assert out == "".join(f"{line:063d}\n" for line in range(2000))
    ids = [(event["seq"], event["index"]) for event in map(json.loads, seen.splitlines())]
    assert ids == sorted(set(ids))
    assert json.loads(seen.splitlines()[0])["type"] == "JobCreated"
    assert json.loads(seen.splitlines()[-1])["type"] == "JobSucceeded"


def test_output_of_a_job_that_ended_while_the_server_was_away_is_complete(cli: CommandLine) -> None:
    """What the task wrote meanwhile is printed by the follower that waited for the server."""
    gate = cli.home / "gate"
    done = cli.home / "done"
    file = cli.pipeline("gated", a=f"echo one; until [ -e {gate} ]; do sleep 0.02; done; echo two; touch {done}")
    with cli.up() as server:
        job = cli.json("run", file, "--detach")["job"]
        follower = Followed(cli, "logs", job, "a")
        follower.wait_for("one")
        server.kill()
        finish(server)
    gate.touch()
    while not done.exists():
        time.sleep(0.02)
    with cli.up():
        out = follower.ended()

    assert out == "one\ntwo\n"


def test_following_events_of_one_type_ends_with_the_job(cli: CommandLine) -> None:
    """It ends also where no event of that type ever came, while the job runs and afterwards."""
    gate = cli.home / "gate"
    with cli.up():
        file = cli.pipeline("gated", a=f"until [ -e {gate} ]; do sleep 0.02; done")
        job = cli.json("run", file, "--detach")["job"]
        with cli.begin("job", "events", job, "--follow", "--type", "TaskFailed") as follower:
            gate.touch()
            assert finish(follower) == ("", "")
        assert cli("job", "events", job, "--follow", "--type", "TaskFailed") == ""
        assert len(cli("job", "events", job, "--follow", "--type", "JobSucceeded").splitlines()) == 1


def test_all_tasks_of_a_job_are_followed(cli: CommandLine) -> None:
    """Tasks that start later are followed from their first line on; the command ends with the job."""
    gate = cli.home / "gate"
    wait = f"until [ -e {gate} ]; do sleep 0.02; done"
    with cli.up():
        job = cli.json("run", cli.pipeline("all", a=f"echo one; {wait}; echo two", b="printf three"), "--detach")[
            "job"
        ]
        follower = Followed(cli, "logs", job)
        follower.wait_for("a | one")
        gate.touch()
        out = follower.ended()
        shown = cli("job", "logs", job)

    assert out == shown == "a | one\na | two\nb | three\n"
