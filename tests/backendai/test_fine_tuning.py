"""A whole pipeline on a real cluster, by the command line alone, as a user has it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from backendai.cluster import Cluster

sys.path.append(str(Path(__file__).parents[1] / "e2e"))
from command_line import EXAMPLES, CommandLine

REAL = Path(__file__).parents[3] / "shared" / "data" / "fasttrack" / "torchtune.yaml"
EXECUTOR = "backendai/main"


@pytest.fixture
def trackbook(stack: Cluster, tmp_path: Path) -> CommandLine:
    """Return the command line of somebody who has a key of the cluster."""
    line = CommandLine(tmp_path)
    key = stack.keys[stack.key]
    line.environment |= {
        "TRACKBOOK_BACKENDAI_ENDPOINT": stack.endpoint,
        "TRACKBOOK_BACKENDAI_ACCESS_KEY": key[0],
        "TRACKBOOK_BACKENDAI_SECRET_KEY": key[1],
        "TRACKBOOK_BACKENDAI_IMAGE": stack.image,
    }
    return line


def harmless(document: dict[str, Any], stack: Cluster, **commands: str) -> dict[str, Any]:
    """Put commands that need no network, and what this cluster offers, into a pipeline made for another one."""
    for task in document["tasks"]:
        task["command"] = commands.get(task["name"], f"echo {task['name']} > /pipeline/outputs/name; sleep 1")
        task["environment"] |= {"image": stack.image, "scaling-group": stack.scaling_group}
        task["resources"] = {"cpu": 1, "mem": "256m"}
        task["mounts"] = []
        task.pop("resource_opts", None)
    return document


def test_our_example(trackbook: CommandLine) -> None:
    """The example runs to its end: its files are on the cluster, its log is here, each task has its run time."""
    out = trackbook("run", str(EXAMPLES / "fine-tuning.yaml"), "--executor", EXECUTOR)

    job = trackbook.json("job", "list")[0]
    assert job["state"] == "succeeded", out
    tasks = {task["name"]: task for task in trackbook.json("job", "show", job["id"])["task_instances"]}
    assert {task["executor"] for task in tasks.values()} == {EXECUTOR}
    assert all(task["run_time"] is not None and task["exit_code"] == 0 for task in tasks.values())
    assert "RUNNING" not in trackbook("job", "show", job["id"])
    assert "accuracy 0.95" in trackbook("job", "logs", job["id"], "evaluate")
    report = trackbook("files", "cat", "--job", job["id"], "--task", "evaluate", "report")
    assert report == "/pipeline/input1: accuracy 0.93\n/pipeline/input2: accuracy 0.95\n"


@pytest.mark.skipif(not REAL.exists(), reason="the real file is not part of the project")
def test_a_real_fasttrack_pipeline(trackbook: CommandLine, stack: Cluster, tmp_path: Path) -> None:
    """A FastTrack file, imported as it is, runs on the cluster with harmless commands."""
    trackbook("pipeline", "apply", str(REAL))
    document = yaml.safe_load(trackbook("pipeline", "yaml", "torchtune-example"))
    (tmp_path / "fitted.yaml").write_text(yaml.safe_dump(harmless(document, stack), sort_keys=False))

    trackbook("run", str(tmp_path / "fitted.yaml"), "--executor", EXECUTOR)

    assert trackbook.json("pipeline", "show", "torchtune-example")["version"] == 2
    job = trackbook.json("job", "list")[0]
    tasks = {task["name"]: task for task in trackbook.json("job", "show", job["id"])["task_instances"]}
    assert {task["state"] for task in tasks.values()} == {"succeeded"}
    for name in ("fine-tune-single", "fine-tune-multi"):
        assert tasks[name]["started_at"] >= tasks["download-model"]["finished_at"]
        assert tasks["evaluate"]["started_at"] >= tasks[name]["finished_at"]


def test_a_failure_ends_the_other_session(trackbook: CommandLine, stack: Cluster, tmp_path: Path) -> None:
    """When a task fails the other session is ended, and the job fails with the cause."""
    document = yaml.safe_load((EXAMPLES / "fine-tuning.yaml").read_text())
    for task in document["tasks"]:
        task |= {"environment": {"image": stack.image}}
    harmless(
        document, stack, **{"fine-tune-single": "echo out of memory; exit 7", "fine-tune-multi": "sleep 600"}
    )
    (tmp_path / "failing.yaml").write_text(yaml.safe_dump(document, sort_keys=False))

    out, _ = trackbook.both("run", str(tmp_path / "failing.yaml"), "--executor", EXECUTOR, code=1)

    job = trackbook.json("job", "list")[0]
    assert (job["state"], job["failed_task"], job["exit_code"]) == ("failed", "fine-tune-single", 7)
    assert "out of memory" in out
    tasks = {task["name"]: task["state"] for task in trackbook.json("job", "show", job["id"])["task_instances"]}
    assert tasks["fine-tune-multi"] == "cancelled"
    assert tasks["evaluate"] == "cancelled"
