"""A task as it runs, whichever generation wrote it; the figures of a pipeline; its canonical form and hash."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from pipeline_stories import DEFAULTS, EARLY, NEWEST, arbitrary_contents, pipeline, task

from trackbook.adapters.yaml.load import load
from trackbook.engine import amounts, definition, graph
from trackbook.engine.content import Content
from trackbook.events.job import TaskShape

GIB = 1024**3


def test_a_task_of_the_newest_generation() -> None:
    """Its own variables stand over the pipeline's, amounts are numbers, sizes bytes."""
    train = definition.tasks(load(NEWEST).content)["train"]

    assert (train.index, train.command, train.dependencies) == (1, "./train.sh", ["01_data_ingestion"])
    assert train.variables == {"EPOCHS": "10"}
    assert train.resources == {"cpu": 4, "mem": 16 * GIB, "cuda.shares": 1.5}
    assert (train.shmem, train.cluster_mode, train.cluster_size) == (2 * GIB, "multi-node", 2)
    assert (train.image, train.mounts, train.skip) == ("registry.example/torch:2.5", ["datasets:iris"], False)
    assert train.settings["environment"] == {
        "project": "default",
        "scaling-group": "gpu",
        "image": "registry.example/torch:2.5",
    }


def test_the_pipelines_defaults_show_through_where_a_task_says_nothing() -> None:
    """Blank settings, as FastTrack's forms leave them, are none; others replace the default one by one."""
    tasks = definition.tasks(load(DEFAULTS).content)
    prepare, fit = tasks["prepare"], tasks["fit"]

    assert prepare.resources == {"cpu": 2, "mem": 4 * GIB, "cuda.shares": 0.5}
    assert fit.resources == {"cpu": 2, "mem": 8 * GIB, "cuda.shares": 2}
    assert (prepare.image, fit.image) == ("registry.example/python:3.8", "registry.example/python:3.8")
    assert (prepare.variables, fit.variables) == ({"MODE": "quick"}, {"MODE": "thorough"})
    assert (prepare.shmem, fit.shmem) == (GIB, GIB)
    assert (prepare.mounts, fit.mounts) == (["shared"], [])
    assert fit.settings["resource_opts"] == {"shmem": "1g"}


def test_a_task_of_the_first_generation() -> None:
    """JSON is read as YAML, characters beyond 16 bits included."""
    only = definition.tasks(load(EARLY).content)["only"]

    assert only.command == "echo \U0001f600 안녕"
    assert only.resources == {"cpu": 1, "mem": GIB}
    assert only.variables == {"TAG": "v1"}


def test_variables_become_the_text_that_a_process_gets() -> None:
    """Booleans are spelled in YAML's words and numbers as they are written; nothing is the empty text."""
    given = {"A": True, "B": False, "C": 1, "D": 1.5, "E": None, "F": "012"}
    [a] = definition.tasks(pipeline(task("a", environment={"envs": given}))).values()

    assert a.variables == {"A": "true", "B": "false", "C": "1", "D": "1.5", "E": "", "F": "012"}


def test_the_executor_is_the_tasks_or_else_the_pipelines() -> None:
    """An executor may be named for a task, or for all of them."""
    content = pipeline(task("a"), task("b", executor="backendai/main"), executor="local")

    assert [one.executor for one in definition.tasks(content).values()] == ["local", "backendai/main"]
    assert definition.tasks(pipeline(task("a")))["a"].executor == ""


def test_of_two_spellings_the_newer_counts() -> None:
    """Where both `mem` and `memory` are given, `mem` counts, in whatever order."""
    for given in ({"mem": "1g", "memory": "2g"}, {"memory": "2g", "mem": "1g"}):
        assert definition.tasks(pipeline(task("a", resources=given)))["a"].resources == {"mem": GIB}


def test_shapes_keep_order_and_skips() -> None:
    """The graph of a job has the tasks in the pipeline's order, dependencies in theirs."""
    content = pipeline(task("c", "b", "a"), task("a"), task("b", skip=True))

    assert definition.shapes(content) == [
        TaskShape("c", ["b", "a"]),
        TaskShape("a"),
        TaskShape("b", skip=True),
    ]
    assert [one.shape for one in definition.tasks(content).values()] == definition.shapes(content)


