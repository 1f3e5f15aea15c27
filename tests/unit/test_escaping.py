"""Escaped text means the same, whatever it is and however it is cut."""

from __future__ import annotations

import json

from cli_server import CONTROL
from hypothesis import given
from hypothesis import strategies as st

from trackbook.adapters.yaml.dump import dump
from trackbook.adapters.yaml.load import load
from trackbook.cli.terminal.escapes import OutputLines, escape_json


@given(st.text())
def test_escaped_json_means_the_same(text: str) -> None:
    """JSON for scripts loses nothing."""
    printed = escape_json(json.dumps({"a": text}, ensure_ascii=False))

    assert not CONTROL.search(printed)
    assert json.loads(printed) == {"a": text}


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20))
def test_printed_yaml_means_the_same(text: str) -> None:
    """Nor does YAML."""
    printed = dump({"name": "p", "description": text, "tasks": {}})

    assert not CONTROL.search(printed)
    assert load(printed).content.get("description", "") == text


@given(st.lists(st.binary(max_size=9), max_size=9))
def test_output_is_safe_however_it_is_cut(pieces: list[bytes]) -> None:
    """Characters and sequences that are cut between two pieces are recognised."""
    lines = OutputLines()
    found = [line for piece in pieces for line in lines.take(piece)] + lines.take(b"", final=True)

    assert not any(CONTROL.search(line) for line in found)
    assert len(found) == len(b"".join(pieces).decode(errors="replace").split("\n")) - (
        not pieces or b"".join(pieces)[-1:] in (b"\n", b"")
    )
