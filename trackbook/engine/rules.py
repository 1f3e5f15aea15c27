"""What a pipeline must be: every problem in one pass, each with its path, and what isn't acted on yet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from trackbook.engine import amounts, mounts
from trackbook.engine.errors import Refused, Warned
from trackbook.engine.fields import FREE, LONGEST_TEXT, PIPELINE, TASK, VARIABLES, Field
from trackbook.engine.findings import AT_MOST, Findings, Path, spell_value
from trackbook.engine.foreign_keys import command_synonym, folded
from trackbook.engine.graph_rules import check_graph
from trackbook.engine.names import (
    did_you_mean,
    near,
    pipeline_name_problem,
    set_by_system,
    task_name_problem,
)
from trackbook.engine.paths import join

DEEPEST = 64
"""Levels of nesting that a value may have, as in YAML."""
MOST_TASKS = 20_000
MOST_UNKNOWN_KEYS = 10_000
"""Keys of one mapping that are kept and not acted on."""
_SERVING = frozenset(("serving", "deployment"))
_MODES = ("single-node", "multi-node")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
_SECRET = re.compile(r"\$\{\{\s*secrets\.([^\s{}]{1,128})\s*\}\}")


def check(content: Mapping[str, Any]) -> list[Warned]:
    """Return what the content holds that isn't acted on as its author may expect; raises Refused, all at once."""
    found = examine({**content, "tasks": list(content.get("tasks", {}).values())})
    found.refuse()
    return found.warnings


def blockers(content: Mapping[str, Any]) -> list[Refused]:
    """Return what keeps this content, itself in order, from being run."""
    tasks = content.get("tasks", {})
    found = [] if tasks else [Refused("no_tasks", "the pipeline has no tasks to run", "tasks")]
    for path, name in secrets(content):
        message = f"the secret {name!r} can't be resolved: there is no store of secrets yet"
        found.append(Refused("secrets_unsupported", message, join(path)))
    return found[:AT_MOST]


def is_serving(task: Mapping[str, Any]) -> bool:
    """Whether the task serves a model rather than runs a command to its end."""
    return str(task.get("type") or "").lower() in _SERVING or bool(task.get("service"))


