"""What a pipeline must be: every refusal with its code and path, all in one pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from growth import growth
from hypothesis import example, settings
from hypothesis import given as for_all
from hypothesis import strategies as st
from pipeline_stories import arbitrary_contents, pipeline, problems, task, values

from trackbook.engine import definition
from trackbook.engine.content import Content
from trackbook.engine.errors import Refused


def refused(content: Content) -> Refused:
    """Return what the content is refused with."""
    with pytest.raises(Refused) as caught:
        definition.check(content)
    return caught.value


# Names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "01_data_ingestion",
        "RAG-vs-nonRAG",
        "NFCORE.ALIGN.SORT_7",
        "학습",
        "fine tune",
        "a@b",
        "a[0].b",
        "a[x]",
        "x" * 128,
        "...",
    ],
)
def test_names_of_all_kinds_will_do(name: str) -> None:
    """A task may have any printable name of a reasonable length."""
    assert definition.check(pipeline(task(name))) == []


@pytest.mark.parametrize(
    "name", ["", " a", "a ", "a/b", ".", "..", "a\nb", "a\x1b", "a\u200bb", "a\u202eb", "x" * 129, "a[3]", "[12]"]
)
def test_names_that_could_mislead_are_refused(name: str) -> None:
    """A name that doesn't print, or that a path or an eye takes for something else, is refused."""
    assert problems(refused(pipeline(task(name)))) == [("bad_name", "tasks[0].name")]


@pytest.mark.parametrize(
    ("name", "code"), [(None, "missing_name"), ("a@3", "bad_name"), ("a/b", "bad_name"), (3, "wrong_type")]
)
def test_a_pipeline_needs_a_name_that_isnt_taken_for_a_version(name: Any, code: str) -> None:
    """`NAME@3` means a version, so '@' can't be in a pipeline's name."""
    assert problems(refused({"name": name, "tasks": {"a": task("a")}})) == [(code, "name")]


def test_tasks_that_cant_be_distinguished_are_refused_with_all_other_problems() -> None:
    """A doubled or missing name is refused in the same pass as whatever else is wrong."""
    tasks = [task("a"), task("a"), {"command": "x"}, "b", task("c", "zz"), {"name": 5, "command": "x"}]
    with pytest.raises(Refused) as caught:
        definition.from_mapping({"name": "p", "tasks": tasks})

    assert problems(caught.value) == [
        ("wrong_type", "tasks[3]"),
        ("wrong_type", "tasks[5].name"),
        ("duplicate_name", "tasks[1].name"),
        ("missing_name", "tasks[2].name"),
        ("unknown_dependency", "tasks[4].dependencies[0]"),
    ]


@pytest.mark.parametrize("tasks", ["a", 3, True])
def test_tasks_that_are_no_list_are_refused(tasks: Any) -> None:
    """A definition whose tasks are a single value is refused, and nothing else happens to it."""
    with pytest.raises(Refused) as caught:
        definition.from_mapping({"name": "p", "tasks": tasks})

    assert problems(caught.value) == [("wrong_type", "tasks")]


def test_tasks_may_come_as_a_mapping_by_name() -> None:
    """Content, as the engine gives it out, can be given back to it."""
    content = pipeline(task("b"), task("a", "b"))

    assert definition.from_mapping(content) == content
    assert definition.from_mapping({"name": "p", "tasks": {"a": {"command": "x"}}})["tasks"] == {
        "a": {"name": "a", "command": "x"}
    }


# The graph --------------------------------------------------------------------------------------------------


def test_a_cycle_is_shown_as_the_cycle() -> None:
    """Tasks that wait for one another are named in the order of flow, beginning with the first in the list."""
    refusal = refused(pipeline(task("a", "c"), task("b", "a"), task("c", "b"), task("d", "c")))

    assert problems(refusal) == [("cycle", "tasks[0].dependencies[0]")]
    assert "a → b → c → a" in refusal.message


