"""YAML as it is read: three generations, and types by field."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from growth import growth
from pipeline_stories import DEFAULTS, EARLY, NEWEST

from trackbook.adapters.yaml import load as loading
from trackbook.adapters.yaml.load import Loaded, load
from trackbook.engine import definition
from trackbook.engine.errors import Refused

REAL = Path(__file__).parents[3] / "shared" / "data" / "fasttrack" / "torchtune.yaml"


def read(tasks: str = "", head: str = "name: p\n") -> Loaded:
    """Return what is read of a head and the lines of its tasks."""
    return load(f"{head}tasks:\n{tasks}")


# What loads -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [NEWEST, DEFAULTS, EARLY])
def test_every_generation_loads(text: str) -> None:
    """Each generation is read without a complaint, and means what a common YAML reader takes from it."""
    loaded = load(text)

    assert definition.check(loaded.content) == []
    if text is not EARLY:  # JSON's pairs of surrogates are beyond the common reader
        assert definition.to_document(loaded.content) == yaml.safe_load(text)
    else:
        assert definition.to_document(loaded.content) == json.loads(text)


@pytest.mark.skipif(not REAL.exists(), reason="the shared data isn't beside this checkout")
def test_the_real_file_loads() -> None:
    """A pipeline that a FastTrack release wrote passes without a warning, nothing of it lost."""
    text = REAL.read_text()
    loaded = load(text)

    assert definition.check(loaded.content) == []
    assert definition.to_document(loaded.content) == yaml.safe_load(text)
    assert definition.summary(loaded.content).depth == 3


def test_bytes_with_a_byte_order_mark_and_dos_line_ends_load() -> None:
    """An editor of another system makes no difference."""
    assert load(b"\xef\xbb\xbf" + NEWEST.replace("\n", "\r\n").encode()).content == load(NEWEST).content


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("012", "012"),
        ("1e3", "1e3"),
        ("1.10", "1.10"),
        ("0x1F", "0x1F"),
        ("true", "true"),
        ("null", "null"),
        ("~", "~"),
        ("", ""),
        ("'5'", "5"),
        ("2026-02-30", "2026-02-30"),
        ("1:30", "1:30"),
        ("9" * 5000, "9" * 5000),
        ("!!str 012", "012"),
        ("! 012", "012"),
        ("a # comment", "a"),
    ],
)
def test_variables_stay_as_they_are_written(written: str, value: str) -> None:
    """A variable is text, whatever it looks like."""
    content = load(
        "name: p\nenvironment: {envs: {}}\ntasks: []\nx: 1\n".replace("{}", f"{{A: {written}\n}}")
    ).content

    assert content["environment"]["envs"] == {"A": value}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("012", "012"),
        ("1e3", "1e3"),
        ("1.10", "1.10"),
        ("1_000", "1_000"),
        ("0o17", "0o17"),
        (".inf", ".inf"),
        ("-0", "-0"),
        ("2026-02-30", "2026-02-30"),
        ("9" * 5000, "9" * 5000),
        ("9223372036854775808", "9223372036854775808"),
        ("=", "="),
        ("true", True),
        ("False", False),
        ("", None),
        ("~", None),
        ("null", None),
        ("12", 12),
        ("-12", -12),
        ("1.5", 1.5),
        ("1.0e+16", 1e16),
        ("'true'", "true"),
        ("[1, [a, {b: 2}]]", [1, ["a", {"b": 2}]]),
    ],
)
def test_what_no_table_describes_is_read_without_guessing(written: str, value: Any) -> None:
    """Elsewhere only what every reader takes for a number, a boolean or nothing is one; the rest is text."""
    content = load(f"name: p\nextra: {written}\n").content

    assert content["extra"] == value
    assert type(content["extra"]) is type(value)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("skip: yes", True),
        ("skip: off", False),
        ("skip:", None),
        ("cluster_size: 2", 2),
        ("cluster_size: '2'", "2"),
        ("description: 25", "25"),
        ("description: no", "no"),
        ("description:", None),
        ("command: true", "true"),
        ("resources: {cpu: 4, mem: 16g, cuda.shares: '1.5', cuda.device: 012}", None),
        ("dependencies: [1, no, 2026-01-01]", ["1", "no", "2026-01-01"]),
    ],
)
def test_a_fields_type_is_its_own(line: str, value: Any) -> None:
    """The field says what a scalar is: a name of digits is text, `yes` a boolean where one is expected."""
    task = read(f"- name: 7\n  {line}\n").content["tasks"]["7"]
    key = line.partition(":")[0]

    if key == "resources":
        assert task[key] == {"cpu": 4, "mem": "16g", "cuda.shares": "1.5", "cuda.device": "012"}
    else:
        assert task[key] == value
        assert type(task[key]) is type(value)


def test_an_alias_is_read_again_by_the_type_of_its_place() -> None:
    """What an alias stands for may be a number in one place and text in another."""
    content = load(
        "name: p\n"
        "extra: &all {A: 012, B: &b true, C: *b, D: [&l 1.5]}\n"
        "again: *all\n"
        "environment: {envs: {X: *b, Y: *l}}\n"
        "mounts: &mounts [data]\n"
        "tasks:\n- {name: a, command: x, mounts: *mounts}\n- &t {name: b, command: x}\n"
    ).content

    assert content["extra"] == content["again"] == {"A": "012", "B": True, "C": True, "D": [1.5]}
    assert content["environment"]["envs"] == {"X": "true", "Y": "1.5"}
    assert content["tasks"]["a"]["mounts"] == ["data"]


def test_the_pure_parser_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the C parser isn't to be had, the slower one stands in, with the same places."""
    expected = load(NEWEST)
    monkeypatch.setattr(loading, "_Loader", yaml.Loader)

    assert load(NEWEST).content == expected.content
    assert dict(load(NEWEST).positions) == dict(expected.positions)
    assert load(EARLY).content["name"] == "early"
    for broken in ("a: [", 'a: "\\ud800"', "[" * 200_000):
        with pytest.raises(Refused):
            load(broken)


def test_ten_thousand_full_tasks_cost_four_times_as_much_as_a_quarter_of_them() -> None:
    """Reading, checking and comparing full tasks is linear in their number."""
    from trackbook.engine.pipeline import PIPELINE, ApplyDefinition, PipelineState

    def prepare(size: int) -> Callable[[], Any]:
        text = _full_tasks(size)
        return lambda: PIPELINE.decide(PipelineState("p1"), ApplyDefinition(load(text).content))

    assert len(prepare(10)()) == 11
    assert growth(prepare, 10_000) < 1.5


def _full_tasks(count: int) -> str:
    body = NEWEST.partition("tasks:\n")[2].partition("- name: train")[0].partition("\n")[2]
    body = body.replace("dependencies: []", "dependencies: [LAST]")
    tasks = "".join(
        f"- name: task_{index}\n" + body.replace("LAST", f"task_{index - 1}" if index else "")
        for index in range(count)
    )
    return f"name: big\ntasks:\n{tasks}"
