"""The damages of the campaign: each does something to the files of a data directory, as chance will have it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from damage.original import Original, copy

Do = Callable[[Random, Path, Original], str]
_STREAMS = Path("broker/store/jetstream/ENGINE/streams")
_EVENTS, _BLOBS = _STREAMS / "trackbook_events", _STREAMS / "trackbook_blobs"
PLACES: dict[str, tuple[Path, str]] = {
    "event blocks": (_EVENTS, "msgs/*.blk"),
    "blob blocks": (_BLOBS, "msgs/*.blk"),
    "stream index": (_STREAMS, "*/msgs/index.db"),
    "stream meta": (_STREAMS, "*/meta.*"),
    "engine.db": (Path(), "engine.db*"),
    "readmodel.db": (Path(), "readmodel.db*"),
    "witness.log": (Path(), "witness.log"),
}
"""Which files of the log, and which made from it, can be damaged: a folder and a pattern below it."""
OTHERS: dict[str, tuple[Path, str]] = {
    "initialised": (Path(), "initialised"),
    "identity.json": (Path(), "identity.json"),
    "broker files": (Path("broker"), "*.*[!k]"),
    "lock files": (Path(), "**/*lock*"),
    "session files": (Path("sessions"), "*/*"),
}
"""The other files of a data directory: a start may refuse them in words, and none of them changes a history."""
OUTSIDE = "outside witness"
_BLOCKS = ("event blocks", "blob blocks")
_SUBJECTS = (b"trackbook.evt.", b"trackbook.blob.")
_HEADER, _AROUND = 22, 400
"""Bytes before the subject in a record of a block, and bytes from there on which one is flipped."""
ADDED = (3, 20, 400, 4096)
"""Bytes that a write which was never acknowledged leaves behind the last message; the last one is all zeros."""


@dataclass(frozen=True)
class Damage:
    """A kind of damage to files.

    A `harmless` one takes nothing away: it may never be an alarm. One to `other` files than the log's may be
    refused or reported. A `live` one is done while the system runs. `witnessed` starts with an outside witness;
    `at_start` has to be reported there.
    """

    name: str
    do: Do
    harmless: bool = False
    other: bool = False
    live: bool = False
    witnessed: bool = False
    at_start: bool = False


def files(data: Path, place: str, *, empty: bool = False) -> list[Path]:
    """Return the files of a place that have something in them, or all."""
    if place == OUTSIDE:
        return [outside(data)]
    folder, pattern = (PLACES | OTHERS)[place]
    found = (each for each in (data / folder).glob(pattern) if each.is_file())
    return sorted(each for each in found if empty or each.stat().st_size)


def outside(data: Path) -> Path:
    """Return the outside witness of a data directory."""
    return data.with_name("outside.log")


def all_damages() -> Iterator[Damage]:
    """Yield every kind."""
    yield Damage("nothing", lambda *_: "nothing", harmless=True)
    for place in PLACES:
        yield Damage(f"flip {place}", _flipping(place))
        yield Damage(f"cut {place}", _cutting(place))
        yield Damage(f"remove {place}", _removing(place))
        yield Damage(f"directory for {place}", _replacing(place), other=True)
    for place in OTHERS:
        if place != "lock files":  # there is nothing in them
            yield Damage(f"flip {place}", _flipping(place), other=True)
            yield Damage(f"cut {place}", _cutting(place), other=True)
        yield Damage(f"remove {place}", _removing(place), other=True)
        yield Damage(f"directory for {place}", _replacing(place), other=True)
    for verb, doing in (
        ("flip", _flipping),
        ("cut", _cutting),
        ("remove", _removing),
        ("directory for", _replacing),
    ):
        yield Damage(f"{verb} {OUTSIDE}", doing(OUTSIDE), other=True, witnessed=True)
    for place in _BLOCKS:
        yield Damage(f"flip {place}, running", _flipping(place), live=True)
        yield Damage(f"cut {place}, running", _cutting(place), live=True)
        yield Damage(f"remove {place}, running", _removing(place), live=True)
    for count in ADDED:
        yield Damage(f"append {count}", _appending(count), harmless=True)
    yield Damage("swap", _swapping(*PLACES))
    yield Damage("swap blocks", _swapping(*_BLOCKS))
    yield Damage("swap other files", _swapping(*OTHERS), other=True)
    yield Damage("older store", _older("broker/store"))
    for name in ("engine.db", "readmodel.db", "witness.log"):
        yield Damage(f"older {name}", _older(name))
    yield Damage("older everything", _older_everything, witnessed=True, at_start=True)


def _flipping(place: str) -> Do:
    def flip(random: Random, data: Path, _: Original) -> str:
        path = random.choice(files(data, place))
        content = bytearray(path.read_bytes())
        at, bit = _place(random, bytes(content)), random.randrange(8)
        content[at] ^= 1 << bit
        path.write_bytes(content)
        return f"bit {bit} of byte {at} of {_name(path, data)}"

    return flip


def _place(random: Random, content: bytes) -> int:
    """Return a byte: of any record of a block, small ones too, or of the whole file."""
    records = [found.start() for subject in _SUBJECTS for found in re.finditer(re.escape(subject), content)]
    if not records or random.random() < 0.5:
        return random.randrange(len(content))
    start = max(0, random.choice(records) - _HEADER)
    return random.randrange(start, min(start + _AROUND, len(content)))


def _cutting(place: str) -> Do:
    def cut(random: Random, data: Path, _: Original) -> str:
        path = random.choice(files(data, place))
        size = path.stat().st_size
        left = random.choice([max(0, size - random.randint(1, 300)), size // 2, 0])
        os.truncate(path, left)
        return f"{_name(path, data)} cut from {size} to {left} bytes"

    return cut


def _removing(place: str) -> Do:
    def remove(random: Random, data: Path, _: Original) -> str:
        path = random.choice(files(data, place, empty=True))
        path.unlink()
        return f"{_name(path, data)} removed"

    return remove


def _replacing(place: str) -> Do:
    def replace(random: Random, data: Path, _: Original) -> str:
        path = random.choice(files(data, place, empty=True))
        path.unlink()
        path.mkdir()
        return f"{_name(path, data)} is a directory"

    return replace


def _name(path: Path, data: Path) -> str:
    return os.path.relpath(path, data)


def _appending(count: int) -> Do:
    def append(random: Random, data: Path, _: Original) -> str:
        path = files(data, "event blocks")[-1]
        with path.open("ab") as block:
            block.write(bytes(count) if count == ADDED[-1] else random.randbytes(count))
        return f"{count} bytes behind {_name(path, data)}"

    return append


def _swapping(*places: str) -> Do:
    def swap(random: Random, data: Path, _: Original) -> str:
        found = [path for place in places for path in files(data, place)]
        one = random.choice(found)
        kept = one.read_bytes()
        other = random.choice([each for each in found if each.read_bytes() != kept])
        one.write_bytes(other.read_bytes())
        other.write_bytes(kept)
        return f"{_name(one, data)} and {_name(other, data)} swapped"

    return swap


def _older(name: str) -> Do:
    def put_back(_random: Random, data: Path, original: Original) -> str:
        target = data / name
        if target.is_dir():
            shutil.rmtree(target)
            shutil.copytree(original.older / name, target)
            return f"an older {name}"
        for suffix in ("-wal", "-shm"):
            target.with_name(name + suffix).unlink(missing_ok=True)
        shutil.copyfile(original.older / name, target)
        return f"an older {name}"

    return put_back


def _older_everything(_random: Random, data: Path, original: Original) -> str:
    shutil.rmtree(data)
    copy(original.older, data)
    return "the whole data directory is an older one"
