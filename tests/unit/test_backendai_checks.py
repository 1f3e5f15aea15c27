"""What is said before a run of clusters that are made up: limits that the real ones in the tests don't have."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from trackbook.adapters.backendai.api.inventory import Image, Key, Policy, Usage
from trackbook.adapters.backendai.api.session_calls import Version
from trackbook.adapters.backendai.api.storage import Folder
from trackbook.adapters.backendai.config import Cluster
from trackbook.adapters.backendai.preflight import session_checks
from trackbook.adapters.backendai.preflight.snapshot import Agent, Limits, Rules, Snapshot, Volumes
from trackbook.engine.ports import FolderState, SessionInput, SessionSpec

GIB = float(1 << 30)
IMAGE = "cr.example.org/stable/python:3.12"
CLUSTER = Cluster(name="main", endpoint="https://c.example.org", access_key="a", secret_key="s3cr3t")
RIGHTS = {"local:one": ["create-vfolder", "mount-in-session"]}
SEEN = Snapshot(
    version=Version("24.09.1", "v8.20240915"),
    key=Key(True, False, "default", 0, 1000, "ann", "ann@example.org", "user", "default", {"default": "1"}),
    policy=Policy("default", {}, 10, 4, 0, RIGHTS),
    slots={"cpu": "count", "mem": "bytes", "cuda.shares": "count"},
    images=[
        Image(IMAGE, "x86_64", True, {"cpu": ("1", "8"), "mem": ("268435456", ""), "cuda.shares": ("0", "")}, {})
    ],
    groups=["default"],
    usage=Usage({"cpu": 16.0, "mem": 64 * GIB}, {"cpu": 16.0, "mem": 64 * GIB}, {}, {}),
    rules=Rules(Limits(True, {}, {}, ["cr.example.org"]), Limits(True, {"cuda.shares": 2.0}, {}), 0),
    agents=[Agent("default", "x86_64", {"cpu": 8.0, "mem": 32 * GIB, "cuda.shares": 4.0}, {})],
    volumes=Volumes("local:one", ["local:one"]),
    folders=[Folder("01", "data", "ready", "local:one", "rw"), Folder("02", "read", "ready", "local:one", "ro")],
    problems=[],
)


def spec(index: int = 0, **other: Any) -> SessionSpec:
    """Return a task's session."""
    given: dict[str, Any] = {
        "session": f"tb-ff-{index}-1",
        "job": "ff",
        "pipeline": "aa",
        "pipeline_name": "train",
        "task": f"t{index}",
        "index": index,
        "attempt": 1,
        "command": "true",
        "image": IMAGE,
        "resources": {"cpu": 1, "mem": 1 << 30},
    }
    return SessionSpec(**given | other)


def said(*specs: SessionSpec, seen: Snapshot = SEEN, state: str = "none", **other: Any) -> list[tuple[str, str]]:
    """Return what is not good: verdict and words."""
    folder = FolderState(state, "tb-0-aa")  # type: ignore[arg-type]
    given: dict[str, Any] = {"cluster": CLUSTER, "aliases": {}} | other
    cluster = given.pop("cluster")
    found = session_checks.check(seen, cluster, "0" * 8, specs or [spec()], folder=folder, **given)
    assert "s3cr3t" not in str(found)
    return [(each.verdict, each.found) for each in found if each.verdict != "ok"]


def test_what_would_run_has_nothing_said_of_it() -> None:
    """An alias of an image is as good as its name."""
    assert said() == []
    assert said(spec(image="py"), aliases={"py": IMAGE}) == []


