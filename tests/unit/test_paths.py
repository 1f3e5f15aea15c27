"""Machine paths: written and read again without loss."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackbook.engine.paths import drop, join, look, put, split


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("", []),
        ("name", ["name"]),
        ("tasks[2].resources.mem", ["tasks", 2, "resources", "mem"]),
        ('resources["cuda.shares"]', ["resources", "cuda.shares"]),
        ('tasks[0].environment.envs["1A"]', ["tasks", 0, "environment", "envs", "1A"]),
        ("environment.scaling-group", ["environment", "scaling-group"]),
    ],
)
def test_paths_are_written_and_read(path: str, parts: list[str | int]) -> None:
    """A path reads like the expression that leads to the place."""
    assert join(parts) == path
    assert split(path) == parts


@given(st.lists(st.text() | st.integers(0, 999_999_999)))
def test_any_path_is_read_again(parts: list[str | int]) -> None:
    """Whatever the keys, nothing is lost."""
    assert split(join(parts)) == parts


@pytest.mark.parametrize("path", [".", "a.", ".a", "a..b", "a[", "a[x]", "a[-1]", 'a["b]', "a b", "[0]a"])
def test_what_is_no_path_is_reported(path: str) -> None:
    """A path that can't be read raises an error with the place in it."""
    with pytest.raises(ValueError, match="can't read the path"):
        split(path)


def test_values_are_put_and_dropped_without_changing_the_original() -> None:
    """A change makes new mappings along the path and shares the others."""
    original = {"a": {"b": 1}, "c": {"d": 2}}

    assert put(original, ["a", "x", "y"], 3) == {"a": {"b": 1, "x": {"y": 3}}, "c": {"d": 2}}
    assert put(original, ["a", "b", "z"], 3)["a"] == {"b": {"z": 3}}
    assert drop(original, ["a", "b"]) == {"a": {}, "c": {"d": 2}}
    assert drop(original, ["a", "b", "z"]) == drop(original, ["x", "y"]) == original
    assert original == {"a": {"b": 1}, "c": {"d": 2}}
    assert put(original, ["a", "x"], 3)["c"] is original["c"]
    assert (look(original, ["a", "b"]), look(original, ["a", "b", "z"]), look(original, ["x"])) == (1, None, None)
