"""`trackbook run --executor container` on a real engine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from command_line import CommandLine
from container.engine import SH_IMAGE, ContainerEngine

from trackbook.adapters.container.client import Client
from trackbook.adapters.container.config import Engine

pytestmark = pytest.mark.container

PIPELINE = f"""\
name: handed-on
environment: {{image: "{SH_IMAGE}", envs: {{GREETING: hello}}}}
resources: {{cpu: 1, mem: 256m}}
tasks:
- name: make
  command: |
    echo "$GREETING from $TRACKBOOK_TASK" | tee /pipeline/outputs/letter
    echo kept > /pipeline/vfroot/note
- {{name: left, command: "true", skip: true}}
- name: read
  command: cat /pipeline/input1/letter /pipeline/vfroot/note; ls -A /pipeline/input2; readlink /proc/self/exe
  dependencies: [make, left]
"""
BROKEN = f"""\
name: broken
environment: {{image: "{SH_IMAGE}"}}
tasks:
- {{name: long, command: ": > /pipeline/vfroot/begun; sleep 1000"}}
- name: fails
  command: "until [ -e /pipeline/vfroot/begun ]; do sleep 0.05; done; echo bad luck; exit 9"
"""


@pytest.fixture
def trackbook(container_engine: ContainerEngine, tmp_path: Path) -> CommandLine:
    """A user whose settings name the engine."""
    line = CommandLine(tmp_path)
    line.data.mkdir(parents=True)
    settings = line.data / "executors.toml"
    settings.write_text(f'[container]\nsocket = "{container_engine.address}"\nnetwork = "none"\ngrace = 1\n')
    settings.chmod(0o600)
    return line


def test_files_are_handed_on_between_containers(trackbook: CommandLine, tmp_path: Path) -> None:
    """From one command: two tasks, the second reads what the first wrote; logs and files are there afterwards."""
    (tmp_path / "p.yaml").write_text(PIPELINE)
    out = trackbook("run", "p.yaml", "--executor", "container")
    assert "2 succeeded" in out
    job = trackbook.json("job", "list")[0]
    assert job["state"] == "succeeded"
    said = trackbook("job", "logs", job["id"], "read")
    assert said == "hello from make\nkept\n/bin/busybox\n"
    assert "hello from make" in trackbook("job", "logs", job["id"], "make")


async def test_a_failure_ends_the_other_container(
    trackbook: CommandLine, container_engine: ContainerEngine, tmp_path: Path
) -> None:
    """The job fails with the cause and the last lines, and no container stays."""
    (tmp_path / "p.yaml").write_text(BROKEN)
    out = await asyncio.to_thread(trackbook, "run", "p.yaml", "--executor", "container", code=1)
    assert "bad luck" in out
    job = trackbook.json("job", "list")[0]
    tasks = {task["name"]: task for task in trackbook.json("job", "show", job["id"])["task_instances"]}
    assert (tasks["fails"]["state"], tasks["fails"]["exit_code"]) == ("failed", 9)
    assert tasks["long"]["state"] == "cancelled"
    client = Client(Engine(socket=container_engine.address))
    assert await client.list_labelled(f"trackbook.job={job['id']}") == []
    await client.close()


def test_a_task_without_an_image_is_refused(trackbook: CommandLine, tmp_path: Path) -> None:
    """Before the job starts, with what to do about it."""
    (tmp_path / "p.yaml").write_text("name: bare\ntasks: [{name: a, command: 'true'}]\n")
    _, err = trackbook.both("run", "p.yaml", "--executor", "container", code=1)
    assert "task 'a' names no image" in err
    assert "environment.image" in err
