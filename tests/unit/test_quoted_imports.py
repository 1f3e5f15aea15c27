"""Programs in the strings of tests and in documents, which no linter reads."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("tests", "docs", "bench", "tools", "examples")
IMPORT = re.compile(r"\bfrom (trackbook(?:\.\w+)*) import (?:\(([^)]*)\)|([\w, ]+))")


def imported() -> Iterator[tuple[Path, str, str]]:
    """Yield each name that is imported from Trackbook, with its file and module."""
    for path in (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*"))):
        if path.suffix not in (".py", ".md"):
            continue
        for found in IMPORT.finditer(path.read_text()):
            for name in (found[2] or found[3]).split(","):
                if words := name.split("#")[0].split():
                    yield path.relative_to(ROOT), found[1], words[0]


def exists(module: str, name: str) -> bool:
    """Whether a module has the name, or is a package that has it as a module."""
    try:
        return hasattr(importlib.import_module(module), name) or bool(importlib.import_module(f"{module}.{name}"))
    except ImportError:
        return False


def test_what_is_imported_from_trackbook_is_there() -> None:
    """A renamed function leaves no program in a string behind."""
    known = {(module, name): exists(module, name) for _, module, name in imported()}
    assert len(known) > 300
    assert [each for each in imported() if not known[each[1:]]] == []
