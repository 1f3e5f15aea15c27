"""Pipelines as clients edit them: versions, names, restore, delete."""

from __future__ import annotations

import json
from pathlib import Path

from office import CHAIN, opened

from trackbook.engine.ports import Append
from trackbook.testing.store import MemoryEventStore


async def test_each_edit_session_is_one_version(tmp_path: Path) -> None:
    """Several changes in one command are one commit and one version."""
    office = await opened(tmp_path)
    await office.must("pipeline.apply", yaml=CHAIN)

    changes = [
        {"op": "add_task", "task": {"name": "third", "command": "echo three"}},
        {"op": "add_dependency", "task": "third", "dependency": "second"},
        {"op": "set_variable", "variable": "COLOUR", "value": "blue"},
    ]
    reply = await office.must("pipeline.edit", pipeline="chain", changes=changes)

    assert reply["version"] == 2
    assert len(reply["changes"]) >= 2
    content = await office.history.content(reply["pipeline"], 2)
    assert content["tasks"]["third"]["dependencies"] == ["second"]
    await office.close()


async def test_a_name_belongs_to_one_pipeline(tmp_path: Path) -> None:
    """A rename to a taken name is refused and changes nothing; a name that is given up can be taken."""
    office = await opened(tmp_path)
    await office.must("pipeline.create", name="a")
    await office.must("pipeline.create", name="b")

    refused = await office.ask("pipeline.rename", pipeline="a", name="b")
    await office.must("pipeline.rename", pipeline="b", name="c")
    accepted = await office.must("pipeline.rename", pipeline="a", name="b")

    assert refused["error"]["code"] == "name_taken"
    assert accepted["version"] == 2
    await office.close()


async def test_creating_a_pipeline_under_a_taken_name_is_refused(tmp_path: Path) -> None:
    """Create, unlike apply, makes a new pipeline or nothing."""
    office = await opened(tmp_path)
    await office.must("pipeline.create", name="a")
    before = office.kinds()

    refused = await office.ask("pipeline.create", name="a")

    assert refused["error"]["code"] == "name_taken"
    assert office.kinds() == [*before, "outcome"]
    await office.close()


async def test_restore_makes_a_new_version_with_the_old_content(tmp_path: Path) -> None:
    """The content of version 3, restored from 1, is that of version 1; history only grows."""
    office = await opened(tmp_path)
    made = await office.must("pipeline.apply", yaml=CHAIN)
    await office.must("pipeline.edit", pipeline="chain", changes=[{"op": "remove_task", "task": "second"}])

    reply = await office.must("pipeline.restore", pipeline="chain", version=1)

    assert reply["version"] == 3
    contents = [await office.history.content(made["pipeline"], n) for n in (1, 2, 3)]
    assert contents[0] == contents[2] != contents[1]
    await office.close()


async def test_restoring_a_version_that_never_was_is_refused(tmp_path: Path) -> None:
    """The reply says which versions there are."""
    office = await opened(tmp_path)
    await office.must("pipeline.apply", yaml=CHAIN)

    refused = await office.ask("pipeline.restore", pipeline="chain", version=7)

    assert refused["status"] == "rejected"
    assert "7" in refused["error"]["message"]
    await office.close()


async def test_a_deleted_pipeline_takes_no_edits_or_jobs_and_frees_its_name(tmp_path: Path) -> None:
    """After a delete the id refuses, the history stays, and a new pipeline may bear the name."""
    office = await opened(tmp_path)
    old = await office.must("pipeline.apply", yaml=CHAIN)
    await office.must("pipeline.delete", pipeline="chain")

    edit = await office.ask("pipeline.rename", pipeline=old["pipeline"], name="x")
    start = await office.ask("job.start", pipeline=old["pipeline"])
    new = await office.must("pipeline.apply", yaml=CHAIN)

    assert edit["error"]["code"] == start["error"]["code"] == "pipeline_deleted"
    assert new["pipeline"] != old["pipeline"]
    assert (await office.history.content(old["pipeline"], 1))["name"] == "chain"
    await office.close()


async def test_expected_version_guards_against_another_editor(tmp_path: Path) -> None:
    """An edit that was made against an older version is refused, and may be decided again."""
    office = await opened(tmp_path)
    await office.must("pipeline.apply", yaml=CHAIN)
    await office.must("pipeline.rename", pipeline="chain", name="links")

    refused = await office.ask("pipeline.rename", pipeline="links", name="x", expected_version=1)

    assert refused["error"]["code"] == "version_mismatch"
    await office.close()


