"""The pipeline in stories: every command, every change of an edit session, every refusal."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from pipeline_stories import given, pipeline, problems, task

from trackbook.engine.content import canonical
from trackbook.engine.edits import (
    AddDependency,
    AddTask,
    ChangeTask,
    MoveTask,
    RemoveDependency,
    RemoveTask,
    Rename,
    RenameTask,
    SetSetting,
    SetVariable,
    UnsetSetting,
    UnsetVariable,
    apply,
)
from trackbook.engine.pipeline import (
    AnyPipelineCommand,
    ApplyDefinition,
    Change,
    CreatePipeline,
    DeletePipeline,
    EditPipeline,
    RestoreVersion,
)
from trackbook.events import pipeline as facts
from trackbook.events.pipeline import AnyPipelineEvent

TWO = pipeline(task("a"), task("b", "a"))


def edit(*changes: Change) -> EditPipeline:
    """Return an edit session."""
    return EditPipeline(list(changes))


# Creating and applying --------------------------------------------------------------------------------------


def test_a_pipeline_is_created_empty() -> None:
    """A new pipeline has a name and no tasks."""
    story = given(None).when(CreatePipeline({"name": "iris"})).then(facts.PipelineCreated("iris"))

    assert (story.state.name, story.state.content) == ("iris", {"name": "iris", "tasks": {}})


def test_a_pipeline_is_created_with_what_it_starts_from() -> None:
    """Description, variables and tasks come as the granular events of a first edit."""
    content = pipeline(task("a"), description="Iris.", environment={"envs": {"A": "1"}})
    story = (
        given(None)
        .when(CreatePipeline(content))
        .then(
            facts.PipelineCreated("p"),
            facts.SettingChanged(["description"], "Iris."),
            facts.VariableSet("A", "1"),
            facts.TaskAdded(task("a")),
        )
    )

    assert story.state.content == content


def test_a_pipeline_is_created_once() -> None:
    """The second creation is refused."""
    given(TWO).when(CreatePipeline(TWO)).refuses("pipeline_exists")


def test_applying_creates_what_isnt_there() -> None:
    """The first definition applied creates the pipeline."""
    given(None).when(ApplyDefinition(TWO)).then(
        facts.PipelineCreated("p"), facts.TaskAdded(task("a")), facts.TaskAdded(task("b", "a"), "a")
    )


def test_applying_the_same_again_changes_nothing() -> None:
    """A definition that is there already leads to no event."""
    given(TWO).when(ApplyDefinition(pipeline(task("a"), task("b", "a")))).then()


def test_applying_tells_the_difference() -> None:
    """Another definition leads to the events between the two, the name included."""
    new = {**pipeline(task("b"), task("c", "b")), "name": "q"}
    given(TWO).when(ApplyDefinition(new)).then(
        facts.PipelineRenamed("q"),
        facts.DependencyRemoved("b", "a"),
        facts.TaskRemoved("a"),
        facts.TaskAdded(task("c", "b"), "b"),
    )


@pytest.mark.parametrize("command", [CreatePipeline, ApplyDefinition])
def test_a_content_that_breaks_the_rules_is_refused_whole(command: Any) -> None:
    """All problems come in one refusal, and nothing happens."""
    broken = pipeline(task("a", "b"), task("b", "a"), {"name": "c"})
    refused = given(None).when(command(broken)).refuses("missing_command", "tasks[2].command")

    assert problems(refused)[1:] == [("cycle", "tasks[0].dependencies[0]")]


# An edit session --------------------------------------------------------------------------------------------

_EDITS: list[tuple[list[Change], list[AnyPipelineEvent]]] = [
    ([AddTask(task("c", "b"))], [facts.TaskAdded(task("c", "b"), "b")]),
    ([AddTask(task("c"), "")], [facts.TaskAdded(task("c"))]),
    ([AddTask(task("c"), "a")], [facts.TaskAdded(task("c"), "a")]),
    (
        [ChangeTask("a", {"resources.mem": "8g", 'resources["cuda.shares"]': 2, "skip": True})],
        [
            facts.TaskChanged(
                "a", [(["resources", "mem"], "8g"), (["resources", "cuda.shares"], 2), (["skip"], True)]
            )
        ],
    ),
    ([ChangeTask("a", {"skip": True}), ChangeTask("a", unset=["skip"])], []),
    ([ChangeTask("b", {"dependencies": []})], [facts.DependencyRemoved("b", "a")]),
    (
        [RenameTask("a", "first")],
        [
            facts.TaskRenamed("a", "first"),
            facts.DependencyRemoved("b", "a"),
            facts.DependencyAdded("b", "first", 0),
        ],
    ),
    ([RenameTask("a", "a")], []),
    ([RenameTask("b", "c"), RenameTask("c", "b")], []),
    (
        [ChangeTask("b", {"skip": True}), RenameTask("b", "c"), ChangeTask("c", {"command": "x"})],
        [
            facts.TaskChanged("b", [(["skip"], True)]),
            facts.TaskRenamed("b", "c"),
            facts.TaskChanged("c", [(["command"], "x")]),
        ],
    ),
    ([MoveTask("b")], [facts.TaskMoved("b")]),
    ([AddTask(task("c")), MoveTask("a", "b")], [facts.TaskMoved("b"), facts.TaskAdded(task("c"), "a")]),
    ([MoveTask("b", "a")], []),
    ([MoveTask("a", "a")], []),
    ([RemoveTask("b")], [facts.TaskRemoved("b")]),
    ([RemoveTask("a", detach=True)], [facts.DependencyRemoved("b", "a"), facts.TaskRemoved("a")]),
    (
        [RemoveTask("a"), RemoveDependency("b", "a")],
        [facts.DependencyRemoved("b", "a"), facts.TaskRemoved("a")],
    ),
    ([RemoveTask("b"), AddTask(task("b", "a"))], []),
    (
        [AddTask(task("c")), AddDependency("b", "c", 0)],
        [facts.TaskAdded(task("c"), "b"), facts.DependencyAdded("b", "c", 0)],
    ),
    (
        [AddTask(task("c")), AddDependency("b", "c")],
        [facts.TaskAdded(task("c"), "b"), facts.DependencyAdded("b", "c", 1)],
    ),
    ([AddDependency("b", "a")], []),
    ([RemoveDependency("b", "a")], [facts.DependencyRemoved("b", "a")]),
    ([SetVariable("A", "1")], [facts.VariableSet("A", "1")]),
    ([SetVariable("A", 1, "a")], [facts.TaskChanged("a", [(["environment", "envs", "A"], 1)])]),
    ([SetVariable("A", "1"), UnsetVariable("A")], [facts.SettingChanged(["environment", "envs"], {})]),
    ([Rename("q")], [facts.PipelineRenamed("q")]),
    ([SetSetting("ownership.scope", "user")], [facts.SettingChanged(["ownership", "scope"], "user")]),
    ([], []),
]


@pytest.mark.parametrize(("changes", "events"), _EDITS)
def test_an_edit_session_is_reported_by_what_it_changed(
    changes: list[Change], events: list[AnyPipelineEvent]
) -> None:
    """The changes of a session become the events between before and after; what cancels out makes none."""
    story = given(TWO).when(edit(*changes)).then(*events)

    assert canonical(story.state.content) == canonical(apply(TWO, changes)[0])


_REFUSED: list[tuple[list[Change], str, str]] = [
    ([AddTask({"command": "x"})], "missing_name", "changes[0].task.name"),
    ([AddTask(task("a"))], "duplicate_name", "changes[0].task.name"),
    ([AddTask(task("a/b"))], "bad_name", "changes[0].task.name"),
    ([AddTask(task("c"), "x")], "task_not_found", "changes[0].after"),
    ([ChangeTask("x")], "task_not_found", "changes[0].task"),
    ([ChangeTask("a", {"name": "x"})], "bad_path", "changes[0].set"),
    ([ChangeTask("a", {"mounts[0]": "x"})], "bad_path", "changes[0].set"),
    ([ChangeTask("a", {"a..b": "x"})], "bad_path", "changes[0].set"),
    ([ChangeTask("a", {"": "x"})], "bad_path", "changes[0].set"),
    ([ChangeTask("a", unset=["name"])], "bad_path", "changes[0].unset"),
    ([ChangeTask("a", unset=["resources.mem"])], "setting_not_found", "changes[0].unset"),
    ([ChangeTask("a", {"resources.mem": "lots"})], "bad_size", "tasks[0].resources.mem"),
    ([RenameTask("x", "y")], "task_not_found", "changes[0].task"),
    ([RenameTask("a", "b")], "duplicate_name", "changes[0].name"),
    ([RenameTask("a", "..")], "bad_name", "changes[0].name"),
    ([RenameTask("a", "b[3]")], "bad_name", "changes[0].name"),
    ([MoveTask("x")], "task_not_found", "changes[0].task"),
    ([MoveTask("a", "x")], "task_not_found", "changes[0].after"),
    ([SetVariable("A", "1"), RemoveTask("x")], "task_not_found", "changes[1].task"),
    ([RemoveTask("a")], "task_needed", "changes[0].task"),
    ([AddDependency("a", "x")], "task_not_found", "changes[0].dependency"),
    ([AddDependency("a", "b")], "cycle", "tasks[0].dependencies[0]"),
    ([AddDependency("a", "a")], "self_dependency", "tasks[0].dependencies[0]"),
    ([RemoveDependency("a", "b")], "dependency_not_found", "changes[0].dependency"),
    ([SetVariable("A-B", "1")], "bad_variable_name", "environment.envs.A-B"),
    ([UnsetVariable("A")], "setting_not_found", "changes[0].variable"),
    ([UnsetVariable("A", "a")], "setting_not_found", "changes[0].variable"),
    ([Rename("q@2")], "bad_name", "name"),
    ([SetSetting("name", "q")], "bad_path", "changes[0].path"),
    ([SetSetting("tasks.a", "q")], "bad_path", "changes[0].path"),
    ([UnsetSetting("description")], "setting_not_found", "changes[0].path"),
]


@pytest.mark.parametrize(("changes", "code", "path"), _REFUSED)
def test_an_edit_that_makes_no_sense_is_refused(changes: list[Change], code: str, path: str) -> None:
    """The refusal names the change at fault, or the place in the content that it would lead to."""
    given(TWO).when(edit(*changes)).refuses(code, path)


def test_a_settings_change_takes_away_what_was_set() -> None:
    """Settings and variables that are there can be unset."""
    content = pipeline(task("a", skip=True), description="x", environment={"envs": {"A": "1"}})
    given(content).when(
        edit(UnsetSetting("description"), UnsetVariable("A"), ChangeTask("a", unset=["skip"]))
    ).then(
        facts.SettingRemoved(["description"]),
        facts.VariableRemoved("A"),
        facts.TaskChanged("a", removed=[["skip"]]),
    )


def test_refusals_of_edits_suggest_what_was_meant() -> None:
    """A misspelt name of a task comes with the name that is near."""
    content = pipeline(task("train"))

    assert given(content).when(edit(RemoveTask("trian"))).refuses("task_not_found", "changes[0].task").hint == (
        "Did you mean 'train'?"
    )


def test_a_removal_of_tasks_that_are_needed_names_who_needs_them() -> None:
    """Every task removed that others depend on is refused, with their names."""
    content = pipeline(task("a"), task("b"), *(task(f"c{index}", "a", "b") for index in range(5)))
    refused = (
        given(content).when(edit(RemoveTask("a"), RemoveTask("b"))).refuses("task_needed", "changes[0].task")
    )

    assert refused.message == "c0, c1, c2 and 2 more depend on the task 'a'"
    assert problems(refused)[1:] == [("task_needed", "changes[1].task")]


# Versions, restoring, deleting ------------------------------------------------------------------------------

_AFTER_CREATION: list[AnyPipelineCommand] = [
    ApplyDefinition({**TWO, "description": "x"}, 3),
    EditPipeline([Rename("q")], 3),
    RestoreVersion(1, {**TWO, "description": "x"}, 3),
    DeletePipeline(3),
]


@pytest.mark.parametrize("command", _AFTER_CREATION)
def test_an_edit_of_another_version_than_the_latest_is_refused(command: AnyPipelineCommand) -> None:
    """Who expects a version is refused where another one is the latest, and heard where it is."""
    given(TWO, version=2).when(command).refuses("version_mismatch", "expected_version")
    assert given(TWO, version=3).when(command).events


@pytest.mark.parametrize("command", [CreatePipeline(TWO), *_AFTER_CREATION])
def test_a_deleted_pipeline_refuses_everything(command: AnyPipelineCommand) -> None:
    """Nothing changes a pipeline that was deleted."""
    given(TWO, version=3, deleted=True).when(command).refuses("pipeline_deleted")


@pytest.mark.parametrize("command", [edit(Rename("q")), RestoreVersion(1, TWO), DeletePipeline()])
def test_a_pipeline_that_isnt_there_takes_no_edits(command: AnyPipelineCommand) -> None:
    """What was never created can't be edited, restored or deleted."""
    given(None).when(command).refuses("pipeline_not_found")


