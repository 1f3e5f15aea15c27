"""Figures of the code's size and shape, by which it is seen whether it becomes simpler.

python tools/figures.py            print them

A function's lines are those from `def` to its end, without the docstring and with it. What executors share is
counted in runs of lines that are the same but for indentation; blank lines, comments and imports do not count.
"""

from __future__ import annotations

import ast
import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import grimp

ROOT = Path(__file__).parent.parent
FOLDERS = ("trackbook", "tests", "bench", "tools", "examples")
EXECUTORS = ("local", "container", "backendai")
RUN = 10
"""Lines that two executors may not share."""


def files(*folders: str) -> dict[Path, int]:
    """Return the Python files below the folders, each with its lines."""
    found = (path for folder in folders or FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in found}


def functions(*, docstrings: bool = False) -> list[int]:
    """Return the lines of each function and method of the package, with their docstrings or without."""
    trees = (ast.parse((ROOT / path).read_text()) for path in files("trackbook"))
    nodes = (node for tree in trees for node in ast.walk(tree))
    return [
        _lines(node, docstrings) for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef, docstrings: bool) -> int:
    whole = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if docstrings or ast.get_docstring(function, clean=False) is None:
        return whole
    return whole - ((first.end_lineno or first.lineno) - first.lineno + 1)


def median_and_p90(lengths: list[int]) -> tuple[float, float]:
    """Return the median and the 90th percentile."""
    return statistics.median(lengths), statistics.quantiles(lengths, n=10)[-1]


def circles() -> list[list[str]]:
    """Return the modules that import one another in a circle, circle by circle."""
    graph = grimp.build_graph("trackbook", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    left = dict(imports)
    while free := [module for module, found in left.items() if not found & left.keys()]:
        for module in free:
            del left[module]
    while unused := left.keys() - {each for module in left for each in imports[module]}:
        for module in unused:
            del left[module]
    return [sorted(left)] if left else []


def shared_by_executors() -> list[str]:
    """Return where two executors have a run of the same lines, in words."""
    places: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for executor in EXECUTORS:
        for path in files(f"trackbook/adapters/{executor}"):
            lines = list(_code(path))
            for start in range(len(lines) - RUN + 1):
                run = tuple(text for _, text in lines[start : start + RUN])
                places[run].setdefault(executor, f"{path}:{lines[start][0]}")
    return sorted(" = ".join(found.values()) for found in places.values() if len(found) > 1)


def _code(path: Path) -> Iterator[tuple[int, str]]:
    source = (ROOT / path).read_text()
    imports = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    for number, line in enumerate(source.splitlines(), 1):
        text = line.strip()
        if text and not text.startswith("#") and number not in imports:
            yield number, text


def main() -> None:
    """Print the figures."""
    package, all_files = files("trackbook"), files()
    longest = max(all_files, key=lambda path: all_files[path])
    print(f"lines of the package     {sum(package.values()):,} in {len(package)} files")
    print(f"longest file             {all_files[longest]} lines, {longest}")
    for what, docstrings in (("lines of a function    ", False), ("  with its docstring   ", True)):
        median, p90 = median_and_p90(functions(docstrings=docstrings))
        print(f"{what}  median {median:g}, p90 {p90:g}")
    print(f"circles of imports       {len(circles())}")
    print(f"shared by two executors  {len(shared_by_executors())} runs of {RUN} lines")


if __name__ == "__main__":
    main()
