"""What pipelines, tasks and variables may be called, and near misses among names."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence

LONGEST = 128
_INSTANCE = re.compile(r".*\[[0-9]+\]")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SYSTEM = re.compile(r"(?:TRACKBOOK|BACKENDAI_PIPELINE)_.*|PIPELINE_(?:OUTPUTS|VFROOT|INPUT[0-9]*)")


def normal(name: str) -> str:
    """Return a name in the form in which it is stored (NFC): macOS and Linux compose accents differently."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def forms(name: str) -> list[str]:
    """Return a name as it is given, composed and decomposed: what was stored otherwise is found as well."""
    if name.isascii():
        return [name]
    return list(dict.fromkeys([name, normal(name), unicodedata.normalize("NFD", name)]))


def name_problem(name: str) -> str | None:
    """Return what is wrong with the name of a pipeline or a task, None where it will do."""
    if not name or len(name) > LONGEST:
        return f"a name has 1 to {LONGEST} characters, this one {len(name)}"
    if name in (".", ".."):
        return "a name can't be '.' or '..'"
    if "/" in name:
        return "a name can't contain '/'"
    if name != name.strip():
        return "a name can't begin or end with a blank"
    if not name.isprintable():
        bad = next(character for character in name if not character.isprintable())
        return f"a name can't contain the character U+{ord(bad):04X}, which doesn't print"
    return None


def pipeline_name_problem(name: str) -> str | None:
    """Return what is wrong with the name of a pipeline: NAME@3 means its version 3."""
    if "@" in name:
        return "a pipeline's name can't contain '@': NAME@3 means its version 3"
    return name_problem(name)


def task_name_problem(name: str) -> str | None:
    """Return what is wrong with the name of a task: train[3] means its instance 3."""
    if _INSTANCE.fullmatch(name):
        return f"a task's name can't end in '{name[name.rindex('[') :]}': NAME[3] means instance 3 of a task"
    return name_problem(name)


def variable_name_problem(name: str) -> str | None:
    """Return what is wrong with the name of a variable: a shell has to be able to say it."""
    if len(name) <= LONGEST and _VARIABLE.fullmatch(name):
        return None
    return f"a variable's name has letters, digits and '_', no digit first, and at most {LONGEST} characters"


def set_by_system(variable: str) -> bool:
    """Whether the system sets the variable itself, over any value given."""
    return _SYSTEM.fullmatch(variable) is not None


def printable(text: str) -> str:
    """Return the text in one line that is safe to print, what doesn't print being escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def near(word: str, known: Iterable[str], cutoff: float = 0.75) -> str | None:
    """Return the known word that was probably meant."""
    if len(word) > LONGEST:
        return None
    folded = word.casefold()
    candidates = list(known)
    for candidate in candidates:
        if candidate.casefold() == folded:
            return candidate
    found = difflib.get_close_matches(word, candidates, n=1, cutoff=cutoff)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question for a hint, '' where nothing is near."""
    meant = near(word, known)
    return f"Did you mean {meant!r}?" if meant is not None else ""


def enumerated(names: Sequence[str], number: int) -> str:
    """Return the first names of `number`, and how many more there are."""
    return ", ".join(names) + (f" and {number - len(names):,} more" if number > len(names) else "")
