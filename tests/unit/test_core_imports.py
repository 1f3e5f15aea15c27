"""The core is pure: what it may import is listed, so that whatever is new has to be thought about."""

from __future__ import annotations

import grimp
import pytest

PURE = frozenset(
    (
        *("__future__", "bisect", "collections", "contextlib", "dataclasses", "datetime", "difflib", "enum"),
        *("functools", "hashlib", "itertools", "json", "math", "msgspec", "re", "stat", "typing", "unicodedata"),
    )
)
"""Nothing here reads a clock, a file, the environment or chance, or waits: `datetime` gets the time."""


@pytest.mark.parametrize("package", ["trackbook.engine", "trackbook.events"])
def test_the_core_imports_what_is_pure(package: str) -> None:
    """Its modules import one another and these, whatever modules there will be."""
    graph = grimp.build_graph("trackbook", include_external_packages=True, cache_dir=None)
    modules = graph.find_descendants(package) | {package}
    imported = {found for module in modules for found in graph.find_modules_directly_imported_by(module)}
    outside = {found for found in imported if found.partition(".")[0] != "trackbook"}

    assert outside
    assert outside <= PURE
