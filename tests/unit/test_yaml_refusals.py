"""YAML that isn't read: every refusal with its code, line and column; and the places of everything that is."""

from __future__ import annotations

import pytest
from pipeline_stories import problems

from trackbook.adapters.yaml.load import Loaded, load, locate
from trackbook.engine import definition
from trackbook.engine.errors import Refused


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


def test_tasks_that_cant_be_distinguished_have_places() -> None:
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