async def test_a_dry_run_tells_and_changes_nothing(tmp_path: Path) -> None:
    """What an apply would do is shown; a real one afterwards still does it."""
    office = await opened(tmp_path)
    await office.must("pipeline.apply", yaml=CHAIN)
    before = list(office.store.commits)
    changed = CHAIN.replace("echo two", "echo 2")

    dry = await office.must("pipeline.apply", yaml=changed, dry_run=True)

    assert office.store.commits == before
    assert dry["changes"]
    assert (await office.must("pipeline.apply", yaml=changed))["version"] == 2
    await office.close()


async def test_a_refused_graph_names_line_and_column(tmp_path: Path) -> None:
    """A cycle is shown as the cycle, where it stands in the YAML."""
    office = await opened(tmp_path)
    cycle = CHAIN.replace("command: echo one", "command: echo one, dependencies: [second]")

    reply = await office.ask("pipeline.apply", yaml=cycle)

    assert "first" in reply["error"]["message"]
    assert "second" in reply["error"]["message"]
    assert reply["error"]["line"] in (4, 5)
    assert office.kinds() == ["outcome"]
    await office.close()


async def test_names_ids_and_unique_prefixes_all_name_a_pipeline(tmp_path: Path) -> None:
    """An id may be shortened while it stays unique."""
    office = await opened(tmp_path)
    made = await office.must("pipeline.apply", yaml=CHAIN)

    for ref in ("chain", made["pipeline"], made["pipeline"][:6], made["pipeline"][:1]):
        assert (await office.must("pipeline.apply", yaml=CHAIN, pipeline=ref))["pipeline"] == made["pipeline"]
    await office.close()


async def test_a_large_apply_stands_in_a_blob_and_reads_back(tmp_path: Path) -> None:
    """A commit beyond a message's size keeps its body as a blob; another engine folds it all the same."""
    office = await opened(tmp_path)
    tasks = "".join(f"- {{name: task-{n}, command: 'echo {'x' * 200} {n}'}}\n" for n in range(3000))
    made = await office.must("pipeline.apply", yaml=f"name: wide\ntasks:\n{tasks}")

    (tmp_path / "b").mkdir()
    other = await opened(tmp_path / "b", office.store, office.blobs)

    assert max(len(stored.data) for stored in office.store.commits) < 512 * 1024
    assert len((await other.history.content(made["pipeline"], 1))["tasks"]) == 3000
    await office.close()
    await other.close()


class _RacingStore(MemoryEventStore):
    """Lets another writer's commit in just before one append."""

    def __init__(self) -> None:
        super().__init__()
        self.rival: Append | None = None

    async def append(self, *commits: Append) -> list[int]:
        if self.rival is not None:
            rival, self.rival = self.rival, None
            await super().append(rival)
        return await super().append(*commits)


async def test_a_losing_writer_folds_again_and_decides_anew(tmp_path: Path) -> None:
    """An edit that lost to another engine's becomes the version after it, and nothing is overwritten."""
    store = _RacingStore()
    office = await opened(tmp_path, store)
    made = await office.must("pipeline.apply", yaml=CHAIN)
    (tmp_path / "b").mkdir()
    copy = MemoryEventStore()
    for stored in store.commits:
        await copy.append(Append(stored.kind, stored.id, 0, stored.data, ""))
    rival = await opened(tmp_path / "b", copy, office.blobs)
    await rival.must(
        "pipeline.edit", pipeline="chain", changes=[{"op": "set_variable", "variable": "A", "value": "1"}]
    )
    theirs = copy.commits[-1]
    store.rival = Append("pipeline", made["pipeline"], 2, theirs.data, "")

    change = {"op": "set_variable", "variable": "B", "value": "2"}
    reply = await office.must("pipeline.edit", pipeline="chain", changes=[change])

    assert reply["version"] == 3
    content = await office.history.content(made["pipeline"], 3)
    assert content["environment"]["envs"] == {"COLOUR": "red", "A": "1", "B": "2"}
    assert [json.loads(s.data)["version"] for s in store.commits if s.kind == "pipeline"] == [1, 2, 3]
    await office.close()
    await rival.close()
