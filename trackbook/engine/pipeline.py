"""The pipeline: a workflow template and its versions. Commands, state, fold and decisions, in that order.

Every edit leads to a whole new content, which is checked, and becomes the granular events between the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct, field

from trackbook.engine import edits
from trackbook.engine.content import Content
from trackbook.engine.decider import Decider
from trackbook.engine.diff import describe, diff
from trackbook.engine.edits import Change, Rename
from trackbook.engine.errors import Refused
from trackbook.engine.name import AnyNameCommand, ReleaseName, TakeName, name_id
from trackbook.engine.paths import Owned
from trackbook.engine.rules import check
from trackbook.events import pipeline as facts
from trackbook.events.pipeline import AnyPipelineEvent

__all__ = ["PIPELINE", "AnyPipelineCommand", "Change", "PipelineState", "Rename", "describe", "diff"]

# Commands ---------------------------------------------------------------------------------------------------


class PipelineCommand(Struct, frozen=True, tag_field="type", omit_defaults=True):
    """Base of what a pipeline is asked; with `expected_version` it is refused where that isn't the latest."""


class CreatePipeline(PipelineCommand, frozen=True):
    """Create the pipeline with this content; it may have no tasks yet."""

    content: Content


class ApplyDefinition(PipelineCommand, frozen=True):
    """Make the content be this one; creates the pipeline if need be."""

    content: Content
    expected_version: int | None = None


class EditPipeline(PipelineCommand, frozen=True):
    """Make the changes in their order, as one version."""

    changes: list[Change]
    expected_version: int | None = None


class RestoreVersion(PipelineCommand, frozen=True):
    """Lead back to an earlier version, whose content the caller has folded."""

    version: int
    content: Content
    expected_version: int | None = None


class DeletePipeline(PipelineCommand, frozen=True):
    """Take no more edits or jobs."""

    expected_version: int | None = None


AnyPipelineCommand = CreatePipeline | ApplyDefinition | EditPipeline | RestoreVersion | DeletePipeline

# State ------------------------------------------------------------------------------------------------------


class PipelineState(Struct):
    """A pipeline as its events left it.

    `settings` is the content but for its tasks. Their order is a ring through '', by the name that comes before
    each and the one that comes after, so that a move costs the same in a list of any length. `version` is kept by
    the code that folds commits: version n is the n-th commit that changed the content.
    """

    id: str
    settings: Content = field(default_factory=dict)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=lambda: {"": ""})
    after: dict[str, str] = field(default_factory=lambda: {"": ""})
    version: int = 0
    deleted: bool = False
    owned: Owned = field(default_factory=Owned)

    @property
    def name(self) -> str:
        """The pipeline's name, '' before it is created."""
        return str(self.settings.get("name", ""))

    @property
    def content(self) -> Content:
        """The content; to be shared and never changed in place."""
        self.owned.share()
        return {**self.settings, "tasks": {name: self.tasks[name] for name in self.order()}}

    def order(self) -> Iterator[str]:
        """Yield the names of the tasks in their order."""
        name = self.after[""]
        while name:
            yield name
            name = self.after[name]


# Fold -------------------------------------------------------------------------------------------------------


def evolve(state: PipelineState, event: AnyPipelineEvent) -> PipelineState:
    """Remember the event; changes and returns `state`, which the caller owns alone.

    The mappings inside the content are replaced unless the fold has made them itself and nobody has seen them,
    since contents and events share them: a thousand new settings cost a thousand steps, not a thousand copies.
    """
    own = state.owned
    match event:
        case facts.PipelineCreated():
            state.settings = {"name": event.name}
        case facts.PipelineRenamed():
            state.settings = {**state.settings, "name": event.name}
        case facts.VariableSet():
            state.settings = own.put(state.settings, ["environment", "envs", event.variable], event.value)
        case facts.VariableRemoved():
            state.settings = own.drop(state.settings, ["environment", "envs", event.variable])
        case facts.SettingChanged():
            state.settings = own.put(state.settings, event.path, event.value)
        case facts.SettingRemoved():
            state.settings = own.drop(state.settings, event.path)
        case facts.TaskAdded():
            state.tasks[event.task["name"]] = event.task
            _place(state, event.task["name"], event.after)
        case facts.TaskChanged():
            _change_task(state, event)
        case facts.TaskRenamed():
            state.tasks[event.name] = {**state.tasks.pop(event.task), "name": event.name}
            _place(state, event.name, _take_out(state, event.task))
        case facts.TaskMoved():
            _take_out(state, event.task)
            _place(state, event.task, event.after)
        case facts.TaskRemoved():
            del state.tasks[event.task]
            _take_out(state, event.task)
        case facts.DependencyAdded() | facts.DependencyRemoved():
            _change_dependency(state, event)
        case facts.PipelineDeleted():
            state.deleted = True
        case facts.PipelineRestored():
            pass  # the events beside it lead back
    return state


