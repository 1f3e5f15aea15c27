"""Tables that fit the terminal."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from trackbook.cli.terminal.formatting import state_text, style_text

_GAP = "  "
_FLOORS = {"JOB": 9, "STATE": 9}
"""Columns of a narrow terminal that other columns make room for: what identifies a row, and how it is."""


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print aligned columns; what isn't there shows as `-`, and a column `state` in its colours.

    Cells are cut with an ellipsis where the table would be wider than `line_width`.
    """
    texts = [[_cell(value) for value in row] for row in rows]
    natural = [max(cell_width(row[column]) for row in (heads, *texts)) for column in range(len(heads))]
    widths = fit_widths(natural, heads, line_width())
    print(style_text(_line(heads, widths), "bold"))
    for row in texts:
        cells = [cut(text, width) for text, width in zip(row, widths, strict=True)]
        shown = [
            (state_text(text) if head == "STATE" and cell == text else cell) + " " * (width - cell_width(cell))
            for head, text, cell, width in zip(heads, row, cells, widths, strict=True)
        ]
        print(_GAP.join(shown).rstrip())


def line_width() -> int | None:
    """Return the width of the terminal, or COLUMNS where that is set; None where stdout has no width."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def fit_widths(natural: Sequence[int], heads: Sequence[str], width: int | None) -> list[int]:
    """Return the widths of columns that fit a line: the widest are narrowed first."""
    room = None if width is None else width - len(_GAP) * (len(natural) - 1)
    if room is None or sum(natural) <= room:
        return list(natural)
    floors = [min(own, _FLOORS.get(head, 1)) for own, head in zip(natural, heads, strict=True)]
    if sum(floors) > room:
        floors = [1] * len(natural)
    widths = list(floors)
    while sum(widths) < room:
        narrowest = min((width for width, own in zip(widths, natural, strict=True) if width < own), default=None)
        if narrowest is None:
            break
        column = next(
            index for index, own in enumerate(natural) if widths[index] == narrowest and narrowest < own
        )
        widths[column] += 1
    return widths


def cut(text: str, width: int) -> str:
    """Return the text, its end replaced by an ellipsis where it is wider than that."""
    if cell_width(text) <= width:
        return text
    kept = text[:width]
    while kept and cell_width(kept) > width - 1:
        kept = kept[:-1]
    return f"{kept}…"


def cell_width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # names in Korean, say, take two columns a character

    return cell_len(text)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    fit = [cut(cell, width) for cell, width in zip(cells, widths, strict=True)]
    return _GAP.join(
        cell + " " * (width - cell_width(cell)) for cell, width in zip(fit, widths, strict=True)
    ).rstrip()


def _cell(value: Any) -> str:
    return "-" if value is None or value == "" else " ".join(str(value).split())
