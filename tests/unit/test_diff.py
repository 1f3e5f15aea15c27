"""The difference of two contents: it leads from one to the other, says no more than it must, and reads well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from growth import growth
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from pipeline_stories import arbitrary_contents, folded, pipeline, task

from trackbook.engine.content import Content, canonical, same
from trackbook.engine.diff import describe, diff, hunks
from trackbook.engine.pipeline import PipelineState
from trackbook.events import pipeline as facts


def _state(content: Content) -> PipelineState:
    state = folded(facts.PipelineCreated(content["name"]))
    return folded(*diff({"name": content["name"], "tasks": {}}, content), onto=state)


@for_all(arbitrary_contents(), arbitrary_contents())
@settings(max_examples=300, deadline=None)
def test_the_difference_leads_from_one_content_to_the_other(old: Content, new: Content) -> None:
    """Whatever the contents, folding the difference onto the old one gives the new one, byte for byte."""
    state = folded(*diff(old, new), onto=_state(old))

    assert canonical(state.content) == canonical(new)


@for_all(arbitrary_contents(), st.randoms())
@settings(max_examples=100, deadline=None)
def test_equal_contents_have_no_difference(content: Content, random: Any) -> None:
    """The order of keys is no difference, except that of the tasks."""
    shuffled = _shuffled(content, random)
    shuffled["tasks"] = {name: _shuffled(content["tasks"][name], random) for name in content["tasks"]}

    assert diff(content, shuffled) == []
    assert canonical(content) == canonical(shuffled)


def _shuffled(value: dict[str, Any], random: Any) -> dict[str, Any]:
    items = list(value.items())
    random.shuffle(items)
    return dict(items)


@for_all(arbitrary_contents(), arbitrary_contents())
@settings(max_examples=100, deadline=None)
def test_every_event_can_be_reported(old: Content, new: Content) -> None:
    """Each event becomes one line of words."""
    for event in diff(old, new):
        for words in (describe(event), describe(event, old), *hunks(event, old)):
            assert words
            assert "\n" not in words


@for_all(arbitrary_contents(), arbitrary_contents())
@settings(max_examples=100, deadline=None)
def test_folding_changes_no_content_handed_out_before(old: Content, new: Content) -> None:
    """A content that was taken from a state stays what it was while the state goes on."""
    state = _state(old)
    taken = state.content
    before = canonical(taken)
    folded(*diff(old, new), onto=state)

    assert canonical(taken) == before


@pytest.mark.parametrize(
    ("old", "new", "events"),
    [
        (pipeline(), pipeline(task("a")), [facts.TaskAdded(task("a"))]),
        (pipeline(task("a")), pipeline(task("b"), task("a")), [facts.TaskAdded(task("b"))]),
        (pipeline(task("a")), pipeline(task("a"), task("b")), [facts.TaskAdded(task("b"), "a")]),
        (pipeline(task("a"), task("b")), pipeline(task("b")), [facts.TaskRemoved("a")]),
        (
            pipeline(task("a"), task("b"), task("c")),
            pipeline(task("b"), task("c"), task("a")),
            [facts.TaskMoved("a", "c")],
        ),
        (
            pipeline(task("a"), task("b", "a")),
            pipeline(task("b")),
            [facts.DependencyRemoved("b", "a"), facts.TaskRemoved("a")],
        ),
        (
            pipeline(task("a"), task("b"), task("c", "a", "b")),
            pipeline(task("a"), task("b"), task("c", "b", "a")),
            [facts.DependencyRemoved("c", "b"), facts.DependencyAdded("c", "b", 0)],
        ),
        (
            pipeline(task("a"), {"name": "b", "command": "x"}),
            pipeline(task("a"), {"name": "b", "command": "x", "dependencies": ["a"]}),
            [facts.DependencyAdded("b", "a", 0)],
        ),
        (
            pipeline(task("a", resources={"cpu": 1, "mem": "4g"})),
            pipeline(task("a", resources={"cpu": 1, "mem": "8g"})),
            [facts.TaskChanged("a", [(["resources", "mem"], "8g")])],
        ),
        (
            pipeline(task("a", resources={"cpu": 1})),
            pipeline(task("a", resources={"cpu": "1"})),
            [facts.TaskChanged("a", [(["resources", "cpu"], "1")])],
        ),
        (
            pipeline(task("a", retry={"delay": 1}, skip=True)),
            pipeline(task("a", mounts=["x", "y"])),
            [facts.TaskChanged("a", [(["mounts"], ["x", "y"])], [["retry"], ["skip"]])],
        ),
        (
            pipeline(environment={"envs": {"A": "1", "B": "2"}}),
            pipeline(environment={"envs": {"A": "1", "C": "3"}}),
            [facts.VariableRemoved("B"), facts.VariableSet("C", "3")],
        ),
        (
            pipeline(description="old", version="1"),
            pipeline(description="new", ownership={"scope": "user"}),
            [
                facts.SettingRemoved(["version"]),
                facts.SettingChanged(["description"], "new"),
                facts.SettingChanged(["ownership", "scope"], "user"),
            ],
        ),
    ],
)
def test_the_difference_says_what_changed_and_no_more(
    old: Content, new: Content, events: list[facts.AnyPipelineEvent]
) -> None:
    """Each edit is recorded in the granular events of its kind."""
    assert diff(old, new) == events


def test_a_reversed_list_is_reported_and_folded_in_linear_time() -> None:
    """Even where all but one of 10,000 tasks move, finding it out and folding it is linear."""

    def prepare(size: int) -> Callable[[], Any]:
        old = pipeline(*(task(f"t{index}") for index in range(size)))
        new = {**old, "tasks": dict(reversed(old["tasks"].items()))}
        state = _state(old)

        def work() -> None:
            events = diff(old, new)
            folded(*events, onto=state)
            assert len(events) == size - 1
            assert list(state.content["tasks"]) == list(new["tasks"])

        return work

    assert growth(prepare, 10_000) < 1.5


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (facts.PipelineCreated("iris"), "pipeline iris created"),
        (facts.PipelineRenamed("iris2"), "pipeline renamed to iris2"),
        (facts.PipelineRestored(3), "back to version 3"),
        (facts.PipelineDeleted(), "pipeline deleted"),
        (facts.VariableSet("EPOCHS", "5"), "variable EPOCHS 5"),
        (facts.VariableSet("EMPTY", ""), 'variable EMPTY ""'),
        (facts.VariableRemoved("EPOCHS"), "variable EPOCHS removed"),
        (facts.SettingChanged(["ownership", "scope"], "user"), "ownership.scope user"),
        (facts.SettingRemoved(["ownership", "scope"]), "ownership.scope removed"),
        (facts.TaskAdded(task("train")), "task train added"),
        (facts.TaskAdded(task("train", "a", "b")), "task train added, depends on a, b"),
        (facts.TaskAdded(task("train", *"abcdefg")), "task train added, depends on a, b, c, d, e and 2 more"),
        (facts.TaskChanged("train", [(["resources", "mem"], "8g")]), "task train: resources.mem 8g"),
        (
            facts.TaskChanged("train", [(["command"], "one\ntwo\n"), (["skip"], True)], [["retry"]]),
            "task train: command one … (2 lines), skip true, retry removed",
        ),
        (facts.TaskChanged("train", [(["command"], "x" * 100)]), f"task train: command {'x' * 59}…"),
        (facts.TaskRenamed("train", "fit"), "task train renamed to fit"),
        (facts.TaskMoved("train", "a"), "task train moved after a"),
        (facts.TaskMoved("train"), "task train moved to the front"),
        (facts.TaskRemoved("train"), "task train removed"),
        (facts.SettingChanged(["a\nb"], "\x1b[31mred"), "a\\nb \\x1b[31mred"),
        (facts.DependencyAdded("train", "a", 1), "task train depends on a (input 2)"),
        (facts.DependencyRemoved("train", "a"), "task train no longer depends on a"),
    ],
)
def test_events_in_words(event: facts.AnyPipelineEvent, words: str) -> None:
    """An event reads as one plain line."""
    assert describe(event) == words


def _with(variable: Any = None, **values: Any) -> Content:
    """Return a pipeline of one task with these settings, and one variable."""
    content = pipeline({**task("a"), **values})
    return content if variable is None else {**content, "environment": {"envs": {"V": variable}}}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (_with(cpu=1), _with(cpu=2), "task a: cpu 1 → 2"),
        (_with(), _with(cpu=2), "task a: cpu 2"),
        (_with(cpu=1), _with(), "task a: cpu removed (was 1)"),
        (_with(cpu=None), _with(cpu=0), "task a: cpu null → 0"),
        (_with("x"), _with("y"), "variable V x → y"),
        (_with("x"), {**_with(), "environment": {"envs": {}}}, "variable V removed (was x)"),
        (_with(command="one\ntwo"), _with(command="one\n2"), "task a: command one … (2 lines) → one … (2 lines)"),
    ],
)
def test_a_difference_says_what_was_there_before(old: Content, new: Content, words: str) -> None:
    """Old and new value stand in one line; what was not there before has none."""
    (event,) = diff(old, new)

    assert describe(event, old) == words


def test_texts_of_several_lines_are_compared_by_lines() -> None:
    """Of a long command only what differs is shown, with two lines around it; short values need no hunks."""
    lines = [f"step {number}" for number in range(9)]
    old = _with(command="\n".join(lines), cpu=1)
    new = _with(command="\n".join([*lines[:4], "other\x1b[31m", *lines[5:]]), cpu=2)
    (event,) = diff(old, new)

    name = "tasks.a.command"
    assert hunks(event, old)[:3] == [f"--- {name}", f"+++ {name}", "@@ -3,5 +3,5 @@"]
    assert hunks(event, old)[3:6] == [" step 2", " step 3", "-step 4"]
    assert hunks(event, old)[6].startswith("+other")
    assert "\x1b" not in hunks(event, old)[6]


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, True), (1, 1.0), (0.0, -0.0), ([1], [True]), ({"a": [1]}, {"a": [1.0]}), ("1", 1), (None, 0)],
)
def test_values_that_python_takes_for_equal_are_distinguished(one: Any, other: Any) -> None:
    """What is written differently in JSON is different."""
    assert not same(one, other)
    assert same(one, one)
