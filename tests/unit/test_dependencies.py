"""What the code imports is declared: nothing works only since another package happens to bring it along."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = {"yaml": "pyyaml", "nats": "nats-py"}
"""Distributions that are not called like the package that they hold."""


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the top packages that a module imports, inside its functions as well."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def declared() -> set[str]:
    """Return the names of the distributions that pyproject.toml declares, extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project.get("optional-dependencies", {}).values()
    listed = [*project["dependencies"], *(each for extra in extras for each in extra)]
    return {re.split(r"[\[<>=~!; ]", each)[0].lower().replace("_", "-") for each in listed}


def test_every_package_that_is_imported_is_declared() -> None:
    """Each import of trackbook/ is the standard library's, our own, or of a declared dependency."""
    found = {
        name: path.relative_to(ROOT)
        for path in sorted((ROOT / "trackbook").rglob("*.py"))
        for name in imported(ast.parse(path.read_text()))
    }
    foreign = {name for name in found if name not in sys.stdlib_module_names and name != "trackbook"}

    missing = {name: str(found[name]) for name in foreign
               if DISTRIBUTIONS.get(name, name.replace("_", "-")) not in declared()}  # fmt: skip

    assert {"msgspec", "nats", "aiohttp", "pydantic"} <= foreign
    assert missing == {}


def test_the_lock_holds_every_dependency() -> None:
    """What is declared, extras aside, is installed by the lock file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = set(re.findall(r"^([A-Za-z0-9_.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    names = {re.split(r"[\[<>=~!; ]", each)[0] for each in project["dependencies"]}

    assert names - locked == set()
