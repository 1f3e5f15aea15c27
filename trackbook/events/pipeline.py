"""The events of a pipeline (its content, edit by edit) and of a pipeline name (who bears it).

A storage format: fields are only added, with defaults.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field


class PipelineEvent(Struct, frozen=True, tag_field="type", omit_defaults=True):
    """Base of the events of a pipeline."""


class PipelineCreated(PipelineEvent, frozen=True):
    """The pipeline exists under this name, still empty."""

    name: str


class PipelineRenamed(PipelineEvent, frozen=True):
    """The pipeline bears another name."""

    name: str


class VariableSet(PipelineEvent, frozen=True):
    """A variable common to all tasks got a value."""

    variable: str
    value: Any


class VariableRemoved(PipelineEvent, frozen=True):
    """A variable common to all tasks is gone."""

    variable: str


class SettingChanged(PipelineEvent, frozen=True):
    """A setting of the pipeline itself (`description`, `ownership.scope` …) got a value; `path` by keys."""

    path: list[str]
    value: Any


class SettingRemoved(PipelineEvent, frozen=True):
    """A setting of the pipeline itself is gone."""

    path: list[str]


class TaskAdded(PipelineEvent, frozen=True):
    """A task was added right after another one ('' = first); `task` is its mapping, dependencies included."""

    task: dict[str, Any]
    after: str = ""


class TaskChanged(PipelineEvent, frozen=True):
    """Settings of a task got a value (`set`: [path, value]) or are gone (`removed`: path); paths by keys.

    A mapping is changed key by key, a list as a whole; dependencies have events of their own.
    """

    task: str
    set: list[tuple[list[str], Any]] = field(default_factory=list)
    removed: list[list[str]] = field(default_factory=list)


class TaskRenamed(PipelineEvent, frozen=True):
    """A task bears another name; dependencies on it follow by events of their own."""

    task: str
    name: str


class TaskMoved(PipelineEvent, frozen=True):
    """A task was moved right after another one ('' = first)."""

    task: str
    after: str = ""


class TaskRemoved(PipelineEvent, frozen=True):
    """A task is gone."""

    task: str


class DependencyAdded(PipelineEvent, frozen=True):
    """`task` depends on `dependency`, as its input number `position` (0 = first)."""

    task: str
    dependency: str
    position: int


class DependencyRemoved(PipelineEvent, frozen=True):
    """`task` no longer depends on `dependency`."""

    task: str
    dependency: str


class PipelineRestored(PipelineEvent, frozen=True):
    """The commit leads back to the content of an earlier version."""

    version: int


class PipelineDeleted(PipelineEvent, frozen=True):
    """The pipeline takes no more edits or jobs; its history stays."""


class PipelineNameTaken(PipelineEvent, frozen=True):
    """The name belongs to this pipeline (its id) from now on."""

    name: str
    pipeline: str


class PipelineNameReleased(PipelineEvent, frozen=True):
    """The name is free again."""

    name: str
    pipeline: str


AnyPipelineEvent = (
    PipelineCreated
    | PipelineRenamed
    | VariableSet
    | VariableRemoved
    | SettingChanged
    | SettingRemoved
    | TaskAdded
    | TaskChanged
    | TaskRenamed
    | TaskMoved
    | TaskRemoved
    | DependencyAdded
    | DependencyRemoved
    | PipelineRestored
    | PipelineDeleted
)
AnyNameEvent = PipelineNameTaken | PipelineNameReleased