def test_every_cycle_is_reported() -> None:
    """Cycles that have nothing to do with each other are all in one refusal."""
    refusal = refused(pipeline(task("a", "b"), task("b", "a"), task("x", "y"), task("y", "x")))

    assert problems(refusal) == [("cycle", "tasks[0].dependencies[0]"), ("cycle", "tasks[2].dependencies[0]")]


def test_a_long_cycle_is_shortened() -> None:
    """A cycle of 10,000 tasks is found at once and reported in a line."""
    ring = [task(f"t{index}", f"t{(index + 1) % 10_000}") for index in range(10_000)]
    refusal = refused(pipeline(*ring))

    assert len(refusal.message) < 300
    assert "(9989 more)" in refusal.message


def test_what_is_wrong_with_dependencies() -> None:
    """Unknown, doubled, own and empty dependencies are refused in their place, the unknown with a suggestion."""
    refusal = refused(
        pipeline(
            task("train"),
            task("eval", "trian", "eval", "train", "train"),
            {**task("x"), "dependencies": [None, 3]},
        )
    )

    assert sorted(problems(refusal)) == [
        ("duplicate_dependency", "tasks[1].dependencies[3]"),
        ("self_dependency", "tasks[1].dependencies[1]"),
        ("unknown_dependency", "tasks[1].dependencies[0]"),
        ("wrong_type", "tasks[2].dependencies[0]"),
        ("wrong_type", "tasks[2].dependencies[1]"),
    ]
    unknown = next(one for one in (refusal, *refusal.others) if one.code == "unknown_dependency")
    assert unknown.hint == "Did you mean 'train'?"


def test_the_hundredth_problem_is_the_last_that_is_reported() -> None:
    """A file full of errors gives a hundred of them and the number of the rest, in time linear in the file."""

    def prepare(size: int) -> Callable[[], Refused]:
        content = pipeline(*(task(f"task-{index}", f"tusk-{index}") for index in range(size)))
        return lambda: refused(content)

    refusal = prepare(5_000)()
    assert len(refusal.others) == 100
    assert refusal.others[-1].message == "4900 more problems are not shown"
    assert growth(prepare, 5_000) < 1.5


# Values -----------------------------------------------------------------------------------------------------

_REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"command": ""}, "missing_command", "command"),
    ({"command": " \n"}, "missing_command", "command"),
    ({"command": None}, "missing_command", "command"),
    ({"command": 5}, "wrong_type", "command"),
    ({"command": "a\0b"}, "wrong_type", "command"),
    ({"description": ["x"]}, "wrong_type", "description"),
    ({"cluster_mode": "multi_node"}, "unknown_cluster_mode", "cluster_mode"),
    ({"cluster_size": 0}, "bad_number", "cluster_size"),
    ({"cluster_size": -1}, "bad_number", "cluster_size"),
    ({"cluster_size": 1.5}, "bad_number", "cluster_size"),
    ({"cluster_size": "two"}, "bad_number", "cluster_size"),
    ({"skip": "maybe"}, "wrong_type", "skip"),
    ({"skip": 1}, "wrong_type", "skip"),
    ({"continue_on_failure": {}}, "wrong_type", "continue_on_failure"),
    ({"retry": 3}, "wrong_type", "retry"),
    ({"retry": {"max_attempts": -1}}, "bad_number", "retry.max_attempts"),
    ({"retry": {"delay": "soon"}}, "bad_amount", "retry.delay"),
    ({"resources": {"cpu": "four"}}, "bad_amount", "resources.cpu"),
    ({"resources": {"cpu": "012"}}, "bad_amount", "resources.cpu"),
    ({"resources": {"cpu": "1e3"}}, "bad_amount", "resources.cpu"),
    ({"resources": {"cpu": -1}}, "bad_amount", "resources.cpu"),
    ({"resources": {"cpu": True}}, "bad_amount", "resources.cpu"),
    ({"resources": {"mem": "16 gigs"}}, "bad_size", "resources.mem"),
    ({"resources": {"mem": "-1g"}}, "bad_size", "resources.mem"),
    ({"resources": {"mem": "9e"}}, "bad_size", "resources.mem"),
    ({"resources": {"memory": {}}}, "wrong_type", "resources.memory"),
    ({"resources": {"cuda.shares": "lots"}}, "bad_amount", 'resources["cuda.shares"]'),
    ({"resources": {"cuda": {"shares": "lots"}}}, "bad_amount", "resources.cuda.shares"),
    ({"resources": []}, "wrong_type", "resources"),
    ({"resource_opts": {"shmem": "x"}}, "bad_size", "resource_opts.shmem"),
    ({"environment": "python"}, "wrong_type", "environment"),
    ({"environment": {"image": 3.11}}, "wrong_type", "environment.image"),
    ({"environment": {"envs": ["A=1"]}}, "wrong_type", "environment.envs"),
    ({"environment": {"envs": {"A": {}}}}, "wrong_type", "environment.envs.A"),
    ({"environment": {"envs": {"A": "x\0"}}}, "bad_value", "environment.envs.A"),
    ({"environment": {"envs": {"A": "é" * 70_000}}}, "bad_value", "environment.envs.A"),
    ({"environment": {"envs": {"A": float("inf")}}}, "bad_value", "environment.envs.A"),
    ({"environment": {"envs": {"A-B": "x"}}}, "bad_variable_name", "environment.envs.A-B"),
    ({"environment": {"envs": {"1A": "x"}}}, "bad_variable_name", 'environment.envs["1A"]'),
    ({"environment": {"envs": {"A=B": "x"}}}, "bad_variable_name", 'environment.envs["A=B"]'),
    ({"environment": {"envs": {"": "x"}}}, "bad_variable_name", 'environment.envs[""]'),
    ({"mounts": "data"}, "wrong_type", "mounts"),
    ({"mounts": ["a/../b"]}, "bad_mount", "mounts[0]"),
    ({"mounts": ["/a"]}, "bad_mount", "mounts[0]"),
    ({"mounts": [".."]}, "bad_mount", "mounts[0]"),
    ({"mounts": ["data:"]}, "bad_mount", "mounts[0]"),
    ({"mounts": [":x"]}, "bad_mount", "mounts[0]"),
    ({"mounts": ["data:/etc"]}, "bad_mount", "mounts[0]"),
    ({"mounts": ["data:a/../../b"]}, "bad_mount", "mounts[0]"),
    ({"mounts": [None]}, "bad_mount", "mounts[0]"),
    ({"mounts": ["a:x", "b:x"]}, "duplicate_mount", "mounts[1]"),
    ({"mounts": ["x", "b:x"]}, "duplicate_mount", "mounts[1]"),
    ({"mounts": ["x", "b:/home/work/x"]}, "duplicate_mount", "mounts[1]"),
    ({"dependencies": "a"}, "wrong_type", "dependencies"),
    ({"service": {"replicas": "many"}, "type": "serving"}, "bad_number", "service.replicas"),
    ({"x": float("nan")}, "bad_value", "x"),
    ({"x": {"\0": 1}}, "bad_key", "x"),
    ({"x": {5: 1}}, "bad_key", "x"),
    ({"x": "y" * (256 * 1024 + 1)}, "bad_value", "x"),
    ({"x": 2**63}, "bad_value", "x"),
    ({"x": {"y": ["\0"]}}, "bad_value", "x.y[0]"),
]


@pytest.mark.parametrize(("given", "code", "place"), _REFUSED)
def test_values_that_cant_be_read_are_refused_in_their_place(
    given: dict[str, Any], code: str, place: str
) -> None:
    """Each wrong value is refused under its code, with the path that leads to it."""
    assert problems(refused(pipeline(task("b"), {**task("a"), **given}))) == [(code, f"tasks[1].{place}")]


