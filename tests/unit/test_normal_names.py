"""Names that look the same are the same: composed (NFC), however they were typed."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any, cast

import pytest
from histories.made import History
from histories.served import site
from office import opened

from trackbook.adapters.yaml.load import load
from trackbook.engine import edits
from trackbook.engine.errors import Refused
from trackbook.engine.ports import CutListing, FileEntry, Folders, NoSuchFile
from trackbook.events.job import TaskShape
from trackbook.http.endpoints.path_spelling import with_stored_spelling

NFC, NFD = (unicodedata.normalize(form, "données-훈련") for form in ("NFC", "NFD"))
YAML = (
    f"name: {NFD}\ntasks:\n- name: {NFD}\n  command: 'true'\n"
    f"- name: b\n  command: 'true'\n  dependencies: [{NFD}]\n"
)


def test_names_in_yaml_are_composed() -> None:
    """Those of the pipeline, its tasks and their dependencies; other text stays as it is."""
    content = load(YAML.replace("command: 'true'\n- ", f"command: 'echo {NFD}'\n- ")).content

    assert NFC != NFD
    assert content["name"] == NFC
    assert list(content["tasks"]) == [NFC, "b"]
    assert content["tasks"]["b"]["dependencies"] == [NFC]
    assert content["tasks"][NFC]["command"] == f"echo {NFD}"


async def test_commands_name_the_same_pipeline_in_both_forms(tmp_path: Path) -> None:
    """A second apply from another machine changes the first one's pipeline; edits and starts find its tasks."""
    office = await opened(tmp_path)
    made = await office.must("pipeline.apply", yaml=YAML)
    again = await office.must("pipeline.apply", yaml=YAML.replace(NFD, NFC))
    taken = await office.ask("pipeline.create", name=NFD)
    changes = [
        {"op": "add_task", "task": {"name": f"{NFD}-2", "command": "true", "dependencies": [NFD]}},
        {"op": "rename_task", "task": NFD, "name": f"{NFD}-1"},
        {"op": "remove_dependency", "task": "b", "dependency": f"{NFD}-1"},
    ]
    edited = await office.must("pipeline.edit", pipeline=NFD, changes=changes)
    content = await office.history.content(made["pipeline"], edited["version"])

    assert made["name"] == NFC
    assert (again["pipeline"], again["version"], again.get("changes") or []) == (made["pipeline"], 1, [])
    assert taken["status"] == "rejected"
    assert list(content["tasks"]) == [f"{NFC}-1", "b", f"{NFC}-2"]
    assert content["tasks"][f"{NFC}-2"]["dependencies"] == [f"{NFC}-1"]
    await office.close()


async def test_reads_find_both_forms(tmp_path: Path) -> None:
    """Also what was stored decomposed, before names were composed."""
    history = History()
    tasks = [TaskShape(NFC), TaskShape(f"{NFD}-2")]
    await history.pipeline("p1", NFC, tasks)
    await history.start("job-1", "p1", tasks)
    async with site(history, tmp_path / "readmodel.db") as served:
        for form in (NFC, NFD):
            assert (await served.get(f"/api/pipelines/{form}"))["id"] == "p1"
            assert len((await served.get("/api/jobs", pipeline=form))["items"]) == 1
            assert len((await served.get("/api/pipelines", name=form))["items"]) == 1
            assert (await served.get(f"/api/jobs/job-1/tasks/{form}"))["name"] == NFC
            assert (await served.get(f"/api/jobs/job-1/tasks/{form}-2"))["name"] == f"{NFD}-2"


@pytest.mark.parametrize("typed", [NFC, NFD])
def test_edits_find_tasks_that_were_stored_decomposed(typed: str) -> None:
    """Each kind of change names them in either form; another task can't get a name that looks the same."""
    tasks = {NFD: {"name": NFD}, "b": {"name": "b", "dependencies": [NFD]}, "c": {"name": "c"}}
    content: dict[str, Any] = {"name": "p", "tasks": tasks}

    def names(*changes: edits.Change) -> list[str]:
        return list(edits.apply(content, changes)[0]["tasks"])

    moved, _ = edits.apply(content, [edits.MoveTask("c", typed), edits.AddDependency("c", typed)])
    assert list(moved["tasks"]) == [NFD, "c", "b"]
    assert moved["tasks"]["c"]["dependencies"] == [NFD]
    changed, _ = edits.apply(
        content, [edits.ChangeTask(typed, {"skip": True}), edits.SetVariable("A", "1", typed)]
    )
    assert changed["tasks"][NFD]["skip"] is True
    assert names(edits.RemoveDependency("b", typed), edits.RemoveTask(typed)) == ["b", "c"]
    assert names(edits.RenameTask(typed, f"{NFC}-2")) == [f"{NFC}-2", "b", "c"]
    with pytest.raises(Refused, match="b depends on the task"):
        names(edits.RemoveTask(typed))
    for taken in (edits.AddTask({"name": typed}), edits.RenameTask("c", typed)):
        with pytest.raises(Refused, match="already"):
            names(taken)


def test_a_task_that_was_stored_decomposed_can_be_renamed_to_its_composed_name() -> None:
    """The exact name goes first; where the other form alone is there, that one gets the new name."""
    twins: dict[str, Any] = {"name": "p", "tasks": {NFD: {"name": NFD}, NFC: {"name": NFC}}}
    removed, _ = edits.apply(twins, [edits.RemoveTask(NFC)])

    assert list(removed["tasks"]) == [NFD]
    renamed, _ = edits.apply(removed, [edits.RenameTask(NFC, NFC)])
    assert list(renamed["tasks"]) == [NFC]


async def test_a_name_that_a_cut_list_left_out_is_found_in_its_other_form() -> None:
    """Where a cluster's storage doesn't list it, it is asked for by both forms."""

    class Cut:
        async def entries(self, _: str, __: str) -> list[FileEntry]:
            return CutListing([FileEntry("a", "a", "file")])

        async def stat(self, _: str, path: str) -> FileEntry:
            if path != f"x/{NFD}":
                raise NoSuchFile(path)
            return FileEntry(NFD, path, "file")

    assert await with_stored_spelling(cast("Folders", Cut()), "p", f"x/{NFC}") == f"x/{NFD}"
    assert await with_stored_spelling(cast("Folders", Cut()), "p", f"y/{NFC}") == f"y/{NFC}"