def test_restoring_leads_back_to_the_old_content() -> None:
    """A restored version is a new edit, which says where it leads back to."""
    given(TWO, version=4).when(RestoreVersion(2, pipeline(task("a")))).then(
        facts.PipelineRestored(2), facts.TaskRemoved("b")
    )


def test_restoring_what_is_there_changes_nothing() -> None:
    """A version whose content is the present one needs no new version."""
    given(TWO, version=4).when(RestoreVersion(2, TWO)).then()


@pytest.mark.parametrize("version", [0, -1, 5])
def test_only_versions_that_there_were_can_be_restored(version: int) -> None:
    """A version before the first or after the latest is refused."""
    given(TWO, version=4).when(RestoreVersion(version, TWO)).refuses("version_not_found", "version")


def test_a_pipeline_is_deleted() -> None:
    """The deletion is the last event."""
    story = given(TWO).when(DeletePipeline()).then(facts.PipelineDeleted())

    assert story.state.deleted


def test_commands_and_events_are_read_again_from_json() -> None:
    """What a commit stores of a pipeline comes back as it was."""
    commands = [CreatePipeline(TWO), *_AFTER_CREATION, *(edit(*changes) for changes, _ in _EDITS)]
    assert msgspec.json.decode(msgspec.json.encode(commands), type=list[AnyPipelineCommand]) == commands
    events = [event for _, events in _EDITS for event in events]
    assert msgspec.json.decode(msgspec.json.encode(events), type=list[AnyPipelineEvent]) == events
    assert msgspec.json.decode(b'{"op":"rename_task","task":"a","name":"b"}', type=Change) == RenameTask("a", "b")
