"""The documents for contributors name files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_QUOTED = re.compile(r"`([\w./-]+\.(?:py|md|toml|yaml)|\.importlinter)`")
_EXAMPLES = {"events/NAME.py", "engine/NAME.py", "executors.toml"}
"""Names that stand for something of the reader."""


def quoted(text: str) -> list[str]:
    """Return the names of files that a document quotes."""
    return [name for name in _QUOTED.findall(text) if name not in _EXAMPLES]


@pytest.mark.parametrize("document", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_the_files_that_a_document_names_exist(document: str) -> None:
    """A file that is quoted is there, from the root or in the package."""
    names = quoted((ROOT / document).read_text())

    assert names
    assert [name for name in names if not ((ROOT / name).exists() or (ROOT / "trackbook" / name).exists())] == []


def test_no_file_comes_twice_in_a_walk() -> None:
    """Each walk of the architecture names every file once, and not more of them than it says."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    walks = [
        re.findall(r"^\| \d+ \| `([^`]+)` \|", part, re.MULTILINE)
        for part in text.partition("## Two walks")[2].partition("## How to add")[0].split("\n### ")[1:]
    ]

    assert [len(walk) for walk in walks] == [26, 16]
    assert all(len(set(walk)) == len(walk) for walk in walks)
