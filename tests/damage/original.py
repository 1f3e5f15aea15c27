"""The undamaged store: made once through the public surface, with every answer recorded."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from damage.answers import Answers, read_all
from damage.server import PATIENCE, Server

STATES = ("succeeded", "failed", "cancelled")


@dataclass
class Original:
    """Data directories in three states, and what a server shows of the last two.

    `stopped` ended cleanly, `killed` by kill -9; `older` is a copy from the middle of their history. `refused`
    are commands with their replies, `versions` the pipelines' last versions by name.
    """

    folder: Path
    answers: Answers = field(default_factory=dict)
    refused: list[tuple[dict[str, Any], tuple[int, Any]]] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)
    jobs: list[str] = field(default_factory=list)

    @property
    def stopped(self) -> Path:
        """The directory after a clean stop."""
        return self.folder / "stopped"

    @property
    def killed(self) -> Path:
        """The directory after kill -9 of the whole tree."""
        return self.folder / "killed"

    @property
    def older(self) -> Path:
        """The directory in the middle of its history, stopped cleanly."""
        return self.folder / "older"


def copy(source: Path, target: Path) -> None:
    """Copy a data directory as a disk's image would be put back: it believes to be where it was."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.sock", "ports"))
    (target / "nats.json").unlink(missing_ok=True)  # its port may be another copy's by now
    path = target / "identity.json"
    identity = json.loads(path.read_text())
    identity["location"]["inode"] = target.stat().st_ino
    identity["path"] = str(target)
    path.write_text(json.dumps(identity))


def build(folder: Path, random: Random, pipelines: int = 45, jobs: int = 4) -> Original:
    """Make the store: about twice as many aggregates as pipelines, since each name is one as well."""
    original = Original(folder)
    data = folder / "made"
    data.mkdir(parents=True)
    server = Server(data)
    try:
        server.wait_ready()
        _make(original, server, random, range(pipelines // 2), jobs // 2)
        server.wait_projected()
        server.stop()
        copy(data, original.older)
        server = Server(data)
        server.wait_ready()
        _make(original, server, random, range(pipelines // 2, pipelines), jobs - jobs // 2)
        server.wait_projected()
        original.answers = read_all(server)
    finally:
        server.kill()
    copy(data, original.killed)
    server = Server(data)
    try:
        server.wait_ready()
        server.stop()
    finally:
        server.kill()
    copy(data, original.stopped)
    return original


def _make(original: Original, server: Server, random: Random, numbers: range, jobs: int) -> None:
    for number in numbers:
        name = f"pipeline-{number:03}"
        _accepted(server, "pipeline", "create", name=name, description=random.randbytes(20).hex())
        original.versions[name] = 1
        for _ in range(random.randint(0, 4)):
            edit(server, original.versions, name, random)
        if number == numbers[0]:
            large = [_set(f"LARGE{part}", random.randbytes(60_000).hex()) for part in range(3)]
            original.versions[name] = _accepted(server, "pipeline", "edit", pipeline=name, changes=large)[
                "version"
            ]
        if number % 5 == 4:
            _refused(original, server, {"name": name, "command_id": f"refused-{number}"})
    _accepted(server, "pipeline", "delete", pipeline=f"pipeline-{numbers[1]:03}")
    del original.versions[f"pipeline-{numbers[1]:03}"]
    for number in range(jobs):
        original.jobs.append(_run(server, f"job-{numbers[0]}-{number}"))


def edit(server: Server, versions: dict[str, int], name: str, random: Random) -> None:
    """Make another version."""
    change = _set(f"V{random.randint(0, 99)}", random.randbytes(30).hex())
    versions[name] = _accepted(server, "pipeline", "edit", pipeline=name, changes=[change])["version"]


def _set(variable: str, value: str) -> dict[str, Any]:
    return {"op": "set_variable", "variable": variable, "value": value}


def _accepted(server: Server, kind: str, verb: str, **payload: Any) -> dict[str, Any]:
    status, reply = server.command(kind, verb, **payload)
    assert status == 200, (kind, verb, str(payload)[:200], status, str(reply)[:500])
    return dict(reply)


def _refused(original: Original, server: Server, payload: dict[str, Any]) -> None:
    answer = server.command("pipeline", "create", **payload)
    assert 400 <= answer[0] < 500, answer
    original.refused.append((payload, answer))


def _run(server: Server, name: str) -> str:
    tasks = [{"name": "one", "command": "true"}, {"name": "two", "command": "true", "dependencies": ["one"]}]
    _accepted(server, "pipeline", "apply", definition={"name": name, "tasks": tasks})
    job = str(_accepted(server, "job", "start", pipeline=name)["job"])
    deadline = time.monotonic() + 4 * PATIENCE
    while True:
        status, shown = server.get(f"/api/jobs/{job}")
        if status == 200 and shown["state"] in STATES:
            return job
        assert time.monotonic() < deadline, shown
        time.sleep(0.05)
