"""The words of the glossary are used, and those that it retires are not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from trackbook.engine.job import Outcome
from trackbook.engine.job_state import JobStatus, TaskStatus
from trackbook.engine.kinds import KINDS
from trackbook.events.job import Fault

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs" / "glossary.md"
_RETIRED = "## Retired words"
_ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \| (text|names|functions) \|$", re.MULTILINE)
_TERM = re.compile(r"\*\*([^*]+)\*\*")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def _sources() -> Iterator[Path]:
    yield from sorted((ROOT / "trackbook").rglob("*.py"))


def _documents() -> Iterator[Path]:
    yield from (ROOT / "README.md", ROOT / "CONTRIBUTING.md")
    yield from sorted((ROOT / "docs").rglob("*.md"))


def _retired(*where: str) -> dict[str, str]:
    """Return the retired words of these places, with what is used instead."""
    rows = _ROW.findall(GLOSSARY.read_text().partition(_RETIRED)[2])
    return {word: instead for words, instead, place in rows if place in where for word in words.split(", ")}


def _terms() -> set[str]:
    return {term for line in GLOSSARY.read_text().splitlines() for term in _TERM.findall(line)}


def _identifiers(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Yield the names of a module, its classes and its functions, with the line and whether it is a function."""
    yield 1, path.stem, False
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            yield node.lineno, node.name, False
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name, True


def test_retired_words_are_not_in_code_messages_and_documents() -> None:
    """Each word that the glossary retires has left the sources and the documents."""
    retired = _retired("text")
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, retired))})\b", re.IGNORECASE)
    assert len(retired) > 10

    found = [
        f"{path.relative_to(ROOT)}:{number}: {word!r}: say {retired[word.lower()]}"
        for path in (*_sources(), *_documents())
        for number, line in enumerate(path.read_text().partition(_RETIRED)[0].splitlines(), 1)
        for word in pattern.findall(line)
    ]

    assert found == []


def test_retired_words_are_not_in_names() -> None:
    """No module, class or function has a retired word in its name."""
    retired = _retired("text", "names")

    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}: say {retired[word]}"
        for path in _sources()
        for line, name, _ in _identifiers(path)
        for word in (part.lower() for part in _WORD.findall(name))
        if word in retired
    ]

    assert found == []


def test_functions_are_not_named_by_bare_participles() -> None:
    """A function's name says what it does or returns: no participle stands alone."""
    retired = _retired("functions")

    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}: say {retired[name.strip('_')]}"
        for path in _sources()
        for line, name, is_function in _identifiers(path)
        if is_function and name.strip("_") in retired
    ]

    assert found == []


def _singular(word: str) -> str:
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[: -2 if word.endswith(("sses", "xes")) else -1] if re.search(r"[^su]s$", word) else word


def test_the_glossary_has_the_noun_of_every_module() -> None:
    """What a module is, by the last word of its name, is explained or listed as a word of the field."""
    text = GLOSSARY.read_text()
    ordinary = (
        text.partition("as the field uses them:")[2]
        .partition("\n\n")[0]
        .replace("back-off", "off")
        .replace("Backend.AI", "backendai")
    )
    known = {_singular(word) for word in re.findall(r"[a-z]+", " ".join((*_terms(), ordinary)).lower())}
    modules = {path.parent if path.stem == "__init__" else path for path in _sources() if path.stem != "__main__"}
    modules -= {ROOT / "trackbook"}
    nouns = {_singular(path.stem.rpartition("_")[2]): path for path in modules}

    assert [f"{noun}: {path.relative_to(ROOT)}" for noun, path in nouns.items() if noun not in known] == []


@pytest.mark.parametrize(
    "states", [JobStatus, TaskStatus, Outcome, Fault], ids=["job", "task", "outcome", "fault"]
)
def test_the_glossary_has_every_state(states: object) -> None:
    """Whatever state a job, a task or an attempt may have is explained."""
    text = GLOSSARY.read_text()

    assert [
        state for state in get_args(states) if state and f"**{state}**" not in text and f"`{state}`" not in text
    ] == []


def test_the_glossary_has_every_kind_of_aggregate() -> None:
    """Each kind is named where aggregates are explained."""
    text = GLOSSARY.read_text()

    assert [kind for kind in KINDS if f"`{kind}`" not in text] == []
