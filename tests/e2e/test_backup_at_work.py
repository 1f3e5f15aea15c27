"""`trackbook backup` while jobs commit, and of a log that lost something."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from command_line import CommandLine
from conditions import wait_until

_ENDED = ("succeeded", "failed", "cancelled")
_BACKUPS = 3


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    """A command line whose data directory is its own."""
    return CommandLine(tmp_path)


def elsewhere(cli: CommandLine, data: Path) -> CommandLine:
    """The same user with another data directory."""
    other = CommandLine(cli.home)
    other.data = data
    other.environment = cli.environment | {"TRACKBOOK_DATA": str(data)}
    return other


class Worker:
    """Runs one job after the other, so that commits never stop for long."""

    def __init__(self, client: httpx.Client, pipeline: str) -> None:
        self.jobs: list[str] = []
        self._client, self._pipeline = client, pipeline
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            body = {"pipeline": self._pipeline}
            started = self._client.post("/api/commands/job/start", json=body).raise_for_status().json()
            self.jobs.append(started["job"])
            wait_until(self._last_has_ended)

    def _last_has_ended(self) -> bool:
        return self._client.get(f"/api/jobs/{self.jobs[-1]}").json().get("state") in _ENDED

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Run jobs until the end of the block."""
        self._thread.start()
        try:
            wait_until(lambda: self.jobs)
            yield
        finally:
            self._stop.set()
            self._thread.join()


def test_backups_while_jobs_commit_are_whole(cli: CommandLine) -> None:
    """Each verifies, and restored it has a beginning of the log: every job in it as far as it was by then."""
    cli.data.mkdir(parents=True)
    with cli.up():
        cli("pipeline", "apply", cli.pipeline("busy", a="echo a", b="echo b", c="echo c"))
        with httpx.Client(base_url=cli.server_url(), headers=cli.server_headers(), timeout=60) as client:
            worker, made = Worker(client, "busy"), []
            with worker.at_work():
                for number in range(_BACKUPS):
                    before = client.get("/api/log").json()["head"]
                    made.append(cli.json("backup", str(cli.home / f"{number}.tar")))
                    after = client.get("/api/log").json()["head"]
                    assert before <= made[-1]["events"]["last"] <= after
                    assert before < after
        heads = [each["events"]["last"] for each in made]
        assert heads == sorted(set(heads))
        for number in range(_BACKUPS):
            found = cli.json("restore", str(cli.home / f"{number}.tar"), "--verify")
            assert (found["ok"], found["defects"], found["evidence"]) == (True, [], [])
        log = _commits(cli)
        cli("restore", str(cli.home / f"{_BACKUPS - 1}.tar"), "--data", str(cli.home / "restored"))

    other = elsewhere(cli, cli.home / "restored")
    with other.up("--fork"):
        assert other.json("audit", "verify")["ok"]
        then = _commits(other)
    assert {seq: each for seq, each in then.items() if seq <= heads[-1]} == {
        seq: each for seq, each in log.items() if seq <= heads[-1]
    }


def _commits(cli: CommandLine) -> dict[int, Any]:
    return {each["seq"]: each for each in cli.json("audit", "log", "-n", "100000")}


def test_a_damaged_log_is_backed_up_only_when_asked(cli: CommandLine) -> None:
    """What it lost is reported at the backup and at the restore, and is evidence in the restored directory."""
    cli("run", cli.pipeline("short", only="echo done"), "--durability", "fast")
    whole = cli.home / "whole.tar"
    cli("backup", str(whole))
    (block, *_) = sorted((cli.data / "broker" / "store").rglob("trackbook_events/msgs/*.blk"))
    os.truncate(block, block.stat().st_size - 300)
    file = cli.home / "damaged.tar"
    with cli.up():
        [evidence] = json.loads(cli("log", "status", "--json", code=1))["evidence"]

        _, refused = cli.both("backup", str(file), code=1)
        assert "the log is damaged" in refused
        assert "--damaged" in refused
        assert not file.exists()

        reported = cli("backup", "--damaged", str(file))
        assert f"The log is damaged: {evidence['message']}" in reported

    shown = cli.json("restore", str(file), "--verify", code=1)
    assert [each["message"] for each in shown["evidence"]] == [evidence["message"]]
    assert not shown["ok"]
    restored = cli("restore", str(file), "--data", str(cli.home / "restored"))
    assert evidence["message"] in restored
    other = elsewhere(cli, cli.home / "restored")
    with other.up("--adopt"):
        found = json.loads(other("log", "status", "--json", code=1))["evidence"]
        assert evidence["message"] in [each["message"] for each in found]
        _, refused = other.both("pipeline", "create", "new", code=1)
        assert "log_damaged" in refused
        other("log", "accept-loss", "--yes")
        other("pipeline", "create", "new")
        assert other.json("audit", "verify")["ok"]
    cli("restore", str(whole), "--verify")
