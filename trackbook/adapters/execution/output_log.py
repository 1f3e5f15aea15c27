"""Read a session's output by absolute offsets, which stay the same while its log is cut.

A log that has grown too large keeps its beginning and its end, with a line between them about what is left out.
The file `log.cut` beside it has three numbers: where that line is, how many bytes were dropped there, and the
number in the line. An offset counts all bytes that were ever written to the log, those that are gone included.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from trackbook.private_files import read_file, require_file

NOTE = b"\n[trackbook: %d bytes of output are left out here]\n"


class Piece(NamedTuple):
    """A part of the output. `start` is beyond the offset that was asked for where bytes are left out."""

    start: int
    data: bytes

    @property
    def end(self) -> int:
        """The offset of what comes next."""
        return self.start + len(self.data)


class Kept(NamedTuple):
    """Which bytes of the output are there: those before `head`, and those from `tail` to `end`."""

    head: int
    tail: int
    end: int

    @property
    def note(self) -> bytes:
        """The line about what is left out, b'' where nothing is."""
        return note(self.tail - self.head) if self.tail > self.head else b""

    @property
    def size(self) -> int:
        """The bytes to show: what is kept, and the line about what isn't."""
        return self.head + len(self.note) + self.end - self.tail

    def offset(self, shown: int) -> tuple[int, int]:
        """Return the offset at which a position in what is shown lies, and how much of the line to skip there."""
        if shown <= self.head:
            return shown, 0
        behind = shown - self.head - len(self.note)
        return (self.tail + behind, 0) if behind >= 0 else (self.head, shown - self.head)


def note(count: int) -> bytes:
    """Return the line about bytes that are left out."""
    return NOTE % count


def cut_file(log: Path) -> Path:
    """Return the file that says where a log was cut."""
    return log.with_name(f"{log.name}.cut")


class _Cut(NamedTuple):
    head: int
    dropped: int
    left_out: int

    @property
    def line(self) -> bytes:
        return note(self.left_out)

    @property
    def tail(self) -> int:
        """The offset of the first byte behind the line."""
        return self.head + self.dropped


def _cut(log: Path) -> _Cut | None:
    try:
        return _Cut(*(int(part) for part in read_file(cut_file(log)).split()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return _Cut(-1, 0, 0)  # it is being written: no log agrees with it


def find_kept(log: Path) -> Kept | None:
    """Return what is there; None while the log is being cut. Raises FileNotFoundError."""
    require_file(log)
    cut = _cut(log)
    if cut is not None and not _agrees(log, cut):
        return None
    with log.open("rb") as file:
        size = file.seek(0, 2)
        if cut is None:
            return Kept(size, size, size) if _cut(log) is None else None
    if not _agrees(log, cut):
        return None
    return Kept(cut.head, cut.tail, cut.tail + max(0, size - cut.head - len(cut.line)))


def read(log: Path, offset: int, limit: int) -> Piece | None:
    """Return what is there from an offset on, `limit` bytes at most; None while the log is being cut.

    Raises FileNotFoundError.
    """
    require_file(log)
    cut = _cut(log)
    with log.open("rb") as file:
        if cut is None:
            file.seek(offset)
            piece = Piece(offset, file.read(limit))
            return piece if _cut(log) is None else None
        if offset < cut.head:  # which never changes
            file.seek(offset)
            return Piece(offset, file.read(min(limit, cut.head - offset)))
        if not _agrees(log, cut):  # announced, and not made yet
            return None
        start = max(offset, cut.tail)
        file.seek(cut.head + len(cut.line) + start - cut.tail)
        piece = Piece(start, file.read(limit))
        return piece if _agrees(log, cut) else None


def head_alone(log: Path) -> Kept:
    """Return what is there of a log whose writer died while it cut it. Raises FileNotFoundError."""
    cut, size = _cut(log), log.stat().st_size
    end = size if cut is None or cut.head < 0 else min(size, cut.head)
    return Kept(end, end, end)


def _agrees(log: Path, cut: _Cut) -> bool:
    """Whether the log is as `cut` describes it; what is read between two looks that say so is consistent."""
    if cut.head < 0:
        return False
    with log.open("rb") as again:
        again.seek(cut.head)
        return again.read(len(cut.line)) == cut.line and _cut(log) == cut
