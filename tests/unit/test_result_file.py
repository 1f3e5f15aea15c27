"""Results of attempts: read strictly, for they are kept for ever, from files that tasks write as they like."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackbook.adapters.execution.result import DEPTH, LIMIT, Result, parse, read

NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT, lambda each: st.lists(each) | st.dictionaries(TEXT, each)
)


@given(VALUES)
def test_any_json_value_is_a_result(value: object) -> None:
    """What the standard library writes is read, and comes back from the log as it is."""
    found = parse(json.dumps(value).encode())
    assert found == Result(value)
    assert msgspec.json.decode(msgspec.json.encode(found.value)) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "Expecting value"),
        (b"[1] 2", "Extra data"),
        (b"{'a': 1}", "Expecting property name"),
        (b"NaN", "NaN is no JSON number"),
        (b"[-Infinity]", "-Infinity is no JSON number"),
        (b"1e999", "out of range"),
        (b"18446744073709551616", "out of range"),
        (b"9" * 100_000, "out of range"),
        (b'{"a": {"b": 1, "b": 1}}', "the key 'b' is there more than once"),
        (b'"\\ud800"', "half of a surrogate pair"),
        (b'"\xff"', "can't decode byte 0xff"),
        ("1".encode("utf-16"), "can't decode byte"),
        (b"\xef\xbb\xbf1", "BOM"),
        (b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1), f"more than {DEPTH} arrays"),
        (b"[" * 500_000, f"more than {DEPTH} arrays"),
        (b"1" * (LIMIT + 1), "it has more than 1,048,576 bytes"),
        (b"[" + b"1e15," * 150_000 + b"1]", "it has more than 1,048,576 bytes as it is stored"),
    ],
)
def test_what_is_no_strict_json_is_refused(text: bytes, why: str) -> None:
    """The warning says why; there is no value then."""
    found = parse(text)
    assert found.value is None
    assert found.warning.startswith("result.json is not used: ")
    assert why in found.warning
    assert len(found.warning) < 250


def test_values_at_the_limits() -> None:
    """The largest file, and the deepest value, are read."""
    assert parse(b'"' + b"x" * (LIMIT - 2) + b'"').value == "x" * (LIMIT - 2)
    assert not parse(b"[" * DEPTH + b"]" * DEPTH).warning


def test_outputs_without_a_result(tmp_path: Path) -> None:
    """Neither a missing file nor a missing folder is a fault."""
    assert read(tmp_path) == read(tmp_path / "none") == Result()


def test_only_a_file_in_the_outputs_is_read(tmp_path: Path) -> None:
    """Whatever else is in its place is a warning, and nothing outside is read; a link within them is followed."""
    outputs, file = tmp_path / "outputs", tmp_path / "outputs" / "result.json"
    outputs.mkdir()
    (tmp_path / "secret").write_text("1")
    (outputs / "metrics").write_text("2")
    for target in (str(tmp_path / "secret"), "../secret"):
        file.symlink_to(target)
        assert read(outputs) == Result(
            None, "result.json is not used: it is a link that leads out of the outputs"
        )
        file.unlink()
    file.symlink_to("metrics")
    assert read(outputs) == Result(2)
    file.unlink()
    os.mkfifo(file)
    assert read(outputs).warning == "result.json is not used: it is not a file"
    file.unlink()
    file.mkdir()
    assert read(outputs).warning == "result.json is not used: it is not a file"
