"""Large pipelines cost in proportion to their size, and those that are too large are refused in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from growth import growth

from trackbook.adapters.yaml.load import load
from trackbook.engine import definition, pipeline
from trackbook.engine.decider import step
from trackbook.engine.errors import Refused
from trackbook.engine.kinds import KINDS
from trackbook.engine.paths import Owned, drop, put
from trackbook.engine.rules import MOST_TASKS, MOST_UNKNOWN_KEYS

DECIDER = KINDS["pipeline"].decider


def unknown_keys(count: int) -> str:
    """Return a pipeline with keys that are kept and not acted on."""
    return "name: a\ntasks: []\n" + "".join(f"zz{number}: 1\n" for number in range(count))


def unknown_task_keys(count: int) -> str:
    """Return the same with the keys in a task."""
    return "name: a\ntasks:\n- name: t\n  command: x\n" + "".join(f"  zz{number}: 1\n" for number in range(count))


def variables(count: int) -> str:
    """Return a pipeline with many variables."""
    lines = "".join(f"    ZZ{number}: '1'\n" for number in range(count))
    return f"name: a\ntasks: []\nenvironment:\n  envs:\n{lines}"


def many_tasks(count: int) -> str:
    """Return a pipeline of many tasks, each of which waits for the one before."""
    tasks = (
        f"- name: t{number}\n  command: x\n  dependencies: [{f't{number - 1}' if number else ''}]\n"
        for number in range(count)
    )
    return "name: a\ntasks:\n" + "".join(tasks)


def applied(text: str) -> Any:
    """Apply a text to a new pipeline and return its state."""
    return step(DECIDER, DECIDER.initial("p"), pipeline.ApplyDefinition(load(text).content, None))[0]


@pytest.mark.parametrize("text", [unknown_keys, unknown_task_keys, variables, many_tasks])
def test_applying_a_large_pipeline_is_linear(text: Callable[[int], str]) -> None:
    """Reading, checking, deciding and folding four times as much take about four times as long, not sixteen."""

    def prepare(size: int) -> Callable[[], Any]:
        written = text(size)
        return lambda: applied(written)

    assert growth(prepare, 8000) < 1.5


@pytest.mark.parametrize("text", [unknown_keys, variables])
def test_changing_each_setting_is_linear(text: Callable[[int], str]) -> None:
    """An edit of everything in a large pipeline is folded in proportion to it, and so is its removal."""

    def prepare(size: int) -> Callable[[], Any]:
        state = applied(text(size))
        emptied = pipeline.ApplyDefinition(load("name: a\ntasks: []\n").content, None)
        return lambda: step(DECIDER, state, emptied)

    assert growth(prepare, 8000) < 1.5


@pytest.mark.parametrize(
    ("text", "most", "code"),
    [
        (unknown_keys, MOST_UNKNOWN_KEYS, "too_many_unknown_keys"),
        (unknown_task_keys, MOST_UNKNOWN_KEYS, "too_many_unknown_keys"),
        (many_tasks, MOST_TASKS, "too_many_tasks"),
    ],
)
def test_what_is_too_large_is_refused(text: Callable[[int], str], most: int, code: str) -> None:
    """One more than there may be is refused by name; as many as there may be are not."""
    definition.check(load(text(most)).content)

    with pytest.raises(Refused) as refused:
        definition.check(load(text(most + 1)).content)

    assert code in [refused.value.code, *(other.code for other in refused.value.others)]
    assert f"{most:,}" in refused.value.message


def test_a_content_that_was_shown_never_changes() -> None:
    """What somebody was given of a pipeline stays as it was, whatever is folded afterwards."""
    state = applied("name: a\ntasks: []\nzz: {deep: {x: 1}}\n")
    shown = state.content
    before = definition.canonical(shown)

    changed = load("name: a\ntasks: []\nzz: {deep: {x: 2, y: 3}}\n").content
    step(DECIDER, state, pipeline.ApplyDefinition(changed, None))

    assert definition.canonical(shown) == before


def test_owned_mappings_change_as_copies_would() -> None:
    """Putting and dropping in place leads to what `put` and `drop` return, and leaves what came in alone."""
    given = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    owned, copied, in_place = Owned(), given, given
    for keys, value in (
        (["a", "b"], 5),
        (["a", "c", "x"], 6),
        (["e", "f"], 7),
        (["n"], {"m": 1}),
        (["n", "k"], 2),
    ):
        copied, in_place = put(copied, keys, value), owned.put(in_place, keys, value)
        assert in_place == copied
    for keys in (["a", "c", "d"], ["n", "none"], ["e"], ["gone", "x"]):
        copied, in_place = drop(copied, keys), owned.drop(in_place, keys)
        assert in_place == copied

    assert given == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
