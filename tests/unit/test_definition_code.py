"""`code: FOLDER` and `code_sha256` of a pipeline: what is refused, what a version holds, what a diff says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trackbook.adapters.backendai.backend import BackendAIBackend
from trackbook.adapters.backendai.config import Cluster
from trackbook.adapters.yaml.dump import dump
from trackbook.adapters.yaml.load import load
from trackbook.engine import definition
from trackbook.engine.content import from_mapping
from trackbook.engine.diff import describe, diff
from trackbook.engine.errors import Refused

ONE, OTHER = "1" * 64, "2" * 64


def content(**settings: Any) -> dict[str, Any]:
    """Return a pipeline of one task with these settings."""
    return from_mapping({"name": "p", "tasks": [{"name": "a", "command": "true"}]} | settings)


def test_a_folder_without_its_archive_is_refused() -> None:
    """Given a client that packs nothing; when it names a folder; then the refusal says what to do."""
    with pytest.raises(Refused) as refused:
        definition.check(content(code="."))

    assert (refused.value.code, refused.value.path) == ("code_not_packed", "code")
    assert "pipeline apply" in refused.value.hint


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"code": ".", "code_sha256": "abc"}, "bad_hash"),
        ({"code": ".", "code_sha256": ONE.upper().replace("1", "A")}, "bad_hash"),
        ({"code_sha256": ONE}, "code_missing"),
        ({"code": ["."], "code_sha256": ONE}, "wrong_type"),
    ],
)
def test_what_can_be_no_code_is_refused(settings: dict[str, Any], code: str) -> None:
    """Given a hash that is none, or one without a folder; when it is checked; then each is refused."""
    with pytest.raises(Refused) as refused:
        definition.check(content(**settings))

    assert refused.value.code == code


def test_a_task_has_no_code_of_its_own() -> None:
    """Given `code` in a task; when it is checked; then it is refused, not ignored."""
    with pytest.raises(Refused) as refused:
        definition.check(from_mapping({"name": "p", "tasks": [{"name": "a", "command": "true", "code": "."}]}))

    assert (refused.value.code, refused.value.path) == ("unsupported_key", "tasks[0].code")
    assert "belongs to the pipeline" in refused.value.hint


def test_each_task_gets_the_hash() -> None:
    """Given code; when tasks are made from the definition; then each has the hash, and none without code."""
    given = content(code=".", code_sha256=ONE)

    assert [task.code for task in definition.tasks(given).values()] == [ONE]
    assert [task.code for task in definition.tasks(content()).values()] == [""]


def test_the_definition_without_code_is_as_before() -> None:
    """Given no code; when the content is written; then it has neither key."""
    assert b"code" not in definition.canonical(content())


def test_a_difference_says_that_the_code_changed() -> None:
    """Given another archive; when versions are compared; then one line says so, by short hashes."""
    old, new = content(code=".", code_sha256=ONE), content(code=".", code_sha256=OTHER)

    assert [describe(event, old) for event in diff(old, new)] == [f"code: {'1' * 12} → {'2' * 12}"]
    assert [describe(event) for event in diff(content(), new)] == ["code .", f"code: {'2' * 12}"]


def test_yaml_keeps_both_keys() -> None:
    """Given a version with code; when it is written as YAML and read; then it is the same."""
    given = content(code="./src", code_sha256=ONE)

    assert load(dump(given)).content == given
    assert dump(given).startswith(f"name: p\ncode: ./src\ncode_sha256: '{ONE}'\n")


def test_a_cluster_gives_code_to_one_container(tmp_path: Path) -> None:
    """Given a cluster; then tasks get their code, but for those in several containers and for services."""
    cluster = Cluster.from_mapping(
        "main", {"endpoint": "http://127.0.0.1:1", "access_key": "A" * 20, "secret_key": "s" * 40, "image": "i"}
    )
    backend = BackendAIBackend("backendai/main", cluster, tmp_path, "abcd1234")
    tasks = [
        {"name": "a", "command": "true"},
        {"name": "b", "command": "true", "cluster_mode": "multi-node", "cluster_size": 2},
        {"name": "c", "type": "serving", "service": {"model": "m"}, "cluster_size": 2},
    ]

    judged = [
        [
            (each.code, each.path)
            for each in backend.validate(list(definition.tasks(content(tasks=tasks, **settings)).values()))
        ]
        for settings in ({"code": ".", "code_sha256": ONE}, {})
    ]

    assert judged == [[("code_unsupported", "tasks[1].cluster_size"), ("service_code_ignored", "code")], []]