def test_the_summary_counts_tasks_and_resources() -> None:
    """Nodes of a cluster count each, skipped tasks ask for nothing, images are reported once."""
    summary = definition.summary(load(NEWEST).content)

    assert (summary.tasks, summary.skipped, summary.dependencies) == (2, 0, 1)
    assert (summary.depth, summary.width) == (2, 1)
    assert summary.total == {"cpu": 9, "mem": 32 * GIB + 512 * 1024**2, "cuda.shares": 3, "shmem": 4 * GIB}
    assert summary.largest == {"cpu": 8, "mem": 32 * GIB, "cuda.shares": 3, "shmem": 4 * GIB}
    assert summary.images == ["registry.example/python:3.11", "registry.example/torch:2.5"]
    skipping = definition.summary(pipeline(task("a", resources={"cpu": 4}, skip=True)))
    assert (skipping.tasks, skipping.skipped, skipping.total) == (1, 1, {})
    assert msgspec.json.encode(summary)


@pytest.mark.parametrize(
    ("edges", "shape"),
    [
        ({}, (0, 0)),
        ({"a": []}, (1, 1)),
        ({"d": ["b", "c"], "c": ["a"], "b": ["a"], "a": []}, (3, 2)),
        ({"a": [], "b": ["a"], "c": ["a", "b"]}, (3, 1)),
        ({f"t{index}": [f"t{index - 1}"] if index else [] for index in range(10_000)}, (10_000, 1)),
    ],
)
def test_depth_and_width(edges: dict[str, list[str]], shape: tuple[int, int]) -> None:
    """Depth is the longest chain, width the most tasks on one level; deep graphs need no deep stack."""
    assert graph.depth_and_width(edges) == shape
    assert graph.cycles(edges, 1) == []


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16g", 16 * GIB),
        ("512m", 512 * 1024**2),
        ("1.5g", 3 * GIB // 2),
        ("2GiB", 2 * GIB),
        ("2 GB", 2 * GIB),
        ("1K", 1024),
        ("1t", 1024 * GIB),
        ("0g", 0),
        ("0", 0),
        ("1048576", 1024**2),
        ("100b", 100),
        (4096, 4096),
        (1.5, 1),
        ("7e", 7 * 1024**6),
        ("8e", None),
        (2**63, None),
        ("", None),
        ("g", None),
        ("16gg", None),
        ("16x", None),
        ("012g", None),
        ("-1g", None),
        ("1e3", None),
        ("٣g", None),
        (-1, None),
        (True, None),
        (None, None),
        (float("inf"), None),
    ],
)
def test_sizes(text: object, size: int | None) -> None:
    """Sizes are read in powers of 1024, and never guessed."""
    assert amounts.size(text) == size


def test_the_canonical_form_is_the_content() -> None:
    """The bytes that are hashed are the content as JSON, and read again as the same content in its order."""
    content = load(NEWEST).content
    data = definition.canonical(content)

    assert msgspec.json.decode(data) == content
    assert list(msgspec.json.decode(data)["tasks"]) == list(content["tasks"])
    assert definition.content_hash(content) == hashlib.sha256(data).hexdigest()


def test_the_hash_ignores_formatting_and_heeds_order() -> None:
    """The order of keys and the style of the YAML don't count; the order of tasks and lists does."""
    one = load("name: p\ntasks:\n- name: a\n  command: x\n- {name: b, command: 'y'}\n").content
    other = load('{"tasks": [{"command": "x", "name": "a"}, {"command": "y", "name": "b"}], "name": "p"}').content

    assert definition.content_hash(one) == definition.content_hash(other)
    assert definition.content_hash(one) != definition.content_hash(
        {**one, "tasks": dict(reversed(one["tasks"].items()))}
    )
    hashes = {
        definition.content_hash(pipeline(task("a"), task("b"), task("c", *order), mounts=mounts))
        for order in ("ab", "ba")
        for mounts in (["x", "y"], ["y", "x"])
    }
    assert len(hashes) == 4


@for_all(arbitrary_contents())
@settings(max_examples=100, deadline=None)
def test_the_canonical_form_of_any_content_is_read_again(content: Content) -> None:
    """Whatever a content holds, its canonical form leads back to the same canonical form."""
    data = definition.canonical(content)

    assert definition.canonical(msgspec.json.decode(data)) == data
