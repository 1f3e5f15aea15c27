"""What an examination of a pipeline finds: refusals and warnings, each with its path, up to a hundred of each."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from trackbook.engine.errors import Refused, Warned
from trackbook.engine.names import did_you_mean
from trackbook.engine.paths import Part, join

AT_MOST = 100
"""Refusals, and warnings, that are listed one by one; the rest are counted."""
_SUGGESTIONS = 10
Path = tuple[Part, ...]


class Findings(Struct):
    """What an examination found."""

    refusals: list[Refused] = field(default_factory=list)
    warnings: list[Warned] = field(default_factory=list)
    more: int = 0
    suggestions: int = 0

    @property
    def has_enough_warnings(self) -> bool:
        """Whether further warnings would be dropped, so that nobody need put them into words."""
        return len(self.warnings) >= AT_MOST

    def no(self, code: str, message: str, at: Path, hint: str = "") -> None:
        """Note a refusal."""
        if len(self.refusals) < AT_MOST:
            self.refusals.append(Refused(code, message, join(at), hint=hint))
        else:
            self.more += 1

    def warn(self, code: str, message: str, at: Path) -> None:
        """Note a warning; those past the first hundred of an author who has seen a hundred are dropped."""
        if not self.has_enough_warnings:
            self.warnings.append(Warned(code, message, join(at)))

    def suggest(self, word: str, known: Any) -> str:
        """Return a hint for a word; only the first few, since looking for near misses is dear."""
        self.suggestions += 1
        return did_you_mean(word, known) if self.suggestions <= _SUGGESTIONS else ""

    def refuse(self) -> None:
        """Raise the first refusal with the others in it, if there are any."""
        if not self.refusals:
            return
        first, *others = self.refusals
        if self.more:
            others.append(Refused("more_problems", f"{self.more} more problems are not shown"))
        first.others = others
        raise first


def spell_value(value: Any) -> str:
    """Return how a message spells a value: short, and a collection by its type only."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "empty"}[value]
    text = repr(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 64 else f"{text[:60]}…{text[-1:]}"
