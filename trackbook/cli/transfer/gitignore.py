"""The files that Git would ignore, by each .gitignore from the repository's root down."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from trackbook.cli.errors import CliError

_FILE = ".gitignore"
_BELOW = "ps_d"
"""The group of a pattern's expression that matches the '/' behind a folder, below which the rest of a path is."""


class _Rules(NamedTuple):
    """The patterns of one .gitignore, the last first, each with whether it ignores or excepts.

    `base` is its folder's path in the repository, with '/' at its end.
    """

    base: str
    patterns: tuple[tuple[re.Pattern[str], bool], ...]


class Ignored(NamedTuple):
    """The rules that apply in a folder, the nearest last; `base` is that of the folder that is packed."""

    base: str
    rules: tuple[_Rules, ...]

    def within(self, folder: Path, name: str) -> Ignored:
        """Return the rules with those of a folder, whose path below the packed one is `name`, '' or with '/'."""
        return Ignored(self.base, (*self.rules, *_read(folder, self.base + name)))

    def has(self, name: str, *, folder: bool) -> bool:
        """Whether a path is ignored; the last rule of the nearest file that says something counts.

        Those about the folders above are not asked: in an ignored folder nobody looks.
        """
        path = f"{self.base}{name}/" if folder else self.base + name
        for base, patterns in reversed(self.rules):
            for pattern, ignores in patterns:
                if _is_about(pattern, path[len(base) :]):
                    return ignores
        return False


def rules_above(folder: Path) -> Ignored:
    """Return what the files above a folder say about what is in it: those of its repository, if it is in one."""
    folder = folder.resolve()
    root = next((each for each in (folder, *folder.parents) if (each / ".git").exists()), folder)
    names = folder.relative_to(root).parts
    bases = ["".join(f"{name}/" for name in names[:depth]) for depth in range(len(names) + 1)]
    return Ignored(bases[-1], tuple(rules for base in bases[:-1] for rules in _read(root / base, base)))


def _read(folder: Path, base: str) -> Iterator[_Rules]:
    """Yield the rules of a folder's own file, if it has one; raises CliError for one that can't be read."""
    file = folder / _FILE
    if not file.is_file():
        return
    from pathspec import GitIgnoreSpec

    try:
        lines = file.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")
        patterns = [
            (each.regex, bool(each.include)) for each in GitIgnoreSpec.from_lines(map(_exact, lines)).patterns
        ]
        yield _Rules(base, tuple((pattern, ignores) for pattern, ignores in reversed(patterns) if pattern))
    except OSError as error:
        raise CliError(f"{file} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise CliError(f"{file} has a pattern that can't be used: {error}") from None


def _is_about(pattern: re.Pattern[str], path: str) -> bool:
    """Whether a pattern matches a path itself, not only a folder above it."""
    if _BELOW not in pattern.groupindex:
        return pattern.search(path) is not None
    places = (found.start(_BELOW) for found in pattern.finditer(path))
    return any(place in (-1, len(path) - 1) for place in places)


def _exact(line: str) -> str:
    """Return `folder/**` in a form of which the folder itself is no part, which may have exceptions then."""
    pattern = line.removesuffix("/")
    return f"{pattern}/*{line[len(pattern) :]}" if pattern.endswith("/**") and line[0] != "#" else line
