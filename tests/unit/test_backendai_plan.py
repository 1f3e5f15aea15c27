"""From a session's specification to what a cluster is asked for."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from msgspec.structs import replace

from trackbook.adapters.backendai.api.session_calls import NewSession, Version
from trackbook.adapters.backendai.config import Cluster
from trackbook.adapters.backendai.session import plan, wrapper
from trackbook.engine.ports import SessionInput, SessionSpec

OLD, NEW = Version("23.09.10", "v7.20230615"), Version("26.8.3", "v9.20250722")
CLUSTER = Cluster(
    name="main", endpoint="http://c", access_key="a", secret_key="s", image="usual:1", scaling_group="gpu"
)
SPEC = SessionSpec(
    "tb-j1-2-1",
    "j1",
    "p1",
    "train it",
    "fine tune/1",
    2,
    1,
    "python train.py",
    {"TOKEN": "very secret", "TRACKBOOK_JOB_ID": "mine"},
    [SessionInput("j1", "get data", 0, 1), SessionInput("j1", "left out", 1, 1, skipped=True)],
    ["models:weights", "data/2026/may", "scratch"],
    resources={"cpu": 2, "mem": 2**30, "cuda.shares": 0.5},
    shmem=2**28,
    cluster_mode="multi-node",
    cluster_size=3,
)


def planned(spec: SessionSpec = SPEC, version: Version = OLD) -> NewSession:
    """Return the session to be made."""
    return plan.new_session(spec, CLUSTER, "aabbccdd", version, "run")


def test_every_field_is_asked_for() -> None:
    """What the task wants is in the session; what it leaves open is the cluster's."""
    made = planned()
    assert (made.name, made.command, made.image) == ("tb-aabbccdd-j1-2-1", "run", "usual:1")
    assert made.resources == {"cpu": 2, "mem": 2**30, "cuda.shares": 0.5}
    assert (made.shmem, made.cluster_mode, made.cluster_size) == (2**28, "multi-node", 3)
    assert (made.project, made.domain, made.scaling_group) == ("default", "default", "gpu")
    other = planned(replace(SPEC, image="own:2", project="science", scaling_group="cpu"))
    assert (other.image, other.project, other.scaling_group) == ("own:2", "science", "cpu")


def test_mounts() -> None:
    """The pipeline's folder is mounted in parts, and the user's folders below /home/work."""
    folder = "tb-aabbccdd-p1"
    assert planned().mounts == {
        f"{folder}/jobs/j1/2-fine-tune-1/1/outputs": "/pipeline/outputs",
        f"{folder}/jobs/j1/0-get-data/1/outputs": "/pipeline/input1",
        f"{folder}/jobs/j1/1-left-out/1/outputs": "/pipeline/input2",
        f"{folder}/vfroot": "/pipeline/vfroot",
        f"{folder}/.trackbook/j1": wrapper.RECORDS,
        "models": "/home/work/weights",
        "data/2026/may": "/home/work/data/2026/may",
        "scratch": "/home/work/scratch",
    }
    named = plan.new_session(SPEC, CLUSTER, "aabbccdd", OLD, "run", folder="renamed")
    assert "renamed/vfroot" in named.mounts


def test_inputs_are_read_only_where_the_version_can() -> None:
    """23.09 answers 500 to a mount's options."""
    assert planned().read_only == []
    assert planned(version=NEW).read_only == [
        "tb-aabbccdd-p1/jobs/j1/0-get-data/1/outputs",
        "tb-aabbccdd-p1/jobs/j1/1-left-out/1/outputs",
    ]


def test_folders_are_there_before_they_are_mounted() -> None:
    """Mounts make no folders; a skipped task never had one, nor an attempt that was never begun."""
    assert plan.folders_for(SPEC) == [
        "vfroot",
        ".trackbook/j1",
        "jobs/j1/2-fine-tune-1/1/outputs",
        "jobs/j1/0-get-data/1/outputs",
        "jobs/j1/1-left-out/1/outputs",
    ]


def test_a_second_attempt_reads_the_first() -> None:
    """Each attempt has outputs of its own; those of the one before are mounted, read-only where that goes."""
    first = SessionInput("j1", "fine tune/1", 2, 1)
    again = replace(SPEC, session="tb-j1-2-2", attempt=2, previous=first)
    place = "jobs/j1/2-fine-tune-1/1/outputs"
    assert planned(again).mounts[f"tb-aabbccdd-p1/{place}"] == "/pipeline/previous"
    assert planned(again).mounts["tb-aabbccdd-p1/jobs/j1/2-fine-tune-1/2/outputs"] == "/pipeline/outputs"
    assert planned(again).variables["PIPELINE_PREVIOUS"] == "/pipeline/previous"
    assert f"tb-aabbccdd-p1/{place}" in planned(again, NEW).read_only
    assert place in plan.folders_for(again)


