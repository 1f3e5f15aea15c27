"""What a mount says, and which mounts a pipeline may have."""

from __future__ import annotations

from pathlib import Path

import pytest
from pipeline_stories import pipeline, task

from trackbook.adapters.container.config import Engine
from trackbook.adapters.container.plan import Planner
from trackbook.adapters.execution import folders
from trackbook.adapters.local.backend import LocalBackend
from trackbook.adapters.local.plan import Planner as LocalPlanner
from trackbook.engine import definition, mounts
from trackbook.engine.errors import Refused
from trackbook.engine.mounts import Mount
from trackbook.engine.ports import SessionSpec


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("data", Mount("data", "", "/home/work/data")),
        ("data:sets/large", Mount("data", "", "/home/work/sets/large")),
        ("data/2026/may", Mount("data", "2026/may", "/home/work/data/2026/may")),
        ("data/2026/may:may", Mount("data", "2026/may", "/home/work/may")),
        ("data:/mnt/data", Mount("data", "", "/mnt/data")),
        ("data:/home/work/x", Mount("data", "", "/home/work/x")),
    ],
)
def test_forms(text: str, mount: Mount) -> None:
    """A folder, or a part of it, is found below /home/work or at an absolute path."""
    assert mounts.parse(text) == mount


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ":x",
            "data:",
            "data:/",
            "data//x",
            "/data",
            "data/:x",
            "..",
            "data/..",
            "data/../x:x",
            "data:a/../b",
        ),
        *(
            "data:/etc",
            "data:/proc/1",
            "data:/home/work",
            "data:/pipeline",
            "data:/pipeline/outputs",
            "data:/home",
        ),
        *("data: x", "data\n", "data:" + "x" * 256, "d/" * 300 + "d"),
    ],
)
def test_what_is_no_mount(text: str) -> None:
    """A path that climbs, is empty, or would hide the system's or the pipeline's folders is refused."""
    with pytest.raises(ValueError, match=r"."):
        mounts.parse(text)


def _spec(*texts: str) -> SessionSpec:
    return SessionSpec("tb-j1-0-1", "j1", "p1", "pipeline", "a", 0, 1, "true", mounts=list(texts))


def test_a_pipeline_may_mount_parts_of_folders_at_any_place() -> None:
    """The rules take every form, and tell two mounts at one place however it is written."""
    forms = ["data", "data/2026/may:may", "models/one", "x:/mnt/x"]
    assert definition.check(pipeline({**task("a"), "mounts": forms})) == []

    with pytest.raises(Refused) as caught:
        definition.check(pipeline({**task("a"), "mounts": ["data:x", "data/part:/home/work/x"]}))
    assert caught.value.code == "duplicate_mount"


def test_processes_and_containers_mount_parts_of_folders(tmp_path: Path) -> None:
    """A sub-path is that folder in the folder that stands for the vfolder; a container takes any place."""
    local = LocalPlanner(tmp_path, 1, 1, durable=False, passed=[]).plan(_spec("data/2026/may:may", "models/one"))
    assert local["mounts"] == [
        (str(tmp_path / "vfolders/data/2026/may"), "may"),
        (str(tmp_path / "vfolders/models/one"), "models/one"),
    ]
    planner = Planner(tmp_path, Engine(image="i"), "aabbccdd")
    bound = planner._binds(_spec("data/2026/may:may", "x:/mnt/x"), tmp_path / "session")
    assert [(str(source.relative_to(tmp_path)), place) for source, place, _ in bound][-2:] == [
        ("vfolders/data/2026/may", "/home/work/may"),
        ("vfolders/x", "/mnt/x"),
    ]


def test_a_mount_never_leads_out_of_its_folder(tmp_path: Path) -> None:
    """A task may leave a link in a folder; mounting what is behind it is refused."""
    (tmp_path / "vfolders/data").mkdir(parents=True)
    (tmp_path / "vfolders/data/out").symlink_to("/etc")
    with pytest.raises(ValueError, match="leads out of its folder"):
        folders.mount_source(tmp_path, mounts.parse("data/out:x"))


def test_processes_refuse_places_elsewhere(tmp_path: Path) -> None:
    """A process sees the machine's own folders, so that only /home/work has room for mounts."""
    backend = LocalBackend("local", tmp_path, lambda: None)  # type: ignore[arg-type,return-value]
    tasks = definition.tasks(pipeline({**task("a"), "mounts": ["x:/mnt/x", "y:/home/work/y"]}))
    found = backend.validate(list(tasks.values()))
    assert [(each.code, each.path) for each in found] == [("mount_unsupported", "tasks[0].mounts")]
