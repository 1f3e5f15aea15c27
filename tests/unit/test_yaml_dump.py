"""YAML as it is written: read again without loss, by us and by FastTrack's reader, and pleasant to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from pipeline_stories import DEFAULTS, EARLY, NEWEST, arbitrary_contents, pipeline, task

from trackbook.adapters.yaml import dump as dumping
from trackbook.adapters.yaml.dump import dump
from trackbook.adapters.yaml.load import load
from trackbook.engine import definition
from trackbook.engine.content import Content, canonical

REAL = Path(__file__).parents[3] / "shared" / "data" / "fasttrack" / "torchtune.yaml"


def test_what_fasttrack_wrote_is_written_again() -> None:
    """A file in FastTrack's order and style comes out as it came in."""
    assert dump(load(NEWEST).content) == NEWEST


@pytest.mark.parametrize("text", [NEWEST, DEFAULTS, EARLY])
def test_nothing_is_lost_on_the_way(text: str) -> None:
    """An export that is imported again is the same content."""
    content = load(text).content

    assert load(dump(content)).content == content
    assert yaml.safe_load(dump(content)) == definition.to_document(content)


@pytest.mark.skipif(not REAL.exists(), reason="the shared data isn't beside this checkout")
def test_the_real_file_is_exported_without_loss() -> None:
    """What a release of FastTrack wrote reads the same after an import and an export."""
    text = REAL.read_text()
    content = load(text).content

    assert yaml.safe_load(dump(content)) == yaml.safe_load(text)
    assert load(dump(content)).content == content


def test_keys_come_in_fasttracks_order_and_unknown_ones_after() -> None:
    """Whatever the order in the content, the export has FastTrack's, then what isn't known in its own."""
    content = pipeline({"zeta": 1, "command": "x", "alpha": 2, "name": "a"}, later=1, version="25")
    lines = dump(content).splitlines()

    assert lines == [
        "version: '25'",
        "name: p",
        "tasks:",
        "- name: a",
        "  command: x",
        "  zeta: 1",
        "  alpha: 2",
        "later: 1",
    ]


def test_commands_are_blocks() -> None:
    """A command of several lines is written as a block, its last line break kept or left out as it was."""
    text = dump(pipeline({"name": "a", "command": "set -e\n./run\n"}, {"name": "b", "command": "set -e\n./run"}))

    assert "  command: |\n    set -e\n    ./run\n" in text
    assert "  command: |-\n    set -e\n    ./run\n" in text


@pytest.mark.parametrize(
    "text",
    ["no", "Yes", "on", "y", "N", "012", "1e3", "0o17", "0x1F", "1_000", "1.10", ".5", ".inf", "nan", "~", "null",
     "", "=", "<<", "2026-01-01", "1:30", "- a", "a: b", "a #b", "@x", "`x`", "%x", "*x", "&x", "!x", "?", " a",
     "a ", "\ta", "a\r\nb", "a\x85b", "a\u2028b", "\n", "\n\n a\n", "a \nb", "a\n ", "a\tb\n", "\U0001f600",
     "\x7f", "\x1b[0m", "'", '"', "\\n", "---", "...", "--- a\n...\n", "#", "x" * 500, "x " * 500, "한\n국\n"],
)  # fmt: skip
def test_texts_that_look_like_something_else_stay_texts(text: str) -> None:
    """A text is read as that text by us and by a reader of YAML 1.1, wherever it stands."""
    variable = {"environment": {"envs": {"A": text}}}
    content = pipeline(
        {**task("a"), **variable, "extra": [text, {"k": text}], "description": text or "x"}, **variable
    )
    written = dump(content)

    assert load(written).content == content
    assert yaml.safe_load(written) == definition.to_document(content)


@for_all(st.text().filter(lambda text: "\0" not in text))
@settings(max_examples=300, deadline=None)
def test_any_text_is_written_without_loss(text: str) -> None:
    """Whatever characters a text has, it comes back, as a value and as a key."""
    content: Content = {"name": "p", "x": {"value": text, f"k{text}": [text]}, "tasks": {}}
    written = dump(content)

    assert load(written).content == content
    assert yaml.safe_load(written) == definition.to_document(content)


@for_all(arbitrary_contents())
@settings(max_examples=200, deadline=None)
def test_any_content_is_written_without_loss(content: Content) -> None:
    """What is free of types of its own comes back byte for byte."""
    free = {"name": "p", "x": {**content, "tasks": list(content["tasks"].values())}, "tasks": {}}

    assert canonical(load(dump(free)).content) == canonical(free)


def test_variables_that_came_as_numbers_are_text_after_an_export() -> None:
    """A variable given as a number in JSON means the same text to a task after an export and import."""
    content = pipeline(task("a", environment={"envs": {"A": 1, "B": True, "C": None, "D": 1.5}}))

    assert (
        definition.tasks(load(dump(content)).content)["a"].variables == definition.tasks(content)["a"].variables
    )


def test_the_pure_writer_writes_what_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the C writer isn't to be had, the slower one stands in."""
    monkeypatch.setattr(dumping, "_Dumper", yaml.SafeDumper)
    for text in (NEWEST, DEFAULTS, EARLY):
        content = load(text).content
        assert load(dump(content)).content == content


@pytest.mark.parametrize("shared", [["data"], {"cpu": 1}])
def test_no_anchors_are_written(shared: Any) -> None:
    """What occurs twice is written twice, so that a file reads without looking elsewhere."""
    written = dump({"name": "p", "one": shared, "two": shared, "tasks": {}})

    assert "&" not in written
    assert "*" not in written