def test_an_input_of_another_job() -> None:
    """An input names its job, so that a session can read what an earlier job left."""
    reader = replace(SPEC, inputs=[SessionInput("j0", "get data", 0, 3)])
    assert planned(reader).mounts["tb-aabbccdd-p1/jobs/j0/0-get-data/3/outputs"] == "/pipeline/input1"


def test_code() -> None:
    """Archives are mounted, read-only where the version can, and the start-up command names the one to unpack."""
    spec, place = replace(SPEC, code="1" * 64), "tb-aabbccdd-p1/.trackbook/code"
    assert planned(spec).mounts == {**planned().mounts, place: "/pipeline/.code"}
    assert set(planned(spec, NEW).read_only) == {*planned(version=NEW).read_only, place}
    assert planned(spec).read_only == []
    assert {*plan.folders_for(spec)} == {*plan.folders_for(SPEC), ".trackbook/code"}
    for command in ("true", "# long\n" * 10_000):
        words = shlex.split(plan.startup(replace(spec, command=command))[0])
        assert words[-3:] == ["1" * 64, "/pipeline/.code", "/home/work"]
        assert "1" * 64 not in plan.startup(replace(SPEC, command=command))[0]


def test_variables() -> None:
    """The task's variables are passed on, and the system's are over them."""
    made = planned().variables
    assert made["TOKEN"] == "very secret"
    assert made["TRACKBOOK_JOB_ID"] == made["BACKENDAI_PIPELINE_JOB_ID"] == "j1"
    assert made["BACKENDAI_PIPELINE_TASK_ID"] == "j1-2"
    places = {name: value for name, value in made.items() if name.startswith("PIPELINE_")}
    assert places == {
        "PIPELINE_OUTPUTS": "/pipeline/outputs",
        "PIPELINE_VFROOT": "/pipeline/vfroot",
        "PIPELINE_INPUT1": "/pipeline/input1",
        "PIPELINE_INPUT2": "/pipeline/input2",
    }


def test_tags_tell_sessions_apart_and_no_secrets() -> None:
    """Whatever is run otherwise has another tag, but for the values of variables, which others must not guess."""
    tag = plan.tag(SPEC)
    assert len(tag) <= 64
    assert plan.tag(replace(SPEC, variables={**SPEC.variables, "TOKEN": "other"})) == tag
    for other in (
        replace(SPEC, command="python other.py"),
        replace(SPEC, image="own:2"),
        replace(SPEC, mounts=[]),
        replace(SPEC, inputs=[]),
        replace(SPEC, resources={"cpu": 1}),
        replace(SPEC, variables={}),
        replace(SPEC, code="1" * 64),
    ):
        assert plan.tag(other) != tag
        assert not plan.is_ours(plan.tag(other), SPEC)
    assert plan.is_ours(tag, SPEC)
    assert plan.is_ours("", SPEC)


@pytest.mark.parametrize("mount", ["../etc", "data/../..:x", "data:../up", "data:a//b", "data:/"])
def test_mounts_that_lead_elsewhere(mount: str) -> None:
    """What is no place below /home/work is refused."""
    with pytest.raises(ValueError, match="name of a folder"):
        planned(replace(SPEC, mounts=[mount]))


def test_without_an_image() -> None:
    """A session has to run in something."""
    with pytest.raises(plan.NoImage, match="names no image"):
        plan.new_session(SPEC, replace(CLUSTER, image=""), "aabbccdd", OLD, "run")


def test_start_up_commands() -> None:
    """A long command is uploaded; none at all does nothing."""
    short, upload = plan.startup(SPEC)
    assert "python train.py" in short
    assert upload == b""
    long, upload = plan.startup(replace(SPEC, command="x" * 70_000))
    assert upload == b"x" * 70_000
    assert wrapper.fits(long)
    assert plan.startup(replace(SPEC, command=""))[0].endswith(" 2-1 1 :")


def test_empty_variables() -> None:
    """They are set by the start-up command: 23.09 does not take them."""
    spec = replace(SPEC, variables={"SET": "1", "EMPTY": "", "ODD-NAME": ""})
    new = planned(spec)
    assert new.variables["SET"] == "1"
    assert all(new.variables.values())
    words = shlex.split(plan.startup(spec)[0])
    assert words[:6] == ["exec", "env", "EMPTY=", "ODD-NAME=", "sh", "-c"]
    ran = [*words[1:4], "sh", "-c", 'env | grep -c "^EMPTY=$"']
    assert subprocess.run(ran, capture_output=True, check=True).stdout == b"1\n"