def mark(state: PipelineState, version: int) -> None:
    """Take note that a whole commit was folded, the `version`-th: a version, unless it deleted the pipeline."""
    if not state.deleted:
        state.version = version


def _place(state: PipelineState, name: str, after: str) -> None:
    then = state.after[after]
    state.after[after] = state.before[then] = name
    state.before[name], state.after[name] = after, then


def _take_out(state: PipelineState, name: str) -> str:
    """Take the name out of the order and return the one that came before it."""
    before, after = state.before.pop(name), state.after.pop(name)
    state.after[before], state.before[after] = after, before
    return before


def _change_task(state: PipelineState, event: facts.TaskChanged) -> None:
    task = state.tasks[event.task]
    for path in event.removed:
        task = state.owned.drop(task, path)
    for path, value in event.set:
        task = state.owned.put(task, path, value)
    state.tasks[event.task] = task


def _change_dependency(state: PipelineState, event: facts.DependencyAdded | facts.DependencyRemoved) -> None:
    task = state.tasks[event.task]
    dependencies = list(task.get("dependencies") or ())
    if isinstance(event, facts.DependencyAdded):
        dependencies.insert(event.position, event.dependency)
    else:
        dependencies.remove(event.dependency)
    state.tasks[event.task] = {**task, "dependencies": dependencies}


# Decisions --------------------------------------------------------------------------------------------------


def decide(state: PipelineState, command: AnyPipelineCommand) -> list[AnyPipelineEvent]:
    """Return what happens, in facts; none where nothing changes. Raises Refused."""
    _admit(state, command)
    match command:
        case CreatePipeline():
            if state.name:
                raise Refused("pipeline_exists", f"the pipeline {state.id} was created before")
            return _lead_to(state, command.content)
        case ApplyDefinition():
            return _lead_to(state, command.content)
        case EditPipeline():
            return _edit(state, command)
        case RestoreVersion():
            events = _lead_to(state, command.content)
            return [facts.PipelineRestored(command.version), *events] if events else []
        case DeletePipeline():
            return [facts.PipelineDeleted()]


def _admit(state: PipelineState, command: AnyPipelineCommand) -> None:
    if state.deleted:
        message = f"the pipeline {state.name!r} was deleted: its history stays, and nothing changes it"
        raise Refused("pipeline_deleted", message)
    if not state.name and not isinstance(command, CreatePipeline | ApplyDefinition):
        raise Refused("pipeline_not_found", f"there is no pipeline {state.id}")
    if isinstance(command, CreatePipeline):
        return
    if command.expected_version is not None and command.expected_version != state.version:
        message = f"the pipeline is at version {state.version}, not {command.expected_version}"
        hint = "Someone else has edited it: look at the latest version and decide again."
        raise Refused("version_mismatch", message, "expected_version", hint=hint)
    if isinstance(command, RestoreVersion) and not 1 <= command.version <= state.version:
        message = f"there is no version {command.version}: the pipeline has versions 1 to {state.version}"
        raise Refused("version_not_found", message, "version")


def _lead_to(state: PipelineState, content: Content) -> list[AnyPipelineEvent]:
    content = {"tasks": {}, **content}
    check(content)
    if state.name:
        return diff(state.content, content)
    name = content["name"]
    return [facts.PipelineCreated(name), *diff({"name": name, "tasks": {}}, content)]


def _edit(state: PipelineState, command: EditPipeline) -> list[AnyPipelineEvent]:
    old = state.content
    new, events = edits.apply(old, command.changes)
    if not diff(old, new):
        return []
    check(new)
    return events


def claims(state: PipelineState) -> str:
    """Return the name that no other pipeline may bear, '' for none."""
    return "" if state.deleted else state.name


def companions(before: str, state: PipelineState) -> list[tuple[str, str, AnyNameCommand]]:
    """Return what is asked of the names that change hands with a decision."""
    after = claims(state)
    if after == before:
        return []
    commands: list[AnyNameCommand] = [TakeName(after, state.id)] if after else []
    commands += [ReleaseName(before, state.id)] if before else []
    return [("name", name_id(command.name), command) for command in commands]


PIPELINE: Decider[PipelineState, AnyPipelineCommand, AnyPipelineEvent] = Decider(PipelineState, decide, evolve)
