"""Many cases in turn, and the table of what came of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from pathlib import Path
from random import Random

from damage.case import VERDICTS, Case, Result
from damage.damages import all_damages
from damage.foreign import FOREIGN
from damage.original import Original, build


class Campaign:
    """A store, and the cases on copies of it, each kind in turn."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        *,
        pipelines: int = 45,
        jobs: int = 4,
        large: bool = True,
        only: Sequence[str] = (),
    ) -> None:
        self.seed, self._only = seed, only
        self.original: Original = build(folder, Random(f"{seed}/store"), pipelines, jobs, large=large)

    def cases(self) -> Iterator[Case]:
        """Yield cases without end, the kinds in turn."""
        damages = {each.name: each for each in all_damages()}
        kinds = [*damages, *(f"foreign {name}" for name in FOREIGN)]
        kinds = [kind for kind in kinds if not self._only or kind in self._only]
        Random(f"{self.seed}/kinds").shuffle(kinds)
        number = 0
        while True:
            for kind in kinds:
                yield Case(kind, number, self.seed, self.original, damages.get(kind))
            number += 1

    def run(self, count: int, at_once: int = 1, skipped: int = 0) -> Iterator[Result]:
        """Run cases and yield what comes of them."""
        with ThreadPoolExecutor(at_once) as pool:
            started = [pool.submit(case.run) for case in islice(self.cases(), skipped, skipped + count)]
            try:
                for each in as_completed(started):
                    yield each.result()
            finally:
                pool.shutdown(cancel_futures=True)


def table(results: Iterable[Result]) -> str:
    """Return the table in Markdown: one line a kind of damage."""
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for result in results:
        counted[result.kind][result.verdict] += 1
    rows = [_row(kind, counts) for kind, counts in sorted(counted.items())]
    total = sum(counted.values(), Counter[str]())
    head = ["kind of damage", "cases", *VERDICTS]
    lines = [_line(head), _line(["---"] * len(head)), *rows, _row("all", total)]
    return "\n".join(lines)


def _row(kind: str, counts: Counter[str]) -> str:
    return _line([kind, str(sum(counts.values())), *(str(counts[verdict] or "") for verdict in VERDICTS)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
