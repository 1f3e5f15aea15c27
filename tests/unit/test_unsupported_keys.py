"""Keys that another engine acts on are refused, with the right one; any other unknown key is warned about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pipeline_stories import pipeline, task

from trackbook.adapters.local.backend import LocalBackend
from trackbook.adapters.yaml.dump import dump
from trackbook.adapters.yaml.load import load, locate
from trackbook.engine import definition, foreign_keys
from trackbook.engine.content import Content
from trackbook.engine.edits import ChangeTask
from trackbook.engine.errors import Refused, Warned
from trackbook.engine.fields import PIPELINE, TASK
from trackbook.engine.pipeline import PIPELINE as DECIDER
from trackbook.engine.pipeline import EditPipeline, PipelineState, evolve
from trackbook.events.pipeline import PipelineCreated, TaskAdded

DATA = Path(__file__).parents[3] / "shared" / "data" / "fasttrack"


def refused(content: Content) -> list[tuple[str, str, str]]:
    """Return code, path and hint of each refusal."""
    with pytest.raises(Refused) as caught:
        definition.check(content)
    return [(each.code, each.path, each.hint) for each in (caught.value, *caught.value.others)]


@pytest.mark.parametrize(
    ("key", "value", "right"),
    [
        ("depends_on", ["b"], "dependencies"),
        ("dependsOn", ["b"], "dependencies"),
        ("depends-on", ["b"], "dependencies"),
        ("depends", "b", "dependencies"),
        ("needs", ["b"], "dependencies"),
        ("Dependencies", ["b"], "dependencies"),
        ("after", ["b"], "dependencies"),
        ("timeout", 60, "timeout 600"),
        ("timeout-minutes", 5, "timeout 600"),
        ("retries", 3, "retry: {max_attempts"),
        ("env", {"A": "1"}, "environment: {envs:"),
        ("variables", {"A": "1"}, "environment: {envs:"),
        ("image", "python:3.12", "environment: {image:"),
        ("script", "true", "command:"),
        ("run", "true", "command:"),
        ("args", ["--x"], "`command`"),
        ("schedule", "0 * * * *", "cron"),
        ("if", "x == 1", "skip: true"),
        ("when", "on_success", "skip: true"),
        ("allow_failure", True, "continue_on_failure"),
        ("working_dir", "/src", "cd FOLDER"),
        ("volumes", ["a:b"], "mounts"),
        ("gpus", 1, "resources:"),
        ("cpu", 4, "resources:"),
        ("matrix", {"a": [1]}, "one task for each"),
    ],
)
def test_a_tasks_key_of_another_engine_is_refused_with_the_right_one(key: str, value: Any, right: str) -> None:
    """Each names its place, and what to write instead."""
    [(code, path, hint)] = refused(pipeline({**task("a"), key: value}, task("b")))

    assert (code, path.partition("[0]")[2].strip('.["]')) == ("unsupported_key", key)
    assert right in hint


@pytest.mark.parametrize(
    ("given", "path", "right"),
    [
        ({"env": {"A": 1}}, "env", "environment: {envs:"),
        ({"image": "x"}, "image", "environment: {image:"),
        ({"schedule": "@daily"}, "schedule", "cron"),
        ({"on": "push"}, "on", "cron"),
        ({"timeout": 3}, "timeout", "timeout 600"),
        ({"retries": 3}, "retries", "retry:"),
        ({"steps": [{"run": "x"}]}, "steps", "tasks:"),
        ({"jobs": {"a": {}}}, "jobs", "tasks:"),
        ({"command": "x"}, "command", "each task"),
        ({"environment": {"EPOCHS": 3}}, "environment.EPOCHS", "envs: {EPOCHS:"),
        ({"environment": {"variables": {"A": 1}}}, "environment.variables", "envs:"),
    ],
)
def test_a_key_of_the_pipeline_itself_is_refused_too(given: dict[str, Any], path: str, right: str) -> None:
    """What stands at the pipeline's level under another name, or belongs elsewhere, is refused there."""
    [(code, where, hint)] = refused(pipeline(task("a"), **given))

    assert (code, where) == ("unsupported_key", path)
    assert right in hint


