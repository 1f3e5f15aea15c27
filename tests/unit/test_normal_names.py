"""Names that look the same are the same: composed (NFC), however they were typed."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from histories.made import History
from histories.served import site
from office import opened

from trackbook.adapters.yaml.load import load
from trackbook.events.job import TaskShape

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
    edits = [
        {"op": "add_task", "task": {"name": f"{NFD}-2", "command": "true", "dependencies": [NFD]}},
        {"op": "rename_task", "task": NFD, "name": f"{NFD}-1"},
        {"op": "remove_dependency", "task": "b", "dependency": f"{NFD}-1"},
    ]
    edited = await office.must("pipeline.edit", pipeline=NFD, changes=edits)
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
