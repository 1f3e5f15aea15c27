"""YAML as it is read: three generations, types by field, places, and every refusal with line and column."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from pipeline_stories import DEFAULTS, EARLY, NEWEST, problems

from trackbook.adapters.yaml import load as loading
from trackbook.adapters.yaml.load import Loaded, load, locate
from trackbook.engine import definition
from trackbook.engine.errors import Refused

REAL = Path(__file__).parents[3] / "shared" / "data" / "fasttrack" / "torchtune.yaml"


def read(tasks: str = "", head: str = "name: p\n") -> Loaded:
    """Return what is read of a head and the lines of its tasks."""
    return load(f"{head}tasks:\n{tasks}")


def refused(text: str | bytes) -> Refused:
    """Return what the text is refused with by the reader."""
    with pytest.raises(Refused) as caught:
        load(text)
    return caught.value


def checked(text: str) -> Refused:
    """Return what the text is refused with by the rules, in its places."""
    loaded = load(text)
    with pytest.raises(Refused) as caught:
        definition.check(loaded.content)
    return locate(caught.value, loaded.positions)


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
    """The field says what a scalar is: a name of digits is text, `yes` a boolean where one is wanted."""
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
    assert refused("a: [").code == "yaml_syntax"
    assert refused('a: "\\ud800"').code in ("yaml_syntax", "yaml_bad_character")
    assert refused("[" * 200_000).code == "yaml_too_deep"


def test_ten_thousand_tasks_are_applied_in_time() -> None:
    """Reading, checking and comparing 10,000 full tasks takes well under two seconds of the processor."""
    body = NEWEST.partition("tasks:\n")[2].partition("- name: train")[0].partition("\n")[2]
    body = body.replace("dependencies: []", "dependencies: [LAST]")
    tasks = "".join(
        f"- name: task_{index}\n" + body.replace("LAST", f"task_{index - 1}" if index else "")
        for index in range(10_000)
    )
    text = f"name: big\ntasks:\n{tasks}"
    best = min(_time_of_apply(text) for _ in range(3))

    assert best < 2


def _time_of_apply(text: str) -> float:
    from trackbook.engine.pipeline import PIPELINE, ApplyDefinition, PipelineState

    began = time.process_time()
    events = PIPELINE.decide(PipelineState("p1"), ApplyDefinition(load(text).content))
    took = time.process_time() - began
    assert len(events) == 10_001
    return took


# What doesn't -----------------------------------------------------------------------------------------------

_REFUSED: list[tuple[str | bytes, str, tuple[int | None, int | None]]] = [
    ("", "yaml_empty", (1, 1)),
    ("# nothing\n", "yaml_empty", (2, 1)),
    ("a: b: c", "yaml_syntax", (1, 5)),
    ("name: p\n\ttasks: []", "yaml_syntax", (2, 1)),
    ("name: p\na: [1, 2", "yaml_syntax", (2, 4)),
    ("a: 'x", "yaml_syntax", (1, 4)),
    ("a: @x", "yaml_syntax", (1, 4)),
    ("a: |\n  x\n y", "yaml_syntax", (3, 2)),
    ("a: 1\n---\nb: 2", "yaml_several_documents", (2, 1)),
    ("a: 1\na: 2", "yaml_duplicate_key", (2, 1)),
    ("x: {b: 1, 'b': 2}", "yaml_duplicate_key", (1, 11)),
    ("a: {x: 1}\nb:\n  <<: {y: 2}", "yaml_merge_key", (3, 3)),
    ("a: !!python/object:os.system x", "yaml_bad_tag", (1, 4)),
    ("a: !!int '5'", "yaml_bad_tag", (1, 4)),
    ("a: !x {b: 1}", "yaml_bad_tag", (1, 4)),
    ("a: !!binary aGk=", "yaml_bad_tag", (1, 4)),
    ("a: &x [*x]", "yaml_cycle", (1, 8)),
    ("a: &x {b: {c: *x}}", "yaml_cycle", (1, 15)),
    ("a: *x", "yaml_unknown_alias", (1, 4)),
    ("a: &x 1\nb: &x 2", "yaml_duplicate_anchor", (2, 4)),
    ("? [a]\n: b", "yaml_bad_key", (1, 3)),
    ("&k key: v", "yaml_bad_key", (1, 1)),
    ("a: &x y\n*x : v", "yaml_bad_key", (2, 1)),
    ("!!int 5: v", "yaml_bad_key", (1, 1)),
    ("a: " + "[" * 64 + "]" * 64, "yaml_too_deep", (1, 67)),
    ("a: " + "x" * (256 * 1024 + 1), "yaml_too_long", (1, 4)),
    ("a: " + "x" * 8 * 1024 * 1024, "yaml_too_large", (None, None)),
    ('a: "x\\0"', "yaml_bad_character", (1, 4)),
    ("name: p\nab\x07", "yaml_bad_character", (2, 3)),
    ("a: \x00", "yaml_bad_character", (1, 4)),
    ("a: x\ufeff", "yaml_bad_character", (1, 5)),
    ("a: \ud800", "yaml_bad_character", (1, 4)),
    (b"a: b\nc: \xff", "yaml_not_utf8", (2, 4)),
    ("a: é".encode("latin-1"), "yaml_not_utf8", (1, 4)),
    ("a: b".encode("utf-16"), "yaml_not_utf8", (1, 1)),
    ("- a", "wrong_type", (1, 1)),
    ("just text", "wrong_type", (1, 1)),
]


@pytest.mark.parametrize(("text", "code", "place"), _REFUSED, ids=range(len(_REFUSED)))
def test_what_isnt_read_is_refused_in_its_place(
    text: str | bytes, code: str, place: tuple[int | None, int | None]
) -> None:
    """Each trap has a code of its own, and the line and column where it lies."""
    refusal = refused(text)

    assert (refusal.code, (refusal.line, refusal.column)) == (code, place)
    assert len(refusal.message) < 300


def test_the_deepest_nesting_that_is_read() -> None:
    """A mapping with 63 levels below it is read whole."""
    assert load("a: " + "[" * 63 + "]" * 63).content["a"]


def test_aliases_can_grow_to_the_limit_only() -> None:
    """A bomb of aliases is refused when it has made a million values, or 16 million characters."""
    levels = "".join(f"l{index}: &l{index} [{', '.join([f'*l{index - 1}'] * 9)}]\n" for index in range(1, 12))
    assert refused(f"l0: &l0 [x]\n{levels}").code == "yaml_too_many_values"
    assert refused(f"a: &a {'x' * 200_000}\nb: [{', '.join(['*a'] * 100)}]").code == "yaml_too_many_values"


def test_problems_of_the_graph_have_places() -> None:
    """What the rules refuse carries the line and column of the very value, or of what should hold it."""
    refusal = checked(
        "name: p\n"
        "environment:\n"
        "  envs:\n"
        "    A-B: 1\n"
        "tasks:\n"
        "- name: a\n"
        "  command: x\n"
        "  dependencies: [b]\n"
        "- name: b\n"
        "  dependencies:\n"
        "  - a\n"
        "  - zz\n"
        "  resources: {mem: lots, cuda.shares: -1}\n"
    )

    found = {(one.code, one.path): (one.line, one.column) for one in (refusal, *refusal.others)}
    assert found == {
        ("bad_variable_name", "environment.envs.A-B"): (4, 10),
        ("bad_size", "tasks[1].resources.mem"): (13, 20),
        ("bad_amount", 'tasks[1].resources["cuda.shares"]'): (13, 39),
        ("missing_command", "tasks[1].command"): (9, 3),
        ("unknown_dependency", "tasks[1].dependencies[1]"): (12, 5),
        ("cycle", "tasks[0].dependencies[0]"): (8, 18),
    }


def test_tasks_that_cant_be_told_apart_have_places() -> None:
    """Doubled and missing names are refused by the reader already, in their places."""
    refusal = refused("name: p\ntasks:\n- name: a\n  command: x\n- name: a\n  command: x\n- command: y\n")

    assert problems(refusal) == [("duplicate_name", "tasks[1].name"), ("missing_name", "tasks[2].name")]
    assert [(one.line, one.column) for one in (refusal, *refusal.others)] == [(5, 9), (7, 3)]


def test_warnings_have_places() -> None:
    """A warning is located like a refusal."""
    loaded = read("- name: a\n  command: x\n  dependancies: []\n")
    [warning] = [locate(one, loaded.positions) for one in definition.check(loaded.content)]

    assert (warning.code, warning.line, warning.column) == ("unknown_key", 5, 17)


def test_places_of_all_paths() -> None:
    """Every path of a document has its place, one that isn't there that of what is around it."""
    positions = read("- name: a\n  command: x\n").positions

    assert dict(positions) == {
        "name": (1, 7),
        "tasks": (3, 1),
        "tasks[0]": (3, 3),
        "tasks[0].name": (3, 9),
        "tasks[0].command": (4, 12),
    }
    assert len(positions) == 5
    assert positions["tasks[0].resources.cpu"] == positions["tasks[0].name.x"[:8]] == (3, 3)
    assert positions["tasks[9]"] == (3, 1)
    assert positions[""] == (1, 1)
    assert positions.get("not a path", (None, None)) == (None, None)


def test_messages_tell_what_to_do() -> None:
    """The commonest mistakes are explained in plain words."""
    assert "tab" in refused("name: p\n\tx: 1").message
    assert "tab" in refused("\tname: p").message
    assert "brackets that open here" in refused("a: [1").message
    assert "quotes that open here" in refused("a: 'x").message
    assert "quotes" in refused("a: @x").message
    assert "indentation" in refused("a: |\n  x\n y").message
