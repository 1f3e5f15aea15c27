"""The stack itself: sessions run on the raw manager, in sandboxes that are like containers where it matters."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from backendai.cluster import Cluster
from backendai.raw import ENDED, Raw
from backendai.stack.processes import MARK, PREFIX, alive, claim, end, end_orphans, until


@pytest.fixture
def raw(stack: Cluster) -> Raw:
    """Give the raw requests."""
    return Raw(stack)


def running(mark: str) -> bool:
    """Whether a process of the host has the mark in its command."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes() and alive(int(path.parent.name)):
                return True
        except OSError:
            continue
    return False


def test_says_its_version(stack: Cluster) -> None:
    """The manager is the release that was asked for."""
    status, answer = stack.client().call("GET", "/")
    assert (status, answer["manager"]) == (200, stack.version)


def test_runs_sessions_to_their_ends(raw: Raw) -> None:
    """Output is in the log, a failure is one, and what can't start, or vanishes, doesn't succeed."""
    good = raw.create("echo hello from $BACKENDAI_CLUSTER_ROLE")
    bad = raw.create("exit 3")
    unable = raw.create("true", environ={"SIM_START_FAIL": "1"})
    lost = raw.create("sleep 600", environ={"SIM_VANISH_AFTER": "1"})
    pairs = [
        raw.create("echo $BACKENDAI_CLUSTER_SIZE", size=2, mode=mode) for mode in ("single-node", "multi-node")
    ]
    assert raw.ended(good) == ("TERMINATED", "SUCCESS")
    assert raw.ended(bad) == ("TERMINATED", "FAILURE")
    assert raw.logs(good) == "hello from main\n"
    for pair in pairs:
        assert raw.ended(pair) == ("TERMINATED", "SUCCESS")
        assert raw.logs(pair) == "2\n"
        assert [box["cluster_role"] for box in raw.look(pair)["containers"]] in (["main", "sub"], ["sub", "main"])
    assert raw.reach(unable, *ENDED)["result"] == "UNDEFINED"
    assert raw.reach(lost, *ENDED)["result"] != "SUCCESS"


def test_destroys_all_of_a_session(raw: Raw) -> None:
    """The log is there while it runs, and nothing that it started outlives it, detached or not."""
    mark = f"86400.{uuid.uuid4().int % 10**9}"
    session = raw.create(f"setsid -f sleep {mark}; echo started; sleep {mark}")
    raw.reach(session, "RUNNING")
    until(lambda: raw.logs(session) == "started\n", 20, "the log of a running session")
    assert running(mark)
    raw.destroy(session)
    raw.reach(session, *ENDED)
    until(lambda: not running(mark), 10, "the end of its processes")


def test_mounts_paths_of_one_folder_where_they_are_wanted(raw: Raw, stack: Cluster) -> None:
    """Several of them, outside /home/work too; the host sees nothing of it."""
    host_had_it = Path("/pipeline").exists()
    folder = raw.folder("vfroot", "jobs/j/0-a/outputs", "jobs/j/1-b/outputs", ".trackbook/j")
    places = {
        "vfroot": "/pipeline/vfroot",
        "jobs/j/1-b/outputs": "/pipeline/outputs",
        "jobs/j/0-a/outputs": "/pipeline/input1",
        ".trackbook/j": "/pipeline/.trackbook",
    }
    write = (
        "cd /pipeline; for d in vfroot outputs input1 .trackbook; do echo >$d/file || echo $d is read-only; done"
    )
    session = raw.mounting(write, folder, places, "jobs/j/0-a/outputs")
    assert raw.ended(session) == ("TERMINATED", "SUCCESS")
    assert ("input1 is read-only" in raw.logs(session)) == stack.newer
    body = {"path": "jobs/j/1-b/outputs/file", "archive": False}
    status, answer = raw.client.call("POST", f"/folders/{folder[0]}/request-download", body)
    assert status == 200, answer
    assert host_had_it or not Path("/pipeline").exists()


def test_parts_can_be_taken_away(raw: Raw, stack: Cluster) -> None:
    """A session outlives its manager and its agent as a container does, and the agent that is back can end it."""
    mark = f"86400.{uuid.uuid4().int % 10**9}"
    session = raw.create(f"sleep {mark}")
    raw.reach(session, "RUNNING")
    until(lambda: running(mark), 20, "its command")
    agent = raw.look(session)["containers"][0]["agent"].removeprefix("i-sim-")
    with stack.without("manager"):
        assert running(mark)
    with stack.without(agent, kill=True):
        assert running(mark)
    until(lambda: raw.client.call("DELETE", f"/session/{session}")[0] in {200, 404}, 60, "its destruction")
    raw.reach(session, *ENDED)
    until(lambda: not running(mark), 30, "the end of its processes")


def test_ends_what_a_killed_run_has_left(tmp_path: Path) -> None:
    """Stacks whose owners are dead are ended at the next start, those of the living stay."""
    owner = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    left = {}
    for name, pid in (("dead", int(owner.stdout)), ("mine", None)):
        folder = tmp_path / f"{PREFIX}{name}"
        folder.mkdir()
        left[name] = subprocess.Popen(["sleep", "3600"], env={MARK: str(folder), "PATH": "/usr/bin:/bin"})
        claim(folder, pid or left[name].pid)
    try:
        end_orphans(tmp_path)
        assert left["dead"].wait(10) == -9
        assert alive(left["mine"].pid)
        assert [path.name for path in tmp_path.iterdir()] == [f"{PREFIX}mine"]
    finally:
        for process in left.values():
            process.kill()
            process.wait()


def test_ends_what_hides_its_mark(tmp_path: Path) -> None:
    """A service that wrote a title over its command and environment is ended by where it stands."""
    (tmp_path / "state" / "conf").mkdir(parents=True)
    service = subprocess.Popen(["sleep", "3600"], env={"PATH": "/usr/bin:/bin"}, cwd=tmp_path / "state" / "conf")
    try:
        end(tmp_path / "state")
        assert service.wait(10) == -9
    finally:
        service.kill()
        service.wait()