@pytest.mark.parametrize(
    "given",
    [
        {"cluster_size": "2", "cluster_mode": "multi-node"},
        {"skip": "false", "command": "x"},
        {"skip": True, "command": None},
        {"type": "whatever", "module_uri": None},
        {"resources": {"cpu": 4, "mem": "16g"}},
        {"resources": {"cpu": "4.5", "mem": "1.5g", "cuda.shares": "1.5", "rocm.device": 1, "tpu.mem": "2GiB"}},
        {"resources": {"cpu": "", "memory": 1024, "cuda": {"shares": "", "device": 1}}},
        {"resources": {"mem": "512 MB"}, "resource_opts": {"shmem": 0}},
        {"environment": {"envs": {"A": 1, "B": 1.5, "C": True, "D": None, "_e2": ""}}},
        {"environment": {"envs": None}, "mounts": None, "dependencies": None, "resources": None},
        {"mounts": ["data", "models:m/v1", "data/2026/may:may", "weights:/mnt/weights"]},
    ],
)
def test_what_files_of_three_generations_hold_will_do(given: dict[str, Any]) -> None:
    """Numbers may be text, and blanks stand for nothing given."""
    assert definition.check(pipeline({**task("a"), **given})) == []


def test_the_pipelines_own_values_are_checked_too() -> None:
    """Defaults for all tasks follow the same rules as the tasks' own."""
    refusal = refused(
        pipeline(
            task("a"),
            description=1,
            ownership="me",
            resources={"cpu": "x"},
            resource_opts={"shmem": "x"},
            environment={"envs": {"A B": "x"}},
            mounts=["a//b"],
            params=3,
            version=25.6,
        )
    )

    assert sorted(problems(refusal)) == [
        ("bad_amount", "resources.cpu"),
        ("bad_mount", "mounts[0]"),
        ("bad_size", "resource_opts.shmem"),
        ("bad_variable_name", 'environment.envs["A B"]'),
        ("wrong_type", "description"),
        ("wrong_type", "ownership"),
        ("wrong_type", "params"),
    ]


def test_nesting_is_bounded() -> None:
    """A value nested too deep for those who walk it is refused, lists and mappings alike."""
    deep: Any = "x"
    for level in range(500):
        deep = [deep] if level % 2 else {"k": deep}

    assert refused(pipeline(task("a"), extra=deep)).code == "too_deep"


def test_messages_say_what_was_found_and_what_is_wanted() -> None:
    """A refusal can be understood without the documentation, and is short however long the value."""
    refusal = refused(pipeline({**task("a"), "resources": {"mem": "lots"}}))
    assert str(refusal) == (
        "mem is 'lots'; expected a size such as 16g, 512m or 1.5g (at tasks[0].resources.mem)."
    )
    assert len(refused(pipeline({**task("a"), "resources": {"mem": "x" * 10_000}})).message) < 200
    misspelt = refused(pipeline({"name": "a", "comand": "x"}))
    assert misspelt.hint == "Did you mean `command` by 'comand'?"


@for_all(arbitrary_contents())
@settings(max_examples=200, deadline=None)
def test_the_rules_are_total(content: Content) -> None:
    """Whatever a content holds, checking it gives warnings or a refusal; what passes can be summed up."""
    try:
        definition.check(content)
    except Refused:
        return
    assert definition.summary(content).tasks == len(content["tasks"])
    assert definition.from_mapping(definition.to_document(content)) == content


@for_all(st.just("p") | values, values | st.lists(values | st.fixed_dictionaries({"name": values}), max_size=3))
@settings(max_examples=300, deadline=None)
@example("p", [None])
@example("p", {"a": None})
def test_reading_a_definition_is_total(name: Any, tasks: Any) -> None:
    """Whatever stands for name and tasks, it is read or refused."""
    with contextlib.suppress(Refused):
        definition.check(definition.from_mapping({"name": name, "tasks": tasks}))