def secrets(content: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Yield where commands and variables refer to a secret, and its name."""
    yield from _in_variables(content, ())
    for index, task in enumerate(content.get("tasks", {}).values()):
        yield from _in_variables(task, ("tasks", index))
        yield from _in_text(task.get("command"), ("tasks", index, "command"))


def _in_variables(holder: Mapping[str, Any], at: Path) -> Iterator[tuple[Path, str]]:
    environment = holder.get("environment")
    variables = environment.get("envs") if isinstance(environment, dict) else None
    for name, value in variables.items() if isinstance(variables, dict) else ():
        yield from _in_text(value, (*at, "environment", "envs", name))


def _in_text(text: Any, at: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(text, str) and "${{" in text:
        for name in dict.fromkeys(_SECRET.findall(text)):
            yield at, name


def examine(document: Mapping[str, Any]) -> Findings:
    """Check a document (its tasks a list) by the table of fields, then each task, then the graph."""
    found = Findings()
    _by_table(document, PIPELINE, (), found)
    _pipeline_itself(document, found)
    tasks = document["tasks"] if isinstance(document["tasks"], list) else []
    if len(tasks) > MOST_TASKS:
        found.no(
            "too_many_tasks", f"the pipeline has {len(tasks):,} tasks; it may have {MOST_TASKS:,}", ("tasks",)
        )
        return found
    if not tasks and isinstance(document["tasks"], list):
        found.warn("no_tasks", "the pipeline has no tasks", ("tasks",))
    first_of: dict[str, int] = {}
    for index, task in enumerate(tasks):
        if isinstance(task, dict):
            _task(task, index, first_of, found)
        elif task is None:
            found.no("wrong_type", f"task {index + 1} of the list is empty", ("tasks", index))
    check_graph(tasks, first_of, found)
    by_index = {index: task if isinstance(task, dict) else {} for index, task in enumerate(tasks)}
    for path, name in secrets({**document, "tasks": by_index}):
        message = f"the secret {name!r} isn't resolved yet, and keeps the pipeline from running"
        found.warn("secret_unresolved", message, path)
    return found


# By the table of fields -------------------------------------------------------------------------------------


def _by_table(value: Any, wanted: Field, at: Path, found: Findings) -> None:
    if value is None:
        return
    if isinstance(value, dict):
        if len(value) > MOST_UNKNOWN_KEYS < len(value.keys() - wanted.fields.keys()) and wanted.fields:
            message = f"there are more than {MOST_UNKNOWN_KEYS:,} keys here that are not known"
            found.no("too_many_unknown_keys", message, at)
        elif wanted.mapping:
            _mapping(value, wanted, at, found)
        else:
            _wrong(value, wanted, at, found)
    elif isinstance(value, list):
        if not wanted.listing:
            _wrong(value, wanted, at, found)
        elif len(at) > DEEPEST:
            found.no("too_deep", f"values may be nested {DEEPEST} levels deep", at)
        else:
            for index, item in enumerate(value):
                _by_table(item, wanted.item or FREE, (*at, index), found)
    elif wanted.kind is None or not wanted.kind.fits(value):
        _wrong(value, wanted, at, found)


def _mapping(mapping: dict[Any, Any], wanted: Field, at: Path, found: Findings) -> None:
    if len(at) > DEEPEST:
        found.no("too_deep", f"values may be nested {DEEPEST} levels deep", at)
        return
    for key, value in mapping.items():
        if not isinstance(key, str) or "\0" in key or len(key) > LONGEST_TEXT:
            found.no("bad_key", f"the key {spell_value(key)} isn't a text without NUL", at)
            continue
        inner = wanted.fields.get(key) or wanted.rest
        if inner is None:
            inner = FREE
            if wanted.fields:
                _unknown_key(key, value, wanted, at, found)
        if wanted.key and (problem := wanted.key(key)):
            found.no("bad_variable_name", f"{spell_value(key)}: {problem}", (*at, key))
        _by_table(value, inner, (*at, key), found)


def _unknown_key(key: str, value: Any, wanted: Field, at: Path, found: Findings) -> None:
    """Refuse a key that another engine would act on; warn about any other one."""
    instead = wanted.foreign.get(folded(key)) if value not in (None, "") else None
    if instead is None and _is_misplaced_variable(key, value, wanted):
        instead = f"Write `envs: {{{key}: …}}` in `environment`."
    if instead is not None:
        found.no("unsupported_key", f"{spell_value(key)} has no meaning here", (*at, key), instead)
        return
    if found.has_enough_warnings:
        return
    meant = _near_miss(key, tuple(wanted.fields))
    if (environment := wanted.fields.get("environment")) and key in environment.fields:
        meant = f"environment.{key}"
    did = f"; did you mean {meant!r}?" if meant else ""
    found.warn(
        "unknown_key",
        f"{spell_value(key)} is not a key that is known here: it is kept, and not acted on{did}",
        (*at, key),
    )


def _is_misplaced_variable(key: str, value: Any, wanted: Field) -> bool:
    """Tell `environment: {EPOCHS: 3}`, where other engines have their variables."""
    return (
        wanted.fields.get("envs") is VARIABLES
        and _VARIABLE.fullmatch(key) is not None
        and not isinstance(value, dict | list)
    )


@lru_cache(4096)
def _near_miss(key: str, known: tuple[str, ...]) -> str | None:
    return near(key, known, 0.8)


def _wrong(value: Any, wanted: Field, at: Path, found: Findings) -> None:
    single = not isinstance(value, dict | list)
    code = wanted.kind.code if wanted.kind and single else "wrong_type"
    place = next((part for part in reversed(at) if isinstance(part, str)), "pipeline")
    found.no(code, f"{place} is {spell_value(value)}; expected {wanted.what()}", at)


# The pipeline itself ----------------------------------------------------------------------------------------


def _pipeline_itself(document: Mapping[str, Any], found: Findings) -> None:
    name = document.get("name")
    if name is None:
        found.no("missing_name", "the pipeline has no name", ("name",))
    elif isinstance(name, str) and (problem := pipeline_name_problem(name)):
        found.no("bad_name", problem, ("name",))
    if document.get("params"):
        found.warn("params_ignored", "`params` isn't acted on yet", ("params",))
    if amounts.truth(document.get("is_active")) is False:
        message = "`is_active: false` isn't acted on: the pipeline can be run"
        found.warn("is_active_ignored", message, ("is_active",))
    _code(document, found)
    _settings(document, (), found)


def _code(document: Mapping[str, Any], found: Findings) -> None:
    """Refuse a folder of code without the hash of its archive, and a hash without a folder."""
    folder, sha256 = document.get("code"), document.get("code_sha256")
    if folder and not sha256:
        message = f"the folder {spell_value(folder)} was not packed: `code_sha256` is missing"
        hint = (
            "`trackbook pipeline apply` and `trackbook run` pack and upload it. Other clients upload an archive "
            "by PUT /api/code/SHA256 and give its `code_sha256`."
        )
        found.no("code_not_packed", message, ("code",), hint)
    elif sha256 and not folder:
        message = "`code_sha256` is the hash of an archive of `code`, which is missing"
        found.no("code_missing", message, ("code_sha256",), "Write `code: FOLDER`, or leave out both.")


def _settings(holder: Mapping[str, Any], at: Path, found: Findings) -> None:
    """Check what the pipeline gives to all its tasks and a task has for itself."""
    environment, resources = holder.get("environment"), holder.get("resources")
    variables = environment.get("envs") if isinstance(environment, dict) else None
    for variable in variables if isinstance(variables, dict) else ():
        if isinstance(variable, str) and set_by_system(variable):
            path = (*at, "environment", "envs", variable)
            found.warn("variable_overridden", f"{variable} is set by the system, over the value given here", path)
    if isinstance(resources, dict) and {"mem", "memory"} <= resources.keys():
        found.warn("given_twice", "`mem` and `memory` are both given; `mem` counts", (*at, "resources", "memory"))
    _mounts(holder.get("mounts"), at, found)


def _mounts(given: Any, at: Path, found: Findings) -> None:
    paths: set[str] = set()
    for index, text in enumerate(given if isinstance(given, list) else ()):
        place = (*at, "mounts", index)
        if text is None:
            found.no("bad_mount", "the mount is empty", place)
        elif isinstance(text, str):
            with suppress(ValueError):  # found by its kind
                path = mounts.parse(text).path
                if path in paths:
                    found.no("duplicate_mount", f"a second folder would be found at {path}", place)
                paths.add(path)


# Each task --------------------------------------------------------------------------------------------------


def _task(task: dict[str, Any], index: int, first_of: dict[str, int], found: Findings) -> None:
    at: Path = ("tasks", index)
    _task_name(task.get("name"), index, first_of, found)
    _command(task, at, found)
    mode = task.get("cluster_mode")
    if isinstance(mode, str) and mode not in ("", *_MODES):
        message = f"cluster_mode is {spell_value(mode)}; expected single-node or multi-node"
        found.no("unknown_cluster_mode", message, (*at, "cluster_mode"), did_you_mean(mode, _MODES))
    if task.get("retry"):
        found.warn("retry_ignored", "`retry` isn't acted on yet: a task that fails ends the job", (*at, "retry"))
    if amounts.truth(task.get("continue_on_failure")):
        message = "`continue_on_failure` isn't acted on yet: a task that fails ends the job"
        found.warn("continue_on_failure_ignored", message, (*at, "continue_on_failure"))
    _settings(task, at, found)


def _command(task: dict[str, Any], at: Path, found: Findings) -> None:
    command = task.get("command")
    blank = command is None or (isinstance(command, str) and not command.strip())
    if not blank or is_serving(task) or amounts.truth(task.get("skip")):
        return
    others = [key for key in task if isinstance(key, str) and key not in TASK.fields]
    if any(command_synonym(key) for key in others):
        return  # refused as that key
    meant = next((key for key in others if _near_miss(key, ("command",))), None)
    hint = f"Did you mean `command` by {meant!r}?" if meant else ""
    found.no("missing_command", f"task {spell_value(task.get('name'))} has no command", (*at, "command"), hint)


def _task_name(name: Any, index: int, first_of: dict[str, int], found: Findings) -> None:
    at: Path = ("tasks", index, "name")
    if name is None:
        found.no("missing_name", f"task {index + 1} of the list has no name", at)
    elif isinstance(name, str):
        if problem := task_name_problem(name):
            found.no("bad_name", problem, at)
        if name in first_of:
            found.no("duplicate_name", f"the name {spell_value(name)} is that of tasks[{first_of[name]}] too", at)
        else:
            first_of[name] = index
