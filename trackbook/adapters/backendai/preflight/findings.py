"""Collect the findings of a check, and the wording that checks share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from trackbook.engine.names import did_you_mean
from trackbook.engine.ports import Finding

Verdict = Literal["ok", "warn", "fail"]
_SHOWN = 12
_MEMORY = ("mem",)
ORDER: tuple[Verdict, ...] = ("fail", "warn", "ok")


class Findings:
    """Collects findings; the same one about several tasks is reported once."""

    def __init__(self) -> None:
        self._tasks: dict[tuple[str, str, Verdict, str], list[str]] = {}

    def add(self, what: str, found: str, verdict: Verdict, hint: str = "", task: str = "") -> None:
        """Note a finding, of one task or of none."""
        tasks = self._tasks.setdefault((what, found, verdict, hint), [])
        if task and task not in tasks[-1:]:
            tasks.append(task)

    def in_order(self) -> list[Finding]:
        """Return them, what fails first."""
        made = [_make(*key, tasks) for key, tasks in self._tasks.items()]
        return sorted(made, key=lambda finding: ORDER.index(finding.verdict))


def _make(what: str, found: str, verdict: Verdict, hint: str, tasks: Sequence[str]) -> Finding:
    if len(tasks) > 1:
        return Finding(what, f"{found} (tasks {word_list(tasks, 3)})", verdict, hint)
    return Finding(what, found, verdict, hint, tasks[0] if tasks else "")


def word_list(words: Sequence[str], shown: int = _SHOWN) -> str:
    """Return a list in words, the first ones of a long one."""
    more = f" and {len(words) - shown:,} more" if len(words) > shown else ""
    return (", ".join(words[:shown]) or "none") + more


def amounts_text(slots: Mapping[str, float]) -> str:
    """Return amounts of several slots."""
    return ", ".join(amount_text(slot, amount) for slot, amount in slots.items()) or "nothing"


def amount_text(slot: str, amount: float) -> str:
    """Return an amount of a slot, memory in the unit that fits."""
    if slot not in _MEMORY:
        return f"{amount:g} {slot}"
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.4g} {unit} of memory"
        amount /= 1024
    return f"{amount:.4g} TiB of memory"


def there_are(name: str, known: Sequence[str], of: str = "") -> str:
    """Return the names that exist, for an error about one that does not."""
    which = f"Those {of}: " if of else "There are: "
    return f"{did_you_mean(name, known)} {which}{word_list(known)}.".strip()