@pytest.mark.parametrize(
    ("changed", "asked", "words"),
    [
        (
            {"rules": Rules(Limits(True, {}, {}, ["other.org"]), Limits(True, {}, {}), 0)},
            {},
            "images of the registry cr.example.org are not allowed in the domain 'default'",
        ),
        (
            {"agents": [Agent("default", "aarch64", {"cpu": 8.0, "mem": 32 * GIB}, {})]},
            {},
            f"the image {IMAGE} is made for x86_64, the agents are aarch64",
        ),
        ({}, {"resources": {"cpu": 9, "mem": 1 << 30}}, "9 cpu are more than the image takes (8 cpu)"),
        (
            {},
            {"resources": {"mem": 1 << 20}},
            "1 MiB of memory are asked for, and the image needs 256 MiB of memory",
        ),
        ({}, {"resources": {"cuda.share": 1}}, "the cluster has no cuda.share"),
        (
            {},
            {"resources": {"cuda.shares": 3}},
            "3 cuda.shares are more than the project may use (2 cuda.shares)",
        ),
        (
            {},
            {"cluster_size": 5, "cluster_mode": "multi-node"},
            "cluster_size is 5, and a session may have 4 at most",
        ),
        (
            {"rules": Rules(Limits(True, {}, {}), Limits(False, {}, {}), 0)},
            {},
            "the project 'default' is not active",
        ),
        ({"groups": []}, {}, "the key may use no scaling group for the project 'default'"),
        ({"volumes": Volumes("", [])}, {}, "no volume is there"),
        (
            {"policy": Policy("p", {}, 0, 0, 0, {})},
            {},
            "the key may not make folders on local:one, or not mount them",
        ),
        (
            {"rules": Rules(Limits(True, {}, {}), Limits(True, {}, {}), 2)},
            {},
            "the pipeline's folder can't be made: the user has 2 folders, and 2 are allowed",
        ),
        (
            {},
            {"mounts": ["data:x", "read/part:x/y"]},
            "'read/part:x/y' and 'data:x' are mounted at one another's place",
        ),
        ({}, {"mounts": ["date"]}, "the folder 'date' is not there, or not yours to use"),
        ({}, {"service": {"model": "llm"}}, "the folder 'llm' is not there, or not yours to use"),
        ({}, {"service": {}}, "model must name the folder that has the model"),
        ({}, {"variables": {"A=B": "x"}}, "'A=B' can't be the name of a variable"),
    ],
)
def test_each_thing_that_would_fail_has_its_words(
    changed: dict[str, Any], asked: dict[str, Any], words: str
) -> None:
    """What would fail is reported as such, with the figures."""
    assert ("fail", words) in said(spec(**asked), seen=replace(SEEN, **changed))


@pytest.mark.parametrize(
    ("changed", "asked", "words"),
    [
        ({"agents": []}, {}, "no agent lives: sessions would wait for one"),
        (
            {"usage": Usage({"cpu": 16.0}, {"cpu": 0.5}, {}, {})},
            {},
            "of cpu 0.5 cpu are left for the key just now, and a task needs more",
        ),
        ({}, {"mounts": ["read"]}, "the folder 'read' can't be written to"),
        (
            {"problems": ["the images can't be read: refused"], "images": None},
            {},
            "the images can't be read: refused",
        ),
    ],
)
def test_what_may_be_well_is_a_warning(changed: dict[str, Any], asked: dict[str, Any], words: str) -> None:
    """A run goes on with a warning, and with what could not be read."""
    assert said(spec(**asked), seen=replace(SEEN, **changed)) == [("warn", words)]


def test_a_cluster_that_hides_much_is_not_in_the_way() -> None:
    """What the key may not see says nothing against a run."""
    hidden = replace(
        SEEN,
        policy=None,
        slots=None,
        images=None,
        groups=None,
        usage=None,
        rules=None,
        agents=None,
        volumes=None,
        folders=None,
    )

    assert said(spec(mounts=["data"], scaling_group="gpu"), seen=hidden) == []


def test_levels_are_added_up_not_the_whole_job() -> None:
    """A chain never asks for more than its largest task; a fan asks for all of it at once."""
    chain = [
        spec(
            index,
            resources={"cpu": 8},
            inputs=[SessionInput("j1", f"t{index - 1}", index - 1, 1)] if index else [],
        )
        for index in range(5)
    ]
    fan = [spec(index, resources={"cpu": 4}) for index in range(11)]

    assert said(*chain) == []
    assert said(*fan) == [
        ("warn", "tasks side by side ask for 44 cpu, and the key may use 16 cpu"),
        ("warn", "up to 11 tasks run side by side, and the key may have 10 sessions at once"),
    ]


def test_another_domain_and_project_are_reported_with_what_there_is() -> None:
    """An admin may use projects that are not his own."""
    other = replace(CLUSTER, domain="research", project="vision")
    admin = replace(SEEN, key=replace(SEEN.key, admin=True))

    assert ("fail", "the key belongs to the domain 'default', not to 'research'") in said(cluster=other)
    assert ("fail", "the key's user is not in the project 'vision'") in said(cluster=other)
    assert ("fail", "the key's user is not in the project 'vision'") not in said(seen=admin, cluster=other)