def test_how_often_is_refused_under_another_name() -> None:
    """`retry: {limit: 3}` would never try again."""
    [(code, path, hint)] = refused(pipeline({**task("a"), "retry": {"limit": 3}}))

    assert (code, path) == ("unsupported_key", "tasks[0].retry.limit")
    assert "max_attempts" in hint


def test_a_refused_key_is_found_by_line_and_column() -> None:
    """The author is led to the key, and a command by another name is one problem, not two."""
    loaded = load("name: p\ntasks:\n- name: a\n  script: 'true'\n- name: b\n  command: x\n  depends_on: [a]\n")

    with pytest.raises(Refused) as caught:
        definition.check(loaded.content)
    located = locate(caught.value, loaded.positions)

    assert [(each.path, each.line) for each in (located, *located.others)] == [
        ("tasks[0].script", 4),
        ("tasks[1].depends_on", 7),
    ]
    assert located.column == 11


@pytest.mark.parametrize("blank", [None, ""])
def test_a_blank_key_changes_nothing(blank: Any) -> None:
    """A blank value counts as not given: the key is warned about alone."""
    [warning] = definition.check(pipeline({**task("a"), "timeout": blank}))

    assert (warning.code, warning.path) == ("unknown_key", "tasks[0].timeout")


def test_every_other_unknown_key_is_warned_about_and_kept() -> None:
    """Whatever it is like, at each level; it comes out again as it went in."""
    content = pipeline(
        {**task("a"), "owner": "ann", "dependancies": [], "environment": {"scaling_group": "x"}},
        labels={"team": "nlp"},
    )

    warned = [(warning.code, warning.path) for warning in definition.check(content)]

    assert warned == [
        ("unknown_key", "labels"),
        ("unknown_key", "tasks[0].owner"),
        ("unknown_key", "tasks[0].dependancies"),
        ("unknown_key", "tasks[0].environment.scaling_group"),
    ]
    assert load(dump(content)).content == content


def test_an_edit_is_held_to_the_same() -> None:
    """What `pipeline edit --set` adds is refused by the same rule, and warned about by the same."""
    state = evolve(PipelineState("p"), PipelineCreated("p"))
    state = evolve(state, TaskAdded({"name": "a", "command": "x"}))

    with pytest.raises(Refused) as caught:
        DECIDER.decide(state, EditPipeline([ChangeTask("a", set={"depends_on": ["b"]})], None))

    assert (caught.value.code, caught.value.path) == ("unsupported_key", "tasks[0].depends_on")


def test_slots_that_no_process_has_are_warned_about_before_a_run(tmp_path: Path) -> None:
    """Which slots there are is the executor's to say; a slip is pointed out."""
    content = pipeline({**task("a"), "resources": {"cpu": 1, "cpus": 2, "cuda.shares": 1, "mem": "1g"}})

    found = LocalBackend("local", tmp_path, lambda: None).validate(  # type: ignore[arg-type, return-value]
        list(definition.tasks(content).values())
    )

    assert [(each.code, each.path) for each in found if isinstance(each, Warned)] == [
        ("resource_ignored", "tasks[0].resources.cpus"),
        ("resource_ignored", 'tasks[0].resources["cuda.shares"]'),
    ]
    assert "Did you mean 'cpu'?" in found[0].message


@pytest.mark.parametrize("file", sorted(DATA.glob("*.y*ml")), ids=lambda path: path.name)
def test_real_files_load_and_survive(file: Path) -> None:
    """No key of FastTrack's own files is refused, and none is unknown."""
    loaded = load(file.read_bytes(), file.name)

    assert [each for each in definition.check(loaded.content) if each.code == "unknown_key"] == []
    assert load(dump(loaded.content)).content == loaded.content


def test_no_key_that_is_read_is_foreign() -> None:
    """The tables hold no key that has a meaning in its place, unless spelled otherwise."""
    hints = {**foreign_keys.TASK, **foreign_keys.PIPELINE}

    assert all(key == foreign_keys.folded(key) and hint.endswith(".") for key, hint in hints.items())
    assert definition.check(pipeline({**dict.fromkeys(TASK.fields), **task("a")})) == []
    assert [w.code for w in definition.check(pipeline(task("a"), **{
        key: None for key in PIPELINE.fields if key not in ("name", "tasks")
    }))] == []  # fmt: skip
